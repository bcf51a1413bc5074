"""Each trouble that the doctor claims to find, on a machine that has it and on one that has not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pspnet_edge.doctor.examine import CHECKS, examine, report
from pspnet_edge.doctor.probe import CUDA_DRIVER
from pspnet_edge.doctor.system import Ran
from pspnet_edge.doctor.verdict import Verdict, Wanted
from pspnet_edge.errors import EngineError, MissingPackage

from .conftest import DIST, FakeSystem

CACHED = "/home/me/.cache/pspnet-edge/a.engine"
ANY, USB, CSI = Wanted(), Wanted(("/dev/video0",)), Wanted(("csi://0",))
ENGINE = Wanted(engine=Path("/home/me/pspnet.engine"))
WHEEL = {"version": "4.12.0", "file": "/home/me/pspnet-edge/lib/cv2/__init__.py", "wheels": ["opencv-python"]}
OLD_ABI = "A module that was compiled using NumPy 1.x cannot be run in NumPy 2.4.6 as it may crash."
STALE = EngineError(
    "/home/me/pspnet.engine was built by TensorRT 8.6.2 and 10.3.0 is installed",
    "rebuild",
    "pspnet-edge build pspnet_lite0_camvid --runtime tensorrt --precision int8 -o /home/me/pspnet.engine",
)
FORMATS = """ioctl: VIDIOC_ENUM_FMT
	Type: Video Capture

	[0]: 'MJPG' (Motion-JPEG, compressed)
		Size: Discrete 1280x720
			Interval: Discrete 0.033s (30.000 fps)
		Size: Discrete 640x480
			Interval: Discrete 0.033s (30.000 fps)
	[1]: 'YUYV' (YUYV 4:2:2)
		Size: Discrete 640x480
			Interval: Discrete 0.033s (30.000 fps)
		Size: Discrete 1280x720
			Interval: Discrete 0.100s (10.000 fps)
			Interval: Discrete 0.200s (5.000 fps)
