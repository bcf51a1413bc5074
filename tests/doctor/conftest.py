"""A faked machine, healthy until a test breaks something in it."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pspnet_edge.doctor.probe import CUDA_DRIVER
from pspnet_edge.doctor.system import Ran
from pspnet_edge.engine.tensorrt.gpu import Gpu
from pspnet_edge.errors import PspnetEdgeError

DIST = "/usr/lib/python3.10/dist-packages"
CLOCKS = {
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq": "1728000\n",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "1728000\n",
    "/sys/class/devfreq/17000000.gpu/min_freq": "1020000000\n",
    "/sys/class/devfreq/17000000.gpu/max_freq": "1020000000\n",
}


@dataclass
class FakeSystem:
    """What a machine answers. Whatever a test does not set is not there."""

    python: tuple[int, int] = (3, 10)
    prefix: str = "/home/me/pspnet-edge"
    in_venv: bool = True
    user: str = "me"
    files: dict[str, str] = field(default_factory=dict)
    commands: dict[tuple[str, ...], Ran] = field(default_factory=dict)
    tools: set[str] = field(default_factory=set)
    variables: dict[str, str] = field(default_factory=dict)
    packages: dict[str, dict[str, Any]] = field(default_factory=dict)
    the_gpu: Gpu | None = None
    free: int = 50 << 30
    unwritable: str | None = None
    cameras: dict[str, str] = field(default_factory=dict)
    engines: dict[str, PspnetEdgeError] = field(default_factory=dict)
    cards: dict[str, str] = field(default_factory=dict)

    def read(self, path: str) -> str | None:
        return self.files.get(path)

    def paths(self, pattern: str) -> list[str]:
        parents = {str(parent) for path in self.files for parent in Path(path).parents}
        # As in glob, * does not cross folders.
        return sorted(
            path
            for path in self.files.keys() | parents
            if path.count("/") == pattern.count("/") and fnmatch.fnmatchcase(path, pattern)
        )

    def which(self, command: str) -> str | None:
        return f"/usr/bin/{command}" if command in self.tools else None

    def run(self, *command: str) -> Ran | None:
        return self.commands.get(command)

    def environment(self, name: str) -> str | None:
        return self.variables.get(name)

    def probe(self, package: str) -> dict[str, Any]:
        return self.packages.get(package, {"missing": True})

    def gpu(self) -> Gpu | None:
        return self.the_gpu

    def free_bytes(self, folder: str) -> int:
        return self.free

    def write_problem(self, folder: str) -> str | None:
        return self.unwritable

    def camera_problem(self, device: str) -> str | None:
        return self.cameras.get(device) if device in self.files else "absent"

    def card(self, device: str) -> str | None:
        return self.cards.get(device)

    def engine_problem(self, path: Path, load: bool) -> PspnetEdgeError | None:
        return self.engines.get(str(path))


@pytest.fixture
def orin() -> FakeSystem:
    """A healthy Orin Nano with JetPack 6.2, a USB camera, a CSI camera and a screen."""
    return FakeSystem(
        files={
            "/etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
            "/etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=25W >\n"
            "< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n",
            "/proc/meminfo": "MemTotal: 7802024 kB\nMemAvailable: 5400000 kB\nSwapFree: 3900000 kB\n",
            "/dev/video0": "",
            "/sys/class/video4linux/video0/name": "USB Camera\n",
            "/sys/class/video4linux/video1/name": "vi-output, imx219 9-0010\n",
            "/tmp/argus_socket": "",
            "/dev/v4l2-nvenc": "",
            f"{DIST}/tensorrt/__init__.py": "",
            f"{DIST}/cv2/__init__.py": "",
            "/home/me/.cache/pspnet-edge/a.engine": "",
            **CLOCKS,
        },
        commands={
            ("nvpmodel", "-q"): Ran(0, "NV Power Mode: MAXN_SUPER\n2\n"),
            ("systemctl", "is-active", "nvargus-daemon"): Ran(0, "active\n"),
            ("id", "-nG", "me"): Ran(0, "me sudo video render\n"),
        },
        tools={"nvcc", "nvpmodel", "systemctl"},
        variables={"HOME": "/home/me", "DISPLAY": ":0", "PWD": "/home/me"},
        packages={
            "numpy": {"version": "1.21.5", "file": "/usr/lib/python3/dist-packages/numpy/__init__.py"},
            "cv2": {"version": "4.8.0", "file": f"{DIST}/cv2/__init__.py", "gstreamer": True, "wheels": []},
            "tensorrt": {"version": "10.3.0", "file": f"{DIST}/tensorrt/__init__.py"},
            CUDA_DRIVER: {"version": "12.6"},
            **{
                name: {"version": "1"}
                for name in ("torchvision", "timm", "onnxslim", "aiohttp", "matplotlib", "jinja2")
            },
            "torch": {"version": "2.8.0", "file": "/v/torch/__init__.py", "cuda": "12.6"},
        },
        cards={"/dev/v4l2-nvenc": "tegra-video-encoder"},
        the_gpu=Gpu("Orin", "8.7", True),
    )
