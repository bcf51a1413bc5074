"""Where a folder of the user keeps images and masks, and which mask belongs to which image."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from .files import files_below, is_litter

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".npy", ".jpg", ".jpeg")
"""In the order of preference where a name is there more than once."""
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "img_dir", "jpegimages", "pictures", "input")
MASK_FOLDERS = (
    "masks", "mask", "labels", "label", "annotations", "annotation", "ann_dir", "segmentationclass", "gt",
    "groundtruth",
)  # fmt: skip
MASK_ENDINGS = ("_mask", "-mask", "_masks", "_label", "_labels", "_L", "_gt", "_seg", "_segmentation")
"""The usual ones; ``bare_name`` knows more."""
_IMAGE_WORDS = ("leftimg8bit", "image", "images", "img", "imgs", "im", "rgb", "sat", "photo", "picture", "pic", "frame",
                "input", "original", "orig", "raw", "color", "colour", "anon")  # fmt: skip
_MASK_WORDS = ("mask", "masks", "label", "labels", "labelids", "labeltrainids", "trainids", "train_id", "lab", "gt",
               "gtfine", "groundtruth", "ground_truth", "seg", "segm", "segmentation", "semantic", "annotation",
               "annotations", "annot", "anno", "ann", "target", "lbl", "matte", "stuffthingmaps",
               "pixelmaps")  # fmt: skip
_BY_PRODUCTS = {"instance", "instances", "panoptic", "polygons", "depth", "disparity"}
ROLE_WORDS = (*_IMAGE_WORDS, *_MASK_WORDS)
"""What tools and people add to a name to say that the file is an image or a mask."""
SPLITS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Each split and the folder or list names that mean it."""


@dataclass
class Layout:
    """The images and masks of a folder, by their path below their own folder without suffix.

    ``root/images/a/1.jpg`` has the key ``a/1``; ``root/train/images/1.jpg`` the key ``train/1``.
    """

    root: Path
    image_folders: dict[str, Path]
    """Key prefix (empty, or ``train/``) → folder."""
    mask_folders: dict[str, Path]
    images: dict[str, list[Path]] = field(default_factory=dict)
    masks: dict[str, list[Path]] = field(default_factory=dict)
    _by_bare_name: dict[str, str] | None = None

    def mask_of(self, key: str) -> Path:
        """The mask of an image; where there is none, the path at which it is expected.

        It has the image's name, perhaps with its suffix (``a.jpg.png``) or with ``_mask`` or the like behind it. Else
        it is the only one that has this name when both are without such words: ``image_1`` and ``label_1``.
        """
        found = self._named_like(key)
        if found is not None:
            return min(self.masks[found], key=_preference)
        prefix = next((prefix for prefix in self.mask_folders if key.startswith(prefix)), "")
        folder = self.mask_folders.get(prefix, self.root / "masks")
        return folder / f"{key.removeprefix(prefix)}.png"

    def _named_like(self, key: str) -> str | None:
        """The key of the mask of an image."""
        with_suffix = (f"{key}{path.suffix}" for path in self.images.get(key, ()))
        for name in (key, *with_suffix, *(f"{key}{ending}" for ending in MASK_ENDINGS)):
            if name in self.masks:
                return name
        if self._by_bare_name is None:
            self._by_bare_name = self._pairs_by_bare_name()
        return self._by_bare_name.get(key)

    def _pairs_by_bare_name(self) -> dict[str, str]:
        """Image → mask, by their keys, where one image and one mask have a name without words of their role."""
        pairs: dict[str, str] = {}
        for of_images, of_masks in ((ROLE_WORDS, ROLE_WORDS), (_IMAGE_WORDS, _MASK_WORDS)):
            images, masks = _alone(self.images, of_images), _alone(self.masks, of_masks)
            pairs |= {images[name]: masks[name] for name in images if name in masks}
        return pairs

    def masks_without_image(self) -> list[Path]:
        """The masks whose name no image has."""
        used = {self.mask_of(key) for key in self.images}
        same_name = {key for key in self.masks if key in self.images}
        return sorted(
            path for key, paths in self.masks.items() for path in paths if path not in used and key not in same_name
        )

    def keys_below(self, split: str) -> list[str]:
        """The keys of the images in the folders that mean a split."""
        prefixes = tuple(f"{name}/" for name in SPLITS.get(split, ()))
        return [key for key in self.images if key.lower().startswith(prefixes)]

    def has_folder(self, split: str) -> bool:
        """Whether a folder means this split."""
        if any(prefix.rstrip("/").lower() in SPLITS[split] for prefix in self.image_folders):
            return True
        return any(is_split(entry.name, split) for entry in self.subfolders())

    def subfolders(self) -> Iterator[Path]:
        """The folders directly below the image folder."""
        for prefix, folder in self.image_folders.items():
            if not prefix:
                yield from (entry for entry in folder.iterdir() if entry.is_dir())