"""
ENCODER = "/dev/v4l2-nvenc"


@dataclass(frozen=True)
class Trouble:
    check: str
    state: str
    breaks: Callable[[FakeSystem], Any]
    says: str
    """Words of the sentence."""
    mend: str | None
    """Words of the command."""
    wanted: Wanted = ANY


def files(**changed: str | None) -> Callable[[FakeSystem], None]:
    """Change files: ``None`` takes one away. Keys name them shortly."""
    places = {
        "release": "/etc/nv_tegra_release",
        "meminfo": "/proc/meminfo",
        "modes": "/etc/nvpmodel.conf",
        "camera": "/dev/video0",
        "socket": "/tmp/argus_socket",
        "sensor": "/sys/class/video4linux/video1/name",
        "processor": "/sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq",
        "gpu": "/sys/class/devfreq/17000000.gpu/min_freq",
        "docker": "/.dockerenv",
        "tensorrt": f"{DIST}/tensorrt/__init__.py",
    }

    def change(system: FakeSystem) -> None:
        for key, text in changed.items():
            if text is None:
                del system.files[places[key]]
            else:
                system.files[places[key]] = text

    return change


def package(name: str, facts: dict[str, Any] | None) -> Callable[[FakeSystem], None]:
    def change(system: FakeSystem) -> None:
        system.packages.pop(name)
        if facts is not None:
            system.packages[name] = facts

    return change


def has(**changed: Any) -> Callable[[FakeSystem], None]:
    def change(system: FakeSystem) -> None:
        for key, value in changed.items():
            setattr(system, key, value)

    return change


def answers(command: str, output: str) -> Callable[[FakeSystem], None]:
    return lambda system: system.commands.update({tuple(command.split()): Ran(0, output)})


def both(*changes: Callable[[FakeSystem], Any]) -> Callable[[FakeSystem], None]:
    def change(system: FakeSystem) -> None:
        for one in changes:
            one(system)

    return change


NO_TENSORRT = package("tensorrt", None)
TROUBLES = {
    "JetPack 5": Trouble(
        "jetpack",
        "block",
        files(release="# R35 (release), REVISION: 4.1, GCID: 1"),
        "JetPack 5 or earlier",
        "sdkmanager",
    ),
    "a JetPack of the future": Trouble(
        "jetpack", "warn", files(release="# R41 (release), REVISION: 0.0, GCID: 1"), "41.0.0 is newer", "--upgrade"
    ),
    "Python that JetPack has no TensorRT for": Trouble(
        "python", "block", has(python=(3, 12)), "TensorRT for Python 3.10 and this is 3.12", "python3.10 -m venv"
    ),
    "Python too new": Trouble(
        "python", "warn", both(files(release=None), has(python=(3, 14))), "3.14 is not among", None
    ),
    "GPU without its packages": Trouble("gpu", "block", has(the_gpu=None), "CUDA does not start", "nvidia-jetpack"),
    "GPU without permission": Trouble(
        "gpu",
        "block",
        both(has(the_gpu=None), answers("id -nG me", "me sudo")),
        "not in the group",
        "usermod -aG video",
    ),
    "GPU hidden": Trouble(
        "gpu",
        "block",
        lambda system: (has(the_gpu=None)(system), system.variables.update(CUDA_VISIBLE_DEVICES="")),
        "CUDA_VISIBLE_DEVICES is empty",
        "unset",
    ),
    "NumPy 2 with a package for NumPy 1": Trouble(
        "numpy",
        "block",
        both(
            package("numpy", {"version": "2.4.6", "file": "n"}),
            package("cv2", {"error": "ImportError: numpy.core.multiarray failed to import", "printed": OLD_ABI}),
        ),
        "cv2 was compiled for NumPy 1 and 2.4.6 is installed",
        "'numpy<2'",
    ),
    "NumPy 2 that only warns": Trouble(
        "numpy",
        "block",
        lambda system: system.packages["tensorrt"].update(printed=OLD_ABI),
        "tensorrt was compiled for NumPy 1",
        "'numpy<2'",
    ),
    "NumPy too old": Trouble(
        "numpy",
        "block",
        package("tensorrt", {"error": "RuntimeError: module compiled against ABI version 0x1000010"}),
        "newer NumPy than 1.21.5",
        "--upgrade numpy",
    ),
    "no NumPy": Trouble("numpy", "block", package("numpy", None), "not installed", "install"),
    "no OpenCV": Trouble("opencv", "block", package("cv2", None), "cannot be imported", "libopencv-python"),
    "no OpenCV on a PC": Trouble(
        "opencv", "block", both(files(release=None), package("cv2", None)), "cannot be imported", "opencv-python"
    ),
    "no libGL": Trouble(
        "opencv",
        "block",
        package("cv2", {"error": "ImportError: libGL.so.1: cannot open shared object file"}),
        "libGL.so.1",
        "libgl1",
    ),
    "pip's OpenCV over JetPack's": Trouble(
        "opencv", "warn", package("cv2", WHEEL), "hides JetPack's", "pip uninstall -y opencv-python"
    ),
    "pip's OpenCV and a CSI camera": Trouble(
        "gstreamer", "block", package("cv2", WHEEL), "has no GStreamer and hides", "pip uninstall -y opencv-python", CSI
    ),
    "no GStreamer and a CSI camera": Trouble(
        "gstreamer",
        "block",
        lambda system: system.packages["cv2"].update(gstreamer=False),
        "GStreamer's Python binding is not installed",
        "python3-gi",
        CSI,
    ),
    "no GStreamer": Trouble(
        "gstreamer",
        "warn",
        lambda system: system.packages["cv2"].update(gstreamer=False),
        "a CSI camera cannot be opened",
        "python3-gi",
    ),
    "GStreamer without Argus": Trouble(
        "gstreamer",
        "block",
        lambda system: (
            system.packages["cv2"].update(gstreamer=False),
            system.packages.update(gi={"version": "1.20", "argus": False}),
        ),
        "no nvarguscamerasrc",
        "nvidia-l4t-gstreamer",
        CSI,
    ),
    "a CSI camera on a PC": Trouble("gstreamer", "block", files(release=None), "only a Jetson has", None, CSI),
    "TensorRT hidden by the venv": Trouble(
        "tensorrt", "block", NO_TENSORRT, "this venv does not look there", "include-system-site-packages = true"
    ),
    "TensorRT hidden by another Python": Trouble(
        "tensorrt", "block", both(NO_TENSORRT, has(in_venv=False)), "does not look there", "--system-site-packages"
    ),
    "TensorRT of another Python": Trouble(
        "tensorrt", "block", both(NO_TENSORRT, has(python=(3, 12))), "is for Python 3.10 and this is 3.12", "python3.10"
    ),
    "no TensorRT": Trouble(
        "tensorrt", "block", both(NO_TENSORRT, files(tensorrt=None)), "not installed", "python3-libnvinfer"
    ),
    "TensorRT without its libraries": Trouble(
        "tensorrt", "block", package("tensorrt", {"error": "ImportError: libnvinfer.so.10"}), "libnvinfer.so", "apt-get"
    ),
    "TensorRT too old": Trouble(
        "tensorrt", "block", package("tensorrt", {"version": "8.5.2.2"}), "older than 8.6", "sdkmanager"
    ),
    "TensorRT too new": Trouble(
        "tensorrt", "warn", package("tensorrt", {"version": "12.0.0"}), "newer than 11.4", "--upgrade"
    ),
    "no CUDA driver": Trouble(
        "cuda",
        "block",
        package(CUDA_DRIVER, {"missing": True, "error": "libcuda.so.1: cannot open shared object file"}),
        "cannot be loaded",
        "nvidia-jetpack",
    ),
    "no CUDA context": Trouble(
        "cuda",
        "block",
        lambda system: system.packages[CUDA_DRIVER].update(context_error="cuDevicePrimaryCtxRetain: unknown error"),
        "gives no context",
        "reboot",
    ),
    "no memory for a CUDA context": Trouble(
        "cuda",
        "block",
        lambda system: system.packages[CUDA_DRIVER].update(context_error="cuDevicePrimaryCtxRetain: out of memory"),
        "out of memory",
        "multi-user.target",
    ),
    "torch without CUDA": Trouble(
        "torch",
        "warn",
        package("torch", {"version": "2.9.0+cpu", "cuda": None}),
        "has no CUDA",
        "pip uninstall -y torch",
    ),
    "no runtime": Trouble("runtimes", "block", NO_TENSORRT, "no runtime is installed", "[openvino]"),
    "broken runtimes": Trouble(
        "runtimes", "block", package("tensorrt", {"error": "ImportError: x"}), "tensorrt (ImportError: x)", "openvino"
    ),
    "low power mode": Trouble(
        "power_mode", "warn", answers("nvpmodel -q", "NV Power Mode: 15W\n0\n"), "MAXN_SUPER is faster", "nvpmodel -m 2"
    ),
    "low power mode without MAXN": Trouble(
        "power_mode",
        "warn",
        both(
            files(modes="< POWER_MODEL ID=0 NAME=MODE_15W >\n< POWER_MODEL ID=1 NAME=MODE_7W >\n"),
            answers("nvpmodel -q", "NV Power Mode: MODE_7W\n1\n"),
        ),
        "MODE_15W is faster",
        "nvpmodel -m 0",
    ),
    "clocks of the processor": Trouble(
        "clocks", "warn", files(processor="115200\n"), "of the processor", "jetson_clocks"
    ),
    "clocks of the GPU": Trouble("clocks", "warn", files(gpu="306000000\n"), "of the GPU", "jetson_clocks"),
    "no memory": Trouble(
        "memory", "block", files(meminfo="MemAvailable: 300000 kB\nSwapFree: 9000000 kB\n"), "too little", "multi-user"
    ),
    "little memory and no swap": Trouble(
        "memory", "warn", files(meminfo="MemAvailable: 1300000 kB\nSwapFree: 0 kB\n"), "0 MiB of swap", "swapon"
    ),
    "full disk": Trouble("disk", "block", has(free=100 << 20), "too little for an engine", "vacuum"),
    "disk almost full": Trouble("disk", "warn", has(free=1 << 30), "a recording fills soon", "vacuum"),
    "cache not writable": Trouble(
        "cache", "block", has(unwritable="Permission denied"), "(Permission denied)", "chown -R me"
    ),
    "headless": Trouble("display", "warn", lambda s: s.variables.pop("DISPLAY"), "no screen", "--camera 0 --view web"),
    "headless and no camera": Trouble(
        "display",
        "warn",
        lambda s: (s.variables.pop("DISPLAY"), files(camera=None)(s)),
        "no screen",
        "--input demo --view web",
    ),
    "headless with a CSI camera": Trouble(
        "display", "warn", lambda s: s.variables.pop("DISPLAY"), "no screen", "--input csi://0 --view web", CSI
    ),
    "no such camera": Trouble("camera", "block", files(camera=None), "no camera /dev/video0 (found: none)", None, USB),
    "another camera": Trouble(
        "camera",
        "block",
        lambda system: system.files.update({"/dev/video2": system.files.pop("/dev/video0")}),
        "no camera /dev/video0 (found: /dev/video2)",
        "--camera 2",
        USB,
    ),
    "camera without permission": Trouble(
        "camera",
        "block",
        has(cameras={"/dev/video0": "forbidden"}),
        "may not be opened by me",
        "usermod -aG video me",
        USB,
    ),
    "camera busy": Trouble(
        "camera", "block", has(cameras={"/dev/video0": "busy"}), "another program reads", "fuser -k /dev/video0", USB
    ),
    "a camera that nobody asked for is busy": Trouble(
        "camera", "warn", has(cameras={"/dev/video0": "busy"}), "another program reads", "fuser -k /dev/video0"
    ),
    "no pictures": Trouble(
        "camera", "block", has(cameras={"/dev/video0": "no camera"}), "carries no pictures", None, USB
    ),
    "no CSI sensor": Trouble("camera", "block", files(sensor=None), "found: none", "jetson-io", CSI),
    "Argus is down": Trouble(
        "argus",
        "block",
        answers("systemctl is-active nvargus-daemon", "failed\n"),
        "is failed",
        "restart nvargus-daemon",
        CSI,
    ),
    "no Argus socket": Trouble("argus", "block", files(socket=None), "no socket", "restart nvargus-daemon", CSI),
    "no Argus socket in a container": Trouble(
        "argus", "block", files(socket=None, docker=""), "this container", "-v /tmp/argus_socket", CSI
    ),
    "a raw CSI sensor as a camera": Trouble(
        "camera",
        "block",
        lambda system: system.files.update({"/sys/class/video4linux/video0/name": "vi-output, imx219 9-0010\n"}),
        "raw sensor of a CSI camera (vi-output, imx219 9-0010)",
        "run --input csi://0",
        USB,
    ),
    "large frames that are slow as YUYV": Trouble(
        "camera",
        "warn",
        answers("v4l2-ctl -d /dev/video0 --list-formats-ext", FORMATS),
        "720x1280 at 10 FPS as YUYV and at 30 as MJPG",
        "--camera 0 --pixels mjpg",
        USB,
    ),
    "a stub of an encoder": Trouble("encoder", "warn", lambda system: system.cards.clear(), "does not answer", None),
    "pip's NumPy over the system's OpenCV": Trouble(
        "numpy",
        "block",
        both(
            package("numpy", {"version": "2.4.6", "file": "/home/me/pspnet-edge/lib/numpy/__init__.py"}),
            package("cv2", {"error": "ImportError: numpy.core.multiarray failed to import"}),
            lambda system: system.files.update({f"{DIST}/numpy/__init__.py": ""}),
        ),
        "NumPy 2.4.6 from pip hides the system's",
        "pip uninstall -y numpy",
    ),
    "a Xavier with JetPack 5": Trouble(
        "jetpack",
        "block",
        both(
            files(release="# R35 (release), REVISION: 6.0, GCID: 1"),
            lambda system: system.files.update({"/proc/device-tree/model": "NVIDIA Jetson Xavier NX Developer Kit\0"}),
        ),
        "Xavier NX Developer Kit ends with JetPack 5",
        "uv venv --python 3.10",
    ),
    "a first Jetson Nano": Trouble(
        "jetpack",
        "block",
        both(
            files(release="# R32 (release), REVISION: 7.6, GCID: 1"),
            lambda system: system.files.update({"/proc/device-tree/model": "NVIDIA Jetson Nano Developer Kit\0"}),
        ),
        "ends with JetPack 4",
        "onnxruntime",
    ),
    "an Orin Nano with JetPack 5": Trouble(
        "jetpack",
        "block",
        both(
            files(release="# R35 (release), REVISION: 4.1, GCID: 1"),
            lambda system: system.files.update({"/proc/device-tree/model": "NVIDIA Jetson Orin Nano\0"}),
        ),
        "flash JetPack 6 or 7",
        "sdkmanager",
    ),
    "no torch to train with": Trouble("train", "skip", package("timm", None), "cannot train: timm", "[train]"),
    "no torch to export with": Trouble(
        "export", "skip", package("torch", None), "cannot export: torch is not installed", "[train]"
    ),
    "no server for the page": Trouble(
        "web", "warn", package("aiohttp", {"error": "ImportError: x"}), "cannot be imported (ImportError: x)", "[web]"
    ),
    "no charts": Trouble("report", "skip", package("jinja2", None), "cannot write a report", "[report]"),
    "stale engine": Trouble(
        "engine",
        "block",
        lambda system: system.engines.update({"/home/me/pspnet.engine": STALE}),
        "was built by TensorRT 8.6.2",
        "pspnet-edge build pspnet_lite0_camvid --runtime tensorrt",
        ENGINE,
    ),
    "stale engine in the cache": Trouble(
        "engine",
        "warn",
        lambda s: s.engines.update({CACHED: STALE}),
        "was built by TensorRT 8.6.2",
        "pspnet-edge build",
    ),
    "engine without its runtime": Trouble(
        "engine",
        "block",
        lambda system: system.engines.update(
            {
                "/home/me/pspnet.engine": MissingPackage(
                    "openvino is needed", None, "pip install 'pspnet-edge[openvino]'"
                )
            }
        ),
        "openvino is needed",
        "pip install 'pspnet-edge[openvino]'",
        ENGINE,
    ),
}


def verdicts(system: FakeSystem, check: str, wanted: Wanted) -> list[Verdict]:
    return [finding.verdict for finding in examine(system, wanted) if finding.name == check]


@pytest.mark.parametrize("name", TROUBLES)
def test_each_trouble_is_found_and_mended(orin: FakeSystem, name: str) -> None:
    trouble = TROUBLES[name]
    assert [verdict.state for verdict in verdicts(orin, trouble.check, trouble.wanted)] == ["ok"]
    trouble.breaks(orin)
    (found,) = verdicts(orin, trouble.check, trouble.wanted)
    assert found.state == trouble.state, found
    assert trouble.says in found.says
    assert (trouble.mend is None) == (found.command is None)
    assert (trouble.mend or "") in (found.command or "")


@pytest.mark.parametrize("wanted", [ANY, USB, CSI, ENGINE], ids=str)
def test_a_healthy_board_has_none_of_them(orin: FakeSystem, wanted: Wanted) -> None:
    findings = examine(orin, wanted)
    assert {finding.name for finding in findings} == set(CHECKS)
    assert [finding for finding in findings if finding.verdict.state not in ("ok", "skip")] == []
    assert report(findings)["blocking"] == 0


def test_every_check_has_a_trouble() -> None:
    assert {trouble.check for trouble in TROUBLES.values()} == set(CHECKS)


def test_a_pc_without_a_gpu_is_not_asked_for_what_only_a_jetson_has() -> None:
    pc = FakeSystem(
        python=(3, 12),
        files={"/proc/meminfo": "MemAvailable: 9000000 kB\n"},
        variables={"HOME": "/home/me", "DISPLAY": ":0"},
        packages={
            "numpy": {"version": "2.4.6", "file": "n"},
            "cv2": {"version": "5.0.0", "file": "/v/cv2.py", "gstreamer": False, "wheels": ["opencv-python"]},
            "openvino": {"version": "2026.4.1-22982", "file": "o"},
        },
    )
    states = {finding.name: finding.verdict.state for finding in examine(pc, ANY)}
    assert set(states.values()) == {"ok", "skip"}
    fine = {name for name, state in states.items() if state == "ok"}
    assert fine == {"python", "numpy", "opencv", "runtimes", "memory", "disk", "cache", "display"}


def test_a_thor_with_jetpack_7_is_healthy_too(orin: FakeSystem) -> None:
    orin.python = (3, 12)
    orin.files["/etc/nv_tegra_release"] = "# R38 (release), REVISION: 2.2, GCID: 42205042, BOARD: generic\n"
    orin.packages["tensorrt"] = {"version": "10.13.3.9", "file": "t"}
    for name in ("min_freq", "max_freq"):
        del orin.files[f"/sys/class/devfreq/17000000.gpu/{name}"]
        orin.files[f"/sys/class/devfreq/gpu-gpc-0/{name}"] = "1575000000\n"
    assert {finding.verdict.state for finding in examine(orin, CSI)} <= {"ok", "skip"}
    orin.files["/sys/class/devfreq/gpu-gpc-0/min_freq"] = "315000000\n"
    assert verdicts(orin, "clocks", CSI)[0].state == "warn"


def test_the_package_database_tells_the_board_where_the_release_file_is_missing(orin: FakeSystem) -> None:
    del orin.files["/etc/nv_tegra_release"]
    command = ("dpkg-query", "-W", "-f", "${Version}", "nvidia-l4t-core")
    orin.commands[command] = Ran(0, "36.4.7-20250918154033")
    assert verdicts(orin, "jetpack", ANY)[0].says == "JetPack 6, Jetson Linux 36.4.7"


def test_a_check_that_fails_itself_ends_no_other(orin: FakeSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    def bursts(name: str) -> str | None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(orin, "environment", bursts)
    findings = examine(orin, ANY)
    assert {finding.name for finding in findings} == set(CHECKS)
    (display,) = [finding.verdict for finding in findings if finding.name == "display"]
    assert display.state == "warn"
    assert "RuntimeError: no such luck" in display.says


def test_every_block_is_counted(orin: FakeSystem) -> None:
    TROUBLES["no CUDA driver"].breaks(orin)
    TROUBLES["no NumPy"].breaks(orin)
    facts = report(examine(orin, ANY))
    assert facts["blocking"] == 2
    assert {tuple(check) for check in facts["checks"]} == {("name", "state", "reason", "command", "says", "mend")}
