"""What a caller of the Python API may hand over as a frame, and the sentence for everything else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.files import read_image
from ..data.images import VIDEO_SUFFIXES
from ..errors import DataError, OptionError
from ..inputs import check_file

Frame = NDArray[np.uint8]
FrameLike = Frame | str | PathLike[str]
"""A frame, or the path of an image."""

_CONVERSIONS = {
    1: "cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR)",
    4: "cv2.cvtColor(frame, cv2.COLOR_BGRA2BGR)",
}
_EMPTY = "an empty picture has no pixels to segment"
_PATH = "or give the path of the image"
_SCALE = "scale it to 0 to 255, such as (frame / frame.max() * 255).astype(numpy.uint8)"


def as_frame(given: Any, channels: int = 3) -> Frame:
    """Return a frame BGR ``uint8 [H, W, 3]``: an array as it is, the image at a path, or a PIL image converted.

    An engine of one or four channels takes pictures of one, three or four, which it converts itself.

    Raises:
        OptionError: it is none of them, or the path of what `stream` reads: a folder, a video, an address.
        DataError: the image cannot be read.
    """
    if isinstance(given, (str, PathLike)):
        return _read(given)
    if given is None:
        raise OptionError(
            "the frame is None", "check the path it was read from: cv2.imread returns None for what it cannot read"
        )
    if type(given).__module__.startswith("PIL."):
        return _from_pillow(given)
    if not isinstance(given, np.ndarray):
        raise OptionError(
            f"a frame is an array BGR uint8 [H, W, 3] or the path of an image, not {_kind_of(given)}",
            _way_to_a_frame(given),
        )
    if channels != 3:
        return _other_frame(given, channels)
    if given.ndim != 3 or given.shape[2] != 3 or given.dtype != np.uint8 or 0 in given.shape:
        raise OptionError(f"a frame is BGR uint8 [H, W, 3], got {given.dtype} {list(given.shape)}", _conversion(given))
    return given


def as_mask(given: Any) -> NDArray[np.uint8]:
    """Return a mask ``uint8 [H, W]`` as it is.

    Raises:
        OptionError: it is not one.
    """
    if not isinstance(given, np.ndarray):
        raise OptionError(f"a mask is an array uint8 [H, W], not {_kind_of(given)}", "give what a segmenter returned")
    if given.ndim != 2 or given.dtype != np.uint8 or 0 in given.shape:
        fix = "convert it with astype(numpy.uint8)" if given.ndim == 2 and given.size else "give one mask of class ids"
        raise OptionError(f"a mask is uint8 [H, W], got {given.dtype} {list(given.shape)}", fix)
    return given


def _from_pillow(given: Any) -> Frame:
    if 0 in given.size:
        raise OptionError(f"the picture has a size of {given.size[1]}x{given.size[0]}", _EMPTY)
    if given.mode[0] in "IF":  # 16 or 32 bits a pixel, all of which above 255 `convert` makes white
        raise OptionError(f"a picture of Pillow's mode {given.mode} has more than 8 bits", f"{_SCALE}, {_PATH}")
    return np.ascontiguousarray(np.asarray(given.convert("RGB"), np.uint8)[..., ::-1])


def _read(given: str | PathLike[str]) -> Frame:
    """The image at a path; what only `stream` reads is sent there."""
    path, what = Path(given), None
    if "://" in str(given):
        what = "an address"
    elif path.is_dir():
        what = "a folder"
    elif path.suffix.lower() in VIDEO_SUFFIXES:
        what = "a video"
    if what and not str(given).startswith("file://"):
        raise OptionError(
            f"{given} is {what}, not an image",
            f"loop over it with `for frame, mask in segmenter.stream({str(given)!r})`",
        )
    check_file(path, "image", DataError, "check its path")
    return read_image(path)


def _way_to_a_frame(given: Any) -> str:
    if isinstance(given, (bytes, bytearray, memoryview)):
        return "decode it with cv2.imdecode(numpy.frombuffer(data, numpy.uint8), cv2.IMREAD_COLOR)"
    if isinstance(given, int):
        return f"loop over a camera with `for frame, mask in segmenter.stream({given})`"
    if hasattr(given, "permute"):  # a tensor of torch, which has the channels first and often holds RGB from 0 to 1
        return "give frame.permute(1, 2, 0).cpu().numpy(), with the channels in the order BGR and values of 0 to 255"
    return "give an array, a path, or a list of them"


def _other_frame(given: NDArray[Any], channels: int) -> Frame:
    """A picture that the engine itself turns into a frame of one or four channels."""
    depth = given.shape[2] if given.ndim == 3 else 1
    if given.ndim not in (2, 3) or depth not in (1, 3, 4) or 0 in given.shape:
        raise OptionError(
            f"a frame for this engine is [H, W, {channels}], got {given.dtype} {list(given.shape)}", "convert it first"
        )
    return given


def _conversion(given: NDArray[Any]) -> str:
    if 0 in given.shape:
        return _EMPTY
    if given.dtype != np.uint8:
        if given.dtype.kind in "bf":
            fix = "convert it with (255 * frame).astype(numpy.uint8) if it holds 0 to 1"
            return f"{fix}, with frame.astype(numpy.uint8) if it holds 0 to 255"
        return f"{_SCALE}, {_PATH}"
    channels = given.shape[2] if given.ndim == 3 else 1
    if given.ndim == 3 and given.shape[0] == 3:
        return "put the channels last with frame.transpose(1, 2, 0)"
    if given.ndim in (2, 3) and channels in _CONVERSIONS:
        return f"convert it with {_CONVERSIONS[channels]}"
    return "give one frame, a list of frames or an array [N, H, W, 3]"


def _kind_of(given: Any) -> str:
    kind = type(given)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


class FrameSource:
    """Any iterable of frames, or of paths of images, as a ``Source``."""

    name = "frames"
    live = False
    fps = 30.0

    def __init__(self, frames: Iterable[FrameLike], channels: int = 3) -> None:
        self._frames: Iterator[FrameLike] = iter(frames)
        self._channels = channels

    def read(self) -> Frame | None:
        """See ``Source``."""
        for frame in self._frames:
            return as_frame(frame, self._channels)
        return None

    def close(self) -> None:
        """See ``Source``."""
