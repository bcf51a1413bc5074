"""What people bring: lists, masks and images of other tools and systems are read, or named with the fix."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pspnet_edge.data.check import check_dataset
from pspnet_edge.data.datasets import open_dataset
from pspnet_edge.data.image_file import read_image
from pspnet_edge.data.images import ImageFiles
from pspnet_edge.data.mask_file import read_mask
from pspnet_edge.data.recognize import recognized
from pspnet_edge.errors import DataError
from pspnet_edge.pixels import PixelFormat

from .conftest import indexed_png
from .planted import make_clean, read, scene, with_exif, write

IDS = np.array([[0, 1, 2, 2], [1, 1, 0, 2]], np.uint8)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Three images in a subfolder, with classes in colour."""
    for index in range(3):
        image, mask = scene(index)
        write(tmp_path / "images" / "a" / f"{index:03d}.jpg", image)
        write(tmp_path / "masks" / "a" / f"{index:03d}.png", mask)
    (tmp_path / "classes.txt").write_text("background\nthing\nsky\n")
    return tmp_path


LINES = {
    "relative": "a/{0:03d}.jpg",
    "without suffix": "a/{0:03d}",
    "with the folder": "images/a/{0:03d}.jpg",
    "two columns": "images/a/{0:03d}.jpg masks/a/{0:03d}.png",
    "tab": "images/a/{0:03d}.jpg\tmasks/a/{0:03d}.png",
    "bar": "images/a/{0:03d}.jpg|masks/a/{0:03d}.png",
    "comma": "images/a/{0:03d}.jpg,masks/a/{0:03d}.png",
    "leading slash": "/images/a/{0:03d}.jpg /masks/a/{0:03d}.png",
    "backslash": "a\\{0:03d}.jpg",
    "backslashes in two columns": "images\\a\\{0:03d}.jpg masks\\a\\{0:03d}.png",
    "another machine": "/home/me/set/images/a/{0:03d}.jpg /home/me/set/masks/a/{0:03d}.png",
    "Windows drive": "C:\\set\\images\\a\\{0:03d}.jpg",
    "dot": "./images/a/{0:03d}.jpg",
    "upper-case ending": "a/{0:03d}.JPG",
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_list_is_read_in_each_form_and_encoding(line: str, encoding: str, end: str, own: Path) -> None:
    text = "".join(line.format(index) + end for index in (2, 0))
    (own / "train.txt").write_bytes(text.encode(encoding))
    dataset = open_dataset("folder", own, "train")
    assert [dataset.name(index) for index in range(len(dataset))] == ["002.jpg", "000.jpg"]
    np.testing.assert_array_equal(dataset[1][1], scene(0)[1])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_a_list_of_classes_written_on_windows_has_clean_names(encoding: str, own: Path) -> None:
    (own / "classes.txt").write_bytes("background\r\nDurchgang öffnen\r\nsky\r\n".encode(encoding))
    assert open_dataset("folder", own, "all").label_set.classes == ("background", "Durchgang öffnen", "sky")


@pytest.mark.parametrize("text", ["0 background\n1 thing\n2 sky\n", "0: background\n1: thing\n2: sky\n"])
def test_numbers_in_front_of_classes_are_not_part_of_the_names(text: str, own: Path) -> None:
    (own / "classes.txt").write_text(text)
    assert open_dataset("folder", own, "all").label_set.classes == ("background", "thing", "sky")


def test_a_line_that_names_nothing_is_reported_by_the_path_that_is_missing(own: Path) -> None:
    (own / "train.txt").write_text("images/a/007.jpg masks/a/007.png\n")
    with pytest.raises(DataError, match=r"images/a/007\.jpg cannot be read"):
        open_dataset("folder", own, "train")[0]


@pytest.mark.parametrize("name", ["my image 1", "a [1] (copy)", "Überführung-日本", "a.rf.0123", "x#y%20z", "-o"])
def test_unusual_names_are_ordinary_names(name: str, own: Path) -> None:
    (own / "images" / "a" / "000.jpg").rename(own / "images" / f"{name}.jpg")
    (own / "masks" / "a" / "000.png").rename(own / "masks" / f"{name}.png")
    (own / "train.txt").write_text(f"{name}.jpg\n", encoding="utf-8")
    (own / "val.txt").write_text(f"{name}\n", encoding="utf-8")
    for split in ("train", "val"):
        np.testing.assert_array_equal(open_dataset("folder", own, split)[0][1], scene(0)[1])


@pytest.mark.parametrize("suffix", [".PNG", ".bmp", ".tif", ".TIFF", ".webp"])
@pytest.mark.parametrize("folder", ["masks", "labels", "annotations", "Masks"])
def test_masks_are_found_by_any_ending_in_any_usual_folder(suffix: str, folder: str, own: Path) -> None:
    for path in list((own / "masks").rglob("*.png")):
        target = own / folder / "a" / f"{path.stem}{suffix}"
        pixels = read(path)
        path.unlink()
        options = [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == ".webp" else []
        write(target, np.repeat(pixels[..., None], 3, axis=2) if suffix == ".webp" else pixels, *options)
    np.testing.assert_array_equal(open_dataset("folder", own, "all")[1][1], scene(1)[1])
    assert recognized(own) == "folder"


def test_masks_with_an_ending_in_their_names_are_found(own: Path) -> None:
    for path in list((own / "masks").rglob("*.png")):
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    np.testing.assert_array_equal(open_dataset("folder", own, "all")[2][1], scene(2)[1])
    assert check_dataset("folder", own).defects == ()


def test_what_systems_leave_behind_is_skipped_everywhere(own: Path) -> None:
    for folder in (own / "images" / "a", own / "masks" / "a", own / "images" / "__MACOSX"):
        folder.mkdir(exist_ok=True)
        for name in ("._000.jpg", "._000.png", ".DS_Store", "Thumbs.db", "desktop.ini"):
            (folder / name).write_bytes(b"\0\5\x16\7junk")
    assert check_dataset("folder", own).found == ()
    assert len(open_dataset("folder", own, "all")) == 3
    assert len(ImageFiles(own / "images" / "a")) == 3


@pytest.mark.parametrize("names", [("train", "valid"), ("training", "validation"), ("Train", "Val")])
def test_splits_by_folders_have_their_usual_names(names: tuple[str, str], own: Path) -> None:
    for kind in ("images", "masks"):
        (own / kind / "a").rename(own / kind / names[0])
        (own / kind / names[1]).mkdir()
        suffix = ".jpg" if kind == "images" else ".png"
        (own / kind / names[0] / f"002{suffix}").rename(own / kind / names[1] / f"002{suffix}")
    assert [len(open_dataset("folder", own, split)) for split in ("train", "val", "all")] == [2, 1, 3]


def test_splits_above_images_and_masks_are_understood(own: Path) -> None:
    for split, names in (("train", ("000", "001")), ("valid", ("002",))):
        for name in names:
            write(own / split / "images" / f"{name}.jpg", read(own / "images" / "a" / f"{name}.jpg"))
            write(own / split / "masks" / f"{name}.png", read(own / "masks" / "a" / f"{name}.png"))
    for kind in ("images", "masks"):
        for path in (own / kind / "a").iterdir():
            path.unlink()
        (own / kind / "a").rmdir()
        (own / kind).rmdir()
    assert [len(open_dataset("folder", own, split)) for split in ("train", "val")] == [2, 1]
    np.testing.assert_array_equal(open_dataset("folder", own, "val")[0][1], scene(2)[1])


def png(ids: np.ndarray, depth: int, colour_type: int, extra: tuple[tuple[bytes, bytes], ...] = ()) -> bytes:
    """A grey PNG of few bits, or one with more chunks."""
    bits = np.unpackbits(ids[..., None], axis=-1)[..., 8 - depth :].reshape(len(ids), -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in bits)
    header = struct.pack(">IIBBBBB", ids.shape[1], ids.shape[0], depth, colour_type, 0, 0, 0)
    chunks = ((b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def bgra(ids: np.ndarray, alpha: int) -> np.ndarray:
    return np.dstack([ids, ids, ids, np.full_like(ids, alpha)])


MASKS: dict[str, Callable[[Path], object]] = {
    "grey of 2 bits": lambda path: path.write_bytes(png(IDS, 2, 0)),
    "grey of 4 bits": lambda path: path.write_bytes(png(IDS, 4, 0)),
    "palette with transparency": lambda path: path.write_bytes(
        png(IDS, 8, 3, ((b"PLTE", bytes(range(9))), (b"tRNS", b"\0\xff\xff")))
    ),
    "palette of 2 bits": lambda path: path.write_bytes(indexed_png(IDS, depth=2)),
    "opaque alpha": lambda path: write(path, bgra(IDS, 255)),
    "three equal channels": lambda path: write(path, np.dstack([IDS] * 3)),
    "16 bits": lambda path: write(path, IDS.astype(np.uint16)),
    "16 bits in three equal channels": lambda path: write(path, np.dstack([IDS.astype(np.uint16)] * 3)),
}


@pytest.mark.parametrize("make", MASKS.values(), ids=MASKS)
def test_a_mask_is_read_where_nothing_is_lost(make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", 3), IDS)


def test_a_mask_of_one_bit_has_the_ids_0_and_1(tmp_path: Path) -> None:
    (tmp_path / "mask.png").write_bytes(png(IDS & 1, 1, 0))
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", 2), IDS & 1)


def test_a_transparent_mask_is_refused_for_that_reason(tmp_path: Path) -> None:
    pixels = bgra(IDS, 255)
    pixels[1, 2, 3] = 0
    write(tmp_path / "mask.png", pixels)
    with pytest.raises(DataError, match="transparent at pixel x=2, y=1"):
        read_mask(tmp_path / "mask.png", 3)


COLOURS = ((0, 0, 0), (200, 10, 20), (5, 6, 250))


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_colour_masks_are_read_by_the_colours_of_the_classes(suffix: str, own: Path) -> None:
    lines = [f"{name}, {r}, {g}, {b}" for name, (r, g, b) in zip(("background", "thing", "sky"), COLOURS)]
    (own / "classes.txt").write_text("\n".join(lines))
    for path in list((own / "masks").rglob("*.png")):
        pixels = np.asarray(COLOURS, np.uint8)[read(path)][..., ::-1]
        path.unlink()
        write(path.with_suffix(suffix), pixels)
    np.testing.assert_array_equal(open_dataset("folder", own, "all")[0][1], scene(0)[1])
    assert check_dataset("folder", own).found == ()

    pixels[40, 50] = (9, 8, 7)
    write(own / "masks" / "a" / f"000{suffix}", pixels)
    [finding] = check_dataset("folder", own).found
    assert "colour 7,8,9 at pixel x=50, y=40" in finding.problem


def test_black_and_white_masks_are_read_by_colour_where_the_classes_are_black_and_white(own: Path) -> None:
    (own / "classes.txt").write_text("background, 0, 0, 0\nthing, 255, 255, 255\n")
    for path in (own / "masks").rglob("*.png"):
        write(path, np.asarray(read(path) == 1, np.uint8) * 255)
    np.testing.assert_array_equal(open_dataset("folder", own, "all")[0][1], scene(0)[1] == 1)
    assert check_dataset("folder", own).found == ()


def test_an_id_that_the_list_calls_ignore_has_no_label(own: Path) -> None:
    (own / "classes.txt").write_text("ignore\nbackground\nthing\nsky\n")
    for path in (own / "masks").rglob("*.png"):
        mask = read(path) + 1
        mask[:5] = 0
        write(path, mask)
    dataset = open_dataset("folder", own, "all")
    assert dataset.label_set.classes == ("background", "thing", "sky")
    assert (dataset[0][1][:5] == 255).all()
    np.testing.assert_array_equal(dataset[0][1][5:], scene(0)[1][5:])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_its_exif_says(orientation: int, tmp_path: Path) -> None:
    stored = np.zeros((40, 64, 3), np.uint8)
    stored[:20, :32] = (0, 0, 255)  # a red quarter, top left of what is stored
    write(tmp_path / "image.jpg", stored, cv2.IMWRITE_JPEG_QUALITY, 100)
    with_exif(tmp_path / "image.jpg", orientation)
    image = read_image(tmp_path / "image.jpg")
    height, width = image.shape[:2]
    assert (height, width) == ((40, 64) if orientation < 5 else (64, 40))
    # Where the stored top left corner is seen: EXIF 2.32, section 4.6.4, tag Orientation.
    right, down = orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8)
    corner = image[height - 5 if down else 4, width - 5 if right else 4]
    assert corner[2] > 200
    assert (image[..., 2] > 128).mean() == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_the_tag_counts_in_every_format_and_is_warned_of(suffix: str, orientation: int, own: Path) -> None:
    image_module = pytest.importorskip("PIL.Image")
    path = own / "images" / "a" / "001.jpg"
    picture = image_module.fromarray(np.ascontiguousarray(read(path)[..., ::-1]))
    path.unlink()
    tag = image_module.Exif()
    tag[0x0112] = orientation
    options = {"tiffinfo": {0x0112: orientation}} if suffix == ".tif" else {"exif": tag}
    picture.save(path.with_suffix(suffix), **options)
    stored = np.asarray(picture)[..., ::-1]
    np.testing.assert_allclose(read_image(path.with_suffix(suffix)).mean(axis=(0, 1)), stored.mean(axis=(0, 1)), atol=2)
    kinds = {finding.kind for finding in check_dataset("folder", own).found}
    assert kinds & {"exif", "exif-turned", "size"}


@pytest.mark.parametrize("orientation", [6, 8])
def test_a_mask_drawn_on_the_stored_pixels_is_named_with_exif_as_the_reason(orientation: int, own: Path) -> None:
    with_exif(own / "images" / "a" / "001.jpg", orientation)
    [finding] = check_dataset("folder", own).defects
    assert f"EXIF orientation {orientation}" in finding.problem


def deep(path: Path, values: np.ndarray) -> None:
    write(path, values)


@pytest.mark.parametrize(
    ("suffix", "dtype", "top"), [(".png", np.uint16, 4095), (".tif", np.uint16, 4095), (".tif", np.float32, 1.0)]
)
def test_deep_images_are_scaled_by_the_range_of_their_set(suffix: str, dtype: type, top: float, own: Path) -> None:
    for path in sorted((own / "images" / "a").iterdir()):
        grey = read(path)[..., 1].astype(np.float64)
        path.unlink()
        deep(path.with_suffix(suffix), (grey / 255 * top).astype(dtype))
    dataset = open_dataset("folder", own, "all")
    image = dataset.image(0)
    assert (image.shape, image.dtype) == ((96, 128, 3), np.uint8)
    assert image.max() - image.min() > 100
    low, high = dataset.pixels.pixel_range or (0, 0)
    assert 0 <= low < high <= top
    files = ImageFiles(own / "images" / "a", dataset.pixels)
    np.testing.assert_array_equal(files.image(0), image)
    assert open_dataset("folder", own, "all", PixelFormat(1)).image(0).shape == (96, 128, 1)


def test_channels_of_images_are_the_networks(own: Path) -> None:
    path = own / "images" / "a" / "000.jpg"
    assert read_image(path, PixelFormat(1)).shape == (96, 128, 1)
    with pytest.raises(DataError, match="3 channels and the network takes 4"):
        read_image(path, PixelFormat(4))
    write(own / "four.png", np.dstack([read(path), np.full((96, 128), 7, np.uint8)]))
    four = read_image(own / "four.png", PixelFormat(4))
    assert (four[..., 3] == 7).all()


def test_nothing_among_the_files_is_waited_for(own: Path) -> None:
    os.mkfifo(own / "images" / "a" / "pipe.jpg")
    with pytest.raises(DataError, match="is a named pipe, not a file"):
        open_dataset("folder", own, "all").image(3)
    (own / "classes.txt").unlink()
    os.mkfifo(own / "classes.txt")
    with pytest.raises(DataError, match="is a device, FIFO or socket, not a list of classes"):
        open_dataset("folder", own, "all")


def test_a_class_list_of_a_gigabyte_is_not_read(own: Path) -> None:
    with (own / "classes.txt").open("wb") as stream:
        stream.truncate(1 << 30)
    with pytest.raises(DataError, match="is the most that is read"):
        open_dataset("folder", own, "all")


def test_what_is_not_an_image_is_named_for_what_it_is(own: Path) -> None:
    path = own / "images" / "a" / "000.jpg"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(DataError, match="git lfs pull"):
        read_image(path)
    path.write_bytes(b"<!DOCTYPE html><html></html>")
    with pytest.raises(DataError, match="a web page"):
        read_image(path)


@pytest.mark.parametrize("cut", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
def test_an_image_that_is_cut_short_is_refused(suffix: str, cut: float, tmp_path: Path) -> None:
    path = tmp_path / f"image{suffix}"
    write(path, scene(0)[0])
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * cut)])
    with pytest.raises(DataError, match="cut short"):
        read_image(path)


def test_a_png_with_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "image.png", scene(0)[0])
    content = bytearray((tmp_path / "image.png").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "image.png").write_bytes(bytes(content))
    with pytest.raises(DataError, match="checksum"):
        read_image(tmp_path / "image.png")


def test_a_set_is_recognized_for_what_it_is(own: Path, voc_root: Path, cityscapes_root: Path) -> None:
    assert [recognized(root) for root in (own, voc_root, cityscapes_root)] == ["folder", "voc", "cityscapes"]
    with pytest.raises(DataError, match=f"is a part of the data set {own}"):
        recognized(own / "images" / "a")


def test_a_clean_set_in_lists_of_another_tool_has_no_finding(tmp_path: Path) -> None:
    make_clean(tmp_path)
    for name in ("train", "val"):
        lines = (tmp_path / f"{name}.txt").read_text().split()
        (tmp_path / f"{name}.txt").write_text("".join(f"/images/{line}.jpg /masks/{line}.png\n" for line in lines))
    assert check_dataset("folder", tmp_path).found == ()


def to_train_ids(path: Path) -> Path:
    return path.with_name(path.name.replace("labelIds", "labelTrainIds"))


def test_cityscapes_that_is_converted_in_part_is_read_from_its_label_ids_and_says_so(cityscapes_root: Path) -> None:
    [first, *_] = sorted((cityscapes_root / "gtFine" / "train").rglob("*_labelIds.png"))
    write(to_train_ids(first), np.zeros((12, 17), np.uint8))
    findings = check_dataset("cityscapes", cityscapes_root)
    assert "only 1 of 2 images have *_gtFine_labelTrainIds.png" in findings.notes[0]
    assert (open_dataset("cityscapes", cityscapes_root, "train")[0][1] != 0).any()


def test_label_ids_under_the_name_of_train_ids_are_found_by_their_ids(cityscapes_root: Path) -> None:
    for path in (cityscapes_root / "gtFine").rglob("*_labelIds.png"):
        to_train_ids(path).write_bytes(path.read_bytes())
    findings = check_dataset("cityscapes", cityscapes_root)
    assert {finding.kind for finding in findings.defects} == {"bad-mask"}
    assert "ids 0 to 18" in findings.defects[0].problem
    assert "labelTrainIds" in findings.notes[0]


def test_cityscapes_without_label_ids_says_what_is_there_instead(cityscapes_root: Path) -> None:
    for path in list((cityscapes_root / "gtFine").rglob("*_labelIds.png")):
        path.rename(path.with_name(path.name.replace("labelIds", "color")))
    with pytest.raises(DataError, match="only the colour pictures"):
        open_dataset("cityscapes", cityscapes_root, "train")
    (cityscapes_root / "gtFine").rename(cityscapes_root / "moved")
    (cityscapes_root / "gtFine").mkdir()
    (cityscapes_root / "moved").rename(cityscapes_root / "gtFine" / "gtFine")
    with pytest.raises(DataError, match="one folder too deep"):
        open_dataset("cityscapes", cityscapes_root, "train")


@pytest.mark.parametrize("colours", [("0, 0, 0", "255, 255, 255", "0, 0, 255"), ("2, 2, 2", "1, 1, 1", "0, 0, 255")])
def test_a_colour_mask_that_shows_only_greys_is_read_by_its_colours(colours: tuple[str, ...], own: Path) -> None:
    names = ("background", "thing", "sky")
    (own / "classes.txt").write_text("".join(f"{name}, {rgb}\n" for name, rgb in zip(names, colours)))
    table = np.array([[int(value) for value in rgb.split(",")] for rgb in colours], np.uint8)
    ids = scene(0)[1] % 2
    write(own / "masks" / "a" / "000.png", table[ids][..., ::-1])
    np.testing.assert_array_equal(open_dataset("folder", own, "all")[0][1], ids)


def test_ids_in_three_equal_channels_stay_ids_where_the_classes_have_colours(own: Path) -> None:
    (own / "classes.txt").write_text("background, 0, 0, 0\nthing, 255, 255, 255\nsky, 0, 0, 255\n")
    ids = scene(0)[1]
    write(own / "masks" / "a" / "000.png", np.repeat(ids[..., None], 3, axis=2))
    np.testing.assert_array_equal(open_dataset("folder", own, "all")[0][1], ids)


def test_a_list_of_one_class_is_a_defect(own: Path) -> None:
    (own / "classes.txt").write_text("thing\n")
    for path in (own / "masks").rglob("*.png"):
        write(path, np.where(read(path) == 1, 255, 0).astype(np.uint8))
    assert [finding.kind for finding in check_dataset("folder", own).defects] == ["one-class"]
