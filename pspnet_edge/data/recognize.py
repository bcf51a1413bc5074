"""What a folder is: one of the data sets that are read as they are, or the export of a labelling tool to convert."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from ..inputs import check_folder, is_file, is_folder
from .files import is_litter
from .layout import (
    IMAGE_FOLDERS,
    MASK_FOLDERS,
    MASK_SUFFIXES,
    layout_of,
    masks_in_folders,
    masks_side_by_side,
)
from .peek import entries_below, head_of
from .unread import ensure_readable

_PAIRS, _DEPTH = 50, 5
_DOCUMENTS = 20
"""Most files of annotations that are looked at for a format with one file per image."""
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
"""Of the archives that ``data import`` unpacks."""
PARQUET_SUFFIX = ".parquet"
DOCUMENT_SUFFIXES = (".json", ".csv")
"""Of single files of annotations that ``data import`` takes; the images are looked for beside them."""
_BRUSH_PNG = re.compile(r"task-\d+-annotation-\d+.*\.png")


@dataclass(frozen=True)
class Foreign:
    """A layout that ``data import`` reads; ``title`` completes the sentence "this folder is …"."""

    format: str
    title: str

    def command(self, root: Path) -> str:
        """The command that converts it."""
        return f"pspnet-edge data import {shlex.quote(str(root))} --format {self.format} -o my_data"


def recognized(root: Path) -> str:
    """The name of the data set that a folder holds: ``voc``, ``cityscapes``, ``camvid`` or ``folder``.

    Raises:
        DataError: it is not a folder, or none of these; an export of a labelling tool is named with its command.
    """
    ensure_data_folder(root)
    try:
        if (root / "classes.txt").exists() or (root / "classes.json").exists():
            return "folder"
        if _is_cityscapes(root):
            return "cityscapes"
        if _is_voc(root) and not (root / "labelmap.txt").is_file():
            return "voc"
        if _is_segnet_camvid(root) or _is_segnet_camvid(root / "CamVid"):
            return "camvid"
        other = foreign_layout(root)
        if other is not None:
            raise DataError(f"{root} is {other.title}", "convert it", other.command(root))
        ensure_names_images(root)
        layout = layout_of(root)
        if not (layout.images and layout.masks):
            ensure_readable(root)  # labels of another kind may lie in a folder of masks
        if layout.image_folders and layout.mask_folders:
            return "folder"
        above = _set_above(root)
        if above is not None:
            raise DataError(f"{root} is a part of the data set {above}", "give that folder")
        there = ", ".join(sorted(entry.name for entry in root.iterdir() if not is_litter(entry.name))[:8])
    except OSError as error:
        raise DataError(
            f"the folder {error.filename} cannot be read ({error.strerror})", "restore its permissions"
        ) from error
    raise DataError(
        f"{root} is not a known data set layout (it has {there or 'nothing'})",
        "put images into images/, masks of the same names into masks/ and one class per line into classes.txt",
    )


def _set_above(root: Path) -> Path | None:
    """The data set whose folder of images or masks ``root`` is, or is in."""
    path = root.absolute()
    for folder in (path, path.parent):
        if folder.name.lower() in (*IMAGE_FOLDERS, *MASK_FOLDERS):
            layout = layout_of(folder.parent)
            if layout.image_folders and layout.mask_folders:
                return folder.parent
    return None


def ensure_data_folder(root: Path) -> None:
    """Raise unless ``root`` is a folder with something in it; the error says what it is and what to do with it.

    Raises:
        DataError: it is missing, a file, an archive, empty, or cannot be read.
    """
    shown = shlex.quote(str(root))
    if is_file(root):
        if root.name.lower().endswith(ARCHIVE_SUFFIXES):
            raise DataError(
                f"{root} is an archive",
                "unpack it, or import it if a labelling tool made it",
                f"pspnet-edge data import {shown} -o my_data",
            )
        ensure_readable(root)
        if root.suffix.lower() in (*DOCUMENT_SUFFIXES, PARQUET_SUFFIX):
            raise DataError(
                f"{root} is a {root.suffix[1:].upper()} file, not a folder",
                "import it",
                f"pspnet-edge data import {shown} -o my_data",
            )
        raise DataError(f"{root} is a file, not a folder", "give the folder of the data set")
    check_folder(root, "data set", DataError, f"check its name ({_what_is_beside(root)})")
    try:
        empty = all(is_litter(entry.name) for entry in root.iterdir())
    except OSError as error:
        raise DataError(f"the folder {root} cannot be read ({error.strerror})", "change its permissions") from error
    if empty:
        raise DataError(f"the folder {root} is empty", "give the folder that holds images/ and masks/")


def _what_is_beside(missing: Path) -> str:
    """What the nearest folder above a path that does not exist holds."""
    parents = missing.absolute().parents
    above = next((parent for parent in parents if is_folder(parent)), Path("/"))
    try:
        names = sorted(f"{entry.name}/" for entry in above.iterdir() if entry.is_dir() and not is_litter(entry.name))
    except OSError:
        names = []
    listed = ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
    return f"{above} has {listed or 'no folders'}"


def dataset_or_scenes(name: str | None, root: Path | None) -> str:
    """The data set that is meant: the named one, else what the folder holds, and without a folder ``scenes``.

    Raises:
        DataError: as ``recognized``.
    """
    if name is not None:
        return name
    return "scenes" if root is None else recognized(root)


def labelled_name(name: str | None, root: Path | None) -> str | None:
    """The name of a labelled data set, or None where the folder holds bare images.

    Raises:
        DataError: there is no such folder, or nothing in it.
    """
    if name is not None or root is None:
        return name
    ensure_data_folder(root)
    try:
        return recognized(root)
    except DataError:
        return None


def unlabelled_folder(root: Path) -> Path | None:
    """The folder of the images where there are no labels: ``root`` itself or its ``images/``; None where there are.

    Raises:
        DataError: there is no such folder, nothing in it, or labels in a layout that has to be converted.
    """
    ensure_data_folder(root)
    try:
        name = recognized(root)
    except DataError as error:
        if isinstance(error.__cause__, OSError) or foreign_layout(root) is not None or _set_above(root) is not None:
            raise
        ensure_names_images(root)
        name = "folder"
    layout = layout_of(root)
    if name != "folder" or layout.masks:
        return None
    return layout.image_folders.get("", root)


def foreign_layout(root: Path) -> Foreign | None:
    """The layout of a labelling tool or another data set that ``data import`` reads; None where there is no sign
    of one."""
    for format_name, (title, test) in _FOREIGN.items():
        if test(root):
            return Foreign(format_name, title)
    return None


def ensure_names_images(root: Path) -> None:
    """Raise for Label Studio's brush PNGs, which do not say to which images they belong.

    Raises:
        DataError: the folder holds such files.
    """
    if any(_BRUSH_PNG.match(path.name) for path in entries_below(root, 1)):
        raise DataError(
            f"{root} holds Label Studio's brush PNGs, which do not name their images",
            "export the project as JSON instead, which has the brush strokes too",
        )


def _is_cityscapes(root: Path) -> bool:
    return (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir() and not (root / "label_colors.txt").is_file()


def _is_cityscapes_of_own(root: Path) -> bool:
    return _is_cityscapes(root) and any((root / name).is_file() for name in ("classes.txt", "classes.json"))


def _is_voc(root: Path) -> bool:
    return any(
        (folder / "ImageSets" / "Segmentation").is_dir()
        for folder in (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012")
    )


def _is_segnet_camvid(root: Path) -> bool:
    return (root / "trainannot").is_dir() and (root / "train.txt").is_file()


def _is_cvat_masks(root: Path) -> bool:
    return (root / "labelmap.txt").is_file() and (root / "SegmentationClass").is_dir()


def _is_cvat_images(root: Path) -> bool:
    files = [path for path in entries_below(root, 1) if path.suffix.lower() == ".xml"][:20]
    return any("<annotations>" in (head := head_of(path)) and ("<image " in head or "<meta>" in head) for path in files)


def _is_camvid_export(root: Path) -> bool:
    if not any((root / name).is_file() for name in ("label_colors.txt", "class_dict.csv")):
        return False
    if (root / "gtFine").is_dir():
        return False
    return any(
        (entry.is_dir() and entry.name.lower().endswith(("annot", "_labels", "labels")))
        or "label" in entry.name.lower()
        for entry in root.iterdir()
    )


def _is_cvat_cityscapes(root: Path) -> bool:
    return (root / "gtFine").is_dir() and (root / "label_colors.txt").is_file()


def _is_roboflow(root: Path) -> bool:
    return (root / "_classes.csv").is_file() or any(
        (root / name / "_classes.csv").is_file() for name in ("train", "valid", "test")
    )


def _is_voc_tree(root: Path) -> bool:
    return (root / "JPEGImages").is_dir() and any(
        (root / name).is_dir() for name in ("SegmentationClass", "SegmentationClassPNG", "SegmentationClassNpy")
    )


def _is_supervisely(root: Path) -> bool:
    head = head_of(root / "meta.json").replace(" ", "")
    return '"classes"' in head and any((entry / "ann").is_dir() for entry in (root, *root.iterdir()) if entry.is_dir())


def _is_ade20k(root: Path) -> bool:
    for folder in (root, root / "ADEChallengeData2016"):
        if (folder / "annotations" / "training").is_dir() and (folder / "images" / "training").is_dir():
            return True
    return False


def _is_yolo(root: Path) -> bool:
    if (root / "data.yaml").is_file() or (root / "data.yml").is_file():
        return True
    labels = [root / "labels", *(root / name / "labels" for name in ("train", "valid", "val", "test"))]
    folders = [folder for folder in labels if folder.is_dir()]
    if not folders:
        return False
    files = [path for folder in folders for path in entries_below(folder, 1)]
    return bool(files) and all(path.suffix.lower() in (".txt", ".cache") for path in files)


def document_format(path: Path) -> str | None:
    """The format of one file of annotations, such as ``coco``; None for others."""
    head = head_of(path)
    if path.suffix.lower() == ".csv":
        return "via" if is_via_file(path, head) else None
    return next((name for name, test in _JSON_FORMATS.items() if test(path, head)), None)


def _is_coco_file(path: Path, head: str) -> bool:
    whole = '"annotations"' in head and '"images"' in head
    objects = '"segmentation"' in head and '"category_id"' in head
    return whole or objects or path.name.startswith(("instances_", "_annotations.coco"))


def _is_labelme_file(path: Path, head: str) -> bool:
    return '"shapes"' in head and ('"imagePath"' in head or '"points"' in head)


def _is_label_studio_file(path: Path, head: str) -> bool:
    marks = ("brushlabels", "polygonlabels", '"annotations"', "rectanglelabels", "labelstudio")
    head = head.replace(" ", "").lower().lstrip()
    if not head.startswith("["):
        return False
    full = '"result"' in head and any(mark in head for mark in marks)
    return full or any(f'"{mark}"' in head for mark in ("brushlabels", "polygonlabels"))


def is_via_file(path: Path, head: str) -> bool:
    """Whether a file is a project of VIA, or annotations that it exported as JSON or CSV."""
    if path.suffix.lower() == ".csv":
        return "region_shape_attributes" in head.split("\n")[0]
    third = '"project"' in head and '"config"' in head and '"attribute"' in head
    second = '"filename"' in head and '"regions"' in head and '"size"' in head
    return third or second or "_via_img_metadata" in head or "_via_settings" in head


def _is_datumaro_file(path: Path, head: str) -> bool:
    return bool(re.search(r'"categories":\s*\{', head)) or ('"dm_format_version"' in head and '"items"' in head)


def _is_darwin_file(path: Path, head: str) -> bool:
    first = '"original_filename"' in head and '"annotations"' in head
    return first or ('"slots"' in head and '"slot_name"' in head)


_JSON_FORMATS = {
    "label-studio": _is_label_studio_file,
    "via": is_via_file,
    "datumaro": _is_datumaro_file,
    "darwin": _is_darwin_file,
    "coco": _is_coco_file,
    "labelme": _is_labelme_file,
}


def _holds(format_name: str) -> Callable[[Path], bool]:
    """A test for folders with a file of a format, at most two folders down."""

    def holds(root: Path) -> bool:
        found = [path for path in entries_below(root, 2) if path.suffix.lower() in DOCUMENT_SUFFIXES]
        # One JSON per image needs no look at all of them, and COCO's file may lie behind others.
        return any(
            document_format(path) == format_name for path in (found if format_name == "coco" else found[:_DOCUMENTS])
        )

    return holds


def _has_colour_list(root: Path) -> bool:
    """The user's images and masks beside a list of colours in one of the usual forms."""
    names = ("class_dict.csv", "label_colors.txt", "labelmap.txt", "colors.txt", "palette.txt", "class_dict_seg.csv")
    if not any((root / name).is_file() for name in names):
        return False
    folders = {entry.name.lower() for entry in root.iterdir() if entry.is_dir()}
    return bool(folders & set(IMAGE_FOLDERS)) and bool(folders & set(MASK_FOLDERS))


