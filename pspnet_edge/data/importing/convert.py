"""A foreign data set, read by one of the readers, written as a folder data set."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...artifact import claim, find_target, write_bytes, write_json
from ...errors import DataError, OptionError, OutputError, PspnetEdgeError
from ...inputs import check_file, check_folder, is_file, is_there
from ...labels import LabelSet
from ..exif import SWAPS_SIDES, orientation_of, turned
from ..image_file import decode, read_encoded
from ..mask_file import read_raw_mask
from ..png import indexed_png
from ..progress import Progress, silent
from ..recognize import DOCUMENT_SUFFIXES, ensure_data_folder
from ..split import assign, group_names, sequences_cut
from ..unread import ensure_readable
from .class_map import ClassMap, class_map, parse_map
from .coco import read_coco
from .colour_list import read_any_list
from .cvat_xml import read_cvat_images
from .darwin import read_darwin
from .datumaro import read_datumaro
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
from .place import REPORT, STATE, leave_nothing, prepare_output, recognize_format, unpacked_source
from .source import BACKGROUND, Dropped, Item, ReadOptions, Source
from .supervisely import read_supervisely
from .via import read_via
from .yolo import read_yolo

READERS: dict[str, Callable[[Path, ReadOptions], Source]] = {
    "cvat": read_cvat,
    "cvat-images": read_cvat_images,
    "cvat-cityscapes": read_cvat_cityscapes,
    "camvid": read_camvid,
    "coco": read_coco,
    "labelme": read_labelme,
    "voc": read_voc,
    "label-studio": read_label_studio,
    "roboflow": read_roboflow,
    "supervisely": read_supervisely,
    "via": read_via,
    "datumaro": read_datumaro,
    "darwin": read_darwin,
    "cityscapes": read_cityscapes,
    "ade20k": read_ade20k,
    "colours": read_colours,
    "pairs": read_pairs,
    "yolo": read_yolo,
    "folder": read_folder,
}
FORMATS = tuple(READERS)
_NUMBERED = ("pairs", "folder", "cityscapes", "voc")
"""Formats whose list of classes may leave ids out."""


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
    class_list: str | None = None
    """The list beside the data that the classes were read from."""
    only_background: int = 0
    """How many images have nothing drawn in them."""
    sequences_cut: int = 0
    """How many sequences have images in train and in val, where ``val`` was given; see ``split.sequences_cut``."""

    def to_dict(self) -> dict[str, object]:
        """As JSON values."""
        return {
            "root": str(self.root),
            "format": self.format,
            "images": self.images,
            "classes": list(self.classes),
            "splits": dict(self.splits),
            "dropped": [asdict(entry) for entry in self.dropped],
            "report": str(self.report),
            "class_list": self.class_list,
            "only_background": self.only_background,
            "sequences_cut": self.sequences_cut,
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
    val: float | None = None,
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
        val: share of the images for validation, the others train; None keeps the source's splits, if it has any.
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
    if val is not None and not 0 < val < 1:
        raise OptionError(f"{val} is not a fraction", "choose a number between 0 and 1", parameter="val")
    if ignore_id is not None and not 0 <= ignore_id < 1 << 16:
        raise OptionError(f"id {ignore_id} is out of range", "choose one from 0 to 65535", parameter="ignore_id")
    if is_file(source):
        check_file(source, "label export", DataError, "give the folder or archive that the labelling tool exported")
    else:
        ensure_data_folder(source)
    if images is not None:
        check_folder(images, "image folder", DataError, "give --images the folder of the images")
    find_target(output / REPORT)
    if output.resolve() == source.resolve() or source.resolve() in output.resolve().parents:
        raise OutputError(f"{output} is inside the source {source}", "choose another folder")
    pairs = parse_map(mapping)
    document = source if source.suffix.lower() in DOCUMENT_SUFFIXES and is_file(source) else None
    options = ReadOptions(images, read_any_list(classes) if classes else None, ignore_id, classes, document)
    request = [str(source.resolve()), format, str(images), str(classes), pairs, ignore_id, val, seed]
    if is_there(output) and not output.is_dir():
        raise OutputError(f"{output} is a file", "give -o the name of a folder")
    try:
        with claim(output / REPORT, wait_s=0):
            prepare_output(output, hashlib.sha256(json.dumps(request).encode()).hexdigest(), overwrite)
            try:
                return _import(source, output, format, options, pairs, val, seed, progress)
            except (DataError, OptionError):
                leave_nothing(output)
                raise
    except PspnetEdgeError:
        with suppress(OSError):  # it is empty where nothing came of it
            output.rmdir()
        raise


def _import(
    source: Path,
    output: Path,
    format: str,
    options: ReadOptions,
    pairs: dict[str, str],
    val: float | None,
    seed: int,
    progress: Progress,
) -> Imported:
    with unpacked_source(source, output, progress) as unpacked:
        try:
            root, format = recognize_format(unpacked, format, FORMATS, options.document)
            if options.classes and options.classes.numbers and format not in _NUMBERED:
                listed = ", ".join(map(str, options.classes.numbers[:4]))
                raise DataError(
                    f"--classes numbers its classes {listed} and so on", f"list 0, 1, 2 and so on for {format}"
                )
            opened = READERS[format](root, options)
            opened.drop_unlabelled()
            if not opened.items:
                ensure_readable(root)
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
    listing = _renamed(str(opened.listing), unpacked, source) if opened.listing else None
    return _finish(output, format, opened, mapped.label_set, written, val, seed, listing)


def _renamed(text: str, unpacked: Path, source: Path) -> str:
    return text if unpacked in (source, source.parent) else text.replace(str(unpacked), str(source))


def _write_pairs(source: Source, mapped: ClassMap, output: Path, progress: Progress) -> list[Item]:
    palette = np.ascontiguousarray(mapped.label_set.bgr_table()[:, ::-1])
    written: list[Item] = []
    background = next((number for number, name in source.names.items() if name == BACKGROUND), None)
    first = None if background is None else mapped.table.get(background)
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
            else:
                pixels = read_raw_mask(mask).values  # of an import that was interrupted
            source.only_background += first is not None and bool((pixels == first).all())
            written.append(item)
            advance(done, f"{len(source.dropped)} dropped" if source.dropped else "")
    if written and source.dropped and source.only_background == len(written):
        for folder in (output / "images", output / "masks"):
            shutil.rmtree(folder, ignore_errors=True)
        raise DataError(f"no object could be drawn, so every pixel would be {BACKGROUND}" + _first(source.dropped))
    return written


def _fitting(item: Item, content: bytes, ids: NDArray[Any]) -> NDArray[Any]:
    """The mask in the size of its image as it is read, upright; a mask of the stored size is turned with it."""
    path = item.image if isinstance(item.image, Path) else Path(item.name)
    height, width = decode(path, content).shape[:2]
    orientation = orientation_of(content)
    if ids.shape[:2] == (width, height) and (width != height) and orientation in SWAPS_SIDES:
        ids = turned(ids, orientation)
    if ids.shape[:2] != (height, width):
        raise DataError(f"its mask is {ids.shape[0]}×{ids.shape[1]} and the image {height}×{width}")
    return ids


def _finish(
    output: Path,
    format: str,
    source: Source,
    label_set: LabelSet,
    written: list[Item],
    val: float | None,
    seed: int,
    listing: str | None,
) -> Imported:
    lines = [f"{name}, {r}, {g}, {b}" for name, (r, g, b) in zip(label_set.classes, label_set.palette)]
    if any("," in name for name in label_set.classes):
        write_json(output / "classes.json", label_set_document(label_set))
    else:
        write_bytes(output / "classes.txt", ("\n".join(lines) + "\n").encode())
    splits = _splits(written, val, seed)
    for split, entries in splits.items():
        text = "".join(f"{entry}\n" for entry in entries)
        write_bytes(output / f"{split}.txt", text.encode("utf-8", "surrogateescape"))
    sizes = {split: len(entries) for split, entries in splits.items()}
    dropped = tuple(source.dropped)
    imported = Imported(
        output, format, len(written), label_set.classes, sizes, dropped, output / REPORT, class_list=listing,
        only_background=source.only_background, sequences_cut=0 if val is None else sequences_cut(splits),
    )  # fmt: skip
    write_json(output / REPORT, imported.to_dict())
    (output / STATE).unlink(missing_ok=True)
    return imported


def label_set_document(label_set: LabelSet) -> dict[str, object]:
    """The content of ``classes.json``, for names that hold a comma."""
    return {"classes": list(label_set.classes), "palette": [list(colour) for colour in label_set.palette]}


def _splits(written: list[Item], val: float | None, seed: int) -> dict[str, list[str]]:
    """Split → lines of its list; empty where the source has no splits and none is asked for."""
    lines = {item.name: f"{item.name}{item.suffix.lower()}" for item in written}
    if val is not None:
        if len(lines) < 2:
            raise DataError("one image cannot be split", "leave out --val, or label more images")
        groups, _ = group_names(list(lines), "auto")
        if len(groups) < 2:
            groups, _ = group_names(list(lines), "none")
        chosen = assign(groups, {"val": val}, seed)
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
