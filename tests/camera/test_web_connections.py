from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from pspnet_edge.camera.web import connections
from pspnet_edge.camera.web.connections import Connections


class Transport(asyncio.WriteTransport):
    def __init__(self) -> None:
        super().__init__()
        self.is_aborted = False

    def abort(self) -> None:
        self.is_aborted = True


class Protocol(asyncio.Protocol):
    def __init__(self) -> None:
        self.transport: Transport | None = Transport()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    now = SimpleNamespace(s=100.0)
    monkeypatch.setattr(connections, "time", SimpleNamespace(monotonic=lambda: now.s))
    return now


async def work_on(held: Connections, protocol: Protocol, until: asyncio.Event) -> None:
    async def handler(request: object) -> None:
        await until.wait()

    await held.watch(SimpleNamespace(protocol=protocol), handler)


def test_the_connection_that_has_waited_longest_makes_room(clock: SimpleNamespace) -> None:
    held = Connections(Protocol, 3)
    first, second, third = (held.accept() for _ in range(3))
    fourth = held.accept()
    assert first.transport.is_aborted
    assert not any(one.transport.is_aborted for one in (second, third, fourth))


def test_those_at_work_are_never_dropped_and_when_all_are_a_new_one_is_refused(clock: SimpleNamespace) -> None:
    async def go() -> None:
        held = Connections(Protocol, 2)
        done = asyncio.Event()
        both = [held.accept(), held.accept()]
        tasks = [asyncio.create_task(work_on(held, one, done)) for one in both]
        await asyncio.sleep(0)
        refused = held.accept()
        assert not isinstance(refused, Protocol)
        clock.s += 1000
        held.drop_overdue()
        assert not any(one.transport.is_aborted for one in both)
        done.set()
        await asyncio.gather(*tasks)
        assert isinstance(held.accept(), Protocol), "an idle one made room"
        assert both[0].transport.is_aborted

    asyncio.run(go())


def test_waiting_has_an_end(clock: SimpleNamespace) -> None:
    async def go() -> None:
        held = Connections(Protocol, 9)
        silent, idle = held.accept(), held.accept()
        done = asyncio.Event()
        done.set()
        await work_on(held, idle, done)
        clock.s += connections.FIRST_REQUEST_S + 0.1
        held.drop_overdue()
        assert (silent.transport.is_aborted, idle.transport.is_aborted) == (True, False)
        clock.s += connections.IDLE_S
        held.drop_overdue()
        assert idle.transport.is_aborted

    asyncio.run(go())


def test_closed_connections_are_forgotten_at_once_and_new_ones_are_not(clock: SimpleNamespace) -> None:
    async def go() -> None:
        held = Connections(Protocol, 2)
        new, idle = held.accept(), held.accept()
        new.transport = None  # asyncio has not begun with it yet
        done = asyncio.Event()
        done.set()
        await work_on(held, idle, done)
        idle.transport = None
        held.accept()
        assert new in held._waiting
        assert idle not in held._waiting

    asyncio.run(go())
