"""Label Studio's JSON and JSON-MIN exports."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ..layout import IMAGE_SUFFIXES
from .entries import attempt, dictionaries, json_files, load_json
from .shapes import as_points, decode_brush, ellipse_ring, fill_coco
from .source import (
    NOT_THERE,
    Ids,
    ReadOptions,
    Source,
    empty_mask,
    id_of,
    size_of_image,
    with_background,
)


def read_label_studio(root: Path, options: ReadOptions) -> Source:
    """Label Studio's JSON and JSON-MIN exports: brush strokes, polygons, boxes and ellipses."""
    tasks: list[tuple[Path, dict[str, Any]]] = []
    for path in json_files(options.document or root):
        content = load_json(path)
        if isinstance(content, list):
            tasks += [(path, entry) for entry in content if isinstance(entry, dict)]
    if not tasks:
        raise DataError(f"{root} holds no Label Studio JSON", "export the project as JSON or JSON-MIN")
    regions = [(path, task, list(_regions(task))) for path, task in tasks]
    labels = [label for _, _, found in regions for _, names in found for label in names]
    if not labels:
        guesses = any(task.get("predictions") for _, task in tasks)
        raise DataError(
            f"{root} holds {len(tasks)} tasks and no area that someone labelled"
            + (" (predictions of a model are not taken)" if guesses else ""),
            "submit annotations in Label Studio, and export again",
        )
    if options.classes:
        labels = list(options.classes.names)
    source = Source("label-studio", with_background(sorted(dict.fromkeys(labels))))
    images = source.index_images(root, options)
    for path, task, found in regions:
        named = _image_of_task(task)
        image = images.find(_url_path(named), path.parent) if named else None
        if image is None and named:
            # Uploaded files are called `1a2b3c4d-name.jpg`, or the hash was removed from the images beside.
            bare = re.sub(r"^[0-9a-f]{8}-", "", Path(_url_path(named)).name)
            image = images.find(bare, path.parent)
        if image is None:
            source.drop(f"task {task.get('id')} of {path.name}", f"{NOT_THERE} ({named})")
            continue
        source.add(image, partial(_draw, source, found, image, f"task {task.get('id')} of {path.name}"))
    return source


def _regions(task: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Each labelled region of a task as (its fields, its labels)."""
    annotations = list(dictionaries(task.get("annotations") or task.get("completions") or []))
    kept = [entry for entry in annotations if not entry.get("was_cancelled")]
    if kept:
        for region in dictionaries(kept[-1].get("result") or []):
            value = region.get("value")
            if isinstance(value, dict):
                yield {**region, **value}, _labels(value)
        return
    for value in task.values():
        if isinstance(value, list):
            for region in dictionaries(value):
                if _labels(region):
                    yield region, _labels(region)


def _labels(value: Mapping[str, Any]) -> list[str]:
    for key in ("brushlabels", "polygonlabels", "rectanglelabels", "ellipselabels", "labels"):
        if isinstance(value.get(key), list):
            return [str(label) for label in value[key]]
    return []


def _draw(source: Source, regions: list[tuple[dict[str, Any], list[str]]], image: Path, what: str) -> Ids:
    sizes = [(region.get("original_height"), region.get("original_width")) for region, _ in regions]
    equal = sizes and all(size == sizes[0] for size in sizes) and None not in sizes[0]
    height, width = sizes[0] if equal else size_of_image(image)
    mask = empty_mask(height, width, what)
    for number, (region, labels) in enumerate(regions):
        value = id_of(source.names, labels[0]) if labels else None
        if value is None:
            source.drop(f"region {number} of {what}", f"its label {labels} is not in the list of classes")
        else:
            attempt(source, f"region {number} of {what}", partial(_fill, mask, region, value))
    return mask


def _fill(mask: NDArray[Any], region: Mapping[str, Any], value: int) -> None:
    height, width = mask.shape
    percent = np.array([width / 100, height / 100])
    if isinstance(region.get("rle"), list):
        mask[decode_brush(region["rle"], height, width)] = value
    elif isinstance(region.get("points"), list):
        fill_coco(mask, [as_points(region["points"]) * percent], value)
    elif "radiusX" in region:
        (x, y), (rx, ry) = (
            as_points([region[across], region[down]])[0] * percent
            for across, down in (("x", "y"), ("radiusX", "radiusY"))
        )
        fill_coco(mask, [ellipse_ring(x, y, rx, ry, float(region.get("rotation") or 0))], value)
    elif "width" in region and "x" in region:
        x, y, w, h = (float(region[key]) for key in ("x", "y", "width", "height"))
        turn = np.deg2rad(float(region.get("rotation") or 0))
        across, along = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
        # Percent of different lengths: the rotation is in pixels.
        start, w, h = np.array([x, y]) * percent, w * percent[0], h * percent[1]
        corners = [start, start + w * across, start + w * across + h * along, start + h * along]
        fill_coco(mask, [as_points(corners)], value)
    else:
        raise ValueError("it is neither a brush stroke nor a polygon, box or ellipse")


def _image_of_task(task: Mapping[str, Any]) -> str | None:
    data = task.get("data")
    fields = data if isinstance(data, dict) else task
    for key in ("image", "img", "url", *fields):
        value = fields.get(key)
        if isinstance(value, str) and Path(_url_path(value)).suffix.lower() in IMAGE_SUFFIXES:
            return value
    return None


def _url_path(text: str) -> str:
    from urllib.parse import parse_qs, unquote, urlsplit

    try:
        parts = urlsplit(text)
    except ValueError:  # as of half an IPv6 address
        return text
    if parts.path.endswith("/local-files/") and "d" in parse_qs(parts.query):
        return parse_qs(parts.query)["d"][0]
    return unquote(parts.path)
