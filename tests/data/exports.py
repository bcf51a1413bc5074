"""One small data set of three classes, in the format of each labelling tool as its documentation has it.

Things are rectangles on whole pixels, so a mask must come back identical from shapes too.
"""

from __future__ import annotations

import base64
import csv
import json
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 48, 64
CLASSES = ("background", "car", "road")
COLOURS = ((0, 0, 0), (200, 0, 50), (10, 120, 240))
NAMES = ("drive a.1", "b", "c")
BOXES = {  # image → (class, x0, y0, x1, y1), the last pixel included
    "drive a.1": [(2, 0, 30, 63, 47), (1, 10, 20, 30, 40)],
    "b": [(2, 5, 5, 40, 35)],
    "c": [(1, 3, 4, 9, 11), (2, 20, 20, 60, 44)],
}


def mask_of(name: str) -> NDArray[np.uint8]:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for class_id, x0, y0, x1, y1 in BOXES[name]:
        mask[y0 : y1 + 1, x0 : x1 + 1] = class_id
    return mask


def visible(name: str, class_id: int) -> NDArray[np.bool_]:
    return mask_of(name) == class_id


def image_of(name: str) -> NDArray[np.uint8]:
    noise = np.random.default_rng(NAMES.index(name)).integers(0, 60, (HEIGHT, WIDTH, 3))
    return (noise + mask_of(name)[..., None] * 70).astype(np.uint8)


