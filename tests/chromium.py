"""Headless Chromium for tests and for the pictures in the docs: the system's own, driven by Playwright."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MEND = "apt-get install -y chromium, or set CHROMIUM to its path"


def chromium_path() -> str | None:
    """Where Chromium is; None when there is none."""
    named = os.environ.get("CHROMIUM")
    return shutil.which(named) if named else next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def headless_chromium(path: str, niceness: int = 0) -> Iterator[Browser]:
    """Start it and end it. While it runs, the calling thread cannot use asyncio of its own.

    Args:
        path: of ``chromium_path``.
        niceness: 0 to 19, for browsers that stand in for other machines.
    """
    # Here, because most runs of the tests need no browser.
    from playwright.sync_api import sync_playwright

    # Chromium refuses its sandbox to root, and a container's /dev/shm is too small for it.
    arguments = ["--disable-dev-shm-usage", "--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        if niceness:
            # Playwright starts one file, so the command becomes a file.
            wrapper = Path(folder) / "chromium"
            wrapper.write_text(f'#!/bin/sh\nexec nice -n {niceness} {shlex.quote(path)} "$@"\n', encoding="utf-8")
            wrapper.chmod(0o755)
            path = str(wrapper)
        # A busy machine with a cold disk takes half a minute.
        browser = playwright.chromium.launch(executable_path=path, args=arguments, timeout=120_000)
        try:
            yield browser
        finally:
            browser.close()
