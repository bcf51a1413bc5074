"""COCO's JSON: polygons and run lengths."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ...errors import DataError
from .entries import attempt, dictionaries, documents_below, number_or_zero
from .shapes import as_points, decode_coco_runs, fill_coco
from .source import (
    Ids,
    ImageIndex,
    Item,
    ReadOptions,
    Source,
    empty_mask,
    id_of,
    item_name,
    split_of,
    split_of_path,
    with_background,
)


def read_coco(root: Path, options: ReadOptions) -> Source:
    """COCO: polygons and run lengths, one or several JSON files; what no object covers is background."""
    documents = [(path, content) for path, content in documents_below(root) if isinstance(content.get("images"), list)]
    documents = [(path, content) for path, content in documents if isinstance(content.get("categories"), list)]
    if not documents:
        raise DataError(f"{root} holds no COCO JSON with images, annotations and categories", "export it again")
    categories = {
        entry["id"]: str(entry["name"])
        for _, content in documents for entry in content["categories"]
        if isinstance(entry, dict) and isinstance(entry.get("id"), int) and "name" in entry
    }  # fmt: skip
    # Roboflow adds a category that only groups the others.
    used = {
        entry.get("category_id") for _, content in documents for entry in dictionaries(content.get("annotations") or [])
    }
    groups = {entry.get("supercategory") for _, content in documents for entry in dictionaries(content["categories"])}
    categories = {number: name for number, name in categories.items() if number in used or name not in groups}
    source = Source("coco", with_background(categories[number] for number in sorted(categories)))
    ids = {number: id_of(source.names, name) for number, name in categories.items()}
    images = ImageIndex([place for place in (options.images, root) if place])
    for path, content in documents:
        by_image: dict[Any, list[dict[str, Any]]] = {}
        for entry in content.get("annotations") or []:
            if isinstance(entry, dict):
                by_image.setdefault(entry.get("image_id"), []).append(entry)
        for entry in content["images"]:
            if not isinstance(entry, dict) or not isinstance(entry.get("file_name"), str):
                source.drop(path, f"an image without file_name: {str(entry)[:80]}")
                continue
            image = images.find(entry["file_name"], path.parent)
            if image is None:
                source.drop(entry["file_name"], f"{path.name} names it and it is not there")
                continue
            split = split_of_path(image, root) or split_of(path.stem) or split_of_path(path, root)
            draw = partial(_draw_coco, source, entry, by_image.get(entry.get("id"), []), ids, path)
            source.items.append(Item(item_name(image, root, options.images), image, image.suffix, draw, split))
    return source


def _draw_coco(
    source: Source, image: Mapping[str, Any], objects: list[dict[str, Any]], ids: Mapping[Any, int | None], path: Path
) -> Ids:
    mask = empty_mask(image.get("height"), image.get("width"), str(path))
    # Small objects over large ones, as COCO's own semantic masks are drawn.
    for entry in sorted(objects, key=lambda entry: -number_or_zero(entry.get("area"))):
        value, shape = ids.get(entry.get("category_id")), entry.get("segmentation")
        what = f"object {entry.get('id')} of {image.get('file_name')}"
        if value is None:
            source.drop(what, f"its category {entry.get('category_id')} is not in the list of categories")
        elif not shape:
            source.drop(what, "it has a box and no segmentation")
        else:
            attempt(source, what, partial(_fill_coco_shape, mask, shape, value))
    return mask


def _fill_coco_shape(mask: NDArray[Any], shape: Any, value: int) -> None:
    if isinstance(shape, dict):
        size = shape.get("size")
        if size != [mask.shape[0], mask.shape[1]]:
            raise ValueError(f"its run lengths are for {size} and its image has {list(mask.shape)}")
        mask[decode_coco_runs(shape.get("counts"), *mask.shape)] = value
    elif isinstance(shape, list):
        rings = [as_points(ring) for ring in (shape if isinstance(shape[0], list) else [shape])]
        fill_coco(mask, [ring for ring in rings if len(ring) >= 3], value)
    else:
        raise ValueError("its segmentation is neither polygons nor run lengths")
