"""The camera loop as Python: frames in, masks out."""

from __future__ import annotations

import atexit
import contextlib
import inspect
import logging
import threading
import time
import weakref
from collections.abc import Generator, Iterable, Sequence
from numbers import Integral
from os import PathLike
from typing import Literal, overload

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import bundled
from ..data.geometry import STRETCHED, Geometry, frame_at, mask_at
from ..engine.backends import choose_runtime, ensure_built_as, open_engine
from ..engine.build import build_cached_engine, choose_precision
from ..engine.engine import Engine
from ..engine.model import prepare_model
from ..engine.segment import segment_frame, view_of
from ..errors import EngineError, OptionError, one_of
from ..inputs import as_instance, as_several, as_whole
from .frames import Frame, FrameLike, FrameSource, as_frame, as_mask
from .loop import Loop
from .overlay import SHOWS, Overlay, Show, class_ids
from .regions import Regions, regions_of
from .sources import Settings, Source, open_source

Mask = NDArray[np.uint8]
Scores = NDArray[np.float32]
Frames = list[FrameLike] | tuple[FrameLike, ...]
Stream = Generator[tuple[Frame, Mask], None, None]

_log = logging.getLogger(__name__)
_EXIT_S = 5.0
"""How long the end of the program waits for a thread that is inside a runtime."""


