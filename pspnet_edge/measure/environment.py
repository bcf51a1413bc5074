"""Where a benchmark was made: the machine, its settings, and the versions of what ran."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

from .. import __version__, processor
from .facts import BoardFacts, Environment

_PACKAGES = ("numpy", "onnx", "onnxruntime", "openvino", "opencv-python", "tensorrt", "tensorrt-rtx-cu12", "torch")
_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
    "amx_int8",
    "amx_bf16",
    "asimddp",
    "i8mm",
    "bf16",
)
"""Of a processor's instructions, those that decide how fast INT8 and FP16 are."""


def environment(board: BoardFacts) -> Environment:
    """Facts of this machine as JSON values; None where it has no such thing.

    Args:
        board: what jetson-stats says of a Jetson; empty elsewhere.
    """
    return {
        "board": board.get("board") or _text("/proc/device-tree/model"),
        "module": board.get("module"),
        "jetpack": board.get("jetpack"),
        "l4t": board.get("l4t") or _text("/etc/nv_tegra_release"),
        "power_mode": board.get("power_mode"),
        "jetson_clocks": board.get("jetson_clocks"),
        "processor": processor.cpu_entry("model name") or platform.processor() or platform.machine(),
        "instructions": [flag for flag in _FLAGS if flag in processor.instructions()],
        "cores": len(os.sched_getaffinity(0)),
        "governor": _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "cpu_max_mhz": _megahertz("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq"),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load_at_start": round(os.getloadavg()[0], 2),
        "system": _system(),
        "python": platform.python_version(),
        "pspnet_edge": __version__,
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def _system() -> str:
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, Linux {platform.release()}"
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()}"


def _megahertz(path: str) -> float | None:
    text = _text(path)
    return int(text) / 1000 if text and text.isdecimal() else None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return None