def write(path: Path, pixels: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def coloured(name: str) -> NDArray[np.uint8]:
    """BGR."""
    return np.asarray(COLOURS, np.uint8)[mask_of(name)][..., ::-1]


def cvat(root: Path) -> None:
    for name in NAMES:
        write(root / "JPEGImages" / f"{name}.png", image_of(name))
        write(root / "SegmentationClass" / f"{name}.png", coloured(name))
        write(root / "SegmentationObject" / f"{name}.png", coloured(name))
    lines = [f"{label}:{r},{g},{b}::" for label, (r, g, b) in zip(CLASSES, COLOURS)]
    (root / "labelmap.txt").write_text("# label:color_rgb:parts:actions\n" + "\n".join(lines) + "\n")
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation" / "default.txt").write_text("\n".join(NAMES) + "\n")


def cvat_camvid(root: Path) -> None:
    for name in NAMES:
        write(root / "default" / f"{name}.png", image_of(name))
        write(root / "defaultannot" / f"{name}.png", coloured(name))
    lines = [f"{r} {g} {b} {label}" for label, (r, g, b) in zip(CLASSES, COLOURS)]
    (root / "label_colors.txt").write_text("\n".join(lines) + "\n")
    (root / "default.txt").write_text("".join(f"/default/{n}.png /defaultannot/{n}.png\n" for n in NAMES))


def camvid_original(root: Path) -> None:
    for name in NAMES:
        write(root / "701_StillsRaw_full" / f"{name}.png", image_of(name))
        write(root / "LabeledApproved_full" / f"{name}_L.png", coloured(name))
    lines = [f"{r} {g} {b}\t\t{label}" for label, (r, g, b) in zip(CLASSES, COLOURS)]
    (root / "label_colors.txt").write_text("\n".join(lines) + "\n")


def camvid_csv(root: Path) -> None:
    for name, split in zip(NAMES, ("train", "train", "val")):
        write(root / split / f"{name}.png", image_of(name))
        write(root / f"{split}_labels" / f"{name}_L.png", coloured(name))
    lines = [f"{label},{r},{g},{b}" for label, (r, g, b) in zip(CLASSES, COLOURS)]
    (root / "class_dict.csv").write_text("name,r,g,b\n" + "\n".join(lines) + "\n")


def colour_masks(root: Path) -> None:
    for name in NAMES:
        write(root / "images" / f"{name}.png", image_of(name))
        write(root / "masks" / f"{name}.bmp", coloured(name))
    lines = [f"{label} {r} {g} {b}" for label, (r, g, b) in zip(CLASSES, COLOURS)]
    (root / "colors.txt").write_text("\n".join(lines) + "\n")


def labelme(root: Path) -> None:
    for name in NAMES:
        write(root / f"{name}.png", image_of(name))
        shapes = [
            {
                "label": CLASSES[c],
                "shape_type": "polygon",
                "points": [[x0, y0], [x1, y0], [x1, y1], [x0, y1]],
                "flags": {},
            }
            for c, x0, y0, x1, y1 in BOXES[name]
        ]
        shapes[0] |= {"shape_type": "rectangle", "points": [shapes[0]["points"][0], shapes[0]["points"][2]]}
        write_json(
            root / f"{name}.json",
            {
                "version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"{name}.png", "imageData": None,
                "imageHeight": HEIGHT, "imageWidth": WIDTH,
            },
        )  # fmt: skip


def labelme_voc(root: Path) -> None:
    from pspnet_edge.data.png import indexed_png
    from pspnet_edge.labels import voc_palette

    for name in NAMES:
        write(root / "JPEGImages" / f"{name}.jpg", image_of(name))
        (root / "SegmentationClass").mkdir(exist_ok=True, parents=True)
        content = indexed_png(mask_of(name), np.asarray(voc_palette(256), np.uint8))
        (root / "SegmentationClass" / f"{name}.png").write_bytes(content)
    (root / "class_names.txt").write_text("_background_\ncar\nroad\n")


def coco(root: Path, *, as_runs: bool = False) -> None:
    annotations, number = [], 0
    for index, name in enumerate(NAMES):
        write(root / "images" / "default" / f"{name}.png", image_of(name))
        for class_id, x0, y0, x1, y1 in BOXES[name]:
            number += 1
            area = (x1 + 1 - x0) * (y1 + 1 - y0)
            shape: object = [[x0, y0, x1 + 1, y0, x1 + 1, y1 + 1, x0, y1 + 1]]
            if as_runs:
                shape = {"size": [HEIGHT, WIDTH], "counts": runs_of(visible(name, class_id))}
            annotations.append(
                {
                    "id": number, "image_id": index + 1, "category_id": class_id * 10, "segmentation": shape,
                    "area": area,
                    "iscrowd": int(as_runs), "bbox": [x0, y0, x1 + 1 - x0, y1 + 1 - y0],
                }
            )  # fmt: skip
    images = [{"id": i + 1, "file_name": f"{n}.png", "height": HEIGHT, "width": WIDTH} for i, n in enumerate(NAMES)]
    categories = [{"id": 10, "name": "car", "supercategory": ""}, {"id": 20, "name": "road", "supercategory": ""}]
    content = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    write_json(root / "annotations" / "instances_default.json", content)


def coco_runs(root: Path) -> None:
    coco(root, as_runs=True)


def runs_of(area: NDArray[np.bool_]) -> list[int]:
    """COCO's uncompressed run lengths: column by column, first of what is outside."""
    flat = area.T.ravel()
    changes = np.flatnonzero(np.diff(flat)) + 1
    edges = [0, *changes.tolist(), flat.size]
    runs = [b - a for a, b in pairwise(edges)]
    return [0, *runs] if flat[0] else runs


def label_studio(root: Path) -> None:
    tasks = []
    for index, name in enumerate(NAMES):
        write(root / "images" / f"1a2b3c4d-{name}.png", image_of(name))
        results = []
        for class_id, x0, y0, x1, y1 in BOXES[name]:
            fields = {"original_width": WIDTH, "original_height": HEIGHT, "from_name": "tag", "to_name": "image"}
            if class_id == 1:
                value: dict[str, object] = {
                    "format": "rle", "rle": brush_of(visible(name, 1)), "brushlabels": [CLASSES[class_id]],
                }  # fmt: skip
                results.append({**fields, "type": "brushlabels", "value": value})
            else:
                box = ((x0, y0), (x1 + 1, y0), (x1 + 1, y1 + 1), (x0, y1 + 1))
                points = [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in box]
                value = {"points": points, "closed": True, "polygonlabels": [CLASSES[class_id]]}
                results.append({**fields, "type": "polygonlabels", "value": value})
        data = {"image": f"/data/upload/1/1a2b3c4d-{name.replace(' ', '%20')}.png"}
        tasks.append({"id": index, "data": data, "annotations": [{"id": index, "result": results}]})
    write_json(root / "project-1.json", tasks)


def brush_of(area: NDArray[np.bool_]) -> list[int]:
    """Label Studio's run lengths of an RGBA picture whose alpha is the area."""
    values = np.repeat(np.asarray(area, np.uint8)[..., None] * 255, 4, axis=2).ravel()
    bits = f"{values.size:032b}" + f"{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    edges = [0, *(np.flatnonzero(np.diff(values.astype(int))) + 1).tolist(), values.size]
    for start, end in pairwise(edges):
        while start < end:
            length = min(end - start, 1 << 16)
            bits += "1" + "11" + f"{length - 1:016b}" + f"{int(values[start]):08b}"
            start += length
    bits += "0" * (-len(bits) % 8)
    return [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]


def roboflow(root: Path) -> None:
    for name, split in zip(NAMES, ("train", "train", "valid")):
        write(root / split / f"{name}.rf.0123.jpg", image_of(name))
        write(root / split / f"{name}.rf.0123_mask.png", mask_of(name))
        lines = "".join(f"{index}, {label}\n" for index, label in enumerate(CLASSES))
        (root / split / "_classes.csv").write_text("Pixel Value, Class\n" + lines)


def supervisely(root: Path) -> None:
    classes = [
        {"title": CLASSES[c], "shape": "any", "color": "#{:02X}{:02X}{:02X}".format(*COLOURS[c])} for c in (1, 2)
    ]
    write_json(root / "meta.json", {"classes": classes, "tags": [], "projectType": "images"})
    for name in NAMES:
        write(root / "ds0" / "img" / f"{name}.png", image_of(name))
        objects = []
        for class_id, x0, y0, x1, y1 in BOXES[name]:
            if class_id == 1:
                area = np.zeros((y1 + 1 - y0, x1 + 1 - x0, 4), np.uint8)
                area[...] = 255
                encoded = base64.b64encode(zlib.compress(cv2.imencode(".png", area)[1].tobytes())).decode()
                shape = {"geometryType": "bitmap", "bitmap": {"data": encoded, "origin": [x0, y0]}}
            else:
                corners = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]
                shape = {"geometryType": "polygon", "points": {"exterior": corners, "interior": []}}
            objects.append({"classTitle": CLASSES[class_id], **shape})
        content = {"description": "", "tags": [], "size": {"height": HEIGHT, "width": WIDTH}, "objects": objects}
        write_json(root / "ds0" / "ann" / f"{name}.png.json", content)


