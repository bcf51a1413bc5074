"""A wrong value is wrong usage in every command: one sentence, exit status 2, an object with ``--json``."""

from __future__ import annotations

import json
import shlex
import sys

import cv2
import numpy as np
import pytest
import typer

from pspnet_edge.cli.main import app, main
from pspnet_edge.errors import PspnetEdgeError

from .in_processes import Done, run_all

# Each value is wrong whatever the files and the machine. {f} is a folder with three labelled images.
LINES = """
adapt a.onnx -o b.onnx --colour cmyk
adapt a.onnx -o b.onnx --size big
adapt a.onnx -o b.onnx --threshold 2
benchmark --precision int4
benchmark --runtime abacus
benchmark --size big
benchmark --rounds 0
benchmark --seconds 0
benchmark --estimate orin-nan
build --precision int4
build --runtime abacus
build --flavour mint
build --size 96
build --min-confidence 7
build --precision int8 --max-drop 7 --dataset scenes
build --max-drop 0.01
build --max-drop 0.01 --dataset camvid
build --search --precision int8
build --dla 0
build --optimization-level 9
calibrate
calibrate --dataset kitti
calibrate --dataset scenes --method kl
calibrate --dataset scenes --rounding up
calibrate --dataset scenes --images 0
data check kitti --root {f}
data check {f} --size big
data check scenes
data fetch kitti --root {f}
data fetch camvid --root new --sha256 1234
data fetch camvid --root new --url nowhere
data import {f} -o new --format paint
data import {f} -o new --val 3
data import {f} -o new --split 3
data import {f} -o new --val 0.2 --split 0.8
data split {f} --val 7
data split {f} --group '('
deploy
deploy --from packs
deploy a.pspnet --canary 1
deploy a.pspnet --to me@:port
doctor --camera left
evaluate --dataset kitti
evaluate --dataset camvid
evaluate --dataset scenes --split dev
evaluate --precision fp8
evaluate --runtime abacus
evaluate --fit round
evaluate --tiles --fit crop
export pspnet_lite0_camvid -o new.onnx --size big
export pspnet_lite0_camvid -o new.onnx --size 7x7
export pspnet_lite0_camvid -o new.onnx --batch 0
export pspnet_lite0_camvid -o new.onnx --min-confidence 2
import a.pth --format semseg --bins x
import a.pth --format cake
import a.pth --mean 1,x
models --nonsense
pack --purpose cake -o new.pspnet
pack -o new.zip
pack --golden 0 -o new.pspnet
plan
plan --board orin-nan
plan --board orin-nano --fps 0
plan --board orin-nano --cameras 0
plan --board orin-nano --camera big
run
run --camera x
run --input demo --view hologram
run --input demo --precision fp8
run --input demo --opacity 3
run --input demo --flip upside
run --input demo --roi 1,2
run --input demo --fit round
run --input demo --show all
run --input demo --hide unicorn
run --input demo --frames 0
run --input demo --record v.avi
run --camera 0 --size big
run --camera 0 --pixels rgb
selftest --only cake
train --dataset scenes --crop 96
train --dataset scenes --crop 0x96
train --dataset scenes --epochs 0
train --dataset scenes --model resnet
train --dataset scenes --optimizer rms
train --dataset scenes --dropout 2
train --dataset scenes --autocast int8
train --dataset scenes --device tpu
train --dataset scenes --freeze all
train --dataset scenes --log paper
train --dataset scenes --channels 2
train --dataset kitti
train
""".strip().splitlines()

PACKAGES = ["train.api", "engine.build", "graph.export", "graph.calibrate", "model.foreign.importer", "camera.loop"]


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    labelled, said, work = (tmp_path_factory.mktemp(name) for name in ("labelled", "said", "work"))
    for kind, levels in (("images", 256), ("masks", 2)):
        (labelled / kind).mkdir()
        for name in "abc":
            pixels = np.random.default_rng(ord(name)).integers(0, levels, (24, 32), np.uint8)
            assert cv2.imwrite(str(labelled / kind / f"{name}.png"), pixels)
    (labelled / "classes.txt").write_text("road\ncar\n")
    before = sorted(labelled.rglob("*"))
    lines = [[*shlex.split(line.format(f=labelled)), "--json"] for line in LINES]
    done = run_all(lines, work, said, loaded=",".join(f"pspnet_edge.{name}" for name in PACKAGES))
    assert sorted(labelled.rglob("*")) == before
    assert [path for path in work.rglob("*") if path.is_file()] == []
    return dict(zip(LINES, done))


@pytest.mark.parametrize("line", LINES)
def test_a_wrong_value_is_wrong_usage(answers: dict[str, Done], line: str) -> None:
    done = answers[line]
    assert done.returncode == 2, done.stderr
    error = json.loads(done.stdout)["error"]
    assert list(error) == ["problem", "fix", "command"]
    assert error["problem"]
    assert error["fix"] or error["command"]
    assert done.stderr.strip().splitlines()[-1] == f"pspnet-edge: {PspnetEdgeError(**error)}"


@pytest.mark.parametrize(("value", "limit"), [("1", "greater than or equal to 2"), ("x", "integer")])
def test_a_wrong_number_is_named_with_its_option_and_what_it_should_be(
    value: str, limit: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["pspnet-edge", "benchmark", "--rounds", value, "--json"])
    with pytest.raises(SystemExit):
        main()
    problem = json.loads(capsys.readouterr().out)["error"]["problem"]
    assert "'--rounds'" in problem
    # The words are those of Typer's version: "2<=x" before 0.29.
    assert limit in problem or "1 is not in the range" in problem
    assert "Input" not in problem


def test_every_command_is_in_the_table() -> None:
    tree = typer.main.get_command(app)
    groups = {name: getattr(command, "commands", None) for name, command in tree.commands.items()}
    names = [f"{name} {below}" if below else name for name, group in groups.items() for below in group or [None]]
    assert [name for name in names if not any(f"{line} ".startswith(f"{name} ") for line in LINES)] == []
