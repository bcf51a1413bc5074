"""The checks against a driver in the processor's memory, with planted faults that each must find."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pspnet_edge.engine.tensorrt.host_kernels import HostKernels
from pspnet_edge.errors import EngineError
from pspnet_edge.selftest import checks
from pspnet_edge.selftest.checks import CHECKS, report, run_check, run_checks
from pspnet_edge.selftest.kernel_checks import check_kernels_on_processor
from pspnet_edge.selftest.outcome import Answer, Check, Failed, Outcome, Skipped
from pspnet_edge.selftest.page import page
from pspnet_edge.selftest.tensorrt_checks import check_layers

HEADERS = Path(HostKernels.__init__.__code__.co_filename).parent
ROOT = Path(__file__).resolve().parents[2]
ON_THE_GPU = ("kernels", "memory", "openings", "runner", "failure", "graph", "tail")


def in_process(name: str, driver: Path, plant: str = "") -> Outcome:
    """A check in a process of its own, with a driver, after a line that plants a fault."""
    code = (
        f"import json\n{plant}\n"
        "from pspnet_edge.selftest.checks import CHECKS, run_check\n"
        f"print('\\n' + json.dumps(run_check(CHECKS[{name!r}]).to_dict()))"
    )
    environment = os.environ | {"LD_LIBRARY_PATH": str(driver)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return Outcome(**json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_THE_GPU)
def test_the_product_passes_with_a_driver_in_the_processors_memory(name: str, processor_cuda: Path) -> None:
    outcome = in_process(name, processor_cuda)
    assert outcome.state == "pass", outcome.reason


FAULTS = {
    "a swapped buffer": (
        "runner",
        "from pspnet_edge.engine.tensorrt import runner\n"
        "def steps(self, slot, old=runner.Runner._enqueue_steps):\n"
        "    slot.masks, self._spare = getattr(self, '_spare', slot.masks), slot.masks\n"
        "    old(self, slot)\n"
        "runner.Runner._enqueue_steps = steps",
        "pixels of frame",
    ),
    "a context left on the stack": (
        "openings",
        "import contextlib\nfrom pspnet_edge.engine.tensorrt.memory import CudaMemory\n"
        "@contextlib.contextmanager\n"
        "def current(self):\n"
        "    self._driver.call('cuCtxPushCurrent_v2', self._context)\n    yield\n"
        "CudaMemory.current = current",
        "contexts are left",
    ),
    "memory that is not freed": (
        "openings",
        "from pspnet_edge.engine.tensorrt.memory import CudaMemory\n"
        "CudaMemory.free_device = lambda self, address: None",
        "bytes of the GPU's memory are lost",
    ),
    "a download that does nothing": (
        "memory",
        "from pspnet_edge.engine.tensorrt.memory import CudaMemory\n"
        "CudaMemory.enqueue_download = lambda self, buffer: None",
        "copied",
    ),
    "another block than the kernel's": (
        "kernels",
        "from pspnet_edge.engine.tensorrt import tail\ntail._KERNELS = dict.fromkeys(tail._KERNELS, 'tail_masks')",
        "differ from the graph's|ILLEGAL_ADDRESS",
    ),
    "channels in another order": (
        "kernels",
        "from pspnet_edge.engine.tensorrt import head\n"
        "old = head.head_launch\n"
        "head.head_launch = lambda facts, *more: old(facts | {'order': facts['order'][::-1]}, *more)",
        "values of the input differ from the resized frame's",
    ),
    "another border": (
        "kernels",
        "import numpy as np\nfrom pspnet_edge.engine.tensorrt import resample as r\n"
        "r._rows = lambda source, target, averaged: r._columns(source, target, averaged)",
        "values of the input differ from the resized frame's",
    ),
    "graphs that are never replayed": (
        "graph",
        "from pspnet_edge.engine.tensorrt.memory import CudaMemory\nCudaMemory.capture = lambda self, enqueue: None",
        "of 198 are replayed",
    ),
    "a failure that is not said": (
        "failure",
        "import subprocess\nold = subprocess.run\n"
        "subprocess.run = lambda command, **more: old([command[0], '-c', 'pass'], **more)",
        "exits 0",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str, processor_cuda: Path) -> None:
    name, plant, says = FAULTS[fault]
    outcome = in_process(name, processor_cuda, plant)
    assert outcome.state == "fail"
    assert re.search(says, outcome.reason), outcome.reason


def test_every_head_is_timed_and_all_is_freed(processor_cuda: Path) -> None:
    code = (
        "import json\n"
        "from pspnet_edge.engine.tensorrt.kernels import shipped_ptx\n"
        "from pspnet_edge.engine.tensorrt.memory import CudaMemory\n"
        "from pspnet_edge.selftest.gpu import device\n"
        "from pspnet_edge.selftest.head_cases import time_heads\n"
        "from pspnet_edge.selftest.memory_checks import _free_bytes, load_driver\n"
        "with device(CudaMemory(mapped=True)) as memory:\n"
        "    before = _free_bytes(load_driver())\n"
        "    times = time_heads(memory, [(30, 41), (96, 120)], (48, 60), shipped_ptx())\n"
        "    print(json.dumps([times, before - _free_bytes(load_driver())]))"
    )
    environment = os.environ | {"LD_LIBRARY_PATH": str(processor_cuda)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    times, lost = json.loads(done.stdout)
    assert lost == 0
    # The driver in the processor's memory answers 1 ms for every interval.
    assert times == {
        f"head_{size}_to_48x60_{dtype}{kind}_ms": 1.0
        for size in ("30x41", "96x120")
        for dtype in ("int8", "float16")
        for kind in ("", "_mapped")
    }


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not here")
@pytest.mark.parametrize(
    ("header", "right", "wrong"),
    [
        ("tail.h", "axis.first + 1 < in ? axis.first + 1 : in - 1", "axis.first + 1 < in ? axis.first + 1 : 0"),
        ("tail.h", "value > largest", "value >= largest"),
        ("tail.h", "+ 0.5f) / scale - 0.5f", "+ 0.5f) / scale"),
        ("tail.h", "fraction << 13", "fraction << 12"),
        ("head.h", "shape.order >> (8 * channel)", "shape.order >> (8 * (channel ^ 1))"),
        ("head.h", "row >= 0 && row < shape.inner_height", "row > 0 && row < shape.inner_height"),
        ("head.h", "(upper >> 4) >> 16", "upper >> 20"),
        ("head.h", "(sum + 2) >> 2", "sum >> 2"),
        ("head.h", "value + 8388608.0f) - 8388608.0f", "value + 0.5f)"),
        ("head.h", "if (shape.lanes == 8) pixel[1] = none;", "if (shape.lanes == 8) none = values, pixel[1] = none;"),
    ],
)
def test_a_wrong_kernel_header_is_found(header: str, right: str, wrong: str, tmp_path: Path) -> None:
    for name in ("head.h", "tail.h"):
        text = (HEADERS / name).read_text(encoding="utf-8")
        if name == header:
            assert text.count(right) == 1
            text = text.replace(right, wrong)
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(Failed):
        check_kernels_on_processor(tmp_path)


def sources_in_debian(plant: str = "") -> Outcome:
    """The check in Debian's Python, whose OpenCV has GStreamer."""
    code = (
        f"import json\n{plant}\nfrom pspnet_edge.selftest.outcome import *\n"
        "from pspnet_edge.selftest.source_checks import check_sources\n"
        "try: state, reason = 'pass', check_sources().seen\n"
        "except Failed as error: state, reason = 'fail', str(error)\n"
        "except Skipped as error: state, reason = 'skip', str(error)\n"
        "print(json.dumps([state, reason]))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "GST_DEBUG": "0"}
    command = ["/usr/bin/python3", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    state, reason = json.loads(done.stdout.splitlines()[-1])
    return Outcome("sources", state, reason, 0.0)


needs_debian = pytest.mark.skipif(
    subprocess.run(["/usr/bin/python3", "-c", "import cv2, gi"], capture_output=True).returncode != 0
    if Path("/usr/bin/python3").exists()
    else True,
    reason="Debian's python3-opencv and python3-gi are not here",
)


@needs_debian
def test_the_cameras_pipelines_run_in_debians_opencv() -> None:
    outcome = sources_in_debian()
    assert outcome.state == "pass", outcome.reason
    assert "OpenCV" in outcome.reason
    assert "binding" in outcome.reason


@needs_debian
@pytest.mark.parametrize(
    ("plant", "says"),
    [
        (
            "from pspnet_edge.camera import gstreamer as g\nold = g.opencv_pipeline\n"
            "g.opencv_pipeline = lambda *a: old(*a).replace('appsink ', 'appsink name=out ')",
            "OpenCV does not open the pipeline",
        ),
        (
            "from pspnet_edge.camera import gstreamer as g\nold = g.binding_pipeline\n"
            "g.binding_pipeline = lambda *a: old(*a).replace('appsink', 'fakesink')",
            "AttributeError|does not open|did not come",
        ),
        (
            "from pspnet_edge.camera import gstreamer as g\n"
            "g.TWINS = dict(g.TWINS) | {'nvarguscamerasrc': lambda p: 'videotestsrc is-live=true pattern=black'}",
            "are the same",
        ),
    ],
)
def test_a_bad_pipeline_is_found(plant: str, says: str) -> None:
    try:
        outcome = sources_in_debian(plant)
    except AssertionError as error:
        assert re.search(says, str(error))  # noqa: PT017
        return
    assert outcome.state == "fail"
    assert re.search(says, outcome.reason), outcome.reason


def test_the_page_escapes_what_checks_say() -> None:
    facts = report([Outcome("x", "fail", "<script>alert(1)</script>", 1.0, {"a": "<b>"})])
    text = page(facts)
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "&lt;b&gt;" in text
    assert "0 passed, 1 failed" in text


def test_a_fallback_to_fp32_is_found() -> None:
    right = {"precision_by_convolution": {"conv_0": "int8", "conv_1": "fp16"}}
    check_layers("int8", right | {"int8_convolutions": {"placed": 1, "built": 1}})
    with pytest.raises(Failed, match="2 convolutions should be INT8 and 1 are"):
        check_layers("int8", right | {"int8_convolutions": {"placed": 2, "built": 1}})
    with pytest.raises(Failed, match="1 convolutions fall back to FP32"):
        check_layers("fp16", {"precision_by_convolution": {"conv_0": "fp16", "conv_1": "fp32"}})
    with pytest.raises(Failed, match="names no convolution"):
        check_layers("fp16", {"precision_by_convolution": {}})


def test_a_check_that_crashes_or_hangs_is_a_failure_with_what_it_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def outcome_of(code: str, limit_s: int = 60) -> Outcome:
        script = [sys.executable, "-c", code]
        run = subprocess.run
        with monkeypatch.context() as patch:
            patch.setattr(checks.subprocess, "run", lambda command, **more: run(script, **more))
            return checks._in_process(Check("x", "nothing", lambda: Answer(""), limit_s))

    crash = outcome_of("import os, sys; print('about to crash', file=sys.stderr); os.abort()")
    assert (crash.state, crash.reason) == ("fail", "the check is ended by signal 6 and says: about to crash")
    hang = outcome_of("import time; time.sleep(60)", limit_s=1)
    assert (hang.state, hang.reason) == ("fail", "takes longer than 1 s")


@pytest.mark.parametrize(
    ("raised", "state", "reason"),
    [
        (Skipped("no GPU"), "skip", "no GPU"),
        (Failed("wrong pixels"), "fail", "wrong pixels"),
        (EngineError("lost", "rebuild"), "fail", "lost: rebuild"),
        (ZeroDivisionError("by zero"), "fail", "ZeroDivisionError: by zero"),
    ],
)
def test_what_a_check_raises_decides_its_state(raised: Exception, state: str, reason: str) -> None:
    def run() -> Answer:
        raise raised

    outcome = run_check(Check("x", "nothing", run))
    assert (outcome.state, outcome.reason) == (state, reason)
    assert report([outcome])[state] == 1


def test_the_command_lists_every_check_with_state_and_reason(command_line, tmp_path: Path) -> None:
    done = command_line("selftest", "--json", "--only", "facts", "--only", "runner", "-o", tmp_path / "selftest.json")
    facts = json.loads(done.stdout)
    assert [check["name"] for check in facts["checks"]] == ["facts", "runner"]
    assert all(check["state"] in ("pass", "fail", "skip") and check["reason"] for check in facts["checks"])
    assert all(check["elapsed_s"] >= 0 for check in facts["checks"])
    assert done.returncode == (1 if facts["fail"] else 0)
    assert json.loads((tmp_path / "selftest.json").read_text(encoding="utf-8")) == facts
    assert "facts" in done.stderr
    unknown = command_line("selftest", "--only", "everything")
    assert unknown.returncode == 2
    assert "unknown check 'everything'" in unknown.stderr


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
def test_every_check_passes_on_a_gpu(name: str) -> None:
    from pspnet_edge.engine.tensorrt.gpu import find_gpu

    if find_gpu() is None:
        pytest.skip("there is no NVIDIA GPU here")
    (outcome,) = run_checks([name])
    if outcome.state == "skip":
        pytest.skip(outcome.reason)
    assert outcome.state == "pass", outcome.reason
