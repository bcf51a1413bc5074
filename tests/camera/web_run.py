"""A run without cameras for the tests of the web view: shots are made here and shown when a test says so."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from pspnet_edge.camera.feed import SourceSummary
from pspnet_edge.camera.loop import RunSummary
from pspnet_edge.camera.overlay import Overlay
from pspnet_edge.camera.shot import Shot
from pspnet_edge.camera.web import WebView
from pspnet_edge.labels import LabelSet

LABELS = LabelSet("halves", ("left", "right"), ((220, 30, 30), (30, 30, 220)))
SIZE_HW, MASK_HW = (60, 80), (30, 40)
NAN = float("nan")
UNKNOWN = {"p50": NAN, "p95": NAN, "p99": NAN}


def source(name: str, **facts: Any) -> SourceSummary:
    """A live source of which nine frames were captured."""
    usual = {"state": "live", "age_ms": 3.0, "frames": 9, "dropped": 0, "lost": 0, "reopened": 0, "format": None}
    unknown = {"trouble": None, "fps_recent": 12.0, "shown_age_ms": UNKNOWN, "stages_ms": {}}
    return SourceSummary(name=name, **usual | unknown | facts)


SUMMARY = RunSummary(
    frames=7,
    dropped=2,
    lost=0,
    fps=25.5,
    fps_recent=25.0,
    latency_ms={"p50": 8.0, "p95": 9.0, "p99": 10.0},
    age_ms=UNKNOWN,
    stages_ms={"capture": 1.0, "prepare": NAN, "infer": 8.0},
    warm_up={"frames": 0, "latency_ms": []},
    elapsed_s=0.3,
    sources=(source('the "front" door', dropped=2, reopened=1), source("the back door")),
)


def shot(index: int, camera: int = 0, *, old_s: float = 0.0) -> Shot:
    """Frame ``index``: grey, brighter with each index and camera; left half of class 0, right half of class 1."""
    frame = np.full((*SIZE_HW, 3), 40 + (index * 5 + camera * 90) % 180, np.uint8)
    mask = np.zeros(MASK_HW, np.uint8)
    mask[:, MASK_HW[1] // 2 :] = 1
    return Shot(camera, index, frame, mask, time.perf_counter() - old_s, Overlay(LABELS))


def summary() -> RunSummary:
    return SUMMARY


def view(**options: Any) -> WebView:
    return WebView(LABELS, summary, port=options.pop("port", 0), **options)


@contextlib.contextmanager
def running(web: WebView, fps: float = 25.0, cameras: int = 1) -> Iterator[None]:
    """Show shots at a steady rate from a thread, as a loop does."""
    end = threading.Event()

    def go() -> None:
        index = 0
        while not end.wait(1 / fps):
            for camera in range(cameras):
                web.show(shot(index, camera))
            index += 1

    thread = threading.Thread(target=go)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def port_of(web: WebView) -> int:
    return int(web.url.split(":")[2].split("/")[0])


def answer(web: WebView, path: str, method: str = "GET", **headers: str) -> tuple[int, str, dict[str, str]]:
    """(status, body, headers with small names) of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port_of(web), timeout=10)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, response.read().decode(), {key.lower(): value for key, value in response.getheaders()}
    finally:
        connection.close()
