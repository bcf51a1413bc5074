"""Formats that ``data import`` does not read: recognized, so that the error names them and the way out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from .images import VIDEO_SUFFIXES
from .peek import entries_below, head_of

_COCO = "export it there as COCO with polygons or run lengths, or as PNG masks of class ids"
_FILES = "save each image and its mask of class ids as files of one name, in images/ and masks/"
_LOOKED_AT = 20
_HEADS = (".json", ".ndjson", ".jsonl", ".manifest", ".xml", ".geojson", ".csv")


@dataclass(frozen=True)
class _Unread:
    """``title`` completes the sentence "this file is …"; ``fix`` says what to do in place of it."""

    title: str
    fix: str
    test: Callable[[Path, str], bool]


def _ends(*suffixes: str) -> Callable[[Path, str], bool]:
    return lambda path, head: path.name.lower().endswith(suffixes)


def _says(*words: str) -> Callable[[Path, str], bool]:
    return lambda path, head: all(word in head for word in words)


_UNREAD = (
    _Unread(
        "a TFRecord file",
        "choose another export where a tool made it (Roboflow: `Semantic Segmentation Masks`; CVAT: `Segmentation mask "
        f"1.1`), or read it with TensorFlow and {_FILES}",
        lambda path, head: bool(re.search(r"\.(tfrecords?|tfrec)(-\d+-of-\d+)?(\.gz)?$", path.name.lower())),
    ),
    _Unread(
        "a video, which has no labels",
        "save frames as images (`ffmpeg -i VIDEO -vf fps=1 images/%06d.png`) and label them",
        lambda path, head: path.suffix.lower() in VIDEO_SUFFIXES,
    ),
    _Unread("an array or archive of NumPy", _FILES, _ends(".npz")),
    _Unread("an HDF5 file", f"read it with h5py and {_FILES}", _ends(".h5", ".hdf5")),
    _Unread("a MATLAB file", f"read it with scipy.io.loadmat and {_FILES}", _ends(".mat")),
    _Unread("a medical volume", f"cut it into slices and {_FILES}", _ends(".nii", ".nii.gz", ".dcm", ".nrrd", ".mha")),
    _Unread("an LMDB database", f"read it with lmdb and {_FILES}", _ends("data.mdb")),
    _Unread("a pickle, which is not opened because it can run code", _FILES, _ends(".pkl", ".pickle")),
    _Unread("an Arrow file", "save the data set as Parquet: `dataset.to_parquet('train.parquet')`", _ends(".arrow")),
    _Unread(
        "an export of Labelbox, which keeps masks on its servers",
        f"download the masks with Labelbox's Python package and {_FILES}",
        lambda path, head: '"data_row"' in head or ('"Labeled Data"' in head and '"Label"' in head),
    ),
    _Unread(
        "a manifest of SageMaker Ground Truth, which names files in S3",
        "copy the images and the masks (`aws s3 cp --recursive`) into images/ and masks/, list the classes with the "
        "colours of its `internal-color-map` in classes.txt (`car, 42, 207, 89`) and give that folder",
        _says('"source-ref"'),
    ),
    _Unread("an export of SuperAnnotate", _COCO, _says('"instances"', '"className"')),
    _Unread("an export of Encord", _COCO, _says('"data_units"')),
    _Unread("an export of Dataloop", _COCO, _says('"itemMetadata"')),
    _Unread("an export of Kili", _COCO, _says('"jsonResponse"')),
    _Unread("an export of Hasty", _COCO, _says('"export_format_version"', '"label_classes"')),
    _Unread("an export of Segments.ai", _COCO, _says('"label_status"', '"segmentation_bitmap')),
    _Unread("a release of Segments.ai", _COCO, _says('"dataset"', '"task_type"', '"samples"')),
    _Unread("an export of Scale", _COCO, _says('"task_id"', '"response"')),
    _Unread("a GeoJSON file", f"draw its polygons on the pictures and {_FILES}", _says('"FeatureCollection"')),
    _Unread("Cityscapes' polygons", f"make masks of them with cityscapesScripts, or {_FILES}", _ends("_polygons.json")),
    _Unread(
        "a file of boxes (Create ML), which say nothing of single pixels",
        "label areas: polygons or masks",
        _says('"annotations"', '"coordinates"'),
    ),
    _Unread(
        "an XML file of polygons of the old LabelMe for the web",
        "open the images in labelme and save JSON, or draw them with another tool",
        _says("<annotation>", "<polygon>", "<pt>"),
    ),
    _Unread(
        "a VOC file of boxes, which say nothing of single pixels",
        "label areas: polygons or masks",
        _says("<annotation", "<bndbox>"),
    ),
)


def ensure_readable(place: Path) -> None:
    """Raise for a file, or a folder of files, of a format that is known and not read.

    Raises:
        DataError: such a format; it says what to do instead.
    """
    for path in _some_files(place):
        head = head_of(path) if path.suffix.lower() in _HEADS else ""
        for format in _UNREAD:
            if format.test(path, head):
                where = str(path) if path == place else f"{place} holds {path.name}, which"
                raise DataError(f"{where} is {format.title}", format.fix)


def _some_files(place: Path) -> Iterator[Path]:
    """The file itself, or some of each kind in a folder."""
    if place.is_file():
        yield place
        return
    seen: dict[str, int] = {}
    for path in entries_below(place):
        kind = path.suffix.lower()
        seen[kind] = seen.get(kind, 0) + 1
        if seen[kind] <= _LOOKED_AT:
            yield path
