"""Bad input gets one sentence, exit 1 or 2, no traceback, and leaves no file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pspnet_edge.errors import PspnetEdgeError


def place(folder: Path, name: str, content: bytes = b"") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


CASES = {
    "missing camera": lambda f: ("run", "--camera", 63),
    "unreadable video": lambda f: ("run", "--input", place(f, "v.mp4", b"\0" * 999), "--record", "out.mp4"),
    "missing video": lambda f: ("run", "--input", f / "absent.mp4"),
    "empty folder": lambda f: ("run", "--input", f),
    "no source": lambda f: ("run",),
    "no display": lambda f: ("run", "--input", "demo", "--view", "window"),
    "unknown view": lambda f: ("run", "--input", "demo", "--view", "hologram"),
    "unknown precision to run": lambda f: ("run", "--input", "demo", "--precision", "fp8"),
    "corrupt ONNX": lambda f: ("build", place(f, "m.onnx", b"\x08\x07junk"), "-o", "e.engine"),
    "empty ONNX": lambda f: ("build", place(f, "m.onnx"), "-o", "e.engine"),
    "missing model": lambda f: ("build", "resnet", "-o", "e.engine"),
    "wrong precision": lambda f: ("build", "--precision", "int4", "-o", "e.engine"),
    "wrong runtime": lambda f: ("build", "--runtime", "abacus", "-o", "e.engine"),
    "missing table": lambda f: ("build", "--precision", "int8", "--calibration", f / "no.json", "-o", "e.engine"),
    "output below a file": lambda f: ("build", "-o", place(f, "file") / "e.engine"),
    "output is a folder": lambda f: ("build", "-o", f),
    "output in no writable place": lambda f: ("build", "-o", "/proc/e.engine"),
    "video below a file": lambda f: ("run", "--input", "demo", "--record", place(f, "file") / "v.mp4"),
    "no data root": lambda f: ("evaluate", "--dataset", "camvid"),
    "missing data root": lambda f: ("evaluate", "--dataset", "camvid", "--root", f / "absent"),
    "data root without lists": lambda f: ("evaluate", "--dataset", "camvid", "--root", f),
    "unknown data set": lambda f: ("evaluate", "--dataset", "kitti"),
    "unknown split": lambda f: ("evaluate", "--dataset", "scenes", "--split", "dev"),
    "missing engine": lambda f: ("evaluate", f / "absent.engine"),
    "foreign engine": lambda f: ("evaluate", place(f, "trt.engine", b"ftrt" + b"\0" * 60)),
    "missing checkpoint": lambda f: ("export", f / "absent.pt"),
    "foreign checkpoint": lambda f: ("export", place(f, "c.pt", b"junk")),
    "bad size": lambda f: ("export", place(f, "c.pt", b"junk"), "--size", "big"),
    "wrong method": lambda f: ("calibrate", "--dataset", "scenes", "--images", 1, "--method", "kl"),
}


# test_wrong_values.py has many more.
WRONG_VALUES = {
    "no source",
    "unknown view",
    "unknown precision to run",
    "wrong precision",
    "wrong runtime",
    "no data root",
    "unknown data set",
    "unknown split",
    "bad size",
    "wrong method",
}


@pytest.mark.parametrize("case", CASES)
def test_one_sentence(command_line, tmp_path: Path, case: str) -> None:
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    arguments = CASES[case](inputs)
    before = sorted(inputs.rglob("*"))
    done = command_line(*arguments, "--json")
    assert done.returncode == (2 if case in WRONG_VALUES else 1), done.stderr
    assert "Traceback" not in done.stderr
    sentence = done.stderr.strip().split("\n")[-1]
    assert sentence.startswith("pspnet-edge: ")
    error = json.loads(done.stdout)["error"]
    assert list(error) == ["problem", "fix", "command"]
    assert sentence.removeprefix("pspnet-edge: ") == str(PspnetEdgeError(**error))
    assert sorted(inputs.rglob("*")) == before
    assert list((tmp_path / "work").iterdir()) == []


def test_a_foreign_onnx_is_refused(command_line, tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 8, 8])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [out])
    path = tmp_path / "foreign.onnx"
    onnx.save(helper.make_model(graph), path)
    done = command_line("build", path)
    assert done.returncode == 1
    assert "from another tool" in done.stderr


@pytest.mark.parametrize("arguments", [("run", "--frames", "0"), ("build", "--nonsense"), ("fly",)])
def test_wrong_usage_is_exit_2(command_line, arguments: tuple[str, ...]) -> None:
    assert command_line(*arguments).returncode == 2


def test_wrong_usage_is_an_object_too_with_json(command_line) -> None:
    done = command_line("build", "--nonsense", "--json")
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert "--nonsense" in error["problem"]
    assert error["command"] == "pspnet-edge build --help"


@pytest.mark.parametrize(
    "arguments", [("build", "--dataset", "--json", "--nonsense"), ("build", "--nonsense", "--", "--json")]
)
def test_json_as_a_value_or_behind_two_dashes_asks_for_nothing(command_line, arguments: tuple[str, ...]) -> None:
    done = command_line(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
