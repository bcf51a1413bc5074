"""Where shots go: the contract of every sink, and the window."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

import cv2

from ..errors import OutputError, one_of
from .shot import Shot

VIEWS = ("auto", "window", "web", "none")


class Sink(Protocol):
    """Takes shots, on the loop's main thread; what it does there delays the next shot."""

    def show(self, shot: Shot) -> bool:
        """Take one shot; False when the user wants to stop.

        Raises:
            OutputError: it can take no more, and the run should end.
        """


def has_display() -> bool:
    """Whether a window could be opened. Asked first, because Qt ends the process without one."""
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def check_view(view: str) -> str:
    """Resolve ``auto`` and refuse a window without a display.

    Raises:
        OptionError: an unknown view.
        OutputError: a window was asked for and there is no display.
    """
    one_of(view, VIEWS, "view")
    if view == "auto":
        return "window" if has_display() else "none"
    if view == "window" and not has_display():
        raise OutputError(
            "there is no display for a window", "use --view web for a browser, or --view none with --record FILE"
        )
    return view


class Window:
    """One window per camera on the local display; q or Escape ends the run.

    Args:
        names: one title per camera.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._titles = [f"pspnet-edge: {name}" for name in names]

    def __enter__(self) -> Window:
        try:
            for title in self._titles:
                cv2.namedWindow(title, cv2.WINDOW_NORMAL)
        except cv2.error as error:
            raise OutputError(
                "this OpenCV was built without windows: use --view web or install opencv-python"
            ) from error
        return self

    def show(self, shot: Shot) -> bool:
        """See ``Sink``."""
        cv2.imshow(self._titles[shot.camera], shot.picture())
        return cv2.waitKey(1) & 0xFF not in (ord("q"), 27)

    def __exit__(self, *exception: object) -> None:
        for title in self._titles:
            cv2.destroyWindow(title)