def yolo(root: Path) -> None:
    for name, split in zip(NAMES, ("train", "train", "val")):
        write(root / "images" / split / f"{name}.png", image_of(name))
        lines = [
            f"{c - 1} "
            + " ".join(f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1)))
            for c, x0, y0, x1, y1 in BOXES[name]
        ]
        (root / "labels" / split).mkdir(parents=True, exist_ok=True)
        (root / "labels" / split / f"{name}.txt").write_text("\n".join(lines) + "\n")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnc: 2\nnames:\n  0: car\n  1: road\n")


def corners_of(box: tuple[int, int, int, int, int]) -> list[tuple[int, int]]:
    """Corners that lie between pixels."""
    _, x0, y0, x1, y1 = box
    return [(x0, y0), (x1 + 1, y0), (x1 + 1, y1 + 1), (x0, y1 + 1)]


def via_entries() -> dict[str, dict[str, object]]:
    entries = {}
    for name in NAMES:
        regions = []
        for box in BOXES[name]:
            class_id, x0, y0, x1, y1 = box
            if class_id == 1:
                shape: dict[str, object] = {
                    "name": "rect", "x": x0, "y": y0, "width": x1 + 1 - x0, "height": y1 + 1 - y0,
                }  # fmt: skip
            else:
                xs, ys = zip(*corners_of(box))
                shape = {"name": "polygon", "all_points_x": list(xs), "all_points_y": list(ys)}
            regions.append({"shape_attributes": shape, "region_attributes": {"class": CLASSES[class_id], "note": ""}})
        file = f"{name}.png"
        entries[f"{file}123"] = {"filename": file, "size": 123, "regions": regions, "file_attributes": {}}
    return entries


