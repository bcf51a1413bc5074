"""Watts, clocks, temperature and throttling of a Jetson while engines run, through jetson-stats.

jetson-stats (``jtop``) is a service that an administrator installs on the board; this file alone talks to it. On other
machines there is no meter, and reports have null for its figures.
"""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import MissingPackage
from ..lazy import available, require
from .facts import BoardFacts, Power

INTERVAL_S = 0.2
_SLOWED = 0.95
"""A GPU below this share of its highest clock, although it is busy and its clock is held, is throttled."""
_BUSY = 80.0


@dataclass(frozen=True)
class Sample:
    """One reading of the board's sensors; None where the board has no such sensor."""

    at: float
    """``time.monotonic()``."""
    watts: float | None
    gpu_mhz: float | None
    gpu_max_mhz: float | None
    cpu_mhz: float | None
    emc_mhz: float | None
    celsius: float | None
    """The hottest sensor."""
    throttled: bool


@dataclass
class PowerMeter:
    """Reads a board's sensors for as long as it is open."""

    board: BoardFacts
    """Board, JetPack, power mode and whether clocks are held, for the report's environment."""
    samples: list[Sample] = field(default_factory=list)

    def between(self, windows: Sequence[tuple[float, float]]) -> Power | None:
        """What was read while the clock stood within any of the windows; None when nothing was.

        Returns:
            Medians ``watts``, ``gpu_mhz``, ``gpu_max_mhz``, ``cpu_mhz``, ``emc_mhz``; the highest ``celsius``; the
            share ``throttled`` of the readings, 0–1; ``readings``.
        """
        inside = [sample for sample in self.samples if any(a <= sample.at <= b for a, b in windows)]
        if not inside:
            return None
        return {
            "watts": _median([sample.watts for sample in inside]),
            "gpu_mhz": _median([sample.gpu_mhz for sample in inside]),
            "gpu_max_mhz": _median([sample.gpu_max_mhz for sample in inside]),
            "cpu_mhz": _median([sample.cpu_mhz for sample in inside]),
            "emc_mhz": _median([sample.emc_mhz for sample in inside]),
            "celsius": max((sample.celsius for sample in inside if sample.celsius is not None), default=None),
            "throttled": round(sum(sample.throttled for sample in inside) / len(inside), 3),
            "readings": len(inside),
        }


@contextlib.contextmanager
def power_meter() -> Iterator[PowerMeter | None]:
    """Open the board's meter; None where jetson-stats is not installed.

    Raises:
        MissingPackage: jetson-stats is installed and its service does not answer.
    """
    if not available("jtop"):
        yield None
        return
    jtop = require("jtop", "measure power")
    try:
        opened = jtop.jtop(interval=INTERVAL_S)
        opened.start()
    except Exception as error:  # its exceptions derive from Exception alone
        raise MissingPackage(
            f"jetson-stats is installed and its service does not answer ({error}): "
            "sudo systemctl restart jtop.service, or uninstall it to benchmark without watts"
        ) from error
    meter = PowerMeter({})
    ended = threading.Event()
    reader = threading.Thread(target=_read, args=(opened, meter, ended), name="power", daemon=True)
    try:
        opened.ok()
        meter.board = board_facts(opened)
        reader.start()
        yield meter
    finally:
        ended.set()
        if reader.ident is not None:
            reader.join()
        opened.close()


def board_facts(jetson: Any) -> BoardFacts:
    """What the board is and how it is set, from an opened ``jtop``."""
    board = _mapping(jetson.board)
    hardware, platform = _mapping(board.get("hardware")), _mapping(board.get("platform"))
    return {
        "board": hardware.get("Model") or platform.get("Machine"),
        "module": hardware.get("Module"),
        "jetpack": hardware.get("Jetpack"),
        "l4t": hardware.get("L4T"),
        "power_mode": str(getattr(jetson.nvpmodel, "name", jetson.nvpmodel)) if jetson.nvpmodel is not None else None,
        "jetson_clocks": bool(jetson.jetson_clocks) if jetson.jetson_clocks is not None else None,
    }


def sample_of(jetson: Any, at: float) -> Sample:
    """Read an opened ``jtop``; it gives milliwatts, milliamperes, kilohertz and degrees Celsius."""
    total = _mapping(_mapping(jetson.power).get("tot"))
    gpu = next((_mapping(entry) for entry in _mapping(jetson.gpu).values()), {})
    clock, load = _mapping(gpu.get("freq")), _number(_mapping(gpu.get("status")).get("load"))
    cores = [_mapping(core.get("freq")) for core in _mapping(jetson.cpu).get("cpu", []) if core.get("online", True)]
    gpu_mhz, gpu_max_mhz = _scaled(clock.get("cur"), 1e-3), _scaled(clock.get("max"), 1e-3)
    held_down = (
        bool(jetson.jetson_clocks)
        and load is not None
        and load >= _BUSY
        and gpu_mhz is not None
        and gpu_max_mhz is not None
        and gpu_mhz < _SLOWED * gpu_max_mhz
    )
    # Above the rail's warning limit the board slows its clocks down by hardware.
    current, limit = _number(total.get("curr")), _number(total.get("warn"))
    over_current = current is not None and limit is not None and 0 < limit < current
    heat = [
        _number(sensor.get("temp"))
        for sensor in _mapping(jetson.temperature).values()
        if isinstance(sensor, Mapping) and sensor.get("online", True)
    ]
    return Sample(
        at=at,
        watts=_scaled(total.get("power"), 1e-3),
        gpu_mhz=gpu_mhz,
        gpu_max_mhz=gpu_max_mhz,
        cpu_mhz=_median([_scaled(core.get("cur"), 1e-3) for core in cores]),
        emc_mhz=_scaled(_mapping(_mapping(jetson.memory).get("EMC")).get("cur"), 1e-3),
        celsius=max((value for value in heat if value is not None), default=None),
        throttled=held_down or over_current,
    )


def _read(jetson: Any, meter: PowerMeter, ended: threading.Event) -> None:
    # ``ok`` waits for the service's next reading; it is False or raises when the service has gone. What was measured of
    # engines works without it, so reading just ends.
    with contextlib.suppress(Exception):
        while not ended.is_set() and jetson.ok():
            meter.samples.append(sample_of(jetson, time.monotonic()))


def _mapping(value: Any) -> Mapping[str, Any]:
    """What jtop gives as a dictionary or as an object that is read like one; empty where the board has none of it."""
    if isinstance(value, Mapping):
        return value
    if hasattr(value, "items"):
        return dict(value.items())
    return {}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _scaled(value: Any, factor: float) -> float | None:
    number = _number(value)
    return None if number is None else round(number * factor, 3)


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.median(known), 3) if known else None