class Segmenter:
    """Segments images, frames and streams of them.

    >>> import pspnet_edge
    >>> with pspnet_edge.Segmenter() as segmenter:  # the bundled model; or "pspnet.engine", "my.onnx", "best.pt"
    ...     for frame, mask in segmenter.stream("demo"):  # or 0 for a camera, a path, a URL
    ...         picture = segmenter.overlay(frame, mask)
    ...         break
    >>> mask.shape == frame.shape[:2]
    True

    Any number of threads may use one ``Segmenter``, and any number of streams may be open at once: they take turns at
    the runtime. For more throughput than one runtime has, give each thread a ``Segmenter``.

    Args:
        engine: an engine file, a bundled name, a ``.onnx`` or a ``.pt`` (built into the user's cache first), or an
            opened ``Engine``, which stays the caller's. Left out, the default bundled model.
        precision: for what is built here: ``fp32``, ``fp16``, ``int8``, or ``auto``, which takes INT8 where the model
            has a calibration table, else FP16 on a GPU, else FP32.
        runtime: for what is built here; see ``choose_runtime``.
        geometry: how frames of another shape go into the engine, such as ``Geometry("letterbox")`` or, for pictures far
            larger than the engine, ``Geometry(tiles=True)``; masks have the frame's size all the same.

    Raises:
        EngineError: there is no such engine or it does not fit this machine.
        ModelError, CalibrationError, BuildError: the engine cannot be built.
        OptionError: ``engine`` is none of these, or an engine that is built has another precision or runtime.
    """

    def __init__(
        self,
        engine: Engine | str | PathLike[str] | None = None,
        *,
        precision: str = "auto",
        runtime: str = "auto",
        geometry: Geometry = STRETCHED,
    ) -> None:
        self._geometry = as_instance(geometry, Geometry, "geometry", 'Geometry("letterbox")')
        self._lock = threading.RLock()
        self._streams: weakref.WeakKeyDictionary[Stream, list[Loop]] = weakref.WeakKeyDictionary()
        self._closed = False
        self._opened: Engine | None = None
        self._scoring: Engine | None = None
        self._built_from = (engine, precision, runtime)
        if isinstance(engine, Engine):
            ensure_built_as(engine.info, precision, runtime)
            self.engine = engine.share()
        else:
            self._opened = _open(engine, precision, runtime)
            self.engine = self._opened.share()
        _living.add(self)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, by id."""
        return self.engine.info.label_set.classes

    @property
    def palette(self) -> NDArray[np.uint8]:
        """``uint8 [256, 3]`` RGB by class id: ``segmenter.palette[mask]`` is a picture for matplotlib."""
        return np.ascontiguousarray(self.engine.info.label_set.bgr_table()[:, ::-1])

    @overload
    def __call__(self, frame: FrameLike, *, scores: Literal[False] = False) -> Mask: ...

    @overload
    def __call__(self, frame: Frames, *, scores: Literal[False] = False) -> list[Mask]: ...

    @overload
    def __call__(self, frame: FrameLike, *, scores: Literal[True]) -> tuple[Mask, Scores]: ...

    @overload
    def __call__(self, frame: Frames, *, scores: Literal[True]) -> tuple[list[Mask], list[Scores]]: ...

    def __call__(
        self, frame: FrameLike | Frames, *, scores: bool = False
    ) -> Mask | list[Mask] | tuple[Mask, Scores] | tuple[list[Mask], list[Scores]]:
        """Segment a frame or a batch of them.

        Args:
            frame: BGR ``uint8 [H, W, 3]``, the path of an image, a PIL image, a list of such, or an array
                ``[N, H, W, 3]``. The image at a path is turned as its EXIF data say, a PIL image is not:
                ``ImageOps.exif_transpose`` turns it.
            scores: whether to return how sure the network is too: the softmax probability of the most likely class,
                computed at the size of the logits and stretched. It needs an engine of OpenVINO or ONNX Runtime that
                was built with scores; where this segmenter was made from a model, one is built when it is first asked
                for.

        Returns:
            Class ids ``uint8 [H, W]`` at the frame's size, the caller's own; a list of them for a list, and
            ``[N, H, W]`` for an array of frames. With ``scores``, that and the scores, ``float32`` of the same shape.

        Raises:
            OptionError: it is not a frame.
            DataError: an image cannot be read.
            EngineError: the segmenter was closed, the runtime failed, or the engine gives no scores.
        """
        channels = self.engine.info.channels
        if isinstance(frame, np.ndarray) and frame.ndim == 4:
            masks, sure = self._segment([as_frame(each, channels) for each in frame], scores)
            stacked = np.stack(masks) if masks else np.zeros(frame.shape[:3], np.uint8)
            return (stacked, np.stack(sure) if sure else np.zeros(frame.shape[:3], np.float32)) if scores else stacked
        if isinstance(frame, (list, tuple)):
            masks, sure = self._segment([as_frame(each, channels) for each in frame], scores)
            return (masks, sure) if scores else masks
        masks, sure = self._segment([as_frame(frame, channels)], scores)
        return (masks[0], sure[0]) if scores else masks[0]

    def stream(
        self, source: Source | int | str | PathLike[str] | Iterable[FrameLike], settings: Settings | None = None
    ) -> Stream:
        """Frames and their masks at the frame's size, as they are made; capture and inference continue meanwhile.

        Of a live source each frame is the newest there is, and a lost source is waited for; of others every frame is
        yielded, in order. Leaving the ``for`` loop ends it, as does ``close``.

        Args:
            source: index of a camera, anything that ``--input`` takes, a ``Source``, or any iterable of frames or
                paths of images. What is opened here is closed at the end; a ``Source`` stays open.
            settings: for what is opened here.

        Raises:
            SourceError: it cannot be opened or read.
            OptionError: it is not a source, or ``settings`` is none.
            EngineError: the segmenter was closed, or the runtime failed.
        """
        if settings is not None and not isinstance(settings, Settings):
            raise OptionError(f"{settings!r} is not a Settings", "leave it out for the defaults", parameter="settings")
        loops: list[Loop] = []
        stream = self._stream(source, settings or Settings(), loops)
        self._streams[stream] = loops
        return stream

    def overlay(
        self,
        frame: Frame,
        mask: Mask,
        *,
        opacity: float = 0.5,
        legend: bool = True,
        hide: Sequence[str | int] = (),
        show: Show = "overlay",
    ) -> Frame:
        """Draw the classes over a frame.

        Args:
            frame: BGR ``uint8 [H, W, 3]``.
            mask: ``uint8`` class ids of any size; it is stretched over the frame.
            opacity: of the class colours, 0–1.
            legend: whether to name the classes in a strip at the top.
            hide: names or ids of classes to leave undrawn; a background class always is.
            show: ``overlay``, ``mask`` or ``side-by-side``.

        Returns:
            A new picture, BGR ``uint8``; ``picture[..., ::-1]`` is what matplotlib shows.

        Raises:
            OptionError: it is not a frame or a mask, or there is no such class.
        """
        label_set = self.engine.info.label_set
        drawing = Overlay(
            label_set,
            opacity,
            legend=legend,
            hide=class_ids(label_set, as_several(hide, "hide")),
            show=one_of(show, SHOWS, "choice", "show"),
        )
        return drawing.draw(as_frame(frame), as_mask(mask), "")

    def regions(self, mask: Mask, scores: Scores | None = None, *, split: bool = False, smallest: int = 1) -> Regions:
        """Cut a mask into boolean regions: ``supervision.Detections(**segmenter.regions(mask).to_dict())``.

        Args:
            mask: ``uint8 [H, W]``.
            scores: ``float32 [H, W]``, for the regions' confidence.
            split: one region per connected part instead of one per class.
            smallest: regions of fewer pixels are left out.

        Raises:
            OptionError: it is not a mask, or the scores are not of its size.
        """
        mask, smallest = as_mask(mask), as_whole(smallest, "smallest", least=0)
        if scores is not None and (not isinstance(scores, np.ndarray) or scores.shape != mask.shape):
            raise OptionError("the scores are not of the mask's size", "give those that came with it")
        return regions_of(mask, self.classes, scores=scores, split=split, smallest=smallest)

    def close(self) -> None:
        """End the streams, and close the engine if it was opened here. Closing again does nothing."""
        self._end_streams()
        with self._lock:
            self._closed = True
            for opened in (self._opened, self._scoring):
                if opened is not None:
                    opened.close()

    def _segment(self, frames: Sequence[Frame], scores: bool) -> tuple[list[Mask], list[Scores]]:
        masks: list[Mask] = []
        sure: list[Scores] = []
        batch = self.engine.info.shape_nhw[0]
        with self._lock:
            self._ensure_open()
            engine = self._scoring_engine() if scores else self.engine
            if not self._geometry.is_plain:
                if scores:
                    raise OptionError("scores are for frames that are stretched", "leave the geometry out")
                return [segment_frame(engine, frame, self._geometry) for frame in frames], sure
            for start in range(0, len(frames), batch):
                some = frames[start : start + batch]
                found, likely = self._batch(engine, some, scores)
                for frame, mask in zip(some, found):
                    masks.append(mask_at(mask, (frame.shape[0], frame.shape[1])))
                if likely is not None:
                    sure += [_stretch(one, (frame.shape[0], frame.shape[1])) for frame, one in zip(some, likely)]
        return masks, sure

    def _batch(self, engine: Engine, frames: Sequence[Frame], scores: bool) -> tuple[Mask, Scores | None]:
        """Masks, and scores where they are wanted, of as many frames as the engine's batch holds, stretched."""
        if not scores:
            return engine.infer_views([view_of(engine, frame) for frame in frames]), None
        inputs = np.zeros((*engine.info.shape_nhw, engine.info.channels), np.uint8)
        for row, frame in zip(inputs, frames):
            row[:] = frame_at(engine.with_channels(frame), engine.size_hw).reshape(row.shape)
        return engine.infer_scores(inputs)

    def _scoring_engine(self) -> Engine:
        """The engine, if it gives scores; else one that does, built from the same model."""
        if self.engine.info.scores_hw is not None or not _is_model(self._built_from[0]):
            return self.engine  # which says what it lacks
        if self._scoring is None:
            self._scoring = _open(*self._built_from, scores=True)
        return self._scoring

    def _stream(self, source: object, settings: Settings, loops: list[Loop]) -> Stream:
        self._ensure_open()
        with contextlib.ExitStack() as held:
            opened = _open_source(source, settings, self.engine.info.channels)
            if opened is not source:
                held.callback(opened.close)
            loop = Loop([opened], self.engine.share(), geometry=self._geometry)
            loops.append(loop)
            for shot in held.enter_context(contextlib.closing(loop.shots())):
                if not shot.banner:
                    yield shot.frame, mask_at(shot.mask, (shot.frame.shape[0], shot.frame.shape[1]))

    def _end_streams(self) -> None:
        for stream, loops in list(self._streams.items()):
            try:
                stream.close()
            except ValueError:  # another thread is waiting for its next frame
                for loop in loops:
                    loop.stop()
                give_up = time.monotonic() + _EXIT_S
                while inspect.getgeneratorstate(stream) != inspect.GEN_CLOSED and time.monotonic() < give_up:
                    time.sleep(0.01)

    def _ensure_open(self) -> None:
        if self._closed:
            name = self.engine.info.path.name
            raise EngineError(f"the segmenter of {name} was closed", "open another, or use it inside its with block")

    def __repr__(self) -> str:
        info = self.engine.info
        _, height, width = info.shape_nhw
        closed = ", closed" if self._closed else ""
        return (
            f"<Segmenter {info.path.name}: {info.precision} {info.runtime}, {height}x{width}, "
            f"{len(self.classes)} classes{closed}>"
        )

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


