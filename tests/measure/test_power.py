"""The meter against a stand-in for jetson-stats, with the fields that jetson-stats 4 gives."""

from __future__ import annotations

import sys
import threading
import time
from types import ModuleType
from typing import Any

import pytest

from pspnet_edge.errors import MissingPackage
from pspnet_edge.measure import power
from pspnet_edge.measure.power import Sample, power_meter, sample_of


class FakeJtop:
    """Milliwatts, kilohertz and degrees as an Orin NX gives them; a reading every 5 ms."""

    fails: str | None = None
    lost_after: int | None = None

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.readings = 0
        self.closed = threading.Event()
        self.nvpmodel = type("NVPModel", (), {"name": "MAXN"})()
        self.jetson_clocks = True
        self.board = {
            "platform": {"Machine": "aarch64"},
            "hardware": {"Model": "NVIDIA Jetson Orin NX", "Module": "p3767", "Jetpack": "6.2", "L4T": "36.4.3"},
        }
        self.gpu_khz = 918000

    def start(self) -> None:
        if self.fails:
            raise RuntimeError(self.fails)

    def ok(self) -> bool:
        time.sleep(0.005)
        self.readings += 1
        if self.lost_after is not None and self.readings > self.lost_after:
            raise RuntimeError("the service is gone")
        return not self.closed.is_set()

    def close(self) -> None:
        self.closed.set()

    @property
    def power(self) -> dict[str, Any]:
        return {"rail": {}, "tot": {"power": 14500, "avg": 14000, "curr": 2900, "warn": 4000}}

    @property
    def gpu(self) -> dict[str, Any]:
        return {"ga10b": {"status": {"load": 97.0}, "freq": {"cur": self.gpu_khz, "max": 918000}}}

    @property
    def cpu(self) -> dict[str, Any]:
        online = {"online": True, "freq": {"cur": 1984000}}
        return {"total": {}, "cpu": [online, online, {"online": False}]}

    @property
    def memory(self) -> dict[str, Any]:
        return {"EMC": {"cur": 3199000}}

    @property
    def temperature(self) -> dict[str, Any]:
        return {"gpu": {"temp": 61.5, "online": True}, "cv0": {"temp": -256, "online": False}, "tj": {"temp": 63.0}}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeJtop]:
    module = ModuleType("jtop")
    kind = type("jtop", (FakeJtop,), {})
    module.jtop = kind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "jtop", module)
    monkeypatch.setattr(power, "available", lambda name: True)
    return kind


def test_without_jetson_stats_there_is_no_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "available", lambda name: False)
    with power_meter() as meter:
        assert meter is None


def test_readings_of_a_window(fake: type[FakeJtop]) -> None:
    with power_meter() as meter:
        assert meter is not None
        began = time.monotonic()
        time.sleep(0.1)
        ended = time.monotonic()
        time.sleep(0.05)
    facts = meter.between([(began, ended)])
    assert facts is not None
    assert 5 <= facts.pop("readings") < len(meter.samples)
    assert facts == {
        "watts": 14.5,
        "gpu_mhz": 918.0,
        "gpu_max_mhz": 918.0,
        "cpu_mhz": 1984.0,
        "emc_mhz": 3199.0,
        "celsius": 63.0,
        "throttled": 0.0,
    }
    assert meter.between([(0.0, 1.0)]) is None
    assert meter.board["power_mode"] == "MAXN"
    assert meter.board["jetpack"] == "6.2"
    assert meter.board["jetson_clocks"] is True


def test_a_clock_below_the_held_one_is_throttling() -> None:
    jetson = FakeJtop(0.2)
    assert not sample_of(jetson, 0.0).throttled
    jetson.gpu_khz = 612000
    assert sample_of(jetson, 0.0).throttled
    jetson.jetson_clocks = False  # a free clock may stand anywhere
    assert not sample_of(jetson, 0.0).throttled


def test_a_board_without_sensors_gives_nothing_rather_than_zeros() -> None:
    bare = type("Bare", (), {})()
    for name in ("power", "gpu", "cpu", "memory", "temperature"):
        setattr(bare, name, {})
    bare.jetson_clocks = None
    assert sample_of(bare, 1.0) == Sample(1.0, None, None, None, None, None, None, False)


def test_a_service_that_does_not_answer_is_said(fake: type[FakeJtop]) -> None:
    fake.fails = "connection refused"
    with (
        pytest.raises(MissingPackage, match=r"does not answer \(connection refused\): sudo systemctl restart"),
        power_meter(),
    ):
        pass


def test_a_service_that_goes_away_ends_reading_and_no_more(fake: type[FakeJtop]) -> None:
    fake.lost_after = 4
    with power_meter() as meter:
        assert meter is not None
        time.sleep(0.1)
    assert len(meter.samples) == 3
