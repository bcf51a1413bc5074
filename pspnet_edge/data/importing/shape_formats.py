"""Formats that store masks as shapes or run lengths: COCO, labelme, Label Studio, Supervisely, YOLO."""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ..files import files_below
from ..layout import IMAGE_SUFFIXES
from ..reading import read_text
from ..recognize import json_head
from .colour_list import read_names
from .shapes import as_points, decode_brush, decode_coco_runs, fill_coco, fill_inclusive, fill_labelme
from .source import (
    Ids,
    ImageIndex,
    Item,
    ReadOptions,
    Source,
    empty_mask,
    id_of,
    item_name,
    size_of_image,
    split_of,
    split_of_path,
    with_background,
)

_JSON_LIMIT_BYTES = 4 << 30
IGNORED_LABELS = ("__ignore__", "_ignore_", "ignore")


def read_coco(root: Path, options: ReadOptions) -> Source:
    """COCO: polygons and run lengths, one or several JSON files; what no object covers is background."""
    documents = [(path, content) for path, content in _documents(root) if isinstance(content.get("images"), list)]
    documents = [(path, content) for path, content in documents if isinstance(content.get("categories"), list)]
    if not documents:
        raise DataError(f"{root} holds no COCO JSON with images, annotations and categories", "export it again")
    categories = {
        entry["id"]: str(entry["name"])
        for _, content in documents for entry in content["categories"]
        if isinstance(entry, dict) and isinstance(entry.get("id"), int) and "name" in entry
    }  # fmt: skip
    # Roboflow adds a category that only groups the others.
    used = {entry.get("category_id") for _, content in documents for entry in _dicts(content.get("annotations") or [])}
    groups = {entry.get("supercategory") for _, content in documents for entry in _dicts(content["categories"])}
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
    for entry in sorted(objects, key=lambda entry: -_number(entry.get("area"))):
        value, shape = ids.get(entry.get("category_id")), entry.get("segmentation")
        what = f"object {entry.get('id')} of {image.get('file_name')}"
        if value is None:
            source.drop(what, f"its category {entry.get('category_id')} is not in the list of categories")
        elif not shape:
            source.drop(what, "it has a box and no segmentation")
        else:
            _try(source, what, partial(_fill_coco_shape, mask, shape, value))
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


def read_labelme(root: Path, options: ReadOptions) -> Source:
    """labelme's JSON files, one per image."""
    documents = [(path, content) for path, content in _documents(root) if isinstance(content.get("shapes"), list)]
    if not documents:
        raise DataError(f"{root} holds no labelme JSON", "give the folder with the annotations")
    listing = root / "labels.txt"
    labels = sorted({str(shape.get("label")) for _, content in documents for shape in _dicts(content["shapes"])})
    if options.classes:
        labels = list(options.classes.names)
    elif listing.is_file():
        labels = read_names(listing)
    source = Source("labelme", with_background(label for label in labels if label.lower() not in IGNORED_LABELS))
    images = ImageIndex([place for place in (options.images, root) if place])
    for path, content in documents:
        named = str(content.get("imagePath") or path.stem)
        image: Path | bytes | None = images.find(named, path.parent) or images.find(f"{path.stem}.png", path.parent)
        suffix = image.suffix if isinstance(image, Path) else Path(named).suffix or ".png"
        if image is None and isinstance(content.get("imageData"), str):
            image = _try(source, path, partial(_from_base64, content["imageData"]))
        if image is None:
            source.drop(path, f"its image {named} is not there")
            continue
        name = item_name(path, root)
        draw = partial(_draw_labelme, source, content, image, path)
        source.items.append(Item(name, image, suffix, draw, split_of_path(path, root)))
    return source


def _draw_labelme(source: Source, content: Mapping[str, Any], image: Path | bytes, path: Path) -> Ids:
    height, width = content.get("imageHeight"), content.get("imageWidth")
    if height is None or width is None:
        height, width = size_of_image(image)
    mask = empty_mask(height, width, str(path))
    for number, shape in enumerate(_dicts(content["shapes"])):
        label, what = str(shape.get("label")), f"shape {number} of {path}"
        value = 255 if label.lower() in IGNORED_LABELS else id_of(source.names, label)
        if value is None:
            source.drop(what, f"its label {label!r} is not in the list of classes")
        else:
            _try(source, what, partial(_fill_labelme_shape, mask, shape, value))
    return mask


