"""The real machine behind the checks, with what of a board can be had without one."""

from __future__ import annotations

import errno
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from pspnet_edge.artifact import sidecar_path
from pspnet_edge.doctor import system as module
from pspnet_edge.doctor.probe import CUDA_DRIVER
from pspnet_edge.doctor.system import RealSystem
from pspnet_edge.engine.build import build_engine, prepare_model
from pspnet_edge.sidecar import read_sidecar, write_sidecar


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose packages the interpreters of the probes find first."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def test_installed_packages_are_probed() -> None:
    system = RealSystem()
    numpy, opencv = system.probe("numpy"), system.probe("cv2")
    assert numpy["version"].split(".")[0] in ("1", "2")
    assert Path(numpy["file"]).is_file()
    assert isinstance(opencv["gstreamer"], bool)
    assert opencv["wheels"]
    assert system.probe("no_such_package") == {"missing": True, "printed": '\n{"missing": true}\n'}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("raise ImportError('libnvinfer.so.10: cannot open')", "ImportError: libnvinfer.so.10: cannot open"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "its import ends the process (SIGSEGV)"),
        ("import os; os._exit(3)", "its import ends the process (status 3)"),
        ("raise SystemExit(0)", "SystemExit: 0"),
    ],
)
def test_a_package_that_breaks_on_import(planted: Path, body: str, error: str) -> None:
    (planted / "tensorrt.py").write_text(f"print('{{not json')\n{body}\n")
    assert RealSystem().probe("tensorrt")["error"] == error


def test_what_a_package_prints_is_kept(planted: Path) -> None:
    (planted / "tensorrt.py").write_text("import sys; print('_ARRAY_API not found', file=sys.stderr)")
    assert "_ARRAY_API not found" in RealSystem().probe("tensorrt")["printed"]


