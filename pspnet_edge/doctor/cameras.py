"""Cameras: V4L2 devices, and Argus behind CSI cameras."""

from __future__ import annotations

import re

from ..camera.v4l2 import CSI_CARD
from ..errors import OptionError
from .board import find_jetson
from .system import System
from .verdict import Verdict, Wanted, block, ok, skip, warn

_ARGUS_SOCKET = "/tmp/argus_socket"
_RESTART_ARGUS = "sudo systemctl restart nvargus-daemon"


def camera_named(text: str) -> str:
    """What ``--camera`` means: ``0`` → ``/dev/video0``; ``csi://0`` and ``/dev/video0`` as they are.

    Raises:
        OptionError: none of these.
    """
    if text.isascii() and text.isdecimal():
        return f"/dev/video{text}"
    if re.fullmatch(r"csi://\d+|/dev/[\w/.:-]+", text, re.ASCII):
        return text
    raise OptionError(f"{text!r} is not a camera", "give 0, /dev/video0 or csi://0", parameter="camera")


def check_cameras(system: System, wanted: Wanted) -> list[Verdict]:
    """Each camera that is wanted, or each that is there."""
    devices = system.paths("/dev/video[0-9]*")
    if wanted.cameras:
        return [_csi(system, camera) if camera.startswith("csi://") else _v4l2(system, camera, devices, True)
                for camera in wanted.cameras]  # fmt: skip
    if not devices:
        return [skip("no camera is connected, and none was asked for with --camera")]
    return [_v4l2(system, device, devices, False) for device in devices]


def check_argus(system: System, wanted: Wanted) -> Verdict:
    """Whether NVIDIA's camera daemon answers."""
    if not wanted.csi:
        return skip("only a CSI camera needs Argus, and none was asked for")
    if find_jetson(system) is None:
        return block("a CSI camera goes through NVIDIA's Argus, which only a Jetson has: give --camera N")
    state = system.run("systemctl", "is-active", "nvargus-daemon")
    word = state.output.split()[0] if state and state.output.split() else "unknown"
    if word in ("inactive", "failed", "deactivating"):
        return block(f"the daemon of CSI cameras, nvargus-daemon, is {word}", _RESTART_ARGUS)
    if not system.paths(_ARGUS_SOCKET) and system.paths("/.dockerenv"):
        return block(
            f"this container does not have Argus' socket {_ARGUS_SOCKET}",
            f"docker run -v {_ARGUS_SOCKET}:{_ARGUS_SOCKET} …",
        )
    if not system.paths(_ARGUS_SOCKET):
        return block(f"Argus has no socket {_ARGUS_SOCKET}: its daemon hangs or never started", _RESTART_ARGUS)
    return ok(f"nvargus-daemon is {word} and has its socket")


def _v4l2(system: System, device: str, devices: list[str], needed: bool) -> Verdict:
    name = (system.read(f"/sys/class/video4linux/{device.rpartition('/')[2]}/name") or "").strip()
    if name.startswith(CSI_CARD):
        return _raw_sensor(system, device, name, needed)
    problem = system.camera_problem(device)
    if problem is None:
        return _slow_pixels(system, device) or ok(f"{device} can be read")
    if problem == "no camera" and not needed:
        return skip(f"{device} carries no pictures; many cameras have such a second device")
    bad = block if needed else warn
    if problem == "forbidden":
        return bad(
            f"{device} may not be opened by {system.user}", f"sudo usermod -aG video {system.user} && newgrp video"
        )
    if problem == "busy":
        return bad(f"another program reads {device}; this ends it", f"sudo fuser -k {device}")
    others = [other for other in devices if other != device]
    command = f"pspnet-edge run --camera {others[0].removeprefix('/dev/video')}" if others else None
    found = ", ".join(devices) or "none"
    if problem == "no camera":
        return bad(f"{device} carries no pictures (found: {found}): choose another --camera", command)
    return bad(f"there is no camera {device} (found: {found}): plug it in or choose another --camera", command)


def _raw_sensor(system: System, device: str, name: str, needed: bool) -> Verdict:
    """A CSI sensor's own device gives raw pixels that OpenCV cannot convert."""
    number = [path for path, sensor in _sensors(system) if sensor.startswith(CSI_CARD)].index(device)
    says = f"{device} is the raw sensor of a CSI camera ({name})"
    if not needed:
        return skip(f"{says}: it is read as csi://{number}")
    return block(f"{says}, which only Argus can read", f"pspnet-edge run --input csi://{number}")


def _sensors(system: System) -> list[tuple[str, str]]:
    """(device, name) of every V4L2 device."""
    paths = system.paths("/sys/class/video4linux/video*/name")
    return [(f"/dev/{path.split('/')[-2]}", (system.read(path) or "").strip()) for path in paths]


def _slow_pixels(system: System, device: str) -> Verdict | None:
    """A warning where large frames come fast as MJPG alone, as over USB 2; None where that is not so or not known."""
    ran = system.run("v4l2-ctl", "-d", device, "--list-formats-ext")
    if ran is None or ran.status != 0:
        return None
    rates: dict[tuple[str, int, int], float] = {}
    pixels, size = "", (0, 0)
    for line in ran.output.splitlines():
        if found := re.search(r"\[\d+\]: '(....)'", line):
            pixels = found[1]
        elif found := re.search(r"Size: Discrete (\d+)x(\d+)", line):
            size = (int(found[1]), int(found[2]))
        elif found := re.search(r"\(([\d.]+) fps\)", line):
            mode = (pixels, size[0], size[1])
            rates[mode] = max(rates.get(mode, 0.0), float(found[1]))
    for (name, width, height), rate in sorted(rates.items()):
        fast = rates.get(("MJPG", width, height), 0.0)
        if name == "YUYV" and width > 640 and rate <= 10 < fast:
            return warn(
                f"{device} gives {height}x{width} at {rate:g} FPS as YUYV and at {fast:g} as MJPG",
                f"pspnet-edge run --camera {device.removeprefix('/dev/video')} --pixels mjpg",
            )
    return None


def _csi(system: System, camera: str) -> Verdict:
    """A CSI sensor shows itself as a V4L2 device of NVIDIA's capture driver, which is not read but counted."""
    names = [system.read(path) or "" for path in system.paths("/sys/class/video4linux/video*/name")]
    sensors = [name.strip() for name in names if name.startswith(CSI_CARD)]
    if len(sensors) > int(camera.removeprefix("csi://")):
        return ok(f"{camera}: {', '.join(sensors)}")
    return block(
        f"{camera} is not among the CSI sensors here (found: {', '.join(sensors) or 'none'}): check the cable, "
        "and choose the sensor's device tree",
        "sudo /opt/nvidia/jetson-io/jetson-io.py",
    )
