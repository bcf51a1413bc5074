"""The images that a model is calibrated on: of the kind that it will see, with labels or without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..data.datasets import ImageSet
from ..data.held_out import images_of_split
from ..data.images import ImageFiles
from ..data.recognize import recognized, unlabelled_folder
from ..data.subset import Subset
from ..errors import OptionError
from ..labels import LabelSet
from ..records import counted
from .onnx_file import ModelFile


def calibration_images(
    model: ModelFile,
    dataset: str | None,
    root: Path | None,
    split: str,
    say: Callable[[str], None] = lambda words: None,
) -> tuple[ImageSet, str, str | None]:
    """The images to calibrate a model on.

    Args:
        model: read with its channels.
        dataset: the kind of data set; None is what ``root`` holds.
        root: its folder, or one of images without labels, which calibration does not need.
        split: of a labelled data set. ``train`` is what training did not hold out.
        say: called with a sentence about what the folder holds, or about classes that differ.

    Returns:
        The images, what the table calls them, and the kind of data set; None of images without labels.

    Raises:
        OptionError: neither data set nor folder is given, or scenes for a model of other classes.
        DataError: the images cannot be opened.
    """
    if dataset is None and root is None:
        # Streets would calibrate any network without an error, and most of them badly.
        raise OptionError("calibrate needs images", "give root, a folder of images like those of training")
    if root is not None and dataset in (None, "folder") and (bare := unlabelled_folder(root)) is not None:
        images = ImageFiles(bare, model.pixels)
        say(f"{bare}: {counted(len(images), 'image')} without labels, which calibration does not need")
        return images, f"images in {_name_of(bare)}", None
    name = dataset
    if name is None and root is not None:
        name = recognized(root)
        say(f"{root}: data set of layout {name}")
    assert name is not None
    pictures = images_of_split(name, root, split, model.facts, model.pixels)
    _check_classes(model.label_set, pictures.label_set, name, root, say)
    if isinstance(pictures, Subset):
        used = counted(len(pictures), "image")
        say(f"{root} has no list for validation: calibrating on the {used} that training used")
    where = f" in {_name_of(root)}" if name == "folder" and root is not None else ""
    return pictures, f"{name} {split}{where}", name


def _check_classes(own: LabelSet, shown: LabelSet, name: str, root: Path | None, say: Callable[[str], None]) -> None:
    """Labels are not read, but pictures of other classes give wrong ranges."""
    numbered = all(label == f"class {index}" for index, label in enumerate(own.classes))
    if set(own.classes) == set(shown.classes) or (numbered and len(own) == len(shown)):
        return
    differ = f"({_few(shown)}) are not the model's ({_few(own)})"
    if name == "scenes":
        raise OptionError(
            f"the classes of scenes {differ}, so its ranges would be wrong",
            "give --root DIR, a folder of images like those of training",
            parameter="dataset",
        )
    say(f"the classes of {root} {differ}: ranges are right only for images like those that the model will see")


def _few(labels: LabelSet) -> str:
    return ", ".join(labels.classes[:3]) + (f", … {len(labels)} in all" if len(labels) > 3 else "")


def _name_of(folder: Path) -> str:
    return folder.resolve().name