def test_a_package_that_hangs(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IMPORT_TIMEOUT_S", 1.0)
    (planted / "tensorrt.py").write_text("import time; time.sleep(60)")
    assert RealSystem().probe("tensorrt")["error"] == "its import does not end within 1 s"


def test_the_cuda_driver_is_asked_for_the_primary_context(processor_cuda: Path) -> None:
    found = with_driver(processor_cuda)
    assert found == {"version": "13.0"}


def test_a_machine_without_a_driver_says_so() -> None:
    facts = RealSystem().probe(CUDA_DRIVER)
    assert facts.get("missing") or "version" in facts or "context_error" in facts


def with_driver(folder: Path) -> dict:
    code = f"import json\nfrom pspnet_edge.doctor.probe import probe\nprint(json.dumps(probe({CUDA_DRIVER!r})))"
    environment = os.environ | {"LD_LIBRARY_PATH": str(folder)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_torch_is_not_imported(planted: Path) -> None:
    (planted / "torch").mkdir()
    (planted / "torch/__init__.py").write_text("raise ImportError('imported')")
    (planted / "torch/version.py").write_text("__version__ = '2.9.0+cpu'\ncuda = None\n")
    facts = RealSystem().probe("torch")
    assert (facts["version"], facts["cuda"]) == ("2.9.0+cpu", None)


def test_gstreamer_is_asked_for_the_source_of_csi_cameras(planted: Path) -> None:
    (planted / "gi/repository").mkdir(parents=True)
    (planted / "gi/__init__.py").write_text("def require_version(name, version): pass")
    (planted / "gi/repository/__init__.py").write_text("")
    (planted / "gi/repository/Gst.py").write_text(
        "def init(arguments): pass\ndef version_string(): return 'GStreamer 1.20.3'\n"
        "class ElementFactory:\n    find = staticmethod(lambda name: 1 if name == 'nvarguscamerasrc' else None)\n"
    )
    facts = RealSystem().probe("gi")
    assert (facts["version"], facts["argus"]) == ("GStreamer 1.20.3", True)


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = RealSystem()
    assert system.run("no-such-command") is None
    ran = system.run("sh", "-c", "echo out; echo err >&2; exit 3")
    assert ran is not None
    assert (ran.status, ran.output) == (3, "out\nerr\n")
    monkeypatch.setattr(module, "_COMMAND_TIMEOUT_S", 0.2)
    assert system.run("sleep", "5") is None
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(module, "_TOOL_PLACES", (str(tmp_path),))
    (tmp_path / "nvpmodel").write_text("#!/bin/sh\n")
    (tmp_path / "nvpmodel").chmod(0o755)
    assert system.which("nvpmodel") == str(tmp_path / "nvpmodel")


def test_files(tmp_path: Path) -> None:
    system = RealSystem()
    assert system.read(str(tmp_path)) is None
    assert system.read(str(tmp_path / "absent")) is None
    (tmp_path / "file").write_bytes(b"a\xff")
    assert system.read(str(tmp_path / "file")) == "a\ufffd"
    assert system.paths(f"{tmp_path}/f*") == [str(tmp_path / "file")]
    assert system.free_bytes(str(tmp_path / "absent/deeper")) > 0
    assert system.write_problem(str(tmp_path / "absent/deeper")) is None
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
    assert system.write_problem(str(tmp_path / "file/below")) == "Not a directory"


def test_what_is_no_camera() -> None:
    assert RealSystem().camera_problem("/dev/video63") == "absent"
    assert RealSystem().camera_problem("/dev/null") == "no camera"


@pytest.mark.parametrize(
    ("number", "found"), [(errno.EACCES, "forbidden"), (errno.EBUSY, "busy"), (errno.EIO, "absent")]
)
def test_a_camera_that_does_not_open(monkeypatch: pytest.MonkeyPatch, number: int, found: str) -> None:
    def refuse(path: str, flags: int) -> int:
        raise OSError(number, "refused", path)

    monkeypatch.setattr(os, "open", refuse)
    assert RealSystem().camera_problem("/dev/video0") == found


@pytest.mark.parametrize(
    ("capabilities", "buffers_error", "found"),
    [
        (0x1, None, None),
        (0x1000, None, None),
        (0x1, errno.EBUSY, "busy"),
        (0x1, errno.EINVAL, None),  # a driver that has no such buffers may still be read
        (0x800000, None, "no camera"),  # metadata beside a USB camera
    ],
)
def test_what_a_camera_answers(
    monkeypatch: pytest.MonkeyPatch, capabilities: int, buffers_error: int | None, found: str | None
) -> None:
    """The layout of linux/videodev2.h: v4l2_capability has device_caps at byte 88, v4l2_requestbuffers is 20 bytes."""
    asked = []

    def ioctl(descriptor: int, request: int, argument: bytes) -> bytes:
        asked.append((request, len(argument)))
        if request == 0x80685600:
            return struct.pack("16s32s32sIII12x", b"uvcvideo", b"Camera", b"usb", 0, 0x84A00001, capabilities)
        if buffers_error:
            raise OSError(buffers_error, "refused")
        assert struct.unpack("IIIII", argument) == (0, 1 if capabilities == 0x1 else 9, 1, 0, 0)
        return argument

    monkeypatch.setattr(module.fcntl, "ioctl", ioctl)
    assert RealSystem().camera_problem("/dev/null") == found
    assert asked[0] == (0x80685600, 104)
    assert asked[1:] in ([], [(0xC0145608, 20)])


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engine") / "e.engine"
    build_engine(prepare_model(None), "fp32", "onnxruntime", path)
    return path


def test_an_engine_that_fits(engine: Path) -> None:
    assert RealSystem().engine_problem(engine, load=True) is None


def test_an_engine_that_is_not_what_its_sidecar_says(engine: Path, tmp_path: Path) -> None:
    copy = tmp_path / "e.engine"
    copy.write_bytes(engine.read_bytes()[:-1])
    sidecar_path(copy).write_bytes(sidecar_path(engine).read_bytes())
    problem = RealSystem().engine_problem(copy, load=False)
    assert "is not the file that its sidecar describes" in str(problem)
    assert "pspnet-edge build" in str(problem)


def test_a_plan_of_another_tensorrt(engine: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has wheels for x86_64 Linux alone")
    plan = tmp_path / "p.engine"
    content = bytearray(64)
    content[:4], content[16:24], content[24:28] = b"vtrt", (64).to_bytes(8, "little"), bytes([1, 0, 0, 9])
    plan.write_bytes(content)
    facts = read_sidecar(engine, "engine", "x") | {"runtime": "tensorrt-rtx", "tensorrt": {"compute_capability": None}}
    for key in ("format_version", "kind", "sha256", "made_by"):
        del facts[key]
    write_sidecar(plan, "engine", facts)
    assert "was built by TensorRT-RTX 1.0.0.9" in str(RealSystem().engine_problem(plan, load=False))
