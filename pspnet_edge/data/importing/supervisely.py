"""Supervisely projects."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files import files_below
from .entries import attempt, decode_bitmap, dictionaries, from_base64, load_json, place_bitmap
from .shapes import as_points, fill_inclusive
from .source import (
    NOT_THERE,
    Ids,
    ReadOptions,
    Source,
    empty_mask,
    id_of,
    with_background,
)


def read_supervisely(root: Path, options: ReadOptions) -> Source:
    """A Supervisely project: ``meta.json`` and one JSON per image in ``ann``."""
    meta = load_json(root / "meta.json")
    classes = dictionaries(meta.get("classes") or []) if isinstance(meta, dict) else []
    titles = [str(entry.get("title")) for entry in classes]
    source = Source("supervisely", with_background(titles))
    source.take_colours((str(entry.get("title")), str(entry.get("color") or "")) for entry in classes)
    images = source.index_images(root, options, lambda path: "ann" in path.parts[-2:-1])
    for path in files_below(root):
        if path.suffix.lower() != ".json" or path.parent.name != "ann":
            continue
        image = images.find(path.stem, path.parent.parent / "img") or images.find(
            f"{path.stem}.png", path.parent.parent
        )
        content = attempt(source, path, partial(load_json, path))
        if image is None or not isinstance(content, dict):
            source.drop(path, NOT_THERE if image is None else "it is not a Supervisely annotation")
            continue
        source.add(image, partial(_draw_supervisely, source, content, path))
    return source


def _draw_supervisely(source: Source, content: Mapping[str, Any], path: Path) -> Ids:
    size = content.get("size") if isinstance(content.get("size"), dict) else {}
    mask = empty_mask(size.get("height"), size.get("width"), str(path))  # type: ignore[union-attr]
    for number, shape in enumerate(dictionaries(content.get("objects") or [])):
        value = id_of(source.names, str(shape.get("classTitle")))
        what = f"object {number} of {path}"
        if value is None:
            source.drop(what, f"its class {shape.get('classTitle')!r} is not in meta.json")
        else:
            attempt(source, what, partial(_fill_supervisely_shape, mask, shape, value))
    return mask


def _fill_supervisely_shape(mask: NDArray[Any], shape: Mapping[str, Any], value: int) -> None:
    kind = shape.get("geometryType")
    if kind == "bitmap" and isinstance(shape.get("bitmap"), dict):
        bitmap = shape["bitmap"]
        encoded = zlib.decompressobj().decompress(from_base64(bitmap.get("data")), 1 << 28)
        place_bitmap(mask, decode_bitmap(encoded), as_points(bitmap.get("origin") or [])[0].astype(int), value)
        return
    points = shape.get("points") if isinstance(shape.get("points"), dict) else {}
    exterior = as_points(points.get("exterior") or [])  # type: ignore[union-attr]
    if kind == "polygon" and len(exterior) >= 3:
        covered = np.zeros(mask.shape, np.uint8)
        fill_inclusive(covered, [exterior], 1)
        for ring in points.get("interior") or []:  # type: ignore[union-attr]
            fill_inclusive(covered, [as_points(ring)], 0)
        mask[covered.astype(bool)] = value
    elif kind == "rectangle" and len(exterior) == 2:
        (x0, y0), (x1, y1) = exterior.min(0), exterior.max(0)
        fill_inclusive(mask, [np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])], value)
    else:
        raise ValueError(f"a {kind} is not an area")
