"""COCO's JSON: polygons and run lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ...labels import IGNORE
from ..mask_file import read_raw_mask
from .entries import attempt, dictionaries, documents_below, number_or_zero
from .shapes import as_points, decode_coco_runs, fill_coco
from .source import (
    BACKGROUND,
    NOT_THERE,
    Ids,
    ReadOptions,
    Source,
    empty_mask,
    id_of,
    split_of,
    split_of_path,
    with_background,
)


def read_coco(root: Path, options: ReadOptions) -> Source:
    """COCO: polygons and run lengths, one or several JSON files; what no object covers is background."""
    documents = documents_below(options.document or root, "images", "categories")
    if not documents:
        raise DataError(f"{root} holds no COCO JSON with images, annotations and categories", "export it again")
    # Of the files of COCO itself, those of persons' joints repeat objects that the others have.
    documents = [entry for entry in documents if not _are_keypoints(entry[1])] or documents
    names: dict[int, str] = {}
    for _, content in documents:
        for number, name in sorted(_categories(content, documents).items()):
            while names.get(number, name) != name:  # another file gives this number to another class
                number += 1 << 20
            names[number] = name
    panoptic = all(_is_panoptic(content) for _, content in documents)
    ordered = [names[number] for number in sorted(names)]
    source = Source("coco", dict(enumerate(dict.fromkeys(ordered))) if panoptic else with_background(ordered))
    images = source.index_images(root, options, lambda path: path.parent.name.startswith("panoptic"))
    parts: dict[Path, list[_Part]] = {}
    for path, content in documents:
        ids = {number: id_of(source.names, name) for number, name in _categories(content, documents).items()}
        near = path.parent / (split_of(path.stem) or "")
        by_image: dict[Any, list[dict[str, Any]]] = {}
        for entry in dictionaries(content.get("annotations") or []):
            by_image.setdefault(_key(entry, "image_id"), []).append(entry)
        for entry in content["images"]:
            if not isinstance(entry, dict) or not isinstance(entry.get("file_name"), str):
                source.drop(path, f"an image without file_name: {str(entry)[:80]}")
                continue
            image = images.find(entry["file_name"], near)
            if image is None:
                source.drop(entry["file_name"], f"{path.name} names it, and {NOT_THERE}")
                continue
            part = _Part(entry, by_image.get(_key(entry, "id"), []), ids, path)
            if image in parts:  # another file labels it too
                parts[image].append(part)
                continue
            parts[image] = [part]
            draw = partial(_draw_coco, source, parts[image])
            source.add(image, draw, split_of(path.stem) or split_of_path(path, root))
    return source


@dataclass(frozen=True)
class _Part:
    """What one file says of one image."""

    image: Mapping[str, Any]
    objects: list[dict[str, Any]]
    ids: Mapping[Any, int | None]
    path: Path


def _is_panoptic(content: Mapping[str, Any]) -> bool:
    return any("segments_info" in entry for entry in dictionaries(content.get("annotations") or []))


def _are_keypoints(content: Mapping[str, Any]) -> bool:
    return any("keypoints" in entry for entry in dictionaries(content.get("categories")))


def _categories(content: Mapping[str, Any], documents: Sequence[tuple[Path, Any]]) -> dict[int, str]:
    """Category id → name in one file, without the category that Roboflow adds to group the others."""
    named = [entry for entry in dictionaries(content["categories"]) if isinstance(entry.get("id"), int)]
    used = {_key(entry, "category_id") for entry in dictionaries(content.get("annotations") or [])}
    groups = {_key(entry, "supercategory") for _, other in documents for entry in dictionaries(other["categories"])}
    return {
        entry["id"]: str(entry["name"])
        for entry in named
        if "name" in entry and (entry["id"] in used or str(entry["name"]) not in groups)
    }


def _key(entry: Mapping[str, Any], name: str) -> int | str | None:
    """An id as a key; None for what cannot be one."""
    value = entry.get(name)
    return value if isinstance(value, (int, str)) else None


def _draw_coco(source: Source, parts: Sequence[_Part]) -> Ids:
    first = parts[0]
    mask = empty_mask(first.image.get("height"), first.image.get("width"), str(first.path))
    if BACKGROUND not in source.names.values():
        mask[:] = IGNORE
    objects = [(part, entry) for part in parts for entry in part.objects]
    # Small objects over large ones, as COCO's own semantic masks are drawn.
    for part, entry in sorted(objects, key=lambda pair: -number_or_zero(pair[1].get("area"))):
        if "segments_info" in entry:
            attempt(source, part.path, partial(_fill_panoptic, mask, part, entry))
            continue
        value, shape = part.ids.get(_key(entry, "category_id")), entry.get("segmentation")
        what = f"object {entry.get('id')} of {part.image.get('file_name')}"
        if value is None:
            source.drop(what, f"its category {entry.get('category_id')} is not in the list of categories")
        elif not shape:
            source.drop(what, "it has a box and no segmentation")
        else:
            attempt(source, what, partial(_fill_coco_shape, mask, shape, value))
    return mask


def _fill_panoptic(mask: NDArray[Any], part: _Part, entry: Mapping[str, Any]) -> None:
    """Segments of a PNG whose colours are numbers; what has no segment has no label."""
    name, folder = str(entry.get("file_name")), part.path.parent
    places = [folder / part.path.stem, folder, folder.parent / part.path.stem, folder / f"{part.path.stem}_masks"]
    png = next((place / name for place in places if (place / name).is_file()), None)
    if png is None or ".." in name:
        raise ValueError(f"its PNG {name} is not in a folder {part.path.stem} beside it")
    rgb = read_raw_mask(png).as_colours()
    if rgb is None or rgb.shape[:2] != mask.shape:
        raise ValueError(f"its PNG {name} has another size than the image")
    numbers = rgb[..., 0] + 256 * rgb[..., 1].astype(np.int64) + 65536 * rgb[..., 2].astype(np.int64)
    for segment in dictionaries(entry.get("segments_info")):
        value = part.ids.get(_key(segment, "category_id"))
        if value is not None:
            mask[numbers == segment.get("id")] = value


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
