"""Damaged recipes, reports, fleets, keys, and what interrupted or finished commands leave for later ones."""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
from pathlib import Path

from fuzz_edits import Edits, edited_bytes, edited_json, edited_text

_REPORT = Path(__file__).parent / "results/report.json"
_RECIPE = b"""epochs = 2
batch = 4
learning-rate = 0.001
crop = "288x384"
freeze = ["batchnorm"]
model = "pspnet_lite0"
scales = [0.7, 2.0]
ohem = true
class-weights = false
"""
_FLEET = b"""[defaults]
home = "/data/a"
[[board]]
host = "me@board1.invalid:2222"
name = "one"
pack = "missing.pspnet"
port = 22
[[board]]
host = "board2.invalid"
command = "pspnet-edge"
"""
_KEY = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGmIWVmVKdIbGRpYlAVyQSGOcs4hQQCEmbHEQPGJYPbq someone@somewhere\n"


def make_states(seeds: Path) -> None:
    """A home of ``deploy`` with one version, what an interrupted calibration keeps, and an adapted model."""
    from pspnet_edge.cli import main
    from pspnet_edge.graph.calibration_state import Measured, Purpose, write_state

    runtime = ("--runtime", "onnxruntime", "--precision", "fp32")
    home = ("--home", str(seeds / "home"), "--service", "none", "--measure", "0.1")
    adapted = ("adapt", str(seeds / "foreign.onnx"), "--classes", "4", "-o", str(seeds / "adapted.onnx"))
    for arguments in (("deploy", str(seeds / "small.pspnet"), *home, *runtime), adapted):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            main.app(arguments, standalone_mode=False)
    purpose = Purpose("0" * 64, (1, 32, 32), "percentile", "0" * 64)
    write_state(seeds / "kept.partial", purpose, Measured.nothing(["t3", "t5"]))


def recipe_case(edits: Edits, rng: random.Random, folder: Path, seeds: Path) -> list[str]:
    """``train`` with a recipe, which ends where its data set is missing."""
    if rng.random() < 0.6:
        (folder / "x.toml").write_bytes(edited_text(_RECIPE, edits))
        return ["train", "--recipe", "x.toml", "--root", "missing"]
    from pspnet_edge.train.recipe import Recipe

    saved = json.dumps({"recipe": Recipe().to_dict(), "dataset": "folder", "root": "missing"}).encode()
    if rng.random() < 0.5:
        (folder / "x.json").write_bytes(edited_json(saved, edits))
        return ["train", "--recipe", "x.json", "--root", "missing"]
    (folder / "run").mkdir()
    (folder / "run/recipe.json").write_bytes(edited_json(saved, edits))
    return ["train", "--resume", "-o", "run", "--root", "missing"]


def report_case(edits: Edits, rng: random.Random, folder: Path, seeds: Path) -> list[str]:
    """A report that is rendered again, planned with, or compared with; rendering costs much and is rarer."""
    (folder / "x.json").write_bytes(edited_json(_REPORT.read_bytes(), edits))
    if rng.random() < 0.12:
        return ["benchmark", "--from", "x.json", "-o", "out"]
    return ["plan", "--report", "x.json", *rng.choice(([], ["--fps", "5"], ["--cameras", "2"]))]


def deployed_case(edits: Edits, rng: random.Random, folder: Path, seeds: Path) -> list[str]:
    """The home of ``deploy``, a list of boards, or a key."""
    kind = rng.randrange(4)
    if kind == 0:
        (folder / "boards.toml").write_bytes(edited_text(_FLEET, edits))
        return ["deploy", "missing.pspnet", "--fleet", "boards.toml"]
    if kind == 1:
        (folder / "key.pub").write_bytes(edited_text(_KEY, edits))
        return ["deploy", f"{seeds}/small.pspnet", "--home", "home", "--service", "none", "--key", "key.pub"]
    shutil.copytree(seeds / "home", folder / "home", symlinks=True)
    for edit in edits:
        choose = random.Random(edit)
        files = sorted(path for path in (folder / "home").rglob("*.json") if not path.is_symlink())
        path = choose.choice(files)
        path.write_bytes(edited_json(path.read_bytes(), [edit]))
    if kind == 2:
        return ["deploy", "--home", "home", *rng.choice((["--list"], ["--rollback", "--service", "none"]))]
    return ["run", "--active", "--input", f"{seeds}/picture.png", "--view", "none"]


def kept_case(edits: Edits, rng: random.Random, folder: Path, seeds: Path) -> list[str]:
    """What an interrupted ``calibrate`` or ``data import`` left."""
    if rng.random() < 0.6:
        (folder / "x.calib.json.partial").write_bytes(edited_bytes((seeds / "kept.partial").read_bytes(), edits))
        return ["calibrate", f"{seeds}/small.onnx", "--root", f"{seeds}/set", "-o", "x.calib.json"]
    (folder / "set").mkdir()
    (folder / "set/.import.partial.json").write_bytes(edited_json(b'{"request": "0"}', edits))
    return ["data", "import", f"{seeds}/exports/pairs", "-o", "set", *rng.choice(([], ["--overwrite"]))]


def adapted_case(edits: Edits, rng: random.Random, folder: Path, seeds: Path) -> list[str]:
    """A network of another program after ``adapt``, for the commands that take it."""
    from fuzz_inputs import edited_onnx

    (folder / "x.onnx").write_bytes(edited_onnx((seeds / "adapted.onnx").read_bytes(), edits))
    return rng.choice(
        (
            ["build", "x.onnx", "--runtime", "onnxruntime", "-o", "x.engine"],
            ["run", "x.onnx", "--runtime", "openvino", "--input", f"{seeds}/picture.png", "--view", "none"],
            ["calibrate", "x.onnx", "--root", f"{seeds}/set", "-o", "x.calib.json"],
            ["pack", "x.onnx", "--images", f"{seeds}/set/images/test", "--golden", "1", "-o", "x.pspnet"],
        )
    )