def _via_images(root: Path) -> None:
    for name in NAMES:
        write(root / f"{name}.png", image_of(name))


def via_project(root: Path) -> None:
    _via_images(root)
    attributes = {"region": {"class": {"type": "dropdown", "options": {"car": "", "road": ""}}}, "file": {}}
    content = {"_via_settings": {"ui": {}}, "_via_img_metadata": via_entries(), "_via_attributes": attributes}
    write_json(root / "via_project.json", content)


def via_annotations(root: Path) -> None:
    """As version 1 exports them: regions by number."""
    _via_images(root)
    entries = via_entries()
    for entry in entries.values():
        entry["regions"] = {str(number): region for number, region in enumerate(entry["regions"])}  # type: ignore[call-overload]
    write_json(root / "via_region_data.json", entries)


def via_csv(root: Path) -> None:
    _via_images(root)
    heading = ("filename", "file_size", "file_attributes", "region_count", "region_id", "region_shape_attributes",
               "region_attributes")  # fmt: skip
    with (root / "via_export_csv.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(heading)
        for entry in via_entries().values():
            regions: list[dict[str, object]] = entry["regions"]  # type: ignore[assignment]
            for number, region in enumerate(regions):
                shape, attributes = (json.dumps(region[key]) for key in ("shape_attributes", "region_attributes"))
                rows.writerow([entry["filename"], 123, "{}", len(regions), number, shape, attributes])


def via_third(root: Path) -> None:
    """A project of version 3, whose shapes and options are numbers."""
    files, views, metadata = {}, {}, {}
    for index, name in enumerate(NAMES, 1):
        write(root / f"{name}.png", image_of(name))
        files[str(index)] = {"fid": str(index), "fname": f"{name}.png", "type": 2, "loc": 1, "src": f"{name}.png"}
        views[str(index)] = {"fid_list": [str(index)]}
        for number, box in enumerate(BOXES[name]):
            xy = [7, *(value for corner in corners_of(box) for value in corner)]
            metadata[f"{index}_{number}"] = {"vid": str(index), "flg": 0, "z": [], "xy": xy, "av": {"1": str(box[0])}}
    attribute = {"1": {"aname": "class", "anchor_id": "FILE1_Z0_XY1", "type": 4, "options": dict(enumerate(CLASSES))}}
    content = {"project": {"pname": "own"}, "config": {}, "attribute": attribute, "file": files}
    write_json(root / "own.json", content | {"metadata": metadata, "view": views})


def datumaro(root: Path) -> None:
    items = []
    for name in NAMES:
        write(root / "images" / "default" / f"{name}.png", image_of(name))
        shapes: list[dict[str, object]] = []
        for number, box in enumerate(BOXES[name]):
            about = {"id": number, "attributes": {}, "group": 0, "label_id": box[0] - 1, "z_order": number}
            if number:
                rle = {"counts": runs_of(visible(name, box[0])), "size": [HEIGHT, WIDTH]}
                shapes.insert(0, about | {"type": "mask", "rle": rle})
            else:
                points = [value for corner in corners_of(box) for value in corner]
                shapes.insert(0, about | {"type": "polygon", "points": points})
        image = {"path": f"{name}.png", "size": [HEIGHT, WIDTH]}
        items.append({"id": name, "annotations": shapes, "attr": {"frame": 0}, "image": image})
    labels = [{"name": name, "parent": "", "attributes": []} for name in CLASSES[1:]]
    content = {"info": {}, "categories": {"label": {"labels": labels, "attributes": []}}, "items": items}
    write_json(root / "annotations" / "default.json", content)


def darwin(root: Path) -> None:
    for name in NAMES:
        write(root / "images" / f"{name}.png", image_of(name))
        layer = np.zeros((HEIGHT, WIDTH), np.uint8)
        shapes: list[dict[str, object]] = []
        for number, box in enumerate(BOXES[name]):
            about = {"id": f"id-{number}", "name": CLASSES[box[0]], "properties": [], "slot_names": ["0"]}
            if box[0] == 1:
                layer[visible(name, 1)] = number + 1
                shapes.append(about | {"mask": {"sparse_rle": None}})
            else:
                shapes.append(about | {"polygon": {"paths": [[{"x": x, "y": y} for x, y in corners_of(box)]]}})
        if layer.any():
            edges = [0, *(np.flatnonzero(np.diff(layer.ravel())) + 1).tolist(), layer.size]
            runs = [value for a, b in pairwise(edges) for value in (int(layer.flat[a]), b - a)]
            numbers = {f"id-{n}": n + 1 for n, box in enumerate(BOXES[name]) if box[0] == 1}
            raster = {"dense_rle": runs, "mask_annotation_ids_mapping": numbers, "total_pixels": layer.size}
            shapes.append({"id": "layer", "name": "__raster_layer__", "raster_layer": raster, "slot_names": ["0"]})
        slot = {"type": "image", "slot_name": "0", "width": WIDTH, "height": HEIGHT, "source_files": []}
        item = {"name": f"{name}.png", "path": "/", "slots": [slot]}
        write_json(root / "annotations" / f"{name}.json", {"version": "2.0", "item": item, "annotations": shapes})


def darwin_first(root: Path) -> None:
    for name in NAMES:
        write(root / f"{name}.png", image_of(name))
        shapes = [
            {"name": CLASSES[box[0]], "polygon": {"path": [{"x": x, "y": y} for x, y in corners_of(box)]}}
            for box in BOXES[name]
        ]
        image = {"width": WIDTH, "height": HEIGHT, "original_filename": f"{name}.png", "filename": f"{name}.png"}
        write_json(root / f"{name}.json", {"dataset": "own", "image": image, "annotations": shapes})


def cvat_cityscapes(root: Path) -> None:
    for name in NAMES:
        write(root / "leftImg8bit" / "default" / f"{name}_leftImg8bit.png", image_of(name))
        write(root / "gtFine" / "default" / f"{name}_gtFine_labelIds.png", mask_of(name))
        write(root / "gtFine" / "default" / f"{name}_gtFine_color.png", coloured(name))
    lines = [f"{r} {g} {b} {label}" for label, (r, g, b) in zip(CLASSES, COLOURS)]
    (root / "label_colors.txt").write_text("\n".join(lines) + "\n")


def pairs(root: Path) -> None:
    for name in NAMES:
        write(root / f"{name}.png", image_of(name))
        write(root / f"{name}_mask.png", mask_of(name))
    (root / "labels.txt").write_text("\n".join(CLASSES) + "\n")


WRITERS: dict[str, tuple[Callable[[Path], None], str]] = {
    writer.__name__: (writer, format_name)
    for writer, format_name in (
        (cvat, "cvat"), (cvat_camvid, "camvid"), (camvid_original, "camvid"), (camvid_csv, "camvid"),
        (colour_masks, "colours"), (labelme, "labelme"), (labelme_voc, "voc"), (coco, "coco"), (coco_runs, "coco"),
        (label_studio, "label-studio"), (roboflow, "roboflow"), (supervisely, "supervisely"), (yolo, "yolo"),
        (cvat_cityscapes, "cvat-cityscapes"), (pairs, "pairs"), (via_project, "via"), (via_annotations, "via"),
        (via_csv, "via"), (via_third, "via"), (datumaro, "datumaro"), (darwin, "darwin"), (darwin_first, "darwin"),
    )
}  # fmt: skip
