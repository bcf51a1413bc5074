from __future__ import annotations

import pytest
import typer

from pspnet_edge.cli import main
from pspnet_edge.cli.arguments import asked_for_json, command_at, option_of
from pspnet_edge.cli.main import app

TREE = typer.main.get_command(app)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("build --json", True),
        ("build --nonsense --json x", True),
        ("data check --json camvid", True),
        ("-v build --json", True),
        ("build", False),
        ("build -- --json", False),
        ("build -o --json", False),
        ("build --precision --json", False),
        ("build --precision=int8 --json", True),
        ("run --camera --json --record --json", False),
        ("build --json=1", False),
        ("", False),
    ],
)
def test_json_is_asked_for_as_the_parser_reads_it(line: str, expected: bool) -> None:
    assert asked_for_json(TREE, line.split()) is expected


def test_a_parameter_is_shown_as_its_option() -> None:
    build = command_at(TREE, ["-v", "build", "--json"])
    assert build.name == "build"
    assert option_of(build, "max_drop") == "--max-drop"
    assert option_of(build, "output") == "--output"
    assert option_of(build, "unknown_one") == "--unknown-one"


@pytest.mark.parametrize(
    ("arguments", "made"),
    [
        (["build", "train"], {"build"}),
        (["-v", "import", "x.pt"], {"import"}),
        (["data", "check"], {"data"}),
        (["biuld"], set(TREE.commands)),
        (["--help"], set(TREE.commands)),
        ([], set(TREE.commands)),
    ],
)
def test_only_the_named_command_is_made(arguments: list[str], made: set[str]) -> None:
    assert set(typer.main.get_command(main._asked_of(app, arguments)).commands) == made  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("train my_data", "unexpected extra argument(s) (my_data). Did you mean --root?"),
        ("train --data my_data", "no such option: --data. Did you mean --root?"),
        ("train --imgsz 640", "no such option: --imgsz. Did you mean --size?"),
        ("run --source 0", "no such option: --source. Did you mean --input?"),
        ("train --rot 3", "no such option: --rot (Possible options: --crop, --root, --rotate)"),
        ("export --source 0", "no such option: --source"),
    ],
)
def test_options_of_other_programs_are_translated(line: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main._run(TREE, line.split())
    assert ended.value.code == 2
    assert says in capsys.readouterr().err