def _is_pairs(root: Path) -> bool:
    """Images and masks side by side, or in folders that no other layout has, and none where ours has them."""
    layout = layout_of(root)
    entries = [entry for entry in root.iterdir() if not is_litter(entry.name)]
    if len(entries) == 1 and entries[0].is_dir():
        return False  # what is in it is looked at
    if _is_cityscapes(root) or _is_voc(root) or _is_segnet_camvid(root) or _is_segnet_camvid(root / "CamVid"):
        return False
    if any(layout.mask_of(key).is_file() for key in itertools.islice(layout.images, _PAIRS)):
        return False
    files = [path for path in entries_below(root, _DEPTH) if path.suffix.lower() in MASK_SUFFIXES]
    return bool(masks_side_by_side(files) or masks_in_folders(files, root))


_FOREIGN: dict[str, tuple[str, Callable[[Path], bool]]] = {
    "roboflow": ("a Roboflow export of semantic masks", _is_roboflow),
    "cvat": ("a CVAT export of segmentation masks", _is_cvat_masks),
    "cvat-images": ("CVAT's XML of images", _is_cvat_images),
    "cvat-cityscapes": ("a CVAT export in Cityscapes' layout", _is_cvat_cityscapes),
    "cityscapes": ("a tree in Cityscapes' layout with its own classes", _is_cityscapes_of_own),
    "ade20k": ("ADE20K of the scene parsing benchmark", _is_ade20k),
    "supervisely": ("a Supervisely project", _is_supervisely),
    "voc": ("a tree in PASCAL VOC's layout with its own classes", _is_voc_tree),
    "colours": ("a data set of colour masks with a list of colours", _has_colour_list),
    "camvid": ("a CamVid export with colour masks", _is_camvid_export),
    "via": ("annotations of VIA, the VGG Image Annotator", _holds("via")),
    "datumaro": ("a Datumaro export", _holds("datumaro")),
    "darwin": ("a Darwin export of V7", _holds("darwin")),
    "coco": ("a COCO data set", _holds("coco")),
    "labelme": ("a folder of labelme annotations", _holds("labelme")),
    "label-studio": ("a Label Studio export", _holds("label-studio")),
    "yolo": ("a data set of YOLO polygons", _is_yolo),
    "pairs": ("a folder with images and masks side by side or in separate folders", _is_pairs),
}
