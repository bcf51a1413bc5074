"""What labelling tools write comes back with identical masks; what cannot is dropped with its reason."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from pspnet_edge.cli.main import app
from pspnet_edge.data.check import check_dataset
from pspnet_edge.data.datasets import open_dataset
from pspnet_edge.data.importing import convert, import_dataset, shapes
from pspnet_edge.data.importing.yolo import yaml_names
from pspnet_edge.data.mask_file import read_raw_mask
from pspnet_edge.data.recognize import recognized
from pspnet_edge.errors import DataError, OptionError, OutputError

from . import exports, planted
from .planted import scene, write


def name_of(file_name: str) -> str:
    """The image of ``exports`` that an imported file was."""
    stem = file_name.removeprefix("1a2b3c4d-").rpartition(".")[0].removesuffix(".rf.0123").removesuffix("_leftImg8bit")
    assert stem in exports.NAMES
    return stem


def indices(path: Path) -> np.ndarray:
    return read_raw_mask(path).values


def ensure_identical(root: Path, names: tuple[str, ...] = exports.NAMES) -> None:
    dataset = open_dataset("folder", root, "all")
    assert sorted(name_of(dataset.name(index)) for index in range(len(dataset))) == sorted(names)
    for index in range(len(dataset)):
        image, mask = dataset[index]
        np.testing.assert_array_equal(mask, exports.mask_of(name_of(dataset.name(index))))
        assert image.shape == (exports.HEIGHT, exports.WIDTH, 3)


@pytest.mark.parametrize(("write", "format_name"), exports.WRITERS.values(), ids=exports.WRITERS)
def test_masks_come_back_identical_and_the_format_is_recognized(
    write: Callable[[Path], None], format_name: str, tmp_path: Path
) -> None:
    write(tmp_path / "export")
    before = {path: path.read_bytes() for path in (tmp_path / "export").rglob("*") if path.is_file()}

    done = import_dataset(tmp_path / "export", tmp_path / "own")

    assert (done.format, done.images, done.classes, done.dropped) == (format_name, 3, exports.CLASSES, ())
    ensure_identical(tmp_path / "own")
    assert {path: path.read_bytes() for path in (tmp_path / "export").rglob("*") if path.is_file()} == before
    assert recognized(tmp_path / "own") == "folder"
    assert [
        finding for finding in check_dataset("folder", tmp_path / "own").found if finding.kind != "class-not-in-val"
    ] == []


@pytest.mark.parametrize("write", [exports.cvat, exports.coco, exports.labelme, exports.roboflow])
def test_an_export_that_is_used_as_it_is_names_its_format_and_the_command(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    write(tmp_path)
    with pytest.raises(DataError, match=r"pspnet-edge data import .*--format"):
        recognized(tmp_path)
    with pytest.raises(DataError, match=r"pspnet-edge data import .*--format"):
        open_dataset("folder", tmp_path, "all")[0]


def test_an_archive_with_a_folder_in_it_is_unpacked_and_leaves_nothing_else(tmp_path: Path) -> None:
    exports.cvat(tmp_path / "in" / "task_1")
    (tmp_path / "in" / "__MACOSX").mkdir()
    (tmp_path / "in" / "__MACOSX" / "._labelmap.txt").write_bytes(b"junk")
    shutil.make_archive(str(tmp_path / "export"), "zip", tmp_path / "in")
    import_dataset(tmp_path / "export.zip", tmp_path / "own", val=0.33)
    ensure_identical(tmp_path / "own")
    names = {path.name for path in (tmp_path / "own").iterdir()}
    assert names == {"images", "masks", "classes.txt", "train.txt", "val.txt", "import.json"}


@pytest.mark.parametrize("member", ["../evil.txt", "/evil.txt", "a/../../evil.txt"])
def test_an_archive_that_climbs_is_refused(member: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.writestr(member, "x")
    with pytest.raises(DataError, match="not safe to unpack"):
        import_dataset(tmp_path / "export.zip", tmp_path / "own")
    assert not (tmp_path / "evil.txt").exists()


def test_an_archive_that_swells_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "export.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for index in range(30):
            archive.writestr(f"{index}.png", bytes(40_000_000))
    with pytest.raises(DataError, match=r"would unpack to 1\.2 GB"):
        import_dataset(tmp_path / "export.zip", tmp_path / "own")


def test_classes_are_merged_renamed_and_ignored(tmp_path: Path) -> None:
    exports.cvat(tmp_path / "export")
    done = import_dataset(tmp_path / "export", tmp_path / "own", mapping="car=vehicle,road=ignore")
    assert done.classes == ("background", "vehicle")
    dataset = open_dataset("folder", tmp_path / "own", "all")
    for index in range(len(dataset)):
        expected = exports.mask_of(name_of(dataset.name(index)))
        expected[expected == 2] = 255
        np.testing.assert_array_equal(dataset.mask(index), expected)
    with pytest.raises(OptionError, match="no class 'bus'"):
        import_dataset(tmp_path / "export", tmp_path / "other", mapping="bus=car")


def test_binary_masks_of_0_and_255_become_ids(tmp_path: Path) -> None:
    root = planted.make_clean(tmp_path / "set")
    things = {path.name: planted.read(path) == 1 for path in (root / "masks").iterdir()}
    planted.FAULTS[0][0](root)
    import_dataset(root, tmp_path / "own", mapping="255=thing")
    assert open_dataset("folder", tmp_path / "own", "train").label_set.classes == ("background", "thing")
    assert len(open_dataset("folder", tmp_path / "own", "train")) == 8  # lists are kept
    own = open_dataset("folder", tmp_path / "own", "all")
    for index in range(len(own)):
        np.testing.assert_array_equal(own.mask(index), things[f"{own.name(index)[:3]}.png"])
    assert check_dataset("folder", tmp_path / "own").found == ()


@pytest.mark.parametrize("names", ["unlabelled\nbackground\nthing\nsky\n", "background\nthing\nsky\n"])
def test_an_id_without_label_is_ignored_and_the_others_move_down(names: str, tmp_path: Path) -> None:
    root = planted.make_clean(tmp_path / "set")
    for path in (root / "masks").iterdir():
        mask = planted.read(path) + 1
        mask[:5] = 0
        planted.write(path, mask)
    (root / "classes.txt").write_text(names)
    done = import_dataset(root, tmp_path / "own", ignore_id=0)
    assert done.classes == planted.CLASSES
    mask = open_dataset("folder", tmp_path / "own", "train").mask(0)
    assert (mask[:5] == 255).all()
    np.testing.assert_array_equal(mask[5:], planted.scene(0)[1][5:])


def test_what_cannot_be_read_is_dropped_with_its_reason(tmp_path: Path) -> None:
    exports.cvat(tmp_path / "export")
    (tmp_path / "export" / "JPEGImages" / "b.png").unlink()
    mask = exports.coloured("c").copy()
    mask[3, 5] = (1, 2, 3)
    exports.write(tmp_path / "export" / "SegmentationClass" / "c.png", mask)
    done = import_dataset(tmp_path / "export", tmp_path / "own")
    reasons = {Path(entry.item).name: entry.reason for entry in done.dropped}
    assert reasons["b.png"].startswith("its image is not there")
    assert "colour 3,2,1 at pixel x=5, y=3" in reasons["c.png"]
    ensure_identical(tmp_path / "own", ("drive a.1",))
    assert json.loads((tmp_path / "own" / "import.json").read_text())["dropped"][0]["reason"]


def test_an_interrupted_import_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    exports.coco(tmp_path / "export")
    drawn, real = [], convert.indexed_png

    def dies(*arguments: object, **options: object) -> bytes:
        if len(drawn) == 2:
            raise KeyboardInterrupt
        drawn.append(1)
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(convert, "indexed_png", dies)
    with pytest.raises(KeyboardInterrupt):
        import_dataset(tmp_path / "export", tmp_path / "own")
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "own" / "masks").iterdir()}
    monkeypatch.setattr(convert, "indexed_png", real)
    import_dataset(tmp_path / "export", tmp_path / "own")
    assert len(first) == 2
    assert all(path.stat().st_mtime_ns == time for path, time in first.items())
    ensure_identical(tmp_path / "own")


def test_nothing_of_the_users_is_overwritten_unasked(tmp_path: Path) -> None:
    exports.coco(tmp_path / "export")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds files already"):
        import_dataset(tmp_path / "export", tmp_path / "own", overwrite=True)
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["thesis.txt"]
    import_dataset(tmp_path / "export", tmp_path / "new")
    with pytest.raises(OutputError, match="--overwrite"):
        import_dataset(tmp_path / "export", tmp_path / "new", mapping="car=road")
    import_dataset(tmp_path / "export", tmp_path / "new", mapping="car=road", overwrite=True)
    with pytest.raises(OutputError, match="is inside the source"):
        import_dataset(tmp_path / "export", tmp_path / "export" / "own")


def test_damaged_entries_of_a_coco_file_are_dropped_one_by_one(tmp_path: Path) -> None:
    exports.coco(tmp_path / "export")
    path = tmp_path / "export" / "annotations" / "instances_default.json"
    content = json.loads(path.read_text())
    objects = content["annotations"]
    objects += [{**objects[0], "id": number, "segmentation": shape} for number, shape in enumerate(
        ([], [[1, 2, "x", 4, 5, 6]], {"size": [1, 1], "counts": [1]}, {"size": [48, 64], "counts": "\x00"}, "text"), 90
    )]  # fmt: skip
    objects.append({**objects[0], "id": 99, "category_id": 7})
    path.write_text(json.dumps(content))
    done = import_dataset(tmp_path / "export", tmp_path / "own")
    assert sorted(entry.item.split()[1] for entry in done.dropped) == ["90", "91", "92", "93", "94", "99"]
    ensure_identical(tmp_path / "own")


@pytest.mark.parametrize(("height", "width"), [(10**9, 10**9), (-1, 5), (None, 3), ("48", 64), (float("nan"), 5)])
def test_a_claimed_size_that_makes_no_sense_is_refused(height: object, width: object, tmp_path: Path) -> None:
    exports.coco(tmp_path / "export")
    path = tmp_path / "export" / "annotations" / "instances_default.json"
    content = json.loads(path.read_text())
    content["images"][0] |= {"height": height, "width": width}
    path.write_text(json.dumps(content))
    done = import_dataset(tmp_path / "export", tmp_path / "own")
    assert "says that its image has" in done.dropped[0].reason
    assert done.images == 2


def test_coco_text_runs_are_decoded_as_its_own_library_does() -> None:
    coco = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(5)
    for _ in range(20):
        area = np.asfortranarray(rng.random((37, 53)) < rng.uniform(0.01, 0.99), np.uint8)
        text = coco.encode(area)["counts"].decode()
        np.testing.assert_array_equal(shapes.decode_coco_runs(text, 37, 53), area.astype(bool))


def test_polygons_without_coco_s_library_differ_by_single_pixels_on_slanted_edges(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(2)
    for _ in range(10):
        ring = rng.uniform(5, 90, (3, 2))
        with_library, without = np.zeros((100, 100), np.uint8), np.zeros((100, 100), np.uint8)
        shapes.fill_coco(with_library, [ring], 1)
        with monkeypatch.context() as patch:
            patch.setattr(shapes, "available", lambda module: False)
            shapes.fill_coco(without, [ring], 1)
        edge = float(np.linalg.norm(ring - np.roll(ring, 1, axis=0), axis=1).sum())
        assert (with_library != without).sum() <= 0.5 * edge


@pytest.mark.parametrize(
    "text",
    [
        "names: [car, 'traffic light']\n",
        "nc: 2\nnames:\n- car\n- traffic light\n",
        'names:\n  0: car\n  1: "traffic light"  # red\nnc: 2\n',
        "names: {0: car, 1: traffic light}\n",
        "names: [\n  car,\n  traffic light\n]\n",
        "names: {1: traffic light, 0: car}\n",
        "names:\n  1: traffic light\n  0: car\n",
    ],
)
def test_names_of_a_yolo_file_are_read_in_each_form(text: str) -> None:
    assert yaml_names(text) == ["car", "traffic light"]


def test_names_of_a_yolo_file_that_would_shift_the_ids_are_not_read() -> None:
    assert yaml_names("names: [cat, 'dog, big', \"cow, red\"]\n") == ["cat", "dog, big", "cow, red"]
    with pytest.raises(DataError, match="from 0 on"):
        yaml_names("names:\n  1: car\n  2: road\n")
    with pytest.raises(DataError, match="nc: 3 and 2 names"):
        yaml_names("nc: 3\nnames: [car, road]\n")


def test_the_command_reports_as_json_and_says_the_next_step(tmp_path: Path) -> None:
    exports.cvat(tmp_path / "export")
    arguments = ["data", "import", str(tmp_path / "export"), "--auto", "--val", "0.33"]
    as_json = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "one"), "--json"])
    facts = json.loads(as_json.stdout)
    assert (facts["images"], facts["classes"], facts["dropped"]) == (3, list(exports.CLASSES), [])
    assert facts["splits"] == {"train": 2, "val": 1}
    for_people = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "two")])
    assert "next: pspnet-edge data check" in for_people.stdout


@pytest.mark.parametrize(("sequences", "sizes"), [(2, "train 19, val 1"), (6, "train 50, val 10")])
def test_sequences_that_are_cut_or_change_the_share_are_said(tmp_path: Path, sequences: int, sizes: str) -> None:
    for folder in ("images", "masks"):
        (tmp_path / "export" / folder).mkdir(parents=True)
        for sequence in "abcdef"[:sequences]:
            for frame in range(10):
                picture = np.full((8, 8, 3) if folder == "images" else (8, 8), frame % 2, np.uint8)
                cv2.imwrite(str(tmp_path / "export" / folder / f"{sequence}_{frame:03d}.png"), picture)
    (tmp_path / "export" / "classes.txt").write_text("a\nb\n")
    arguments = ["data", "import", str(tmp_path / "export"), "--format", "pairs", "--val", "0.05"]
    done = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "own")])
    assert sizes in done.stdout, done.stderr
    cut = "there are images in train and in val" in done.stderr
    assert cut == (sequences == 2)
    assert ("val has 17% of the images in place of 5%" in done.stderr) == (sequences == 6)
    if cut:
        again = re.search(r"`pspnet-edge (.*)` keeps each", done.stderr)
        assert again
        assert CliRunner().invoke(app, shlex.split(again[1])).exit_code == 0


def test_classes_that_differ_in_capitals_are_told_and_what_is_dropped_is_told_once_per_reason(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    for index in range(5):
        shape = {"label": ("weed", "Weed")[index % 2], "points": [[1, 1], [6, 1], [6, 6]], "shape_type": "polygon"}
        content = {"imagePath": f"{index}.png", "imageHeight": 8, "imageWidth": 8, "shapes": [shape]}
        (tmp_path / "export" / f"{index}.json").write_text(json.dumps(content))
        if index < 2:
            cv2.imwrite(str(tmp_path / "export" / f"{index}.png"), np.zeros((8, 8, 3), np.uint8))
    arguments = ["data", "import", str(tmp_path / "export")]
    done = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "own")])
    assert done.exit_code == 0, done.stderr
    assert done.stderr.count("dropped ") == 1
    assert " and 2 more, all in " in done.stderr
    fix = re.search(r"are 2 classes: import with (--map .*)", done.stderr)
    assert fix
    joined = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "joined"), *shlex.split(fix[1])])
    assert joined.exit_code == 0, joined.stderr
    assert "capitals" not in joined.stderr


def test_cvat_masks_without_their_list_take_the_colours_that_are_given(tmp_path: Path) -> None:
    exports.cvat(tmp_path / "export")
    (tmp_path / "export" / "labelmap.txt").unlink()
    with pytest.raises(DataError, match="has no list of colours: give --classes FILE"):
        import_dataset(tmp_path / "export", tmp_path / "own", format="cvat")
    listing = tmp_path / "classes.txt"
    listing.write_text("".join(f"{name}, {r}, {g}, {b}\n" for name, (r, g, b) in zip(exports.CLASSES, exports.COLOURS)))
    done = import_dataset(tmp_path / "export", tmp_path / "own", format="cvat", classes=listing)
    assert (done.images, done.classes) == (3, exports.CLASSES)
    ensure_identical(tmp_path / "own")


def test_a_class_list_that_is_not_there_is_called_so(tmp_path: Path) -> None:
    exports.cvat(tmp_path / "export")
    with pytest.raises(DataError, match="there is no list of classes car,road: give a text file with one class name"):
        import_dataset(tmp_path / "export", tmp_path / "own", classes=Path("car,road"))


def test_the_former_share_to_train_on_is_taken_as_one_for_validation(tmp_path: Path) -> None:
    exports.cvat(tmp_path / "export")
    arguments = ["data", "import", str(tmp_path / "export"), "--split", "0.67", "-o", str(tmp_path / "own")]
    done = CliRunner().invoke(app, arguments)
    assert "--split 0.67 is now --val 0.33" in done.stderr
    assert "train 2, val 1" in done.stdout
    assert CliRunner().invoke(app, [*arguments, "--val", "0.33"]).exit_code == 2


def test_a_format_that_is_not_known_or_not_there_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    with pytest.raises(DataError, match="is empty"):
        import_dataset(tmp_path / "export", tmp_path / "own")
    (tmp_path / "export" / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="not recognized"):
        import_dataset(tmp_path / "export", tmp_path / "own")
    with pytest.raises(OptionError, match="unknown format"):
        import_dataset(tmp_path / "export", tmp_path / "own", format="pascal")
    for format_name in ("coco", "labelme", "label-studio", "voc", "yolo", "cvat", "ade20k", "supervisely", "roboflow"):
        with pytest.raises(DataError):
            import_dataset(tmp_path / "export", tmp_path / f"own-{format_name}", format=format_name)


def test_images_of_one_name_in_several_folders_are_kept_apart(tmp_path: Path) -> None:
    for video in ("video_a", "video_b"):
        exports.labelme(tmp_path / "export" / video)
    done = import_dataset(tmp_path / "export", tmp_path / "own")
    assert (done.images, done.dropped) == (6, ())
    assert (tmp_path / "own" / "images" / "video_b" / "c.png").is_file()


def test_a_category_that_only_groups_others_is_no_class(tmp_path: Path) -> None:
    exports.coco(tmp_path / "export")
    path = tmp_path / "export" / "annotations" / "instances_default.json"
    content = json.loads(path.read_text())
    for category in content["categories"]:
        category["supercategory"] = "things"
    content["categories"].insert(0, {"id": 0, "name": "things", "supercategory": "none"})
    path.write_text(json.dumps(content))
    assert import_dataset(tmp_path / "export", tmp_path / "own").classes == exports.CLASSES


def test_ade20k_ignores_0_and_names_the_others_by_their_first_word(tmp_path: Path) -> None:
    root = tmp_path / "ADEChallengeData2016"
    for name, split in zip(exports.NAMES, ("training", "training", "validation")):
        exports.write(root / "images" / split / f"{name}.jpg", exports.image_of(name))
        exports.write(root / "annotations" / split / f"{name}.png", exports.mask_of(name))
    rows = ["Idx\tRatio\tTrain\tVal\tStuff\tName", "1\t0.1\t1\t1\t0\tcar, auto", "2\t0.1\t1\t1\t1\troad, route"]
    (root / "objectInfo150.txt").write_text("\n".join(rows) + "\n")
    done = import_dataset(tmp_path, tmp_path.parent / f"{tmp_path.name}-own")
    assert (done.format, done.classes, done.splits) == ("ade20k", ("car", "road"), {"train": 2, "val": 1})
    dataset = open_dataset("folder", done.root, "val")
    expected = np.array([255, 0, 1], np.uint8)[exports.mask_of("c")]
    np.testing.assert_array_equal(dataset[0][1], expected)


def test_a_published_set_is_cut_down_to_other_classes(voc_root: Path, cityscapes_root: Path, tmp_path: Path) -> None:
    done = import_dataset(voc_root, tmp_path / "a", mapping="car=vehicle,bus=vehicle,person=ignore")
    assert (done.format, done.splits, len(done.classes)) == ("voc", {"train": 2, "val": 2}, 19)
    done = import_dataset(cityscapes_root, tmp_path / "b", mapping="truck=car")
    assert (done.format, done.images, len(done.classes)) == ("cityscapes", 4, 18)


def test_compressed_runs_and_an_archive_of_tar_are_read(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    exports.coco(tmp_path / "export")
    path = tmp_path / "export" / "annotations" / "instances_default.json"
    content = json.loads(path.read_text())
    for entry in content["annotations"]:
        name, class_id = exports.NAMES[entry["image_id"] - 1], entry["category_id"] // 10
        text = coco.encode(np.asfortranarray(exports.visible(name, class_id), np.uint8))["counts"].decode()
        entry["segmentation"] = {"size": [exports.HEIGHT, exports.WIDTH], "counts": text}
    path.write_text(json.dumps(content))
    archive = shutil.make_archive(str(tmp_path / "export"), "gztar", tmp_path / "export")
    import_dataset(Path(archive), tmp_path / "own")
    ensure_identical(tmp_path / "own")


def test_an_archive_with_a_name_that_no_system_takes_is_one_sentence(tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(tmp_path / "export.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("a.png")
        info.pax_headers = {"path": "a\0b.png"}
        archive.addfile(info)
    with pytest.raises(DataError):
        import_dataset(tmp_path / "export.tar", tmp_path / "own")
    (tmp_path / "broken.zip").write_bytes(b"PK\3\4" + bytes(100))
    with pytest.raises(DataError, match="damaged"):
        import_dataset(tmp_path / "broken.zip", tmp_path / "other")


@pytest.mark.parametrize("has_pillow", [True, False])
@pytest.mark.parametrize(
    ("kind", "points", "expected"),
    [
        ("rectangle", [[10, 5], [3, 9]], np.s_[5:10, 3:11]),
        ("polygon", [[3, 5], [10, 5], [10, 9], [3, 9]], np.s_[5:10, 3:11]),
        ("oriented_rectangle", [[3, 5], [10, 5], [10, 9], [3, 9]], np.s_[5:10, 3:11]),
    ],
)
def test_labelme_shapes_include_their_border(
    kind: str, points: list[list[int]], expected: tuple[slice, slice], has_pillow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shapes, "available", lambda module: has_pillow)
    mask, wanted = np.zeros((20, 30), np.uint16), np.zeros((20, 30), np.uint16)
    shapes.fill_labelme(mask, kind, shapes.as_points(points), 7)
    wanted[expected] = 7
    np.testing.assert_array_equal(mask, wanted)


@pytest.mark.parametrize("has_pillow", [True, False])
def test_labelme_circles_and_points_have_their_radius(has_pillow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "available", lambda module: has_pillow)
    mask = np.zeros((60, 60), np.uint16)
    shapes.fill_labelme(mask, "circle", shapes.as_points([[30, 30], [30, 50]]), 1)
    assert mask.sum() == pytest.approx(np.pi * 20.5**2, rel=0.06)
    shapes.fill_labelme(mask, "point", shapes.as_points([[5, 5]]), 2)
    assert (mask == 2).sum() == pytest.approx(np.pi * 5.5**2, rel=0.2)
    with pytest.raises(ValueError, match="is not an area"):
        shapes.fill_labelme(mask, "polygon", shapes.as_points([[1, 1], [2, 2]]), 3)


def test_an_import_that_comes_to_nothing_leaves_nothing_and_names_the_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.writestr("readme.txt", "x")
    with pytest.raises(DataError) as caught:
        import_dataset(tmp_path / "export.zip", tmp_path / "own")
    assert str(tmp_path / "export.zip") in str(caught.value)
    assert ".unpacked" not in str(caught.value)
    assert not (tmp_path / "own").exists()


@pytest.mark.parametrize("options", [{"ignore_id": 70_000}, {"val": float("nan")}, {"mapping": "car"}])
def test_options_without_sense_are_one_sentence(options: dict[str, object], tmp_path: Path) -> None:
    exports.coco(tmp_path / "export")
    with pytest.raises(OptionError):
        import_dataset(tmp_path / "export", tmp_path / "own", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("source", ["x" * 300, "nowhere", "file.txt"])
def test_a_source_that_is_not_there_is_one_sentence(source: str, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(DataError):
        import_dataset(tmp_path / source, tmp_path / "own")


BLACK, WHITE, BLUE = (0, 0, 0), (255, 255, 255), (0, 0, 255)


def coloured(path: Path, ids: np.ndarray, *colours: tuple[int, int, int]) -> None:
    """A mask of colours as an RGB file."""
    write(path, np.array(colours, np.uint8)[ids][..., ::-1])


def as_cvat(root: Path, lines: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "labelmap.txt").write_text("# label:color_rgb:parts:actions\n" + lines)


@pytest.mark.parametrize("stored", ["RGB", "grey"])
def test_a_white_class_is_not_taken_for_255_in_masks_without_other_colours(stored: str, tmp_path: Path) -> None:
    image, mask = scene(1)
    mask = np.minimum(mask, 1)
    for name, ids in (("two", mask), ("three", np.where(mask, 2, 0))):
        write(tmp_path / "export" / "JPEGImages" / f"{name}.jpg", image)
        coloured(tmp_path / "export" / "SegmentationClass" / f"{name}.png", ids, BLACK, WHITE, BLUE)
    if stored == "grey":  # as programs that shrink PNGs store it
        write(tmp_path / "export" / "SegmentationClass" / "two.png", mask * 255)
    as_cvat(tmp_path / "export", "background:0,0,0::\nlane:255,255,255::\ncar:0,0,255::\n")
    import_dataset(tmp_path / "export", tmp_path / "own")
    np.testing.assert_array_equal(indices(tmp_path / "own" / "masks" / "two.png"), mask)


def test_black_that_a_labelmap_does_not_name_is_background(tmp_path: Path) -> None:
    image, mask = scene(2)
    write(tmp_path / "export" / "JPEGImages" / "a.jpg", image)
    coloured(tmp_path / "export" / "SegmentationClass" / "a.png", np.minimum(mask, 1), BLACK, WHITE)
    as_cvat(tmp_path / "export", "lane:255,255,255::\n")
    done = import_dataset(tmp_path / "export", tmp_path / "own")
    assert done.classes == ("background", "lane")
    np.testing.assert_array_equal(indices(tmp_path / "own" / "masks" / "a.png"), np.minimum(mask, 1))


def test_masks_find_only_the_image_of_their_own_folder(tmp_path: Path) -> None:
    export = tmp_path / "export"
    for number, place in enumerate(("a/1", "a/2", "b/1", "b/2")):
        image, mask = scene(number)
        if place != "b/1":
            write(export / "JPEGImages" / f"{place}.jpg", image)
        if place != "a/1":
            coloured(export / "SegmentationClass" / f"{place}.png", np.minimum(mask, 1), BLACK, WHITE)
    as_cvat(export, "background:0,0,0::\nlane:255,255,255::\n")
    listing = export / "ImageSets" / "Segmentation"
    listing.mkdir(parents=True)
    (listing / "train.txt").write_text("a/1\r\na/2\r\nb/1\r\n")
    (listing / "val.txt").write_text("b\\2\n")
    done = import_dataset(export, tmp_path / "own")
    for number, place in ((1, "a/2"), (3, "b/2")):
        found = indices(tmp_path / "own" / "masks" / f"{place}.png")
        np.testing.assert_array_equal(found, np.minimum(scene(number)[1], 1))
    assert done.splits == {"train": 1, "val": 1}
    reasons = {Path(entry.item).parent.name + "/" + Path(entry.item).name: entry.reason for entry in done.dropped}
    assert reasons["a/1.jpg"] == "nothing labels it"
    assert reasons["b/1.png"].startswith("its image is not there")


def test_images_without_any_object_are_counted_also_by_an_import_that_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = tmp_path / "export"
    for number in range(3):
        write(export / f"{number}.jpg", scene(number)[0])
    images = [{"id": number, "file_name": f"{number}.jpg", "height": 96, "width": 128} for number in range(3)]
    shape = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 10, 0, 10, 10, 0, 10]]}
    content = {"images": images, "annotations": [shape], "categories": [{"id": 1, "name": "cat"}]}
    (export / "coco.json").write_text(json.dumps(content))
    assert import_dataset(export, tmp_path / "whole").only_background == 2

    def dies(*arguments: object) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as cut:
        cut.setattr(convert, "_finish", dies)
        with pytest.raises(KeyboardInterrupt):
            import_dataset(export, tmp_path / "own")
    assert import_dataset(export, tmp_path / "own").to_dict()["only_background"] == 2


def test_coco_files_of_several_splits_keep_their_own_numbers_and_images(tmp_path: Path) -> None:
    export = tmp_path / "export"
    for split, names in (("train", {1: "cat", 2: "dog"}), ("val", {1: "dog", 2: "cat"})):
        write(export / "images" / f"{split}2017" / "1.jpg", scene(split == "val")[0])
        number = next(number for number, name in names.items() if name == "dog")
        shape = [[0, 0, 10, 0, 10, 10, 0, 10]]
        content = {
            "images": [{"id": 1, "file_name": "1.jpg", "height": 96, "width": 128}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": number, "segmentation": shape}],
            "categories": [{"id": key, "name": name} for key, name in names.items()],
        }
        (export / "annotations").mkdir(exist_ok=True)
        (export / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))
    done = import_dataset(export, tmp_path / "own")
    assert (done.classes, done.splits) == (("background", "cat", "dog"), {"train": 1, "val": 1})
    for split in ("train", "val"):
        assert int(indices(tmp_path / "own" / "masks" / f"{split}2017" / "1.png")[5, 5]) == 2
        same = (tmp_path / "own" / "images" / f"{split}2017" / "1.jpg").read_bytes()
        assert same == (export / "images" / f"{split}2017" / "1.jpg").read_bytes()
    one = import_dataset(export / "annotations" / "instances_val2017.json", tmp_path / "one", images=export / "images")
    assert one.splits == {"val": 1}


def test_roboflow_s_unlabeled_is_background_and_its_splits_must_agree(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        write(tmp_path / "export" / split / "a.rf.1.jpg", scene(1)[0])
        write(tmp_path / "export" / split / "a.rf.1_mask.png", np.minimum(scene(1)[1], 1))
        (tmp_path / "export" / split / "_classes.csv").write_text("Pixel Value, Class\n0, unlabeled\n1, cat\n")
    assert import_dataset(tmp_path / "export", tmp_path / "own").classes == ("background", "cat")
    (tmp_path / "export" / "valid" / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, dog\n")
    with pytest.raises(DataError, match="one id to different classes"):
        import_dataset(tmp_path / "export", tmp_path / "other")


def test_labelme_files_with_a_byte_order_mark_and_turned_rectangles_are_read(tmp_path: Path) -> None:
    exports.labelme(tmp_path / "export")
    path = next((tmp_path / "export").rglob("*.json"))
    content = json.loads(path.read_text())
    corners = [[2, 2], [12, 2], [12, 9], [2, 9]]
    content["shapes"] = [{"label": "car", "shape_type": kind, "points": corners} for kind in ("rectangle", "rotation")]
    path.write_text(json.dumps(content), encoding="utf-8-sig")
    done = import_dataset(tmp_path / "export", tmp_path / "own")
    assert (done.images, done.dropped) == (3, ())
    mask = indices(tmp_path / "own" / "masks" / f"{path.stem}.png")
    assert int((mask[2:10, 2:13] == done.classes.index("car")).sum()) == 8 * 11


def test_one_class_is_refused_because_every_pixel_would_be_it(tmp_path: Path) -> None:
    exports.cvat(tmp_path / "export")
    mapping = ",".join(f"{name}=ignore" for name in exports.CLASSES[1:])
    with pytest.raises(DataError, match="only the class"):
        import_dataset(tmp_path / "export", tmp_path / "own", mapping=mapping)