def _fill_labelme_shape(mask: NDArray[Any], shape: Mapping[str, Any], value: int) -> None:
    kind, points = str(shape.get("shape_type") or "polygon"), as_points(shape.get("points") or [])
    if kind == "mask" and isinstance(shape.get("mask"), str) and len(points) == 2:
        _place(mask, _bitmap(_from_base64(shape["mask"])), points.astype(int).min(0), value)
    else:
        fill_labelme(mask, kind, points, value)


def read_label_studio(root: Path, options: ReadOptions) -> Source:
    """Label Studio's JSON and JSON-MIN exports: brush strokes, polygons, boxes and ellipses."""
    tasks: list[tuple[Path, dict[str, Any]]] = []
    for path in _json_files(root):
        content = _json(path)
        if isinstance(content, list):
            tasks += [(path, entry) for entry in content if isinstance(entry, dict)]
    if not tasks:
        raise DataError(f"{root} holds no Label Studio JSON", "export the project as JSON or JSON-MIN")
    regions = [(path, task, list(_regions(task))) for path, task in tasks]
    labels = [label for _, _, found in regions for _, names in found for label in names]
    if options.classes:
        labels = list(options.classes.names)
    source = Source("label-studio", with_background(sorted(dict.fromkeys(labels))))
    images = ImageIndex([place for place in (options.images, root) if place])
    for path, task, found in regions:
        named = _image_of_task(task)
        image = images.find(_url_path(named), path.parent) if named else None
        if image is None and named:
            # Uploaded files are called `1a2b3c4d-name.jpg`, or the hash was removed from the images beside.
            bare = re.sub(r"^[0-9a-f]{8}-", "", Path(_url_path(named)).name)
            image = images.find(bare, path.parent)
        if image is None:
            source.drop(f"task {task.get('id')} of {path.name}", f"its image {named} is not there: give --images DIR")
            continue
        draw = partial(_draw_label_studio, source, found, image, f"task {task.get('id')} of {path.name}")
        source.items.append(
            Item(item_name(image, root, options.images), image, image.suffix, draw, split_of_path(image, root))
        )
    return source


