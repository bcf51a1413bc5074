from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pspnet_edge import ownership
from pspnet_edge.artifact import sidecar_path
from pspnet_edge.data.datasets import SceneSet
from pspnet_edge.data.geometry import frame_at
from pspnet_edge.engine.backends import CPU_RUNTIMES, open_engine
from pspnet_edge.engine.build import build_cached_engine, build_engine, choose_runtime, prepare_model
from pspnet_edge.errors import CalibrationError, EngineError, ModelError, OptionError, OutputError


def test_every_precision_and_runtime_agrees_on_the_mask(tmp_path: Path) -> None:
    frame = frame_at(SceneSet("test")[0][0], (384, 480))[None]
    masks = {}
    for runtime in CPU_RUNTIMES:
        for precision in ("fp32", "fp16", "int8"):
            path = tmp_path / f"{runtime}-{precision}.engine"
            facts = build_engine(prepare_model(None), precision, runtime, path)
            assert (facts["int8_mac_fraction"] > 0.9) == (precision == "int8")
            assert (facts["calibration_sha256"] is not None) == (precision == "int8")
            with open_engine(path) as engine:
                masks[runtime, precision] = engine.infer(frame).copy()
    reference = masks["onnxruntime", "fp32"]
    assert reference.shape == (1, 384, 480)
    assert reference.dtype == np.uint8
    for key, mask in masks.items():
        assert (mask == reference).mean() > (0.95 if key[1] == "int8" else 0.995), key


def test_an_engine_checks_its_first_batch(tmp_path: Path) -> None:
    build_engine(prepare_model(None), "fp32", "onnxruntime", tmp_path / "e.engine")
    with open_engine(tmp_path / "e.engine") as engine:
        with pytest.raises(EngineError, match=r"takes uint8 frames of shape \(1, 384, 480, 3\), got float64 \(2, 2\)"):
            engine.infer(np.zeros((2, 2)))  # type: ignore[arg-type]
        for shape, fix in (
            ((1, 60, 80, 3), "resize each frame to 384x480 first"),
            ((2, 384, 480, 3), "give 1 frame at a time, or export the model with --batch 2"),
            ((384, 480, 3), r"give a batch: frame\[None\]"),
        ):
            with pytest.raises(EngineError, match=fix):
                engine.infer(np.zeros(shape, np.uint8))
        engine.infer(np.zeros((1, 384, 480, 3), np.uint8))


@pytest.mark.parametrize("runtime", CPU_RUNTIMES)
def test_signals_are_handled_after_engines_were_closed_in_the_order_of_their_opening(
    tmp_path: Path, runtime: str
) -> None:
    """OpenVINO's plugin left the main thread with an unmapped stack for signal handlers."""
    build_engine(prepare_model(None), "fp32", runtime, tmp_path / "e.engine")
    script = (
        "import signal, sys\n"
        "from pspnet_edge import open_engine\n"
        "engines = [open_engine(sys.argv[1]) for _ in range(2)]\n"
        "for engine in engines: engine.close()\n"
        "signal.signal(signal.SIGTERM, lambda *arguments: print('handled'))\n"
        "signal.raise_signal(signal.SIGTERM)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "e.engine"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_the_cache_is_built_once_and_again_when_damaged() -> None:
    model = prepare_model(None)
    path, _ = build_cached_engine(model, "fp32", "onnxruntime")
    assert build_cached_engine(model, "fp32", "onnxruntime") == (path, False)
    sidecar_path(path).write_text("{")
    assert build_cached_engine(model, "fp32", "onnxruntime") == (path, True)


def test_what_a_killed_build_left_in_the_cache_is_removed_though_nothing_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = prepare_model(None)
    path, _ = build_cached_engine(model, "fp32", "onnxruntime")
    there = sorted(path.parent.iterdir())
    path.with_name(f".{path.name}~pspnet-edge.lock").touch()  # killed between the rename and the removal of its lock
    monkeypatch.setattr(ownership, "_cleaned", set())
    assert build_cached_engine(model, "fp32", "onnxruntime") == (path, False)
    assert sorted(path.parent.iterdir()) == there


def damaged(tmp_path: Path, damage) -> Path:
    path = tmp_path / "e.engine"
    build_engine(prepare_model(None), "fp32", "onnxruntime", path)
    damage(path)
    return path


def edited(path: Path, **entries: object) -> None:
    place = sidecar_path(path)
    place.write_text(json.dumps(json.loads(place.read_text()) | entries))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), r"there is no engine .*with `pspnet-edge build -o .*e\.engine`"),
        (lambda path: path.write_bytes(path.read_bytes()[:1000]), "is not the file that its sidecar describes"),
        (lambda path: sidecar_path(path).unlink(), "has no sidecar"),
        (lambda path: edited(path, label_set={}), "is damaged"),
        (lambda path: edited(path, runtime="abacus"), "runtime 'abacus'"),
        (lambda path: edited(path, kind="model"), "is not the sidecar of a pspnet-edge engine"),
    ],
)
def test_an_engine_that_cannot_be_used_says_why_and_how_to_mend_it(tmp_path: Path, damage, message: str) -> None:
    with pytest.raises(EngineError, match=message) as caught:
        open_engine(damaged(tmp_path, damage))
    assert "pspnet-edge build" in str(caught.value)


@pytest.mark.parametrize("runtime", CPU_RUNTIMES)
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"shape_nhw": [1, 2, 3]},
            r"input of .* is frames uint8 \[1, 384, 480, 3\] and its sidecar says uint8 \[1, 2",
        ),
        ({"channels": 4}, "its sidecar says"),
        ({"shape_nhw": [1, 0, 3]}, "is damaged"),
        ({"shape_nhw": [1, 2**63, 3]}, "is damaged"),
        ({"precision": "\ud800"}, "damaged|cannot be read"),
    ],
)
def test_an_engine_that_is_not_what_its_sidecar_says_is_refused_when_it_is_opened(
    tmp_path: Path, runtime: str, changed: dict, message: str
) -> None:
    path = tmp_path / "e.engine"
    build_engine(None, "fp32", runtime, path)
    edited(path, **changed)
    with pytest.raises(EngineError, match=message) as caught:
        open_engine(str(path))
    assert "\n" not in str(caught.value)


def test_what_cannot_be_built_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    (tmp_path / "empty.onnx").write_bytes(b"")
    target = tmp_path / "out" / "e.engine"
    model = prepare_model(None)
    with pytest.raises(OptionError, match="choose one of auto, fp32, fp16, int8"):
        build_engine(model, "int4", "onnxruntime", target)
    for name in ("junk.onnx", "empty.onnx", "absent.onnx"):
        with pytest.raises(ModelError):
            prepare_model(str(tmp_path / name))
    with pytest.raises(CalibrationError, match="there is no calibration table"):
        build_engine(model, "int8", "onnxruntime", target, calibration=tmp_path / "absent.json")
    with pytest.raises(OutputError):
        build_engine(model, "fp32", "onnxruntime", tmp_path / "junk.onnx" / "e.engine")
    assert not list(tmp_path.rglob("*engine*"))


def test_runtimes_are_chosen_in_order() -> None:
    assert choose_runtime("auto") == "openvino"
    assert choose_runtime("onnxruntime") == "onnxruntime"
    with pytest.raises(OptionError, match="choose auto, tensorrt, openvino, onnxruntime, tensorrt-rtx"):
        choose_runtime("tvm")


def test_a_checkpoint_that_is_not_there_is_said_to_be_so() -> None:
    with pytest.raises(ModelError, match=r"there is no checkpoint x\.pt"):
        prepare_model("x.pt")
