"""What three browsers leave of the loop's rate. With a real engine: ``benchmarks/web_viewers.py``."""

from __future__ import annotations

import statistics
import time

import pytest

from pspnet_edge.camera.web import WebView

from ..chromium import MEND, chromium_path, headless_chromium
from .web_run import answer, running, view

ROUNDS, SECONDS = 4, 3.0
DRIFT = 0.02
"""How far the rate may move by itself for a loss of 5 % to be told from it."""


@pytest.mark.slow
def test_three_browsers_leave_the_rate_of_the_loop_alone() -> None:
    """The loop waits for its frames, as for a device. The browsers, which in life are other machines, get what it and
    the server leave of the processor."""
    path = chromium_path()
    if path is None:
        pytest.skip(f"there is no Chromium: {MEND}")
    alone, watched = [], []
    with view() as web, running(web, fps=30), headless_chromium(path, niceness=19) as browser:
        for _ in range(ROUNDS):
            alone.append(rate(web))
            pages = [browser.new_page() for _ in range(3)]
            for page in pages:
                page.goto(web.url, timeout=120_000)
            watched.append(rate(web))
            drawn = [page.evaluate("Number(document.querySelector('#picture').dataset.drawn ?? 0)") for page in pages]
            assert min(drawn) > 0, "a page has seen no frame"
            for page in pages:
                page.close()
    drift = statistics.pstdev(alone) / statistics.mean(alone)
    if drift > DRIFT:
        pytest.skip(f"this machine is too busy to tell: the rate without viewers drifts by {drift:.1%} itself: {alone}")
    ratios = [with_viewers / without for with_viewers, without in zip(watched, alone)]
    assert statistics.median(ratios) >= 0.95, ratios


def rate(web: WebView) -> float:
    def frames() -> int:
        body = answer(web, "/metrics")[1]
        return int((body.partition('frame_age_seconds_count{camera="0"} ')[2] or "0").split()[0])

    start, before = time.monotonic(), frames()
    time.sleep(SECONDS)
    return (frames() - before) / (time.monotonic() - start)
