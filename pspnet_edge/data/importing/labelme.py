"""labelme's JSON files."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ...errors import DataError
from .colour_list import read_names
from .entries import attempt, decode_bitmap, dictionaries, documents_below, from_base64, place_bitmap
from .shapes import as_points, fill_labelme
from .source import (
    NOT_THERE,
    Ids,
    Item,
    ReadOptions,
    Source,
    empty_mask,
    id_of,
    item_name,
    size_of_image,
    split_of_path,
    with_background,
)

IGNORED_LABELS = ("__ignore__", "_ignore_", "ignore")


def read_labelme(root: Path, options: ReadOptions) -> Source:
    """labelme's JSON files, one per image."""
    documents = documents_below(options.document or root, "shapes")
    if not documents:
        raise DataError(f"{root} holds no labelme JSON", "give the folder with the annotations")
    listing = root / "labels.txt"
    labels = sorted({str(shape.get("label")) for _, content in documents for shape in dictionaries(content["shapes"])})
    if options.classes:
        labels = list(options.classes.names)
    elif listing.is_file():
        labels = read_names(listing)
    source = Source("labelme", with_background(label for label in labels if label.lower() not in IGNORED_LABELS))
    images = source.index_images(root, options)
    for path, content in documents:
        named = str(content.get("imagePath") or path.stem)
        image: Path | bytes | None = images.find(named, path.parent) or images.find(f"{path.stem}.png", path.parent)
        suffix = image.suffix if isinstance(image, Path) else Path(named).suffix or ".png"
        if image is None and isinstance(content.get("imageData"), str):
            image = attempt(source, path, partial(from_base64, content["imageData"]))
        if image is None:
            source.drop(path, f"{NOT_THERE} ({named})")
            continue
        name = item_name(image, root, options.images) if isinstance(image, Path) else item_name(path, root)
        draw = partial(_draw_labelme, source, content, image, path)
        source.items.append(Item(name, image, suffix, draw, split_of_path(path, root)))
    return source


def _draw_labelme(source: Source, content: Mapping[str, Any], image: Path | bytes, path: Path) -> Ids:
    height, width = content.get("imageHeight"), content.get("imageWidth")
    if height is None or width is None:
        height, width = size_of_image(image)
    mask = empty_mask(height, width, str(path))
    for number, shape in enumerate(dictionaries(content["shapes"])):
        label, what = str(shape.get("label")), f"shape {number} of {path}"
        value = 255 if label.lower() in IGNORED_LABELS else id_of(source.names, label)
        if value is None:
            source.drop(what, f"its label {label!r} is not in the list of classes")
        else:
            attempt(source, what, partial(_fill_labelme_shape, mask, shape, value))
    return mask


def _fill_labelme_shape(mask: NDArray[Any], shape: Mapping[str, Any], value: int) -> None:
    kind, points = str(shape.get("shape_type") or "polygon"), as_points(shape.get("points") or [])
    if kind == "mask" and isinstance(shape.get("mask"), str) and len(points) == 2:
        place_bitmap(mask, decode_bitmap(from_base64(shape["mask"])), points.astype(int).min(0), value)
    else:
        fill_labelme(mask, kind, points, value)
