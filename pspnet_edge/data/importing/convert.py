"""A foreign data set, read by one of the readers, written as a folder data set."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...artifact import find_target, write_bytes, write_json
from ...errors import DataError, OptionError, OutputError
from ...inputs import check_file, check_folder
from ...labels import LabelSet
from ..class_list import read_class_list
from ..exif import SWAPS_SIDES, orientation_of, turned
from ..files import is_litter
from ..image_file import decode, read_encoded
from ..png import indexed_png
from ..progress import Progress, silent
from ..recognize import foreign_layout, recognized
from ..split import assign, group_names
from ..unpack import unpack_all
from .class_map import ClassMap, class_map, parse_map
from .coco import read_coco
from .colour_list import read_colour_list, read_names
from .label_studio import read_label_studio
from .labelme import read_labelme
from .mask_formats import (
    read_ade20k,
    read_camvid,
    read_cityscapes,
    read_colours,
    read_cvat,
    read_cvat_cityscapes,
    read_folder,
    read_pairs,
    read_roboflow,
    read_voc,
)  # fmt: skip
from .source import Dropped, Item, ReadOptions, Source
from .supervisely import read_supervisely
from .yolo import read_yolo

READERS: dict[str, Callable[[Path, ReadOptions], Source]] = {
    "cvat": read_cvat,
    "cvat-cityscapes": read_cvat_cityscapes,
    "camvid": read_camvid,
    "coco": read_coco,
    "labelme": read_labelme,
    "voc": read_voc,
    "label-studio": read_label_studio,
    "roboflow": read_roboflow,
    "supervisely": read_supervisely,
    "cityscapes": read_cityscapes,
    "ade20k": read_ade20k,
    "colours": read_colours,
    "pairs": read_pairs,
    "yolo": read_yolo,
    "folder": read_folder,
}
FORMATS = tuple(READERS)
REPORT = "import.json"
_STATE = ".import.partial.json"
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")


@dataclass(frozen=True)
class Imported:
    """What an import wrote."""

    root: Path
    format: str
    images: int
    classes: tuple[str, ...]
    splits: dict[str, int]
    dropped: tuple[Dropped, ...]
    report: Path

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "root": str(self.root),
            "format": self.format,
            "images": self.images,
            "classes": list(self.classes),
            "splits": dict(self.splits),
            "dropped": [asdict(entry) for entry in self.dropped],
            "report": str(self.report),
        }


def import_dataset(
    source: Path,
    output: Path,
    *,
    format: str = "auto",
    images: Path | None = None,
    classes: Path | None = None,
    mapping: str | None = None,
    ignore_id: int | None = None,
    train_share: float | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Imported:
    """Convert a foreign data set into a folder data set.

    Nothing changes in ``source``. An import that was interrupted is resumed by the same call.

    Args:
        source: the folder or archive of the export.
        output: a new folder.
        format: one of ``FORMATS``, or ``auto``.
        images: where the images are, if not in ``source``.
        classes: a list of classes in id order, for formats that do not name theirs, or other names.
        mapping: ``truck=car,void=ignore,255=thing``.
        ignore_id: an id in the masks that has no label.
        train_share: share of the images to train on, the rest validates; None keeps the source's splits, if it has any.
        seed: of the split.
        overwrite: replace a data set that an earlier import wrote to ``output``.
        progress: shows how many images are written.

    Raises:
        DataError: the source cannot be read or recognized, or nothing of it is left.
        OptionError: an option makes no sense for it.
        OutputError: ``output`` holds something else, or cannot be written.
    """
    if format not in (*FORMATS, "auto"):
        raise OptionError(
            f"unknown format {format!r}", f"choose auto or one of {', '.join(FORMATS)}", parameter="format"
        )
    if train_share is not None and not 0 < train_share < 1:
        raise OptionError(
            f"a share of {train_share} to train on", "choose a number between 0 and 1", parameter="train_share"
        )
    if ignore_id is not None and not 0 <= ignore_id < 1 << 16:
        raise OptionError(f"id {ignore_id} to ignore", "choose one from 0 to 65535", parameter="ignore_id")
    fix = "give the folder or archive that the labelling tool exported"
    try:
        check_folder(source, "label export", DataError, fix)
    except DataError:
        check_file(source, "label export", DataError, fix)
    if images is not None:
        check_folder(images, "image folder", DataError, "give --images the folder of the images")
    find_target(output / REPORT)
    if output.resolve() == source.resolve() or source.resolve() in output.resolve().parents:
        raise OutputError(f"{output} is in the source {source}", "choose another folder")
    pairs = parse_map(mapping)
    options = ReadOptions(images, _class_list(classes) if classes else None, ignore_id)
    request = [str(source.resolve()), format, str(images), str(classes), pairs, ignore_id, train_share, seed]
    _prepare(output, hashlib.sha256(json.dumps(request).encode()).hexdigest(), overwrite)
    try:
        return _import(source, output, format, options, pairs, train_share, seed, progress)
    except (DataError, OptionError):
        _leave_nothing(output)
        raise


def _import(
    source: Path,
    output: Path,
    format: str,
    options: ReadOptions,
    pairs: dict[str, str],
    train_share: float | None,
    seed: int,
    progress: Progress,
) -> Imported:
    with _unpacked(source, output, progress) as unpacked:
        try:
            root, format = _recognized(unpacked, format)
            opened = READERS[format](root, options)
            if not opened.items:
                raise DataError(f"{source} holds no labelled image in the format {format}" + _first(opened.dropped))
            mapped = class_map(opened, pairs, options.ignore_id)
            written = _write_pairs(opened, mapped, output, progress)
        except DataError as error:
            # An archive is called by its name, not by where it was unpacked.
            raise DataError(_renamed(error.problem, unpacked, source), error.fix, error.command) from error
    opened.dropped = [
        Dropped(_renamed(entry.item, unpacked, source), _renamed(entry.reason, unpacked, source))
        for entry in opened.dropped
    ]
    if not written:
        raise DataError(f"no image of {source} could be converted" + _first(opened.dropped))
    return _finish(output, format, opened, mapped.label_set, written, train_share, seed)


def _renamed(text: str, unpacked: Path, source: Path) -> str:
    return text if unpacked == source else text.replace(str(unpacked), str(source))


def _leave_nothing(output: Path) -> None:
    """Remove what an import that came to nothing has made."""
    if not (output / "images").is_dir():
        (output / _STATE).unlink(missing_ok=True)
        with suppress(OSError):
            output.rmdir()


def _class_list(path: Path):  # type: ignore[no-untyped-def]
    """A list of classes of any form, with colours where it has them."""
    from ..class_list import ClassList

    if path.suffix.lower() == ".json" or path.name == "classes.txt":
        return read_class_list(path)
    try:
        return read_class_list(path)
    except DataError:
        pass
    try:
        entries = read_colour_list(path)
    except DataError:
        return ClassList(tuple(read_names(path)), None)
    return ClassList(tuple(name for name, _ in entries), tuple(colour for _, colour in entries))


def _prepare(output: Path, request: str, overwrite: bool) -> None:
    """Make the output folder, or see that it holds an import that may be resumed or replaced."""
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output} is a file", "give -o the name of a folder")
    there = [entry.name for entry in output.iterdir() if not is_litter(entry.name)] if output.is_dir() else []
    state = output / _STATE
    try:
        resumes = state.is_file() and json.loads(state.read_text(encoding="utf-8")).get("request") == request
    except (OSError, ValueError, AttributeError):
        resumes = False
    if there and not resumes:
        ours = (output / REPORT).is_file() or state.is_file()
        if not (overwrite and ours):
            fix = "give --overwrite to replace it, or choose another folder" if ours else "choose a new folder"
            what = (
                "an import already"
                if (output / REPORT).is_file()
                else "files already"
                if not ours
                else "another import"
            )
            raise OutputError(f"{output} holds {what} ({', '.join(sorted(there)[:4])})", fix)
        for name in ("images", "masks"):
            shutil.rmtree(output / name, ignore_errors=True)
        for name in ("classes.txt", "train.txt", "val.txt", "test.txt", REPORT):
            (output / name).unlink(missing_ok=True)
    write_json(state, {"request": request})


@contextmanager
def _unpacked(source: Path, output: Path, progress: Progress) -> Iterator[Path]:
    if source.is_dir():
        yield source
        return
    if source.suffix.lower() == ".json":
        yield source.parent
        return
    if not source.name.lower().endswith(_ARCHIVES):
        raise DataError(f"{source} is neither a folder nor a .zip or .tar archive", "give what the tool exported")
    with tempfile.TemporaryDirectory(prefix=".unpacked.", dir=output) as scratch:
        unpack_all(source, Path(scratch), progress)
        yield Path(scratch)


def _recognized(root: Path, format: str) -> tuple[Path, str]:
    """The folder that holds the export, perhaps one below, and its format."""
    for folder in _down(root):
        if format != "auto":
            if folder == root or foreign_layout(folder) is not None:
                found = foreign_layout(folder)
                if (found is not None and found.format == format) or not _only_folder(folder):
                    return folder, format
            continue
        found = foreign_layout(folder)
        if found is not None and not _is_own(folder):
            return folder, found.format
        try:
            name = recognized(folder)
        except DataError:
            continue
        return folder, name if name in READERS else "folder"
    if format != "auto":
        return root, format
    there = ", ".join(sorted(entry.name for entry in root.iterdir() if not is_litter(entry.name))[:8])
    raise DataError(
        f"the format of {root} is not recognized (it has {there or 'nothing'})",
        f"give --format with one of {', '.join(FORMATS)}",
    )


def _is_own(folder: Path) -> bool:
    return (folder / "classes.txt").is_file() and (folder / "images").is_dir() and (folder / "masks").is_dir()


def _down(root: Path) -> Iterator[Path]:
    """The folder, and what is in it as long as that is a single folder."""
    for _ in range(4):
        yield root
        inner = _only_folder(root)
        if inner is None:
            return
        root = inner


def _only_folder(root: Path) -> Path | None:
    entries = [entry for entry in root.iterdir() if not is_litter(entry.name)]
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else None


def _write_pairs(source: Source, mapped: ClassMap, output: Path, progress: Progress) -> list[Item]:
    palette = np.ascontiguousarray(mapped.label_set.bgr_table()[:, ::-1])
    written: list[Item] = []
    taken: dict[str, Item] = {}
    with progress(f"Importing {source.format}", len(source.items)) as advance:
        for done, item in enumerate(source.items, 1):
            name = item.name
            if taken.setdefault(name.lower(), item) is not item:
                source.drop(item.image if isinstance(item.image, Path) else name, f"another image is called {name} too")
                continue
            image, mask = output / "images" / f"{name}{item.suffix.lower()}", output / "masks" / f"{name}.png"
            if not (image.is_file() and mask.is_file()):
                try:
                    content = item.image if isinstance(item.image, bytes) else read_encoded(item.image)
                    drawn = _fitting(item, content, item.draw())
                    pixels = mapped.apply(drawn)
                except DataError as error:
                    source.drop(item.image if isinstance(item.image, Path) else name, str(error))
                    continue
                write_bytes(image, content)
                write_bytes(mask, indexed_png(pixels, palette, level=6))
            written.append(item)
            advance(done, f"{len(source.dropped)} dropped" if source.dropped else "")
    return written


def _fitting(item: Item, content: bytes, ids: NDArray[Any]) -> NDArray[Any]:
    """The mask in the size of its image as it is read, upright; a mask of the stored size is turned with it."""
    path = item.image if isinstance(item.image, Path) else Path(item.name)
    height, width = decode(path, content).shape[:2]
    orientation = orientation_of(content)
    if ids.shape[:2] == (width, height) and (width != height) and orientation in SWAPS_SIDES:
        ids = turned(ids, orientation)
    if ids.shape[:2] != (height, width):
        raise DataError(f"its mask is {ids.shape[1]}×{ids.shape[0]} and the image {width}×{height}")
    return ids


def _finish(
    output: Path,
    format: str,
    source: Source,
    label_set: LabelSet,
    written: list[Item],
    train_share: float | None,
    seed: int,
) -> Imported:
    lines = [f"{name}, {r}, {g}, {b}" for name, (r, g, b) in zip(label_set.classes, label_set.palette)]
    if any("," in name for name in label_set.classes):
        write_json(output / "classes.json", label_set_document(label_set))
    else:
        write_bytes(output / "classes.txt", ("\n".join(lines) + "\n").encode())
    splits = _splits(written, train_share, seed)
    for split, entries in splits.items():
        listing = "".join(f"{entry}\n" for entry in entries)
        write_bytes(output / f"{split}.txt", listing.encode("utf-8", "surrogateescape"))
    sizes = {split: len(entries) for split, entries in splits.items()}
    imported = Imported(output, format, len(written), label_set.classes, sizes, tuple(source.dropped), output / REPORT)
    write_json(output / REPORT, imported.to_dict())
    (output / _STATE).unlink(missing_ok=True)
    return imported


def label_set_document(label_set: LabelSet) -> dict[str, Any]:
    """The content of ``classes.json``, for names that hold a comma."""
    return {"classes": list(label_set.classes), "palette": [list(colour) for colour in label_set.palette]}


def _splits(written: list[Item], train_share: float | None, seed: int) -> dict[str, list[str]]:
    """Split → lines of its list; empty where the source has no splits and none is asked for."""
    lines = {item.name: f"{item.name}{item.suffix.lower()}" for item in written}
    if train_share is not None:
        if len(lines) < 2:
            raise DataError("one image cannot be split", "leave --split away, or label more images")
        groups, _ = group_names(list(lines), "auto")
        if len(groups) < 2:
            groups, _ = group_names(list(lines), "none")
        chosen = assign(groups, {"val": 1 - train_share}, seed)
        return {split: [lines[name] for name in names] for split, names in chosen.items()}
    splits: dict[str, list[str]] = {}
    for item in written:
        if item.split is not None:
            splits.setdefault(item.split, []).append(lines[item.name])
    return splits


def _first(dropped: list[Dropped]) -> str:
    """The first reasons, for an error."""
    if not dropped:
        return ": give the folder with images and labels, or another --format"
    more = f" and {len(dropped) - 1} more" if len(dropped) > 1 else ""
    return f" ({dropped[0].item}: {dropped[0].reason}{more}): correct the source or the options"
