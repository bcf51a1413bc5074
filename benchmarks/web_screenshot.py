"""The picture of the web page in README and docs/web.md, taken of a real run.

    python benchmarks/web_screenshot.py [--seconds 90] [-o docs/images/web.jpg]

Starts ``pspnet-edge run --input demo --view web`` with the bundled model at INT8, watches it in headless Chromium as wide
as a desk and as narrow as a phone, and puts the two side by side. Nothing but the procedural demo drive is in the picture.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from zoo import ROOT

from pspnet_edge.artifact import write_bytes

sys.path.insert(0, str(ROOT / "tests"))
from chromium import MEND, chromium_path, headless_chromium

DESK_WH, PHONE_WH = (1280, 900), (390, 844)
MARGIN, PAPER = 36, (48, 41, 36)
MOST_BYTES = 200_000
VIVID = 40
"""Of a hundred: opacity at which both the frame and its classes are well seen."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=90.0, help="how long it has run when the picture is taken")
    parser.add_argument("--engine", type=Path)
    parser.add_argument("-o", type=Path, default=ROOT / "docs" / "images" / "web.jpg", metavar="FILE")
    arguments = parser.parse_args()
    browser = chromium_path()
    if browser is None:
        raise SystemExit(f"there is no Chromium: {MEND}")
    with tempfile.TemporaryDirectory() as folder:
        engine = arguments.engine or Path(folder) / "pspnet_int8.engine"
        command = [sys.executable, "-m", "pspnet_edge"]
        if arguments.engine is None:
            subprocess.run([*command, "build", "--precision", "int8", "-o", str(engine)], check=True)
        options = ["--input", "demo", "--view", "web", "--web-port", "0"]
        run = subprocess.Popen([*command, "run", str(engine), *options], stderr=subprocess.PIPE, text=True)
        try:
            time.sleep(arguments.seconds)
            desk, phone = taken(browser, address_of(run))
        finally:
            run.send_signal(signal.SIGINT)
            run.communicate()
    write_bytes(arguments.o, side_by_side(desk, phone))
    print(f"{arguments.o}: {arguments.o.stat().st_size} bytes")
    return 0


def address_of(run: subprocess.Popen[str]) -> str:
    assert run.stderr is not None
    for line in run.stderr:
        if line.startswith("watch at "):
            return line.removeprefix("watch at ").strip()
    raise SystemExit("the run ended before it served its page")


def taken(browser: str, url: str) -> list[np.ndarray]:
    """The page on a desk and on a phone, once each has drawn a frame and its charts."""
    pictures = []
    # Browsers of other machines take nothing from the run; this one should take little.
    with headless_chromium(browser, niceness=10) as chromium:
        for width, height in (DESK_WH, PHONE_WH):
            page = chromium.new_page(viewport={"width": width, "height": height}, color_scheme="dark")
            page.goto(url)
            page.get_by_label("Opacity").fill(str(VIVID))
            page.evaluate("document.activeElement.blur()")
            page.wait_for_timeout(4000)
            shot = np.frombuffer(page.screenshot(), np.uint8)
            pictures.append(cv2.imdecode(shot, cv2.IMREAD_COLOR))
            page.close()
    return pictures


def side_by_side(desk: np.ndarray, phone: np.ndarray) -> bytes:
    """JPEG of both on plain paper, the best quality that is small enough for a README."""
    height = max(desk.shape[0], phone.shape[0]) + 2 * MARGIN
    width = desk.shape[1] + phone.shape[1] + 3 * MARGIN
    sheet = np.full((height, width, 3), PAPER, np.uint8)
    for picture, left in ((desk, MARGIN), (phone, desk.shape[1] + 2 * MARGIN)):
        top = (height - picture.shape[0]) // 2
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    for quality in range(92, 40, -4):
        jpeg = cv2.imencode(".jpg", sheet, (cv2.IMWRITE_JPEG_QUALITY, quality))[1].tobytes()
        if len(jpeg) < MOST_BYTES:
            return jpeg
    raise SystemExit(f"the picture does not fit into {MOST_BYTES} bytes")


if __name__ == "__main__":
    sys.exit(main())