def _regions(task: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Each labelled region of a task as (its fields, its labels)."""
    annotations = list(_dicts(task.get("annotations") or task.get("completions") or []))
    kept = [entry for entry in annotations if not entry.get("was_cancelled")]
    if kept:
        for region in _dicts(kept[-1].get("result") or []):
            value = region.get("value")
            if isinstance(value, dict):
                yield {**region, **value}, _labels(value)
        return
    for value in task.values():
        if isinstance(value, list):
            for region in _dicts(value):
                if _labels(region):
                    yield region, _labels(region)


def _labels(value: Mapping[str, Any]) -> list[str]:
    for key in ("brushlabels", "polygonlabels", "rectanglelabels", "ellipselabels", "labels"):
        if isinstance(value.get(key), list):
            return [str(label) for label in value[key]]
    return []


def _draw_label_studio(source: Source, regions: list[tuple[dict[str, Any], list[str]]], image: Path, what: str) -> Ids:
    sizes = {(region.get("original_height"), region.get("original_width")) for region, _ in regions}
    height, width = next(iter(sizes)) if len(sizes) == 1 and None not in next(iter(sizes)) else size_of_image(image)
    mask = empty_mask(height, width, what)
    for number, (region, labels) in enumerate(regions):
        value = id_of(source.names, labels[0]) if labels else None
        if value is None:
            source.drop(f"region {number} of {what}", f"its label {labels} is not in the list of classes")
        else:
            _try(source, f"region {number} of {what}", partial(_fill_label_studio_region, mask, region, value))
    return mask


def _fill_label_studio_region(mask: NDArray[Any], region: Mapping[str, Any], value: int) -> None:
    height, width = mask.shape
    percent = np.array([width / 100, height / 100])
    if isinstance(region.get("rle"), list):
        mask[decode_brush(region["rle"], height, width)] = value
    elif isinstance(region.get("points"), list):
        fill_coco(mask, [as_points(region["points"]) * percent], value)
    elif "radiusX" in region:
        centre, axes = (
            as_points([region["x"], region["y"]])[0] * percent,
            as_points([region["radiusX"], region["radiusY"]])[0],
        )
        angles = np.linspace(0, 2 * np.pi, 180, endpoint=False)
        fill_coco(mask, [centre + np.stack([np.cos(angles), np.sin(angles)], 1) * axes * percent], value)
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

    parts = urlsplit(text)
    if parts.path.endswith("/local-files/") and "d" in parse_qs(parts.query):
        return parse_qs(parts.query)["d"][0]
    return unquote(parts.path)


def read_supervisely(root: Path, options: ReadOptions) -> Source:
    """A Supervisely project: ``meta.json`` and one JSON per image in ``ann``."""
    meta = _json(root / "meta.json")
    classes = _dicts(meta.get("classes") or []) if isinstance(meta, dict) else []
    titles = [str(entry.get("title")) for entry in classes]
    source = Source("supervisely", with_background(titles))
    for entry in classes:
        number, colour = id_of(source.names, str(entry.get("title"))), str(entry.get("color") or "")
        if number is not None and re.fullmatch(r"#[0-9a-fA-F]{6}", colour):
            source.colours[number] = (int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16))
    if len(source.colours) == len(source.names) - 1:
        source.colours.setdefault(0, (0, 0, 0))
    images = ImageIndex([place for place in (options.images, root) if place], lambda path: "ann" in path.parts[-2:-1])
    for path in files_below(root):
        if path.suffix.lower() != ".json" or path.parent.name != "ann":
            continue
        image = images.find(path.stem, path.parent.parent / "img") or images.find(
            f"{path.stem}.png", path.parent.parent
        )
        content = _try(source, path, partial(_json, path))
        if image is None or not isinstance(content, dict):
            source.drop(path, "its image is not there" if image is None else "it is not a Supervisely annotation")
            continue
        draw = partial(_draw_supervisely, source, content, path)
        name = item_name(image, root, options.images)
        source.items.append(Item(name, image, image.suffix, draw, split_of_path(image, root)))
    return source


def _draw_supervisely(source: Source, content: Mapping[str, Any], path: Path) -> Ids:
    size = content.get("size") if isinstance(content.get("size"), dict) else {}
    mask = empty_mask(size.get("height"), size.get("width"), str(path))  # type: ignore[union-attr]
    for number, shape in enumerate(_dicts(content.get("objects") or [])):
        value = id_of(source.names, str(shape.get("classTitle")))
        what = f"object {number} of {path}"
        if value is None:
            source.drop(what, f"its class {shape.get('classTitle')!r} is not in meta.json")
        else:
            _try(source, what, partial(_fill_supervisely_shape, mask, shape, value))
    return mask


def _fill_supervisely_shape(mask: NDArray[Any], shape: Mapping[str, Any], value: int) -> None:
    kind = shape.get("geometryType")
    if kind == "bitmap" and isinstance(shape.get("bitmap"), dict):
        bitmap = shape["bitmap"]
        encoded = zlib.decompressobj().decompress(_from_base64(bitmap.get("data")), 1 << 28)
        _place(mask, _bitmap(encoded), as_points(bitmap.get("origin") or [])[0].astype(int), value)
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


def read_yolo(root: Path, options: ReadOptions) -> Source:
    """YOLO polygons: one text file per image, ``class x y x y …`` in shares of the image's size."""
    listing = next(
        (path for name in ("data.yaml", "data.yml", "dataset.yaml") if (path := root / name).is_file()), None
    )
    if options.classes:
        names = list(options.classes.names)
    elif listing is not None:
        names = yaml_names(read_text(listing))
    elif (root / "classes.txt").is_file():
        names = read_names(root / "classes.txt")
    else:
        names = []
    if not names:
        raise DataError(f"{root} does not name its classes", "restore data.yaml, or give --classes FILE")
    source = Source("yolo", with_background(names))
    images = ImageIndex([place for place in (options.images, root) if place])
    not_labels = {
        "classes.txt",
        "train.txt",
        "val.txt",
        "test.txt",
        "readme.txt",
        "readme.roboflow.txt",
        "readme.dataset.txt",
    }
    for path in files_below(root):
        if path.suffix.lower() != ".txt" or path.name.lower() in not_labels or path.parent == root:
            continue
        image = images.find(path.stem, path.parent) or images.find(f"{path.stem}.jpg", path.parent)
        if image is None:
            source.drop(path, "its image is not there")
            continue
        draw = partial(_draw_yolo, source, names, image, path)
        split = split_of_path(image, root)
        source.items.append(Item(item_name(image, root, options.images), image, image.suffix, draw, split))
    return source


def _draw_yolo(source: Source, names: list[str], image: Path, path: Path) -> Ids:
    height, width = size_of_image(image)
    mask = empty_mask(height, width, str(path))
    for number, line in enumerate(read_text(path).splitlines(), 1):
        cells, what = line.split(), f"line {number} of {path}"
        if not cells:
            continue
        if len(cells) < 7 or len(cells) % 2 == 0 or not cells[0].isdigit():
            boxes = "it is a box, and a box is not an area" if len(cells) == 5 else "it is not `class x y x y …`"
            source.drop(what, boxes)
        elif int(cells[0]) >= len(names) or (value := id_of(source.names, names[int(cells[0])])) is None:
            source.drop(what, f"its class {cells[0]} is not among the {len(names)} names")
        else:
            _try(source, what, partial(_fill_yolo, mask, cells[1:], value))
    return mask


def _fill_yolo(mask: NDArray[Any], cells: list[str], value: int) -> None:
    points = as_points([float(cell) for cell in cells]) * (mask.shape[1], mask.shape[0])
    # Converters write contours, whose corners are pixels of the object.
    limit = np.array([mask.shape[1] - 1, mask.shape[0] - 1])
    fill_inclusive(mask, [np.minimum(points, limit)], value)


def yaml_names(text: str) -> list[str]:
    """The class names of a YOLO ``data.yaml``: a list or numbered entries, in line or below each other."""
    lines = text.splitlines()
    for position, line in enumerate(lines):
        if not re.match(r"names\s*:", line):
            continue
        rest = line.partition(":")[2].partition("#")[0].strip()
        if rest:
            block = rest
            for more in lines[position + 1 :]:
                if block.count("[") <= block.count("]") and block.count("{") <= block.count("}"):
                    break
                block += " " + more.strip()
            return [_bare(re.sub(r"^\s*\d+\s*:", "", cell)) for cell in block.strip("[]{} ").split(",") if cell.strip()]
        names = []
        for more in lines[position + 1 :]:
            match = re.match(r"\s*(?:-|\d+\s*:)\s*(.+)", more)
            if not match:
                if more.strip() and not more.strip().startswith("#"):
                    break
                continue
            names.append(_bare(match[1].partition(" #")[0]))
        return names
    return []


def _bare(text: str) -> str:
    return text.strip().strip("'\"").strip()


def _documents(root: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in _json_files(root):
        content = _json(path)
        if isinstance(content, dict):
            yield path, content


def _json_files(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    return [
        path for path in files_below(root) if path.suffix.lower() == ".json" and json_head(path).lstrip()[:1] in "[{"
    ]


def _json(path: Path) -> Any:
    try:
        return json.loads(read_text(path, _JSON_LIMIT_BYTES))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not whole JSON ({error})", "export it again") from error


def _dicts(values: Any) -> list[dict[str, Any]]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def _from_base64(text: Any) -> bytes:
    if not isinstance(text, str):
        raise ValueError("its bitmap is not base64 text")
    try:
        return base64.b64decode(text, validate=False)
    except binascii.Error as error:
        raise ValueError(f"its bitmap is not base64 ({error})") from error


def _bitmap(encoded: bytes) -> NDArray[np.bool_]:
    """The set pixels of a small PNG: grey above 0, or opaque ones."""
    decoded = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED) if encoded else None
    if decoded is None:
        raise ValueError("its bitmap is not a PNG")
    if decoded.ndim == 3:
        decoded = decoded[..., 3] if decoded.shape[2] == 4 else decoded.max(axis=2)
    return np.asarray(decoded > 0)


def _place(mask: NDArray[Any], bitmap: NDArray[np.bool_], corner: NDArray[Any], value: int) -> None:
    x, y = int(corner[0]), int(corner[1])
    if x < 0 or y < 0 or x >= mask.shape[1] or y >= mask.shape[0]:
        raise ValueError(f"its bitmap begins at {x}, {y}, outside of the image")
    part = mask[y : y + bitmap.shape[0], x : x + bitmap.shape[1]]
    part[bitmap[: part.shape[0], : part.shape[1]]] = value


def _try(source: Source, what: object, work: Callable[[], Any]) -> Any:
    """Do something with one entry of the source; what is wrong with it drops it and nothing else."""
    try:
        return work()
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, zlib.error, cv2.error, DataError) as error:
        source.drop(what, str(error).split("\n")[0])
        return None
