"""Darwin, the JSON of V7: one file per image, of version 1 and 2."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from .entries import dictionaries, documents_below, fill_class
from .shapes import Points, as_points, ellipse_ring, fill_coco
from .source import (
    NOT_THERE,
    Ids,
    ReadOptions,
    Source,
    empty_mask,
    size_of_image,
    with_background,
)

_RASTER = "__raster_layer__"


def read_darwin(root: Path, options: ReadOptions) -> Source:
    """Darwin: polygons with holes, mask layers and ellipses; what none of them covers is background."""
    found = documents_below(options.document or root, "annotations")
    documents = [(path, content, facts) for path, content in found if (facts := _facts(content))]
    if not documents:
        raise DataError(f"{root} holds no Darwin JSON", "export the data set as Darwin JSON")
    shapes = [shape for _, content, _ in documents for shape in dictionaries(content["annotations"])]
    names = sorted({str(shape.get("name")) for shape in shapes if _is_area(shape)} - {_RASTER})
    source = Source("darwin", with_background(options.classes.names if options.classes else names))
    images = source.index_images(root, options)
    for path, content, facts in documents:
        if any("frames" in shape for shape in dictionaries(content["annotations"])):
            source.drop(path, "it labels a video: export its frames as images")
            continue
        named = facts["names"]
        places = (images.find(name, path.parent) for name in named)
        image = next((place for place in places if place is not None), None)
        if image is None:
            source.drop(path, f"{NOT_THERE} ({named[-1]})")
            continue
        source.add(image, partial(_draw, source, dictionaries(content["annotations"]), facts, image))
    return source


def _facts(content: Mapping[str, Any]) -> dict[str, Any]:
    """The names and the size of the image of a file; empty where it is of another tool."""
    image, item = content.get("image"), content.get("item")
    if isinstance(image, dict) and ("filename" in image or "original_filename" in image):
        names = [str(image[key]) for key in ("filename", "original_filename") if image.get(key)]
        return {"names": names, "size": (image.get("height"), image.get("width"))}
    if not isinstance(item, dict):
        return {}
    slots = dictionaries(item.get("slots"))
    slot = slots[0] if slots else {}
    folder = str(item.get("path") or "/").strip("/")
    own = str(item.get("name"))
    names = [f"{folder}/{own}" if folder else own, own]
    names += [str(file.get("file_name")) for file in dictionaries(slot.get("source_files")) if file.get("file_name")]
    return {"names": names, "size": (slot.get("height"), slot.get("width"))}


def _is_area(shape: Mapping[str, Any]) -> bool:
    return any(kind in shape for kind in ("polygon", "complex_polygon", "mask", "ellipse"))


def _draw(source: Source, shapes: list[dict[str, Any]], facts: Mapping[str, Any], image: Path) -> Ids:
    height, width = facts["size"] if None not in facts["size"] else size_of_image(image)
    mask = empty_mask(height, width, str(image))
    layers = [shape["raster_layer"] for shape in shapes if isinstance(shape.get("raster_layer"), dict)]
    for number, shape in enumerate(shapes):
        what, name = f"annotation {number} of {image}", str(shape.get("name"))
        if "raster_layer" in shape or "tag" in shape:
            continue
        if not _is_area(shape):
            kind = next((key for key in ("bounding_box", "line", "keypoint", "skeleton", "cuboid") if key in shape), "")
            source.drop(what, f"a {kind.replace('_', ' ') or 'shape of that kind'} is not an area")
        elif "mask" in shape:
            fill_class(source, what, name, partial(_fill_layer, mask, layers, str(shape.get("id"))))
        else:
            fill_class(source, what, name, partial(_fill, mask, shape))
    return mask


def _fill(mask: NDArray[Any], shape: Mapping[str, Any], value: int) -> None:
    if "ellipse" in shape:
        about = shape["ellipse"]
        (x, y), (rx, ry) = ((float(about[key]["x"]), float(about[key]["y"])) for key in ("center", "radius"))
        fill_coco(mask, [ellipse_ring(x, y, rx, ry, float(np.rad2deg(float(about.get("angle") or 0))))], value)
        return
    about = shape.get("polygon") or shape.get("complex_polygon")
    paths = about.get("paths") or about.get("path") or []  # type: ignore[union-attr]
    rings = [_ring(path) for path in (paths if paths and isinstance(paths[0], list) else [paths])]
    rings = [ring for ring in rings if len(ring) >= 3]
    if not rings:
        raise ValueError("a polygon of fewer than 3 points is not an area")
    covered = np.zeros(mask.shape, bool)
    for ring in rings:  # even-odd: a path inside of another is a hole
        inside = np.zeros(mask.shape, np.uint8)
        fill_coco(inside, [ring], 1)
        covered ^= inside.astype(bool)
    mask[covered] = value


def _ring(path: Any) -> Points:
    return as_points([[point["x"], point["y"]] for point in path])


def _fill_layer(mask: NDArray[Any], layers: list[dict[str, Any]], own: str, value: int) -> None:
    """Pixels of one mask in a layer: runs of (value, length), row by row, and which value belongs to which mask."""
    for layer in layers:
        numbers, runs = layer.get("mask_annotation_ids_mapping"), layer.get("dense_rle")
        if not isinstance(numbers, dict) or own not in numbers:
            continue
        pairs = np.asarray(runs, np.int64).reshape(-1, 2)
        if (pairs[:, 1] < 0).any() or int(pairs[:, 1].sum()) != mask.size:
            raise ValueError(f"its run lengths do not cover the {mask.size} pixels of its image")
        mask[np.repeat(pairs[:, 0] == int(numbers[own]), pairs[:, 1]).reshape(mask.shape)] = value
        return
    raise ValueError("no mask layer has its pixels")
