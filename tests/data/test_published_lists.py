"""Class lists, layouts and mistakes of public data sets, in the forms in which they are published."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from pspnet_edge.cli.main import app
from pspnet_edge.data.check import check_dataset, quick_check
from pspnet_edge.data.class_list import read_class_list
from pspnet_edge.data.datasets import open_dataset
from pspnet_edge.data.image_file import read_image
from pspnet_edge.data.importing import import_dataset
from pspnet_edge.data.mask_file import read_raw_mask
from pspnet_edge.data.recognize import recognized
from pspnet_edge.errors import DataError

RED, BLUE = (255, 0, 0), (0, 0, 255)
NUMBERED = '[{0: "void",\n  1: "dirt",\n  3: "grass"},\n {0: [0, 0, 0],\n  1: [255, 0, 0],\n  3: [0, 0, 255]}]\n'
VISTAS = [{"name": "a--dirt", "readable": "dirt", "color": [255, 0, 0], "evaluate": True},
          {"name": "a--grass", "readable": "grass", "color": [0, 0, 255], "evaluate": True}]  # fmt: skip
LISTS = {
    "id2label.json": json.dumps({"0": "dirt", "1": "grass"}),
    "config.json": json.dumps({"architectures": ["SegformerFor"], "id2label": {"1": "grass", "0": "dirt"}}),
    "config_v1.2.json": json.dumps({"labels": VISTAS, "version": "1.2"}),
    "config_v2.0.json": json.dumps({"labels": VISTAS, "mapping": "public", "version": "2.0"}),
    "class_list.json": json.dumps({"#ff0000": "dirt", "#0000ff": "grass"}),
    "RUGD_annotation-colormap.txt": "0 dirt 255 0 0\n1 grass 0 0 255\n",
    "ontology.yaml": NUMBERED.replace('0: "void",', "")
    .replace("0: [0, 0, 0],", "")
    .replace("1:", "0:")
    .replace("3:", "1:"),
}


def ids() -> np.ndarray:
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 8:40] = 1
    return mask


def coloured(mask: np.ndarray) -> np.ndarray:
    return np.array([RED, BLUE], np.uint8)[mask][..., ::-1]


def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    for index in range(3):
        write(tmp_path / "own" / "images" / f"{index}.png", photo())
        write(tmp_path / "own" / "masks" / f"{index}.png", ids())
    return tmp_path / "own"


@pytest.mark.parametrize("name", LISTS)
def test_a_published_list_is_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(LISTS[name])
    classes = read_class_list(tmp_path / name)
    assert (classes.names, classes.numbers) == (("dirt", "grass"), None)
    assert classes.colours == (None if LISTS[name].find("id2label") >= 0 or name == "id2label.json" else (RED, BLUE))


@pytest.mark.parametrize("name", sorted(LISTS.keys() - {"config.json"}))
def test_a_published_list_beside_the_data_is_used(name: str, own: Path, tmp_path: Path) -> None:
    (own / name).write_text(LISTS[name])
    assert open_dataset(recognized(own), own, "all").label_set.classes == ("dirt", "grass")
    imported = import_dataset(own, tmp_path / "out")
    assert (imported.classes, imported.class_list) == (("dirt", "grass"), str(own / name))


@pytest.mark.parametrize("given", [False, True])
def test_a_split_is_not_taken_for_the_class_list(given: bool, own: Path, tmp_path: Path) -> None:
    listing = (tmp_path if given else own) / "id2label.json"
    listing.write_text(LISTS[listing.name])
    imported = import_dataset(own, tmp_path / "out", classes=listing if given else None, val=0.3)
    assert imported.splits == {"train": 2, "val": 1}
    assert imported.class_list == (None if given else str(listing))


def test_two_published_lists_are_not_guessed_between(own: Path, tmp_path: Path) -> None:
    for name in ("config_v1.2.json", "config_v2.0.json"):
        (own / name).write_text(LISTS[name])
    with pytest.raises(DataError, match=r"config_v1.2.json, config_v2.0.json.*--classes"):
        open_dataset("folder", own, "all")
    imported = import_dataset(own, tmp_path / "out", classes=own / "config_v2.0.json")
    assert (imported.classes, imported.class_list) == (("dirt", "grass"), None)


@pytest.mark.parametrize("in_colours", [False, True])
def test_an_ontology_with_gaps_is_renumbered(in_colours: bool, own: Path, tmp_path: Path) -> None:
    for path in (own / "masks").iterdir():
        write(path, coloured(ids()) if in_colours else np.array([1, 3], np.uint8)[ids()])
    (own / "ontology.yaml").write_text(NUMBERED)
    assert import_dataset(own, tmp_path / "beside").classes == ("dirt", "grass")
    listing = (own / "ontology.yaml").rename(tmp_path / "ontology.yaml")
    assert import_dataset(own, tmp_path / "given", classes=listing).classes == ("dirt", "grass")
    for out in ("beside", "given"):
        opened = open_dataset("folder", tmp_path / out, "all")
        assert (opened.mask(0) == ids()).all()
        assert opened.label_set.palette == (RED, BLUE)
    with pytest.raises(DataError, match="numbers its classes 0, 1, 3"):
        import_dataset(own, tmp_path / "not", format="labelme", classes=listing)


def test_rugd_is_read_with_the_list_among_its_masks(tmp_path: Path) -> None:
    root = tmp_path / "RUGD"
    for index in range(2):
        write(root / "RUGD_frames-with-annotations" / "creek" / f"creek_{index}.png", photo())
        write(root / "RUGD_annotations" / "creek" / f"creek_{index}.png", coloured(ids()))
    (root / "RUGD_annotations" / "RUGD_annotation-colormap.txt").write_text(LISTS["RUGD_annotation-colormap.txt"])
    imported = import_dataset(root, tmp_path / "out")
    assert (imported.format, imported.images, imported.classes) == ("pairs", 2, ("dirt", "grass"))


@pytest.mark.parametrize("layout", ["pairs", "voc"])
def test_colours_of_a_list_beside_colour_masks_are_used_and_said(layout: str, tmp_path: Path) -> None:
    images, masks = {"pairs": ("2_Ortho_RGB/x_{}_RGB.tif", "5_Labels_all/x_{}_label.tif"),
                     "voc": ("JPEGImages/{}.jpg", "SegmentationClass/{}.png")}[layout]  # fmt: skip
    for index in range(2):
        write(tmp_path / "set" / images.format(index), photo())
        write(tmp_path / "set" / masks.format(index), coloured(ids()))
    (tmp_path / "set" / "classes.txt").write_text("dirt, 255, 0, 0\ngrass, 0, 0, 255\n")
    done = CliRunner().invoke(app, ["data", "import", str(tmp_path / "set"), "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert f"read from {tmp_path / 'set' / 'classes.txt'}" in done.output.replace("\n", "")
    assert (open_dataset("folder", tmp_path / "out", "all").mask(0) == ids()).all()


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_idd_is_read_with_a_list_and_says_what_it_needs_without(suffix: str, tmp_path: Path) -> None:
    root = tmp_path / "IDD"
    for drive in ("0", "1"):
        write(root / "leftImg8bit" / "train" / drive / f"frame7_leftImg8bit.{suffix}", photo())
        write(root / "gtFine" / "train" / drive / "frame7_gtFine_labellevel3Ids.png", ids())
        (root / "gtFine" / "train" / drive / "frame7_gtFine_polygons.json").write_text('{"objects": []}')
    for use in (lambda: open_dataset("cityscapes", root, "train"), lambda: import_dataset(root, tmp_path / "no")):
        with pytest.raises(DataError, match=r"IDD's masks.*classes\.txt.*data import"):
            use()
    (tmp_path / "list.txt").write_text("road\ncar\n")
    given = import_dataset(root, tmp_path / "given", classes=tmp_path / "list.txt")
    (tmp_path / "list.txt").rename(root / "classes.txt")
    beside = import_dataset(root, tmp_path / "beside")
    for imported in (given, beside):
        assert (imported.format, imported.images, imported.splits) == ("cityscapes", 2, {"train": 2})
        assert (open_dataset("folder", imported.root, "train").mask(1) == ids()).all()


@pytest.mark.parametrize("part", ["images", "masks", "images/train"])
def test_a_part_of_a_data_set_points_to_the_folder_above(part: str, own: Path) -> None:
    (own / "images" / "train").mkdir()
    write(own / "images" / "train" / "9.png", photo())
    with pytest.raises(DataError, match=f"is a part of the data set {own}: give that folder"):
        recognized(own / part)


@pytest.mark.parametrize("grey", [False, True])
def test_swapped_folders_are_one_sentence(grey: bool, own: Path) -> None:
    (own / "classes.txt").write_text("dirt, 255, 0, 0\ngrass, 0, 0, 255\n")
    assert not [finding for finding in check_dataset("folder", own).found if "swapped" in finding.problem]
    for path in (own / "images").iterdir():
        write(path, photo()[..., 0] if grey else photo())
    (own / "images").rename(own / "x")
    (own / "masks").rename(own / "images")
    (own / "x").rename(own / "masks")
    defects = check_dataset("folder", own).defects
    assert [finding.problem for finding in defects if finding.kind in ("layout", "bad-mask")] == [
        f"{own / 'images' / '0.png'} is a label map and {own / 'masks' / '0.png'} a photograph: the two folders are "
        "swapped, so exchange their names"
    ]
    assert ["swapped" in finding.problem for finding in quick_check(open_dataset("folder", own, "all"))] == [True]


def imported_ids(root: Path, out: Path, classes: Path | None = None) -> list[np.ndarray]:
    import_dataset(root, out, classes=classes)
    return [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted((out / "masks").rglob("*.png"))]


def as_ids(values: np.ndarray) -> np.ndarray:
    """Palette PNGs come as colours from OpenCV; here only which pixels are alike matters."""
    return (values == values[0, 0]).all(-1) if values.ndim == 3 else values == values[0, 0]


def test_of_two_versions_of_vistas_the_one_of_the_list_is_read(tmp_path: Path) -> None:
    root = tmp_path / "vistas"
    for split in ("training", "validation"):
        write(root / split / "images" / "a.jpg", photo())
        write(root / split / "v1.2" / "labels" / "a.png", coloured(ids()))
        write(root / split / "v2.0" / "labels" / "a.png", coloured(ids().T.reshape(48, 64)))
        write(root / split / "v2.0" / "instances" / "a.png", ids())
    for version in ("1.2", "2.0"):
        (root / f"config_v{version}.json").write_text(LISTS[f"config_v{version}.json"])
    with pytest.raises(DataError, match=r"pspnet-edge data import .* --format pairs"):
        recognized(root)
    for version, expected in (("1.2", ids()), ("2.0", ids().T.reshape(48, 64))):
        found = imported_ids(root, tmp_path / f"out{version}", root / f"config_v{version}.json")
        assert len(found) == 2
        assert all((as_ids(mask) == (expected == 0)).all() for mask in found)
    (tmp_path / "names.txt").write_text("dirt, 255, 0, 0\ngrass, 0, 0, 255\n")
    with pytest.raises(DataError, match=r"several masks of each image \(v1\.2, v2\.0\)"):
        import_dataset(root, tmp_path / "other", classes=tmp_path / "names.txt")


def test_a2d2_has_the_role_in_the_middle_of_a_name(tmp_path: Path) -> None:
    root, place = tmp_path / "a2d2", "20180807_145028"
    for index in range(2):
        name = f"20180807145028_{{}}_frontcenter_00000009{index}.png"
        write(root / place / "camera" / "cam_front_center" / name.format("camera"), photo())
        write(root / place / "label" / "cam_front_center" / name.format("label"), coloured(ids()))
    (root / "class_list.json").write_text(LISTS["class_list.json"])
    found = imported_ids(root, tmp_path / "out")
    assert len(found) == 2
    assert all((as_ids(mask) == (ids() == 0)).all() for mask in found)


@pytest.mark.parametrize("classes", [2, 34])
def test_acdc_has_train_ids_and_label_ids_and_the_list_says_which(classes: int, tmp_path: Path) -> None:
    root = tmp_path / "acdc"
    for split in ("train", "val"):
        place, name = f"fog/{split}/GOPR0475", "GOPR0475_frame_000041"
        write(root / "rgb_anon" / place / f"{name}_rgb_anon.png", photo())
        write(root / "rgb_anon" / f"fog/{split}_ref/GOPR0475" / f"{name}_rgb_ref_anon.png", photo())
        for kind, mask in (("labelTrainIds", ids()), ("labelIds", ids() * 26 + 7), ("invIds", ids()[::-1])):
            write(root / "gt" / place / f"{name}_gt_{kind}.png", mask)
        write(root / "gt" / place / f"{name}_gt_labelColor.png", coloured(ids()))
    (tmp_path / "names.txt").write_text("".join(f"c{index}\n" for index in range(classes)))
    imported = import_dataset(root, tmp_path / "out", classes=tmp_path / "names.txt")
    assert imported.splits == {"train": 1, "val": 1}
    values = open_dataset("folder", tmp_path / "out", "train").mask(0)
    assert (values == (ids() if classes == 2 else ids() * 26 + 7)).all()


def test_coco_stuff_counts_from_the_second_line_of_its_list(own: Path, tmp_path: Path) -> None:
    for index in range(3):
        mask = ids()
        mask[:4] = 255
        write(own / "masks" / f"{index}.png", mask)
    (own / "labels.txt").write_text("0: unlabeled\n1: dirt\n2: grass\n3: sand\n")
    with pytest.raises(DataError, match="calls id 0 unlabeled, and the masks hold 255 as well as 0"):
        import_dataset(own, tmp_path / "out")
    assert import_dataset(own, tmp_path / "out", ignore_id=0).classes[0] == "dirt"
    (tmp_path / "names.txt").write_text("dirt\ngrass\nsand\n")
    import_dataset(own, tmp_path / "named", classes=tmp_path / "names.txt")
    assert (open_dataset("folder", tmp_path / "named", "all").mask(0)[4:] == ids()[4:]).all()


def test_coco_stuff_has_images_and_masks_in_folders_of_the_root(tmp_path: Path) -> None:
    root = tmp_path / "coco"
    for split in ("train2017", "val2017"):
        write(root / split / "000000000139.jpg", photo())
        write(root / "stuffthingmaps" / split / "000000000139.png", ids())
    (tmp_path / "names.txt").write_text("dirt\ngrass\n")
    assert import_dataset(root, tmp_path / "out", classes=tmp_path / "names.txt").splits == {"train": 1, "val": 1}


def test_ids_that_jpeg_has_changed_are_not_taken_for_black(own: Path, tmp_path: Path) -> None:
    for index in range(3):
        (own / "masks" / f"{index}.png").unlink()
        write(own / "masks" / f"{index}.jpg", ids() * 9)
    (own / "classes.txt").write_text("".join(f"c{index}\n" for index in range(10)))
    with pytest.raises(DataError, match="is a JPEG, which changes ids"):
        import_dataset(own, tmp_path / "out")


def test_accents_stored_as_a_mac_does_are_the_same_name(own: Path, tmp_path: Path) -> None:
    (own / "images" / "0.png").rename(own / "images" / "ba\u0075\u0308me.png")
    (own / "masks" / "0.png").rename(own / "masks" / "ba\u00fcme.png")
    (own / "classes.txt").write_text("dirt\ngrass\n")
    (own / "train.txt").write_text("ba\u00fcme\n1\n")
    data = open_dataset("folder", own, "train")
    assert (len(data), (data.mask(0) == ids()).all()) == (2, True)
    assert import_dataset(own, tmp_path / "out").images == 3


def test_a_tiff_of_many_bands_says_so(own: Path) -> None:
    def entry(tag: int, kind: int, count: int, value: int) -> bytes:
        return struct.pack("<HHI", tag, kind, count) + struct.pack("<I", value)

    tags = [(256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 200)]
    tags += [(277, 3, 1, 6), (278, 3, 1, 8), (279, 4, 1, 384)]
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + b"".join(entry(*tag) for tag in tags)
    path = own / "images" / "bands.tif"
    path.write_bytes(head.ljust(200, b"\0") + bytes(384))
    with pytest.raises(DataError, match="because it has 6 channels"):
        read_image(path)


@pytest.mark.parametrize("form", ["WebP", "WebP with alpha", "JPEG"])
def test_masks_of_lossy_compression_are_refused_whatever_their_name(form: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.png" if form == "JPEG" else "a.webp")
    pixels = np.dstack([ids()] * 3 + [np.full((48, 64), 255, np.uint8)])[..., : 4 if "alpha" in form else 3]
    quality = [cv2.IMWRITE_WEBP_QUALITY, 80]
    path.write_bytes(cv2.imencode(".jpg", ids())[1].tobytes() if form == "JPEG" else b"")
    if form != "JPEG":
        assert cv2.imwrite(str(path), pixels, quality)
    with pytest.raises(DataError, match=r"is a (lossy WebP|JPEG, whatever its name), which changes"):
        read_raw_mask(path)
    assert cv2.imwrite(str(path), pixels[..., :3], [cv2.IMWRITE_WEBP_QUALITY, 101])
    assert (read_raw_mask(path).values == ids()).all()


def test_images_of_an_ending_that_is_not_read_are_named_at_import(own: Path, tmp_path: Path) -> None:
    for path in (own / "images").iterdir():
        path.rename(path.with_suffix(".heic"))
    (own / "classes.txt").write_text("dirt\ngrass\n")
    with pytest.raises(DataError, match=r"images holds no images: put files there that end in \.bmp"):
        import_dataset(own, tmp_path / "out")
