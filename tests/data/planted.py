"""A clean data set of one's own, and twenty ways in which people's sets are wrong."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

SIZE_HW = (96, 128)
COLOURS = ((40, 60, 50), (60, 60, 200), (200, 160, 60))
CLASSES = ("background", "thing", "sky")


def scene(seed: int, size_hw: tuple[int, int] = SIZE_HW) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """An image whose things have edges where its mask has."""
    rng = np.random.default_rng(seed)
    height, width = size_hw
    mask = np.zeros(size_hw, np.uint8)
    mask[: int(rng.integers(height // 5, height // 3))] = 2
    for _ in range(3):
        y, x = int(rng.integers(height // 3, height - 30)), int(rng.integers(10, width - 40))
        mask[y : y + int(rng.integers(12, 28)), x : x + int(rng.integers(12, 34))] = 1
    image = np.asarray(COLOURS, np.float32)[mask] + rng.normal(0, 4, (*size_hw, 1)) + rng.uniform(-15, 15, 3)
    return np.clip(image, 0, 255).astype(np.uint8), mask


def write(path: Path, pixels: NDArray[np.generic], *options: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels, list(options))


def make_clean(root: Path, images: int = 12, size_hw: tuple[int, int] = SIZE_HW) -> Path:
    """A folder data set without fault: two thirds train, the rest val."""
    for index in range(images):
        image, mask = scene(index, size_hw)
        write(root / "images" / f"{index:03d}.jpg", image, cv2.IMWRITE_JPEG_QUALITY, 95)
        write(root / "masks" / f"{index:03d}.png", mask)
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    names = [f"{index:03d}" for index in range(images)]
    (root / "train.txt").write_text("\n".join(names[: 2 * images // 3]) + "\n")
    (root / "val.txt").write_text("\n".join(names[2 * images // 3 :]) + "\n")
    return root


def with_exif(path: Path, orientation: int) -> None:
    """Give a JPEG an EXIF orientation."""
    jpeg = path.read_bytes()
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    block = b"Exif\0\0" + tiff
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:])


def read(path: Path) -> NDArray[np.uint8]:
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), np.uint8)


def _binary_255(root: Path) -> None:
    for path in (root / "masks").iterdir():
        write(path, np.asarray(read(path) == 1, np.uint8) * 255)
    (root / "classes.txt").write_text("background\nthing\n")


def _class_never_occurs(root: Path) -> None:
    (root / "classes.txt").write_text("background\nthing\nsky\nunicorn\n")


def _class_not_in_val(root: Path) -> None:
    for name in (root / "val.txt").read_text().split():
        path = root / "masks" / f"{name}.png"
        mask = read(path)
        mask[mask == 2] = 0
        write(path, mask)


def _all_ignore(root: Path) -> None:
    write(root / "masks" / "001.png", np.full(SIZE_HW, 255, np.uint8))


def _id_beyond(root: Path) -> None:
    mask = read(root / "masks" / "002.png")
    mask[5, 7] = 9
    write(root / "masks" / "002.png", mask)


def _exif_sideways(root: Path) -> None:
    with_exif(root / "images" / "003.jpg", 6)


def _exif_upside_down(root: Path) -> None:
    with_exif(root / "images" / "003.jpg", 3)


def _sixteen_bits(root: Path) -> None:
    image = read(root / "images" / "004.jpg")
    (root / "images" / "004.jpg").unlink()
    write(root / "images" / "004.png", image.astype(np.uint16) * 16)


def _copied_into_val(root: Path) -> None:
    image = read(root / "images" / "000.jpg")
    write(root / "images" / "copy.jpg", image, cv2.IMWRITE_JPEG_QUALITY, 80)
    write(root / "masks" / "copy.png", read(root / "masks" / "000.png"))
    with (root / "val.txt").open("a") as stream:
        stream.write("copy\n")


def _blank(root: Path) -> None:
    write(root / "images" / "005.jpg", np.zeros((*SIZE_HW, 3), np.uint8))


def _off_by_one_pixel_in_size(root: Path) -> None:
    write(root / "masks" / "006.png", read(root / "masks" / "006.png")[:-1])


def _transposed(root: Path) -> None:
    write(root / "masks" / "006.png", read(root / "masks" / "006.png").T)


def _shifted(root: Path) -> None:
    write(root / "masks" / "006.png", np.roll(read(root / "masks" / "006.png"), (4, 3), (0, 1)))


def _off_by_one_pixel(root: Path) -> None:
    write(root / "masks" / "006.png", np.roll(read(root / "masks" / "006.png"), 1, 1))


def _of_another_image(root: Path) -> None:
    write(root / "masks" / "006.png", np.roll(read(root / "masks" / "002.png")[::-1], (40, 20), (0, 1)))


def _mirrored(root: Path) -> None:
    write(root / "masks" / "006.png", read(root / "masks" / "006.png")[:, ::-1])


def _interpolated(root: Path) -> None:
    mask = read(root / "masks" / "007.png")
    small = cv2.resize(mask, (64, 48), interpolation=cv2.INTER_NEAREST)
    write(root / "masks" / "007.png", cv2.resize(small, (128, 96), interpolation=cv2.INTER_LINEAR))


def _tiny_objects(root: Path) -> None:
    for path in (root / "masks").iterdir():
        image = cv2.resize(read(root / "images" / f"{path.stem}.jpg"), (1280, 960), interpolation=cv2.INTER_NEAREST)
        mask = np.zeros((960, 1280), np.uint8)
        mask[:300] = 2
        mask[500:508, 600:608] = 1
        image[500:508, 600:608] = (10, 250, 10)
        write(root / "images" / f"{path.stem}.jpg", image)
        write(path, mask)


def _truncated_image(root: Path) -> None:
    path = root / "images" / "008.jpg"
    path.write_bytes(path.read_bytes()[:-200])


def _missing_mask(root: Path) -> None:
    (root / "masks" / "009.png").unlink()


def _mask_without_image(root: Path) -> None:
    write(root / "masks" / "orphan.png", np.zeros(SIZE_HW, np.uint8))


def _same_file_in_both(root: Path) -> None:
    with (root / "val.txt").open("a") as stream:
        stream.write("000\n")


def _jpeg_mask(root: Path) -> None:
    mask = read(root / "masks" / "010.png")
    (root / "masks" / "010.png").unlink()
    write(root / "masks" / "010.jpg", mask * 100, cv2.IMWRITE_JPEG_QUALITY, 75)


def _colour_mask(root: Path) -> None:
    write(root / "masks" / "010.png", np.asarray(COLOURS, np.uint8)[read(root / "masks" / "010.png")])


FAULTS: list[tuple[Callable[[Path], None], str, str]] = [
    (_binary_255, "ignore-is-class", "masks/"),
    (_class_never_occurs, "class-never-occurs", "classes.txt"),
    (_class_not_in_val, "class-not-in-val", ""),
    (_all_ignore, "nothing-labelled", "masks/001.png"),
    (_id_beyond, "bad-mask", "masks/002.png"),
    (_exif_sideways, "size", "masks/003.png"),
    (_exif_upside_down, "exif-turned", "images/003.jpg"),
    (_sixteen_bits, "mixed-depth", "images/004.png"),
    (_copied_into_val, "duplicate", "images/copy.jpg"),
    (_blank, "blank", "images/005.jpg"),
    (_off_by_one_pixel_in_size, "size", "masks/006.png"),
    (_transposed, "size", "masks/006.png"),
    (_shifted, "shifted", "masks/006.png"),
    (_off_by_one_pixel, "shifted", "masks/006.png"),
    (_of_another_image, "wrong-image", "masks/006.png"),
    (_mirrored, "turned", "masks/006.png"),
    (_interpolated, "slivers", "masks/007.png"),
    (_tiny_objects, "small-objects", "masks/"),
    (_truncated_image, "unreadable", "images/008.jpg"),
    (_missing_mask, "missing-mask", "masks/009.png"),
    (_mask_without_image, "mask-without-image", "masks/orphan.png"),
    (_same_file_in_both, "leak", "images/000.jpg"),
    (_jpeg_mask, "bad-mask", "masks/010.jpg"),
    (_colour_mask, "bad-mask", "masks/010.png"),
]
"""What is planted, the kind of the finding that must name it, and how its file begins."""
