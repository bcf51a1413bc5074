"""VIA, the VGG Image Annotator: projects and annotations of version 1 and 2 as JSON or CSV, projects of version 3."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...document import parse_json
from ...errors import DataError
from ..files import files_below
from ..peek import head_of
from ..reading import read_text
from ..recognize import is_via_file
from .entries import dictionaries, fill_class, load_json
from .shapes import as_points, box_ring, ellipse_ring, fill_coco
from .source import (
    NOT_THERE,
    Ids,
    ReadOptions,
    Source,
    empty_mask,
    size_of_image,
    with_background,
)

_CLASS_ATTRIBUTES = ("class", "label", "name", "category", "type", "object", "species")
"""Names under which people keep the class of a region, the likeliest first."""
_ONLY_CLASS = "object"
"""Of regions without any attribute."""
_THIRD = {2: "rect", 3: "circle", 4: "ellipse", 7: "polygon", 8: "rect", 9: "circle"}
"""The numbers that version 3 gives to shapes with an area."""


@dataclass(frozen=True)
class _Region:
    shape: Mapping[str, Any]
    attributes: Mapping[str, Any]


def read_via(root: Path, options: ReadOptions) -> Source:
    """VIA: polygons, boxes, circles and ellipses; what none of them covers is background.

    The class is the one attribute of the regions; of several, the one called ``class``, ``label``, ``name`` and so on,
    else the one that most regions have.
    """
    paths = [options.document] if options.document else files_below(root)
    entries: dict[str, tuple[Path, list[_Region]]] = {}
    for path in paths:
        if not is_via_file(path, head_of(path)):
            continue
        for name, regions in _images_of_csv(path) if path.suffix.lower() == ".csv" else _images_of_json(path):
            # A project and the annotations exported from it say the same.
            if len(regions) > len(entries.get(name, (path, []))[1]) or name not in entries:
                entries[name] = path, regions
    regions = [region for _, found in entries.values() for region in found]
    if not regions:
        raise DataError(f"{root} holds no regions of VIA", "save the project with the regions that you drew")
    attribute = _class_attribute(regions)
    labels = sorted({label for region in regions if (label := _label(region, attribute))})
    if options.classes:
        labels = list(options.classes.names)
    source = Source("via", with_background(labels))
    images = source.index_images(root, options)
    for name, (path, found) in entries.items():
        image = images.find(name, path.parent)
        if image is None:
            source.drop(name, f"{path.name} names it, and {NOT_THERE}")
        elif found:
            source.add(image, partial(_draw, source, found, attribute, image))
        else:
            source.drop(image, "it has no region")
    return source


def _images_of_json(path: Path) -> Iterator[tuple[str, list[_Region]]]:
    content = load_json(path)
    if not isinstance(content, dict):
        return
    if isinstance(content.get("metadata"), dict) and isinstance(content.get("file"), dict):
        yield from _images_of_third(content)
        return
    images = content.get("_via_img_metadata", content)
    for entry in dictionaries(list(images.values()) if isinstance(images, dict) else images):
        regions = entry.get("regions") or []
        regions = list(regions.values()) if isinstance(regions, dict) else regions  # a dictionary in version 1
        yield (
            str(entry.get("filename")),
            [
                made
                for region in dictionaries(regions)
                if (made := _region(region.get("shape_attributes"), region.get("region_attributes")))
            ],
        )


def _images_of_third(content: Mapping[str, Any]) -> Iterator[tuple[str, list[_Region]]]:
    """Version 3: regions by the number of a view, whose first file is the image; options by their number."""
    attributes = content.get("attribute") if isinstance(content.get("attribute"), dict) else {}
    by_view: dict[str, list[_Region]] = {}
    for entry in dictionaries(list(content["metadata"].values())):
        numbers, values = entry.get("xy"), entry.get("av")
        if not isinstance(numbers, list) or not numbers or not isinstance(values, dict):
            continue
        named = {}
        for key, value in values.items():
            about = attributes.get(key) if isinstance(attributes.get(key), dict) else {}  # type: ignore[union-attr]
            choices = about.get("options") if isinstance(about.get("options"), dict) else {}  # type: ignore[union-attr]
            named[str(about.get("aname", key))] = choices.get(str(value), value)  # type: ignore[union-attr]
        region = _Region({"name": _THIRD.get(numbers[0], "line"), "xy": numbers[1:]}, named)
        by_view.setdefault(str(entry.get("vid")), []).append(region)
    views = content.get("view") if isinstance(content.get("view"), dict) else {}
    for key, view in views.items():  # type: ignore[union-attr]
        files = view.get("fid_list") if isinstance(view, dict) else None
        file = content["file"].get(str(files[0])) if isinstance(files, list) and files else None
        if isinstance(file, dict):
            yield str(file.get("fname")), by_view.get(str(key), [])


def _images_of_csv(path: Path) -> Iterator[tuple[str, list[_Region]]]:
    rows = csv.DictReader(io.StringIO(read_text(path)))
    regions: dict[str, list[_Region]] = {}
    try:
        for row in rows:
            name = row.get("filename") or row.get("#filename") or ""
            found = regions.setdefault(name, [])
            shape, attributes = (
                parse_json(row.get(key) or "{}", strict=False)
                for key in ("region_shape_attributes", "region_attributes")
            )
            if region := _region(shape, attributes):
                found.append(region)
    except (ValueError, csv.Error) as error:
        raise DataError(f"{path} is damaged: line {rows.line_num} ({error})", "export it again") from error
    yield from regions.items()


def _region(shape: object, attributes: object) -> _Region | None:
    """A region as a file gives it; None where it gives no shape."""
    if not isinstance(shape, dict) or not shape:
        return None
    return _Region(shape, attributes if isinstance(attributes, dict) else {})


def _class_attribute(regions: list[_Region]) -> str | None:
    """The attribute that holds the class; None where no region has any."""
    counts = Counter(name for region in regions for name in region.attributes)
    lowered = {name.lower(): name for name in sorted(counts, reverse=True)}
    known = next((lowered[name] for name in _CLASS_ATTRIBUTES if name in lowered), None)
    return known or (counts.most_common(1)[0][0] if counts else None)


def _label(region: _Region, attribute: str | None) -> str | None:
    """The class of a region: a text, or the one box that is ticked."""
    if attribute is None:
        return _ONLY_CLASS
    value = region.attributes.get(attribute)
    if isinstance(value, dict):
        ticked = [str(name) for name, is_set in value.items() if is_set]
        value = ticked[0] if len(ticked) == 1 else None
    return str(value).strip() if isinstance(value, (str, int)) and str(value).strip() else None


def _draw(source: Source, regions: list[_Region], attribute: str | None, image: Path) -> Ids:
    mask = empty_mask(*size_of_image(image), str(image))
    for number, region in enumerate(regions):
        label, what = _label(region, attribute), f"region {number} of {image}"
        if label is None:
            source.drop(what, f"its attribute {attribute!r} does not say of which class it is")
        else:
            fill_class(source, what, label, partial(_fill, mask, region.shape))
    return mask


def _fill(mask: NDArray[Any], shape: Mapping[str, Any], value: int) -> None:
    kind, numbers = shape.get("name"), shape.get("xy")

    def named(*names: str) -> list[float]:
        return [float(shape[name]) for name in names] if numbers is None else [float(entry) for entry in numbers]

    if kind == "polygon":
        ring = as_points(numbers or list(zip(shape["all_points_x"], shape["all_points_y"])))
        if len(ring) < 3:
            raise ValueError(f"a polygon with {len(ring)} points is not an area")
    elif kind == "rect":
        x, y, width, height = named("x", "y", "width", "height")
        ring = box_ring(x, y, x + width, y + height)
    elif kind == "circle":
        x, y, radius = named("cx", "cy", "r")
        ring = ellipse_ring(x, y, radius, radius)
    elif kind == "ellipse":
        x, y, rx, ry = named("cx", "cy", "rx", "ry")[:4]
        ring = ellipse_ring(x, y, rx, ry, float(np.rad2deg(float(shape.get("theta") or 0))))
    else:
        raise ValueError(f"a {kind} is not an area")
    fill_coco(mask, [ring], value)
