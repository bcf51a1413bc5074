"""What another program says of its network: in the ONNX file itself, or in the files that it wrote beside it."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import onnx

from ..document import parse_json
from ..errors import OptionError, PspnetEdgeError, one_of
from ..inputs import as_number, as_several, is_file, read_text
from ..labels import LONGEST_CLASS_NAME
from ..records import JsonRecord

Colour = Literal["rgb", "bgr"]
GREY_LEVELS = 5.0
"""A mean or deviation above this is one of grey levels, 0 to 255, and not of 0 to 1."""
PROCESSOR_FILE = "preprocessor_config.json"
_LONGEST = 1 << 16


@dataclass(frozen=True)
class Preprocessing(JsonRecord):
    """What a network wants done to a picture: ``(pixel * scale - mean) / std``, channels in its order."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float | None = None
    """None is 1 where mean or std are grey levels (above 5), else 1/255."""
    colour: Colour = "rgb"
    """Order of the network's channels."""

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = tuple(as_number(value, name) for value in as_several(getattr(self, name), name))
            if not values:
                raise OptionError("no value is given", "give one, or one for each channel", parameter=name)
            object.__setattr__(self, name, values)
        if self.scale is not None:
            as_number(self.scale, "scale")
        one_of(self.colour, get_args(Colour), "order of colours", "colour")

    @property
    def factor(self) -> float:
        """The scale, chosen if none was given."""
        if self.scale is not None:
            return self.scale
        return 1.0 if max(map(abs, (*self.mean, *self.std))) > GREY_LEVELS else 1 / 255


@dataclass(frozen=True)
class Described:
    """What is known of a network without its user; None where nothing says it."""

    classes: tuple[str, ...] | None = None
    classes_from: str = ""
    preprocessing: Preprocessing | None = None
    size_hw: tuple[int, int] | None = None
    size_from: str = ""


def described(path: Path, proto: onnx.ModelProto | None = None) -> Described:
    """What an ONNX file and the files beside it say of classes, preprocessing and size.

    Read are the metadata that Ultralytics stores in the file, and ``config.json`` and ``preprocessor_config.json`` of
    transformers (``save_pretrained``, Optimum), beside the file or above its folder ``onnx``. What cannot be read
    counts as not there.

    Args:
        path: of the ONNX file.
        proto: the file as it was parsed, for its metadata.
    """
    stored = {entry.key: entry.value for entry in proto.metadata_props} if proto is not None else {}
    names, size = _names(_literal(stored.get("names"))), _size(_literal(stored.get("imgsz")))
    classes_from = size_from = path.name
    if names is None:
        config = _document(path, "config.json")
        names, classes_from = _names(config.get("id2label")), "config.json"
    processor = _document(path, PROCESSOR_FILE)
    if size is None and processor.get("do_resize") is True:
        size, size_from = _size(processor.get("size")), PROCESSOR_FILE
    return Described(names, classes_from, _preprocessing(processor), size, size_from)


def _document(path: Path, name: str) -> Mapping[str, Any]:
    """A JSON object beside the model, or above its folder ``onnx``; empty where there is none."""
    folders = [path.parent, *([path.parent.parent] if path.absolute().parent.name == "onnx" else [])]
    found = next((folder / name for folder in folders if is_file(folder / name)), None)
    if found is None:
        return {}
    try:
        content = parse_json(read_text(found, name))
    except (PspnetEdgeError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _preprocessing(processor: Mapping[str, Any]) -> Preprocessing | None:
    """Of an image processor of transformers, which multiplies, then normalizes, then turns the colours round."""
    if not any(key in processor for key in ("do_normalize", "do_rescale", "do_flip_channel_order")):
        return None
    mean, std = (_numbers(processor.get(key)) for key in ("image_mean", "image_std"))
    if processor.get("do_normalize") is not True:
        mean, std = (0.0,), (1.0,)
    # Older versions have no do_rescale and always rescale.
    factor = processor.get("rescale_factor", 1 / 255) if processor.get("do_rescale", True) else 1.0
    if mean is None or std is None or not _is_number(factor) or factor <= 0 or min(std) <= 0:
        return None
    flipped = processor.get("do_flip_channel_order") is True
    if flipped:  # what is normalized is in the order of the picture
        mean, std = mean[::-1], std[::-1]
    return Preprocessing(mean, std, float(factor), "bgr" if flipped else "rgb")


def _names(listed: object) -> tuple[str, ...] | None:
    """Names by their ids, where these are 0, 1, 2 and so on."""
    if isinstance(listed, (list, tuple)):
        listed = dict(enumerate(listed))
    if not isinstance(listed, dict) or not 2 <= len(listed) <= 254:
        return None
    by_id = {str(number): name for number, name in listed.items()}
    names: list[str] = []
    for index in range(len(listed)):
        name = by_id.get(str(index))
        plain = " ".join(name.split()) if isinstance(name, str) else ""
        if not plain or not plain.isprintable() or len(plain) > LONGEST_CLASS_NAME - 4:
            return None
        names.append(f"{plain} {index}" if plain in names else plain)
    return tuple(names) if len(set(names)) == len(names) else None


def _size(value: object) -> tuple[int, int] | None:
    if isinstance(value, dict):
        value = [value.get("height"), value.get("width")]
    if not isinstance(value, list) or len(value) != 2:
        return None
    height, width = value
    whole = isinstance(height, int) and isinstance(width, int)
    return (height, width) if whole and min(height, width) > 0 else None


def _numbers(values: object) -> tuple[float, ...] | None:
    if not isinstance(values, list) or not values or not all(map(_is_number, values)):
        return None
    return tuple(map(float, values))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e6


def _literal(text: str | None) -> object:
    """A value as Python prints it, such as ``{0: 'road'}``."""
    if not text or len(text) > _LONGEST:
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
