"""Datumaro's own JSON, which CVAT exports too."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ...errors import DataError
from .entries import attempt, dictionaries, documents_below, number_or_zero
from .shapes import as_points, box_ring, decode_coco_runs, ellipse_ring, fill_coco
from .source import (
    NOT_THERE,
    Ids,
    ReadOptions,
    Source,
    empty_mask,
    id_of,
    size_of_image,
    split_of,
    with_background,
)


def read_datumaro(root: Path, options: ReadOptions) -> Source:
    """Datumaro: polygons, masks, boxes and ellipses, by their ``z_order``; the rest is background."""
    documents = [
        (path, content, _labels(content))
        for path, content in documents_below(options.document or root, "items")
        if _labels(content)
    ]
    if not documents:
        raise DataError(f"{root} holds no Datumaro JSON with categories and items", "export it again")
    names = options.classes.names if options.classes else [name for _, _, labels in documents for name in labels]
    source = Source("datumaro", with_background(names))
    _take_colours(source, documents)
    images = source.index_images(root, options)
    for path, content, labels in documents:
        for entry in dictionaries(content["items"]):
            media = entry.get("image") or entry.get("media")
            named = str((media.get("path") if isinstance(media, dict) else None) or entry.get("id"))
            near = root / "images" / path.stem
            image = images.find(named, near) or images.find(str(entry.get("id")), near)
            if image is None:
                source.drop(named, f"{path.name} names it, and {NOT_THERE}")
                continue
            size = media.get("size") if isinstance(media, dict) else None
            draw = partial(_draw, source, entry, labels, size, image)
            source.add(image, draw, split_of(path.stem))
    return source


def _labels(content: Mapping[str, Any]) -> list[str]:
    """The names of the labels of a file, by their ids."""
    categories = content.get("categories")
    about = categories.get("label") if isinstance(categories, dict) else None
    return [str(label.get("name")) for label in dictionaries(about.get("labels") if isinstance(about, dict) else None)]


def _take_colours(source: Source, documents: list[tuple[Path, dict[str, Any], list[str]]]) -> None:
    for _, content, labels in documents:
        about = content["categories"].get("mask")
        for entry in dictionaries(about.get("colormap") if isinstance(about, dict) else None):
            label, rgb = entry.get("label_id"), [entry.get(key) for key in "rgb"]
            known = isinstance(label, int) and 0 <= label < len(labels)
            number = id_of(source.names, labels[label]) if known else None  # type: ignore[index]
            if number is not None and all(isinstance(value, int) and 0 <= value <= 255 for value in rgb):
                source.colours[number] = (rgb[0], rgb[1], rgb[2])  # type: ignore[assignment]


def _draw(source: Source, entry: Mapping[str, Any], labels: list[str], size: Any, image: Path) -> Ids:
    height, width = size if isinstance(size, list) and len(size) == 2 else size_of_image(image)
    mask = empty_mask(height, width, str(image))
    # The sort keeps the order of the file where z_order is the same.
    shapes = sorted(dictionaries(entry.get("annotations")), key=lambda shape: number_or_zero(shape.get("z_order")))
    for shape in shapes:
        what, label = f"{shape.get('type')} {shape.get('id')} of {image}", shape.get("label_id")
        if shape.get("type") in ("label", "caption"):
            continue
        known = isinstance(label, int) and 0 <= label < len(labels)
        value = id_of(source.names, labels[label]) if known else None  # type: ignore[index]
        if value is None:
            source.drop(what, f"its label {labels[label] if known else label!r} is not in the list of classes")  # type: ignore[index]
        else:
            attempt(source, what, partial(_fill, mask, shape, value))
    return mask


def _fill(mask: NDArray[Any], shape: Mapping[str, Any], value: int) -> None:
    kind, points = shape.get("type"), shape.get("points") or []
    if kind == "mask" and isinstance(shape.get("rle"), dict):
        rle = shape["rle"]
        if rle.get("size") != list(mask.shape):
            raise ValueError(f"its run lengths are for {rle.get('size')} and its image has {list(mask.shape)}")
        mask[decode_coco_runs(rle.get("counts"), *mask.shape)] = value
    elif kind == "polygon" and len(points) >= 6:
        fill_coco(mask, [as_points(points)], value)
    elif kind == "bbox":
        x, y, width, height = (float(number) for number in shape["bbox"])
        degrees = number_or_zero((shape.get("attributes") or {}).get("rotation"))
        fill_coco(mask, [box_ring(x, y, x + width, y + height, degrees)], value)
    elif kind == "ellipse" and len(points) == 4:
        x0, y0, x1, y1 = (float(number) for number in points)
        fill_coco(mask, [ellipse_ring((x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2)], value)
    else:
        raise ValueError(f"a {kind} is not an area")
