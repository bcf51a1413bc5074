"""Scripts that use the Python API wrongly, or end while it is at work: each in a process of its own, as a user's is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from pspnet_edge.engine.build import build_engine, prepare_model

SETUP = """
import sys, threading, time
import cv2, numpy as np
from pspnet_edge.camera.segmenter import Segmenter
from pspnet_edge.engine.backends import open_engine
from pathlib import Path
engine = Path(sys.argv[1])
image = sys.argv[2]
frame = np.zeros((60, 80, 3), np.uint8)
s = Segmenter(engine)
"""

ENDED_EARLY = {
    "a generator that was begun": "g = s.stream('demo'); next(g)",
    "two streams of one engine": "for a, b in zip(s.stream('demo'), s.stream('demo')): break",
    "a daemon thread that calls": "threading.Thread(target=lambda: [s(frame) for _ in range(10**6)], daemon=True)."
    "start(); time.sleep(0.5)",
    "a daemon thread that streams": "threading.Thread(target=lambda: list(s.stream('demo')), daemon=True).start(); "
    "time.sleep(1)",
    "a thread that is waited for": "t = threading.Thread(target=lambda: [s(frame) for _ in range(20)]); t.start()",
    "sys.exit in a loop": "for f, m in s.stream('demo'): sys.exit()",
    "an engine that stays open": "e = open_engine(engine); q = Segmenter(e); g = q.stream('demo'); next(g)",
    "a reference circle": "s.me = s; g = s.stream('demo'); next(g); s.g = g; del s, g",
    "a stream that was never begun": "g = s.stream('demo')",
    "the segmenter is gone and its stream is not": "g = s.stream('demo'); next(g); del s; next(g)",
    "closed twice": "s.close(); s.close(); print(s)",
    "closed below its stream": "g = s.stream('demo'); next(g); s.close(); assert list(g) == []",
    "nested loops": "for f, m in s.stream([frame] * 3):\n    for _ in s.stream([frame] * 3): s(f)",
    "nothing at all": "",
}

WRONG = {
    "None": ("s(None)", "the frame is None: check the path"),
    "no such image": ("s('typo.png')", "there is no image typo.png: check its path"),
    "a folder": ("s('.')", "loop over it with `for frame, mask in segmenter.stream('.')`"),
    "an address": (
        "s('https://example.com/a.jpg')",
        "a.jpg is an address, not an image: loop over",
    ),
    "a video": ("s('drive.MP4')", "drive.MP4 is a video, not an image: loop over"),
    "a camera": ("s(0)", "loop over a camera with `for frame, mask in segmenter.stream(0)`"),
    "bytes": ("s(b'jpeg')", "decode it with cv2.imdecode"),
    "a dictionary": ("s({})", "give an array, a path, or a list of them"),
    "floats": ("s(np.zeros((60, 80, 3)))", "astype(numpy.uint8)"),
    "grey": ("s(np.zeros((60, 80), np.uint8))", "COLOR_GRAY2BGR"),
    "four channels": ("s(np.zeros((60, 80, 4), np.uint8))", "COLOR_BGRA2BGR"),
    "channels first": ("s(np.zeros((3, 60, 80), np.uint8))", "transpose(1, 2, 0)"),
    "sixteen bits": (
        "s(np.zeros((60, 80, 3), np.uint16))",
        "scale it to 0 to 255, such as (frame / frame.max() * 255)",
    ),
    "no pixels": ("s(np.zeros((0, 80, 3), np.uint8))", "has no pixels"),
    "a list with None": ("s([frame, None])", "the frame is None"),
    "a number": ("s(3)", "not int"),
    "closed": ("s.close(); s(frame)", "was closed: open another"),
    "a stream of a closed one": ("s.close(); next(s.stream('demo'))", "was closed: open another"),
    "an engine closed below": ("e = open_engine(engine); q = Segmenter(e); e.close(); q(frame)", "was closed: open"),
    "an engine closed before": ("e = open_engine(engine); e.close(); Segmenter(e)(frame)", "was closed: open"),
    "a stream of None": ("next(s.stream(None))", "a source is the index of a camera"),
    "a stream of None frames": ("next(s.stream([None]))", "the frame is None"),
    "no such camera": ("next(s.stream(63))", "/dev/video63"),
    "no such file": ("next(s.stream('typo.mp4'))", "typo.mp4"),
    "no such engine": ("Segmenter('typo.engine')", "typo.engine"),
    "not an engine": ("Segmenter(3)", "not int"),
    "another precision for an engine": (
        "Segmenter(engine, precision='fp16')",
        "is built already, its precision is int8",
    ),
    "another precision for an open one": (
        "Segmenter(s.engine, precision='fp16')",
        "is built already, its precision is",
    ),
    "a geometry by its name": ("Segmenter(engine, geometry='letterbox')", "give one, such as Geometry("),
    "other settings": ("next(s.stream('demo', 5))", "settings: 5 is not a Settings"),
    "an overlay of no mask": ("s.overlay(frame, None)", "a mask is an array uint8 [H, W], not NoneType"),
    "an overlay of a picture": ("s.overlay(frame, frame)", "a mask is uint8 [H, W], got uint8 [60, 80, 3]"),
    "an overlay of wide ids": ("s.overlay(frame, s(frame).astype(int))", "astype(numpy.uint8)"),
    "regions of a text": ("s.regions('mask')", "a mask is an array uint8 [H, W], not str"),
    "regions of a picture": ("s.regions(frame)", "a mask is uint8 [H, W], got uint8 [60, 80, 3]"),
    "scores of another size": ("s.regions(s(frame), np.zeros((2, 2)))", "the scores are not of the mask's size"),
    "a class without a list": ("s.overlay(frame, s(frame), hide='sky')", "hide: 'sky' is not a list: give ['sky']"),
    "a list of frames for an engine": ("s.engine.infer([frame])", "not list: stack frames"),
    "no frames for an engine": ("s.engine.infer(None)", "not NoneType: stack frames"),
    "a second batch of floats": (
        "e = open_engine(engine); b = np.zeros((1, *e.size_hw, 3), np.uint8); e.infer(b); e.infer(b.astype('f4'))",
        "got float32",
    ),
    "a second batch of another size": (
        "e = open_engine(engine); b = np.zeros((1, *e.size_hw, 3), np.uint8); e.infer(b); e.infer(b[:, ::2])",
        "resize each frame to 384x480 first",
    ),
    "a folder for an engine": ("Segmenter('.')", "is a folder, not an engine: give an engine"),
    "an opacity as a text": ("s.overlay(frame, s(frame), opacity='x')", "opacity: 'x' is not a number"),
    "no such id": ("s.overlay(frame, s(frame), hide=[99])", "unknown class '99'"),
    "a text for the smallest": ("s.regions(s(frame), smallest='a')", "smallest: 'a' is not a whole number"),
    "no such class": ("s.overlay(frame, s(frame), hide=['skye'])", "unknown class 'skye'"),
}


@pytest.fixture(scope="module", params=["openvino", "onnxruntime"])
def engine_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engine") / "int8.engine"
    build_engine(prepare_model(None), "int8", request.param, path)
    return path


def run(script: str, engine: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    image = folder / "image.png"
    cv2.imwrite(str(image), np.zeros((60, 80, 3), np.uint8))
    command = [sys.executable, "-c", SETUP + script, str(engine), str(image)]
    return subprocess.run(command, cwd=folder, env=os.environ, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
@pytest.mark.parametrize("name", ENDED_EARLY)
def test_a_script_that_ends_early_ends_well(engine_path: Path, tmp_path: Path, name: str) -> None:
    done = run(ENDED_EARLY[name], engine_path, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.slow
def test_ctrl_c_in_a_stream_is_a_keyboard_interrupt(engine_path: Path, tmp_path: Path) -> None:
    script = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a parent may have ignored it
    script += "for f, m in s.stream('demo'): signal.raise_signal(signal.SIGINT)"
    done = run(script, engine_path, tmp_path)
    assert done.returncode in (130, -2)
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")


def test_wrong_use_is_one_sentence(engine_path: Path, tmp_path: Path) -> None:
    """All in one process, which also shows that none of them spoils the next."""
    script = "from pspnet_edge.errors import PspnetEdgeError\n"
    for code, _ in WRONG.values():
        script += "if s._closed: s = Segmenter(engine)\n"
        script += f"try:\n    {code}\n    print('no error')\n"
        script += "except PspnetEdgeError as error:\n    print(error)\n"
    done = run(script, engine_path, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    said = done.stdout.splitlines()
    assert len(said) == len(WRONG), said
    for (name, (_, expected)), sentence in zip(WRONG.items(), said):
        assert expected in sentence, name
