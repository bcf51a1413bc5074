"""The board itself: JetPack, Python, GPU, power, clocks, memory, disk, screen."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..camera.v4l2 import ENCODER
from ..lazy import install_command
from .system import System
from .verdict import Verdict, Wanted, block, ok, skip, warn

_MIB = 1 << 20
_PYTHONS = ((3, 10), (3, 13))
_JETPACK_OF_L4T = {36: 6, 38: 7, 39: 7}
_PYTHON_OF_JETPACK = {6: (3, 10), 7: (3, 12)}
_BUILD_BYTES = 2048 * _MIB
"""Free memory with which a build does not have to swap; the builder itself refuses below some 500 MiB."""
_REFUSED_BYTES = 512 * _MIB
_DISK_BYTES, _DISK_FULL_BYTES = 2048 * _MIB, 256 * _MIB
_RELEASE = "/etc/nv_tegra_release"
_MODEL = "/proc/device-tree/model"
_ADD_SWAP = (
    "sudo fallocate -l 8G /var/swapfile && sudo chmod 600 /var/swapfile && "
    "sudo mkswap /var/swapfile && sudo swapon /var/swapfile"
)


@dataclass(frozen=True)
class Jetson:
    """A Jetson, by its release of Jetson Linux."""

    l4t: tuple[int, ...]
    """36.4.3 of JetPack 6.2."""

    @property
    def name(self) -> str:
        """``Jetson Linux 36.4.3``."""
        return f"Jetson Linux {'.'.join(map(str, self.l4t))}"

    @property
    def jetpack(self) -> int | None:
        """Its major version; None when this package does not know it."""
        return _JETPACK_OF_L4T.get(self.l4t[0])


def find_jetson(system: System) -> Jetson | None:
    """The Jetson that this is, or None elsewhere."""
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", system.read(_RELEASE) or "")
    if found:
        return Jetson((int(found[1]), *map(int, found[2].strip(".").split("."))))
    ran = system.run("dpkg-query", "-W", "-f", "${Version}", "nvidia-l4t-core")
    found = re.match(r"(\d+)\.([\d.]+)-", ran.output) if ran and ran.status == 0 else None
    return Jetson((int(found[1]), *map(int, found[2].split(".")))) if found else None


def check_python(system: System, wanted: Wanted) -> Verdict:
    """Whether wheels and TensorRT exist for this interpreter."""
    name = ".".join(map(str, system.python))
    jetson = find_jetson(system)
    jetpack = jetson.jetpack if jetson else None
    if jetpack and system.python != _PYTHON_OF_JETPACK[jetpack]:
        version = ".".join(map(str, _PYTHON_OF_JETPACK[jetpack]))
        return block(
            f"JetPack {jetpack} has TensorRT for Python {version} and this is {name}",
            f"python{version} -m venv --system-site-packages ~/pspnet-edge",
        )
    if not _PYTHONS[0] <= system.python <= _PYTHONS[1]:
        return warn(f"Python {name} is not among those this package is tested with, 3.10 to 3.13")
    return ok(f"Python {name}")


def check_jetpack(system: System, wanted: Wanted) -> Verdict:
    """Whether this JetPack's TensorRT is one that the package knows."""
    jetson = find_jetson(system)
    if jetson is None:
        return skip("not a Jetson")
    if jetson.jetpack is not None:
        return ok(f"JetPack {jetson.jetpack}, {jetson.name}")
    if jetson.l4t < (36,):
        return _old_jetpack(system, jetson)
    return warn(f"{jetson.name} is newer than this version of pspnet-edge knows", "pip install --upgrade pspnet-edge")


def _old_jetpack(system: System, jetson: Jetson) -> Verdict:
    """What to do about JetPack 5 or 4: an Orin can be flashed, older boards have no later release."""
    model = (system.read(_MODEL) or "").strip("\0\n ")
    ends_here = "Xavier" in model or "TX2" in model or ("Nano" in model and "Orin" not in model)
    if not ends_here:
        return block(
            f"{jetson.name} belongs to JetPack 5 or earlier, whose TensorRT is older than 8.6: "
            "flash JetPack 6 or 7 with SDK Manager",
            "sdkmanager",
        )
    return block(
        f"{model} ends with JetPack {'5' if jetson.l4t >= (34,) else '4'} ({jetson.name}), whose TensorRT and Python "
        "are too old for this package: engines run on the processor, with a newer Python and ONNX Runtime",
        "pip3 install uv && uv venv --python 3.10 ~/pspnet-edge && uv pip install --python ~/pspnet-edge/bin/python "
        + install_command("onnxruntime,opencv,web").rpartition("install ")[2].removeprefix("-e "),
    )


def check_encoder(system: System, wanted: Wanted) -> Verdict:
    """Whether recordings and streams can be encoded by the board, which spares most of the processor."""
    if find_jetson(system) is None:
        return skip("only a Jetson has NVIDIA's video encoder")
    if not system.paths(ENCODER):
        return skip("this board has no video encoder (an Orin Nano has none): x264 encodes on the processor")
    card = system.card(ENCODER)
    if card is None:
        return warn(f"{ENCODER} is there and does not answer as an encoder: x264 encodes on the processor")
    return ok(f"{ENCODER} ({card}) encodes recordings and streams")


