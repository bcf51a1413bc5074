"""CVAT's own XML: "CVAT for images 1.1"."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ..files import files_below
from ..reading import read_text
from .entries import fill_class
from .shapes import as_points, box_ring, ellipse_ring, fill_coco
from .source import (
    NOT_THERE,
    Ids,
    ReadOptions,
    Source,
    empty_mask,
    split_of,
    with_background,
)


def read_cvat_images(root: Path, options: ReadOptions) -> Source:
    """CVAT's XML of images: polygons, masks, boxes and ellipses; what none of them covers is background."""
    documents = [(path, _document(path)) for path in files_below(root) if path.suffix.lower() == ".xml"]
    documents = [(path, document) for path, document in documents if document.tag == "annotations"]
    labels = [label for _, document in documents for label in document.iter("label") if label.find("name") is not None]
    names = [str(label.findtext("name")) for label in labels]
    source = Source("cvat-images", with_background(options.classes.names if options.classes else names))
    source.take_colours((str(label.findtext("name")), str(label.findtext("color") or "")) for label in labels)
    images = source.index_images(root, options)
    for path, document in documents:
        if document.find("track") is not None:
            raise DataError(
                f"{path} is CVAT's XML of a video, whose frames it does not hold",
                "export the task as `CVAT for images 1.1` or `Segmentation mask 1.1`, with images",
            )
        for entry in document.iter("image"):
            named, subset = str(entry.get("name")), entry.get("subset") or ""
            image = images.find(f"{subset}/{named}", path.parent) or images.find(named, path.parent)
            if image is None:
                source.drop(named, f"{path.name} names it, and {NOT_THERE}")
                continue
            draw = partial(_draw, source, entry, named)
            source.add(image, draw, split_of(subset))
    return source


def _document(path: Path) -> ElementTree.Element:
    text = read_text(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError(f"{path} declares entities, which CVAT's XML does not", "export it again")
    try:
        return ElementTree.fromstring(text.encode())
    except ElementTree.ParseError as error:
        raise DataError(f"{path} is not valid XML ({error})", "export it again") from error


def _draw(source: Source, entry: ElementTree.Element, named: str) -> Ids:
    mask = empty_mask(_number(entry, "height"), _number(entry, "width"), named)
    shapes = list(entry)
    # The sort keeps the order of the file where z_order is the same.
    for number, shape in sorted(enumerate(shapes), key=lambda pair: _number(pair[1], "z_order", 0.0)):
        if shape.tag != "tag":
            what = f"{shape.tag} {number} of {named}"
            fill_class(source, what, str(shape.get("label")), partial(_fill, mask, shape), "label")
    return mask


def _fill(mask: NDArray[Any], shape: ElementTree.Element, value: int) -> None:
    if shape.tag == "polygon":
        pairs = [[float(part) for part in pair.split(",")] for pair in str(shape.get("points")).split(";")]
        fill_coco(mask, [as_points(pairs)], value)
    elif shape.tag == "box":
        x0, y0, x1, y1 = (_number(shape, side) for side in ("xtl", "ytl", "xbr", "ybr"))
        fill_coco(mask, [box_ring(x0, y0, x1, y1, _number(shape, "rotation", 0.0))], value)
    elif shape.tag == "ellipse":
        x, y, rx, ry = (_number(shape, name) for name in ("cx", "cy", "rx", "ry"))
        fill_coco(mask, [ellipse_ring(x, y, rx, ry, _number(shape, "rotation", 0.0))], value)
    elif shape.tag == "mask":
        left, top, width, height = (int(_number(shape, name)) for name in ("left", "top", "width", "height"))
        runs = [int(run) for run in str(shape.get("rle")).split(",")]
        if min(left, top, *runs) < 0 or left + width > mask.shape[1] or top + height > mask.shape[0]:
            raise ValueError("it lies outside of the image")
        if sum(runs) != width * height:
            raise ValueError("its runs do not fill its box")
        covered = np.repeat(np.arange(len(runs)) % 2, runs).reshape(height, width)
        mask[top : top + height, left : left + width][covered > 0] = value
    else:
        raise ValueError(f"a {shape.tag} is not an area")


def _number(shape: ElementTree.Element, name: str, usual: float | None = None) -> float:
    text = shape.get(name)
    if text is None and usual is not None:
        return usual
    return float(text or "nan")
