"""What ``pspnet-edge run`` shows, writes and serves."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..records import counted
from .output import say

if TYPE_CHECKING:
    from ..camera.loop import Loop
    from ..camera.picture_folder import PictureFolder
    from ..camera.sinks import Sink
    from ..camera.sources import Source
    from ..camera.web import WebView
    from ..labels import LabelSet


class Outputs:
    """The sinks of a run, and what they write.

    Args:
        held: closes them.
        sources: of the run.
        inputs: files that it reads.
    """

    def __init__(self, held: contextlib.ExitStack, sources: Sequence[Source], inputs: Sequence[Path]) -> None:
        self.sinks: list[Sink] = []
        self.recorded: list[Path] = []
        self._held = held
        self._sources = sources
        self._inputs = inputs
        self._folders: list[tuple[str, PictureFolder]] = []
        self._stats: Path | None = None

    def add_recorder(self, path: Path) -> None:
        from ..camera.recorder import Recorder

        recorder = self._held.enter_context(Recorder(path, self._sources, say, self._inputs))
        self.recorded = recorder.paths
        self.sinks.append(recorder)

    def add_rtp(self, place: str) -> None:
        from ..camera.rtp import RtpOut

        self.sinks.append(self._held.enter_context(RtpOut(place, self._sources[0].fps, say)))

    def add_folders(self, label_set: LabelSet, masks: Path | None, overlays: Path | None) -> None:
        from ..camera.picture_folder import mask_folder, overlay_folder

        if masks is not None:
            folder = self._held.enter_context(mask_folder(masks, label_set, self._sources, say))
            self._folders.append(("mask", folder))
        if overlays is not None:
            folder = self._held.enter_context(overlay_folder(overlays, self._sources, say))
            self._folders.append(("overlay", folder))
        self.sinks += [folder for _, folder in self._folders]

    def add_window(self) -> None:
        from ..camera.sinks import Window

        self.sinks.append(self._held.enter_context(Window([source.name for source in self._sources])))

    def add_web(self, view: WebView, tells_token: bool) -> None:
        self.sinks.append(self._held.enter_context(view))
        say(f"{'metrics' if view.metrics_only else 'watch'} at {view.url}", with_secrets=tells_token)
        if tells_token and view.metrics_only and view.token is not None:
            say(f"they ask for Authorization: Bearer {view.token}", with_secrets=True)

    def add_stats(self, path: Path, loop: Loop) -> None:
        from ..camera.stats import StatsFile

        self._stats = path
        self._held.enter_context(StatsFile(path, lambda: loop.summary().to_dict(), inputs=self._inputs))

    def paths(self) -> list[str]:
        """Every file, and every folder of files, that was written."""
        written = [path for path in self.recorded if path.exists()]
        written += [folder.folder for _, folder in self._folders if folder.written]
        return [str(path) for path in (*written, *([self._stats] if self._stats is not None else []))]

    def in_words(self) -> str:
        """For the last line."""
        words = [str(path) for path in self.recorded if path.exists()]
        words += [f"{counted(folder.written, what)} in {folder.folder}" for what, folder in self._folders]
        words += [str(self._stats)] if self._stats is not None else []
        return ", ".join(words)