_living: weakref.WeakSet[Segmenter] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    """Before the interpreter ends, no thread may be inside a runtime: one that comes back later aborts the process."""
    for segmenter in list(_living):
        segmenter._end_streams()
        # Held for good: a daemon thread that wants the next mask waits here until the process is gone.
        segmenter._lock.acquire(timeout=_EXIT_S)


def _open(engine: object, precision: str, runtime: str, *, scores: bool = False) -> Engine:
    if engine is not None and not isinstance(engine, (str, PathLike)):
        raise OptionError(
            f"an engine is a path, the name of a bundled model or an opened Engine, not {type(engine).__name__}",
            "leave it out for the default model",
        )
    if engine is not None and not _is_model(engine):
        return open_engine(engine, precision, runtime)
    model, chosen = prepare_model(None if engine is None else str(engine)), choose_runtime(runtime)
    precision = choose_precision(precision, model, chosen)
    path, was_built = build_cached_engine(model, precision, chosen, scores=scores)
    _log.info("%s %s, %s, %s: %s", "built" if was_built else "using", model.name, precision, chosen, path)
    return open_engine(path)


def _is_model(engine: object) -> bool:
    """Whether an engine is to be built from what was given."""
    return engine is None or (isinstance(engine, (str, PathLike)) and bundled.names_model(engine))


def _stretch(scores: Scores, size_hw: tuple[int, int]) -> Scores:
    return np.asarray(cv2.resize(scores, size_hw[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def _open_source(source: object, settings: Settings, channels: int) -> Source:
    if isinstance(source, Source):
        return source
    if isinstance(source, Integral):
        return open_source(int(source), None, settings)
    if isinstance(source, (str, PathLike)):
        place = str(source)
        return open_source(place, None, settings) if place.startswith("/dev/") else open_source(None, place, settings)
    if not isinstance(source, Iterable):
        raise OptionError(
            f"a source is the index of a camera, a path, a URL, 'demo' or an iterable of frames, not {source!r}",
            "give one of these",
        )
    return FrameSource(source, channels)