def is_split(name: str, split: str) -> bool:
    """Whether a folder or list of this name means the split."""
    return name.lower() in SPLITS[split]


def layout_of(root: Path) -> Layout:
    """Find the images and masks of a folder.

    Raises:
        DataError: a folder cannot be read.
        OSError: the root cannot be read.
    """
    folders = {entry.name: entry for entry in sorted(root.iterdir()) if entry.is_dir() and not is_litter(entry.name)}
    images = _named(folders, IMAGE_FOLDERS, IMAGE_SUFFIXES)
    layout = Layout(root, {}, {})
    if images is not None:
        layout.image_folders[""] = images
        masks = _named({name: path for name, path in folders.items() if path != images}, MASK_FOLDERS, MASK_SUFFIXES)
        if masks is not None:
            layout.mask_folders[""] = masks
    else:
        for name, folder in folders.items():
            if any(is_split(name, split) for split in SPLITS):
                below = {entry.name: entry for entry in sorted(folder.iterdir()) if entry.is_dir()}
                images, masks = _named(below, IMAGE_FOLDERS, IMAGE_SUFFIXES), _named(below, MASK_FOLDERS, MASK_SUFFIXES)
                if images is not None:
                    layout.image_folders[f"{name}/"] = images
                if masks is not None:
                    layout.mask_folders[f"{name}/"] = masks
    for prefix, folder in layout.image_folders.items():
        _index(layout.images, prefix, folder, IMAGE_SUFFIXES)
    for prefix, folder in layout.mask_folders.items():
        _index(layout.masks, prefix, folder, MASK_SUFFIXES)
    return layout


def key_of(path: PurePosixPath | Path) -> str:
    """The key of a path relative to its folder: only the last suffix goes, so ``a.rf.123.jpg`` is ``a.rf.123``."""
    return composed(path.with_suffix("").as_posix())


def composed(name: str) -> str:
    """A name with its accents in the letters: a Mac stores them behind, which looks the same and is another name."""
    return unicodedata.normalize("NFC", name)


def bare_name(stem: str, words: tuple[str, ...]) -> str:
    """A file's name without words of its role in front or behind: ``x_GT`` and ``mask-x`` are ``x``.

    In lower case, and with numbers that are not filled with zeros.
    """
    stem = _plain(stem)
    separator, either = r"[ _.\-]+", "|".join(sorted(map(re.escape, words), key=len, reverse=True))
    while True:
        shorter = re.sub(rf"^(?:{either})(?:{separator}(?=.)|(?=\d))", "", stem)
        shorter = re.sub(rf"(?<=.){separator}(?:{either})$|(?<=\d)(?:{either})$", "", shorter)
        if shorter == stem:
            return stem
        stem = shorter


def is_mask_name(stem: str) -> bool:
    """Whether a name says that the file is a mask: ``a_mask``, ``gt-a``."""
    return bare_name(stem, _MASK_WORDS) != _plain(stem)


def masks_side_by_side(files: Iterable[Path]) -> list[Path]:
    """The masks among images and masks of the same folders; none where it cannot be told.

    They are called masks (``a_mask``) and have an image beside them, or all are PNGs beside a JPEG of the same name.
    """
    files = list(files)
    called = [path for path in files if is_mask_name(path.stem)]
    others = {(path.parent, bare_name(path.stem, ROLE_WORDS)) for path in set(files) - set(called)}
    called = [path for path in called if (path.parent, bare_name(path.stem, ROLE_WORDS)) in others]
    if called:
        return called
    pngs = [path for path in files if path.suffix.lower() == ".png"]
    jpegs = {path.with_suffix("") for path in files if path.suffix.lower() in (".jpg", ".jpeg")}
    return pngs if len(pngs) == len(jpegs) and all(path.with_suffix("") in jpegs for path in pngs) else []


