"""Your own data set: a folder with ``images/``, ``masks/`` and a file of classes.

::

    root/
      classes.txt            one class per line, in id order: `road` or `road, 128, 64, 128`; `ignore` is not a class
      images/0001.jpg        any name and any depth of folders
      masks/0001.png         the same path with .png (or .bmp, .tif, …): ids, or colours of classes.txt; 255 = ignore
      train.txt, val.txt     optional: the images of a split, one per line

Instead of lists, ``images/train/`` and ``images/val/`` may make the splits, or ``train/images/`` and ``train/masks/``.
``classes.json`` may replace ``classes.txt``: a list of names, or ``{"classes": [names], "palette": [[r, g, b], …]}``
as in the sidecars.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from ..errors import DataError, OptionError
from .class_list import ClassList, published_list, read_class_list
from .files import FileSet
from .layout import IMAGE_SUFFIXES, SPLITS, Layout, layout_of
from .recognize import foreign_layout
from .split_list import listed_pairs

LIST_FOLDERS = ("", "splits", "split", "lists", "list", "ImageSets", "ImageSets/Segmentation")
LIST_ENDINGS = (".txt", "_list.txt", ".lst", ".csv")
_LIKE_CLASSES = (
    "classes.txt",
    "labels.txt",
    "label.txt",
    "class_names.txt",
    "class.txt",
    "classes.csv",
    "label_names.txt",
)


def folder(root: Path, split: str) -> FileSet:
    """Open a folder data set.

    Args:
        root: the folder of the layout above.
        split: ``train``, ``val`` or ``test``, from a list or else a subfolder of that name; ``trainval``, which joins
            two; or ``all``, every image.

    Raises:
        OptionError: an unknown split.
        DataError: a split that the folder lacks, no images, or a classes file that is missing or damaged.
    """
    classes = classes_of(root)
    layout = opened_layout(root)
    parts = ("train", "val") if split == "trainval" else (split,)
    pairs = [pair for part in parts for pair in _pairs(root, part, layout)]
    return FileSet(classes.label_set, tuple(pairs), id_table=classes.id_table, palette=classes.colours)


def stored_splits(root: Path) -> tuple[str, ...]:
    """The splits that the folder has as lists or subfolders; ``("all",)`` where it has none."""
    layout = layout_of(root)
    return tuple(split for split in SPLITS if list_of(root, split) or layout.has_folder(split)) or ("all",)


def masks_without_image(root: Path) -> list[Path]:
    """The masks that no image shares its name with.

    Raises:
        DataError: the folder of images or of masks cannot be read, or there are no images.
    """
    return opened_layout(root).masks_without_image()


def list_of(root: Path, split: str) -> Path | None:
    """The list of a split, ``train.txt``, ``val_list.txt`` or ``splits/valid.csv`` among others; None without one."""
    return next(
        (
            path
            for folder in LIST_FOLDERS
            for name in SPLITS[split]
            for ending in LIST_ENDINGS
            if (path := root / folder / f"{name}{ending}").is_file()
        ),
        None,
    )


def opened_layout(root: Path) -> Layout:
    """The images and masks of the folder.

    Raises:
        DataError: there are no images, or a folder cannot be read.
    """
    layout = layout_of(root)
    if not layout.image_folders:
        raise DataError(_no_images(root))
    if not layout.images:
        places = ", ".join(str(folder) for folder in layout.image_folders.values())
        raise DataError(f"{places} holds no images", f"put files there that end in {', '.join(IMAGE_SUFFIXES)}")
    return layout


def classes_of(root: Path) -> ClassList:
    """The classes of the folder.

    Raises:
        DataError: the list of classes is missing, damaged, or there are two.
    """
    text, structured = root / "classes.txt", root / "classes.json"
    if text.exists() and structured.exists():
        raise DataError(f"{root} has both classes.txt and classes.json", "keep one")
    if not text.exists() and not structured.exists():
        other = foreign_layout(root)
        if other is not None:
            raise DataError(f"{root} is {other.title}", "convert it", other.command(root))
        published = published_list(root)
        if published is not None:
            return read_class_list(published)
        like = [entry.name for entry in sorted(root.iterdir()) if entry.name.lower() in _LIKE_CLASSES]
        if like:
            raise DataError(f"{root} has no classes.txt, but {like[0]}", f"rename {like[0]} to classes.txt")
        raise DataError(f"{root} has no classes.txt", "write one class per line, in the order of the ids in the masks")
    return read_class_list(text if text.exists() else structured)


def _pairs(root: Path, split: str, layout: Layout) -> list[tuple[Path, Path]]:
    if split == "all":
        keys = list(layout.images)
    elif split in SPLITS and (listing := list_of(root, split)) is not None:
        return listed_pairs(listing, layout)
    elif split in SPLITS and layout.has_folder(split):
        keys = layout.keys_below(split)
    else:
        stored = stored_splits(root)
        has = "no lists" if stored == ("all",) else ", ".join(stored)
        problem = f"{root} has no split {split!r} (it has {has})"
        if split not in SPLITS:
            raise OptionError(problem, f"choose one of {', '.join(dict.fromkeys((*stored, 'all')))}")
        share = " --test 0.2" if split == "test" else ""
        again = "" if stored == ("all",) else " --overwrite"
        words = "make one" if stored == ("all",) else "draw all lists again"
        command = f"pspnet-edge data split {shlex.quote(str(root))}{share}{again}"
        raise DataError(problem, f"{words} with `{command}`, or give --split all for every image")
    if not keys:
        raise DataError(f"the folders of split {split} in {root} hold no images", "put the split's images there")
    return [(path, layout.mask_of(key)) for key in keys for path in layout.images[key]]


def _no_images(root: Path) -> str:
    other = foreign_layout(root)
    if other is not None:
        return f"{root} is {other.title}: convert it with `{other.command(root)}`"
    there = sorted(entry.name for entry in root.iterdir())[:8]
    return (
        f"{root} has no folder images (it has {', '.join(there) or 'nothing'}): give the folder that holds "
        f"images/ and masks/"
    )