def check_gpu(system: System, wanted: Wanted) -> Verdict:
    """Whether CUDA starts."""
    gpu = system.gpu()
    if gpu is not None:
        return ok(f"{gpu.name}, compute capability {gpu.compute_capability}")
    if find_jetson(system) is None:
        return skip("no NVIDIA GPU that CUDA can use: engines run on the processor")
    if system.environment("CUDA_VISIBLE_DEVICES") == "":
        return block("CUDA_VISIBLE_DEVICES is empty, which hides the GPU", "unset CUDA_VISIBLE_DEVICES")
    groups = system.run("id", "-nG", system.user)
    if groups and groups.status == 0 and system.user != "root" and "video" not in groups.output.split():
        return block(
            f"CUDA does not start, and {system.user} is not in the group video, which may open the GPU",
            f"sudo usermod -aG video,render {system.user} && newgrp video",
        )
    return block("CUDA does not start here: its packages are missing", "sudo apt-get install -y nvidia-jetpack")


def check_power_mode(system: System, wanted: Wanted) -> Verdict:
    """Whether the power mode is the fastest of this board."""
    ran = system.run("nvpmodel", "-q")
    if ran is None:
        return skip("no nvpmodel here: only a Jetson has power modes")
    current = re.search(r"NV Power Mode: (\S+)\s+(\d+)", ran.output)
    modes = re.findall(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>", system.read("/etc/nvpmodel.conf") or "")
    if not current or not modes:
        return skip(f"nvpmodel does not say which mode is set ({ran.output.strip()[:80] or 'no output'})")
    best = max(modes, key=lambda mode: _watts(mode[1]))
    if current[2] == best[0]:
        return ok(f"power mode {current[1]}")
    return warn(
        f"power mode {current[1]} is set and {best[1]} is faster (it may need a reboot)", f"sudo nvpmodel -m {best[0]}"
    )


def check_clocks(system: System, wanted: Wanted) -> Verdict:
    """Whether processor and GPU stay at their highest clock, which makes latency even."""
    if find_jetson(system) is None:
        return skip("only a Jetson has jetson_clocks")
    lows = [
        (label, low, high)
        for label, low_file, high_file in _clock_files(system)
        if (low := (system.read(low_file) or "").strip()) and (high := (system.read(high_file) or "").strip())
    ]
    if not lows:
        return skip("this board does not say what its clocks are")
    free = sorted({label for label, low, high in lows if low != high})
    if not free:
        return ok("clocks of processor and GPU are locked at their highest")
    return warn(f"the clocks of the {' and '.join(free)} rise and fall with the load", "sudo jetson_clocks")


def check_memory(system: System, wanted: Wanted) -> Verdict:
    """Whether an engine can be built."""
    sizes = dict(re.findall(r"^(\w+):\s+(\d+) kB", system.read("/proc/meminfo") or "", re.MULTILINE))
    if "MemAvailable" not in sizes:
        return skip("the kernel does not say how much memory is free")
    free, swap = int(sizes["MemAvailable"]) * 1024, int(sizes.get("SwapFree", 0)) * 1024
    says = f"{free // _MIB} MiB of memory and {swap // _MIB} MiB of swap are free"
    if free < _REFUSED_BYTES:
        return block(f"{says}, too little to build an engine", "sudo systemctl isolate multi-user.target")
    if free + swap < _BUILD_BYTES:
        return warn(f"{says}, and building an engine may take {_BUILD_BYTES // _MIB} MiB", _ADD_SWAP)
    return ok(says)


def check_disk(system: System, wanted: Wanted) -> Verdict:
    """Whether engines and recordings find room."""
    cache, here = cache_folder(system), system.environment("PWD") or "/"
    free = {folder: system.free_bytes(folder) for folder in (cache, here)}
    least = min(free, key=lambda folder: free[folder])
    says = f"{free[least] // _MIB} MiB of disk are free under {least}"
    if free[least] < _DISK_FULL_BYTES:
        return block(f"{says}, too little for an engine", "sudo apt-get clean && sudo journalctl --vacuum-size=100M")
    if free[least] < _DISK_BYTES:
        return warn(f"{says}, which a recording fills soon", "sudo apt-get clean && sudo journalctl --vacuum-size=100M")
    return ok(says)


def check_display(system: System, wanted: Wanted) -> Verdict:
    """Whether a window can open."""
    screen = system.environment("WAYLAND_DISPLAY") or system.environment("DISPLAY")
    if screen:
        return ok(f"a window opens on {screen}")
    camera = next(iter((*wanted.cameras, *system.paths("/dev/video[0-9]*"))), "demo")
    source = f"--camera {camera.removeprefix('/dev/video')}" if camera.startswith("/dev/video") else f"--input {camera}"
    return warn("there is no screen here: look at the picture in a browser", f"pspnet-edge run {source} --view web")


def cache_folder(system: System) -> str:
    """The user's cache of engines, as ``engine.build.cache_folder`` names it."""
    return f"{system.environment('XDG_CACHE_HOME') or (system.environment('HOME') or '') + '/.cache'}/pspnet-edge"


def _watts(mode: str) -> float:
    """Orders power modes: MAXN and MAXN_SUPER have no limit."""
    found = re.search(r"(\d+)W", mode)
    return float("inf") if "MAXN" in mode else float(found[1]) if found else 0.0


def _clock_files(system: System) -> list[tuple[str, str, str]]:
    """(what, file of the lowest clock allowed, file of the highest)."""
    processors = system.paths("/sys/devices/system/cpu/cpu[0-9]*/cpufreq")
    # Orin's GPU is 17000000.gpu (17000000.ga10b before), Thor's gpu-gpc-0.
    gpus = system.paths("/sys/class/devfreq/*gpu") + system.paths("/sys/class/devfreq/*ga10b")
    gpus += system.paths("/sys/class/devfreq/gpu-gpc-*")
    return [("processor", f"{path}/scaling_min_freq", f"{path}/scaling_max_freq") for path in processors] + [
        ("GPU", f"{path}/min_freq", f"{path}/max_freq") for path in gpus
    ]