def masks_in_folders(files: Iterable[Path], root: Path) -> list[Path]:
    """The masks among files below a root by the folders that they are in, such as ``train_masks`` and ``semantic``.

    None where no other folder has images, or where several are of one image.
    """
    files = [path for path in files if not is_by_product(path, root)]
    masks = [path for path in files if any(_tells_masks(part) for part in path.relative_to(root).parts[:-1])]
    # Beside ids there may be masks in colours for people.
    ids = [path for path in masks if not is_drawn_mask(path, root)] or masks
    images = Counter(bare_name(path.stem, ROLE_WORDS) for path in set(files) - set(masks))
    claims = Counter((bare_name(path.stem, ROLE_WORDS), variant_of(path, root)) for path in ids)
    # Several masks of an image are of single classes or objects.
    several = any(count > images[name] > 0 for (name, _), count in claims.items())
    return [] if several or not images else ids


def variant_of(path: Path, root: Path) -> str:
    """Which of several label sets of one image a mask is of, as far as names say it: ``v2.0`` or ``labelids``."""
    version = next((part for part in path.relative_to(root).parts[:-1] if re.fullmatch(r"v\d+\.\d+", part)), "")
    return version or next((ids for ids in ("labelids", "labeltrainids") if path.stem.lower().endswith(f"_{ids}")), "")


def is_drawn_mask(path: Path, root: Path) -> bool:
    """Whether a file in a folder of masks is one in colours for people, or of instances, by its name or its folder."""
    folders = path.relative_to(root).parts[:-1]
    if not any(_tells_masks(folder) for folder in folders):
        return False
    if path.stem.lower().endswith(("_color", "_colour", "_rgb", "_vis", "_labelcolor", "_invids", "_instanceids")):
        return True
    return any(_words(folder) & {"color", "colour", "colormaps", "rgb"} for folder in folders)


def is_by_product(path: Path, root: Path) -> bool:
    """Whether a file below a root is neither an image nor a mask of classes: of instances, depths and the like."""
    return any(_words(part) & _BY_PRODUCTS for part in path.relative_to(root).parts[:-1])


def _tells_masks(folder: str) -> bool:
    # RUGD's frames-with-annotations are images.
    return bool(_words(re.split(r"[^a-z]with[^a-z]", folder.lower())[0]) & set(_MASK_WORDS))


def _words(name: str) -> set[str]:
    return set(re.split(r"[^a-z]+", name.lower()))


def names_of_mask(image: Path) -> str:
    """The names under which the mask of an image is looked for, for people."""
    return f"{image.stem}.png, {image.name}.png, {image.stem}_mask.png or the like"


def _plain(stem: str) -> str:
    # A2D2 has the role in the middle: 2018_camera_front_1 and 2018_label_front_1.
    stem = re.sub(r"^(\d+)_(?:camera|label)_", r"\1_", composed(stem).lower())
    return re.sub(r"(?<!\d)0+(?=\d)", "", stem)


def _alone(files: Mapping[str, list[Path]], words: tuple[str, ...]) -> dict[str, str]:
    """Bare name → key, of those that a single file has."""
    found: dict[str, list[str]] = {}
    for key in files:
        folder, slash, stem = key.rpartition("/")
        stem = next((stem[: -len(end)] for end in IMAGE_SUFFIXES if stem.lower().endswith(end)), stem)
        found.setdefault(f"{folder}{slash}{bare_name(stem, words)}", []).append(key)
    return {name: keys[0] for name, keys in found.items() if len(keys) == 1}


def _index(into: dict[str, list[Path]], prefix: str, folder: Path, suffixes: tuple[str, ...]) -> None:
    for path in files_below(folder):
        if path.suffix.lower() in suffixes:
            into.setdefault(prefix + key_of(path.relative_to(folder)), []).append(path)


def _named(folders: dict[str, Path], names: tuple[str, ...], suffixes: tuple[str, ...]) -> Path | None:
    """The first folder of these names, in any case, that holds a file of its kind; else the first there is."""
    by_lower = {name.lower(): path for name, path in reversed(folders.items())}
    found = [by_lower[name] for name in names if name in by_lower]
    return next(
        (folder for folder in found if len(found) == 1 or _holds(folder, suffixes)), found[0] if found else None
    )


def _holds(folder: Path, suffixes: tuple[str, ...]) -> bool:
    return any(path.suffix.lower() in suffixes for path in files_below(folder))


def _preference(path: Path) -> tuple[int, str]:
    return MASK_SUFFIXES.index(path.suffix.lower()), path.name
