"""Formats of single tools: what is read of them, and what the refusal of the others says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pspnet_edge.data.importing import import_dataset
from pspnet_edge.data.mask_file import read_raw_mask
from pspnet_edge.data.recognize import recognized
from pspnet_edge.errors import DataError

from . import exports


def via(root: Path, regions: list[tuple[dict[str, Any], dict[str, Any]]]) -> Path:
    """A set of one picture with these shapes and attributes."""
    exports.write(root / "b.png", exports.image_of("b"))
    entry = {"filename": "b.png", "size": 1, "regions": [
        {"shape_attributes": shape, "region_attributes": attributes} for shape, attributes in regions
    ]}  # fmt: skip
    exports.write_json(root / "via.json", {"b.png1": entry})
    return root


def box(x: int, y: int, width: int, height: int) -> dict[str, Any]:
    return {"name": "rect", "x": x, "y": y, "width": width, "height": height}


def mask_at(root: Path, name: str = "b") -> np.ndarray:
    return read_raw_mask(root / "masks" / f"{name}.png").values


def test_regions_of_via_without_attributes_are_one_class(tmp_path: Path) -> None:
    done = import_dataset(via(tmp_path / "in", [(box(2, 3, 10, 5), {})]), tmp_path / "own")

    assert done.classes == ("background", "object")
    assert mask_at(tmp_path / "own").sum() == 50


def test_a_region_of_via_without_a_class_is_dropped_and_named(tmp_path: Path) -> None:
    regions = [(box(0, 0, 4, 4), {"label": "car"}), (box(10, 10, 4, 4), {"label": ""}), (box(20, 9, 4, 4), {})]
    done = import_dataset(via(tmp_path / "in", regions), tmp_path / "own")

    assert mask_at(tmp_path / "own").sum() == 16
    assert [entry.reason for entry in done.dropped] == ["its attribute 'label' does not say of which class it is"] * 2


def test_a_ticked_box_of_via_is_the_class_and_lines_are_no_areas(tmp_path: Path) -> None:
    regions = [
        (box(0, 0, 4, 4), {"type": {"car": True, "road": False}}),
        ({"name": "polyline", "all_points_x": [1, 9], "all_points_y": [1, 9]}, {"type": {"road": True}}),
        ({"name": "circle", "cx": 40, "cy": 20, "r": 10}, {"type": {"road": True}}),
    ]
    done = import_dataset(via(tmp_path / "in", regions), tmp_path / "own")

    counts = np.bincount(mask_at(tmp_path / "own").ravel())
    assert (done.classes, counts[1]) == (("background", "car", "road"), 16)
    assert counts[2] == pytest.approx(100 * np.pi, rel=0.02)
    assert [entry.reason for entry in done.dropped] == ["a polyline is not an area"]


def test_a_csv_of_via_is_given_by_itself(tmp_path: Path) -> None:
    exports.via_csv(tmp_path / "in")
    done = import_dataset(tmp_path / "in" / "via_export_csv.csv", tmp_path / "own")

    assert (done.format, done.images, done.classes) == ("via", 3, exports.CLASSES)
    np.testing.assert_array_equal(mask_at(tmp_path / "own", "c"), exports.mask_of("c"))


def test_a_hole_of_a_darwin_polygon_stays_a_hole_and_its_video_is_dropped(tmp_path: Path) -> None:
    exports.write(tmp_path / "in" / "b.png", exports.image_of("b"))
    rings = [[(5, 5), (45, 5), (45, 40), (5, 40)], [(10, 10), (20, 10), (20, 20), (10, 20)]]
    paths = [[{"x": x, "y": y} for x, y in ring] for ring in rings]
    slot = {"slot_name": "0", "type": "image", "width": exports.WIDTH, "height": exports.HEIGHT}
    shapes = [{"id": "1", "name": "car", "polygon": {"paths": paths}}, {"id": "2", "name": "sunny", "tag": {}}]
    exports.write_json(tmp_path / "in" / "b.json", {"item": {"name": "b.png", "slots": [slot]}, "annotations": shapes})
    moving = {"id": "1", "name": "car", "frames": {}}
    exports.write_json(
        tmp_path / "in" / "v.json", {"item": {"name": "v.mp4", "slots": [slot]}, "annotations": [moving]}
    )

    done = import_dataset(tmp_path / "in", tmp_path / "own")

    assert (done.format, done.classes) == ("darwin", ("background", "car"))
    assert mask_at(tmp_path / "own").sum() == 40 * 35 - 10 * 10
    assert [entry.reason for entry in done.dropped] == ["it labels a video: export its frames as images"]


@pytest.mark.parametrize("tool", ["cvat-images", "label-studio"])
def test_a_turned_ellipse_is_drawn_turned(tool: str, tmp_path: Path) -> None:
    exports.write(tmp_path / "in" / "b.png", exports.image_of("b"))
    if tool == "cvat-images":
        (tmp_path / "in" / "annotations.xml").write_text(
            "<annotations><version>1.1</version><meta><task><labels><label><name>car</name></label></labels></task></meta>"
            '<image id="0" name="b.png" width="64" height="48"><ellipse label="car" cx="30" cy="24" rx="20" ry="5" '
            'rotation="90"/></image></annotations>'
        )
    else:
        value = {"x": 100 * 30 / 64, "y": 50, "radiusX": 100 * 20 / 64, "radiusY": 100 * 5 / 48, "rotation": 90,
                 "ellipselabels": ["car"]}  # fmt: skip
        result = [{"original_width": 64, "original_height": 48, "type": "ellipselabels", "value": value}]
        exports.write_json(
            tmp_path / "in" / "a.json", [{"data": {"image": "b.png"}, "annotations": [{"result": result}]}]
        )

    import_dataset(tmp_path / "in", tmp_path / "own")

    rows, columns = np.nonzero(mask_at(tmp_path / "own"))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 43, 25, 34)


def write_parquet(path: Path, names: tuple[str, ...], *, label: str = "label") -> None:
    parquet, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    path.parent.mkdir(parents=True, exist_ok=True)

    def file(pixels: np.ndarray) -> dict[str, Any]:
        return {"bytes": cv2.imencode(".png", pixels)[1].tobytes(), "path": None}

    columns = {"image": [file(exports.image_of(n)) for n in names], label: [file(exports.mask_of(n)) for n in names]}
    parquet.write_table(arrow.table(columns), path)


def test_parquet_of_hugging_face_is_unpacked_with_its_splits_and_classes(tmp_path: Path) -> None:
    write_parquet(tmp_path / "in" / "data" / "train-00000-of-00001.parquet", exports.NAMES[:2])
    write_parquet(tmp_path / "in" / "data" / "validation-00000-of-00001.parquet", exports.NAMES[2:])
    exports.write_json(tmp_path / "in" / "id2label.json", {"0": "background", "1": "car", "2": "road"})

    done = import_dataset(tmp_path / "in", tmp_path / "own")

    assert (done.images, done.classes, done.splits) == (3, exports.CLASSES, {"train": 2, "val": 1})
    masks = sorted((tmp_path / "own" / "masks").rglob("*.png"))
    for path, name in zip(masks, exports.NAMES):
        np.testing.assert_array_equal(read_raw_mask(path).values, exports.mask_of(name))
    assert sorted(path.name for path in (tmp_path / "own").iterdir()) == [
        "classes.txt", "images", "import.json", "masks", "train.txt", "val.txt",
    ]  # fmt: skip


def test_parquet_without_masks_names_the_columns_that_are_there(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", exports.NAMES, label="picture_2")
    with pytest.raises(DataError, match=r"no column of images.*it has image .*picture_2"):
        import_dataset(tmp_path / "train.parquet", tmp_path / "own")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "train.parquet").read_bytes()[:500])
    with pytest.raises(DataError, match="not a complete Parquet file"):
        import_dataset(tmp_path / "cut.parquet", tmp_path / "own")


@pytest.mark.parametrize(
    ("name", "content", "title"),
    [
        ("train.tfrecord", "x", "a TFRecord file"),
        ("train.tfrecord-00000-of-00010", "x", "a TFRecord file"),
        ("out.ndjson", '{"data_row": {"id": "1"}}', "Labelbox"),
        ("output.manifest", '{"source-ref": "s3://b/a.jpg"}', "Ground Truth"),
        ("a.json", '{"metadata": {}, "instances": [{"type": "polygon", "className": "car"}]}', "SuperAnnotate"),
        ("set.h5", "x", "HDF5"),
        ("drive.MP4", "x", "a video, which has no labels"),
        ("set.mat", "x", "MATLAB"),
        ("set.npz", "x", "NumPy"),
        ("train.arrow", "x", "Arrow"),
        ("a.xml", "<annotation><object><bndbox><xmin>1</xmin></bndbox></object></annotation>", "boxes"),
        ("_annotations.createml.json", '[{"image": "a", "annotations": [{"label": "a", "coordinates": {}}]}]', "boxes"),
        ("map.geojson", '{"type": "FeatureCollection"}', "GeoJSON"),
    ],
)
def test_a_format_that_is_not_read_is_named_with_the_way_out(
    name: str, content: str, title: str, tmp_path: Path
) -> None:
    place = tmp_path / "in"
    place.mkdir()
    (place / name).write_text(content)
    exports.write(place / "b.png", exports.image_of("b"))
    for source in (place, place / name):
        with pytest.raises(DataError, match=title) as raised:
            import_dataset(source, tmp_path / "own")
        assert raised.value.fix
    with pytest.raises(DataError, match=title):
        recognized(place)
    assert not (tmp_path / "own").exists()


def test_masks_in_a_format_that_is_not_read_are_named(tmp_path: Path) -> None:
    exports.write(tmp_path / "in" / "images" / "b.png", exports.image_of("b"))
    (tmp_path / "in" / "masks").mkdir()
    (tmp_path / "in" / "masks" / "b.mat").write_bytes(b"x")
    (tmp_path / "in" / "classes.txt").write_text("\n".join(exports.CLASSES))
    with pytest.raises(DataError, match="MATLAB"):
        import_dataset(tmp_path / "in", tmp_path / "own")


def test_other_files_beside_images_and_masks_do_not_matter(tmp_path: Path) -> None:
    exports.write(tmp_path / "images" / "b.png", exports.image_of("b"))
    exports.write(tmp_path / "masks" / "b.png", exports.mask_of("b"))
    (tmp_path / "classes.txt").write_text("\n".join(exports.CLASSES))
    (tmp_path / "notes.mat").write_bytes(b"x")
    (tmp_path / "meta.json").write_text(json.dumps({"instances": [], "className": 1}))
    assert recognized(tmp_path) == "folder"


def test_a_labelmap_without_colours_has_vocs(tmp_path: Path) -> None:
    """As Datumaro writes it for a data set without a colour map."""
    exports.write(tmp_path / "in" / "JPEGImages" / "b.png", exports.image_of("b"))
    bgr = np.asarray([(0, 0, 0), (0, 0, 128), (0, 128, 0)], np.uint8)[exports.mask_of("b")]
    exports.write(tmp_path / "in" / "SegmentationClass" / "b.png", bgr)
    (tmp_path / "in" / "labelmap.txt").write_text("# label:color_rgb:parts:actions\nbackground:::\ncar:::\nroad:::\n")

    done = import_dataset(tmp_path / "in", tmp_path / "own")

    assert (done.classes, done.dropped) == (exports.CLASSES, ())
    np.testing.assert_array_equal(mask_at(tmp_path / "own"), exports.mask_of("b"))


def test_predictions_of_label_studio_are_no_labels(tmp_path: Path) -> None:
    exports.write(tmp_path / "in" / "b.png", exports.image_of("b"))
    exports.write_json(tmp_path / "in" / "p.json", [{"data": {"image": "b.png"}, "annotations": [{"result": []}],
                                                     "predictions": [{"result": []}]}])  # fmt: skip
    with pytest.raises(DataError, match=r"1 tasks and no area that someone labelled \(predictions"):
        import_dataset(tmp_path / "in", tmp_path / "own")
