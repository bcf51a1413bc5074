"""``train`` as a function: from names and paths to a finished run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from .. import __version__, bundled
from ..artifact import write_json
from ..data.check import quick_check
from ..data.datasets import Dataset, is_labelled, open_dataset
from ..errors import DataError, OptionError
from ..inputs import as_instance, as_path, as_path_or_none, as_several, as_whole
from ..labels import CAMVID, LabelSet
from ..model.checkpoint import load_checkpoint
from ..pixels import PixelFormat
from .checkpoints import LAST
from .distributed import joined
from .listener import Listener
from .loggers import ensure_known
from .opening import TrainingData, open_training_data, shape_note
from .recipe import Recipe
from .recipe_file import NAME as RECIPE
from .run_folder import claimed_folder, ensure_run_writable, holds_run
from .training import TrainingResult, run_training

StrPath = str | os.PathLike[str]


def train(
    dataset: str | Dataset | None = None,
    root: StrPath | None = None,
    *,
    recipe: Recipe | None = None,
    split: str = "train",
    validation: Dataset | None = None,
    output: StrPath = "runs/train",
    overwrite: bool = False,
    resume: bool = False,
    init: StrPath | None = None,
    backbone_weights: StrPath = "imagenet",
    distil: StrPath | None = None,
    device: str = "auto",
    accumulate: int = 1,
    workers: int | None = None,
    cuda_graph: bool = False,
    validate_every: int = 5,
    samples: int = 4,
    loggers: Sequence[str] = (),
    listener: Listener | None = None,
) -> TrainingResult:
    """Train a network on a labelled data set.

    >>> from pspnet_edge import Recipe, train
    >>> from pspnet_edge.data.datasets import SceneSet
    >>> from pspnet_edge.data.subset import evenly_spaced
    >>> four_scenes = evenly_spaced(SceneSet("train"), 4)  # or "folder", "my_data"
    >>> recipe = Recipe(epochs=1, batch=2, crop_hw=(64, 64))
    >>> done = train(four_scenes, recipe=recipe, init="pspnet_lite0_camvid", output="runs/mine", samples=0)
    >>> done.checkpoint.as_posix(), done.epochs
    ('runs/mine/final.pt', 1)

    Args:
        dataset: ``folder``, ``camvid``, ``voc``, ``cityscapes`` or ``scenes``; left out, the folder ``root`` is
            recognized; or any object with ``label_set``, ``__len__`` and ``__getitem__`` that returns an image
            ``uint8 [H, W, 3]`` BGR and a mask ``uint8 [H, W]``.
        root: the folder of the data set.
        recipe: what to compute; left out, the default recipe.
        split: ``train``; or ``trainval`` or ``all``, which leave no images to validate on.
        validation: images to validate on, where ``dataset`` is an object.
        output: folder of the run; where it holds a run already, ``-2``, ``-3`` and so on is added to its name.
        overwrite: remove the run in ``output`` instead.
        resume: continue the run in ``output``; ``recipe.epochs`` may be larger than before.
        init: a checkpoint or bundled model whose weights replace the ImageNet start.
        backbone_weights: ``imagenet``, ``none``, or a file of torchvision or timm.
        distil: a checkpoint or bundled model that is the teacher.
        device: ``auto``, ``cpu`` or ``cuda``.
        accumulate: gradient accumulation steps.
        workers: loader processes; None chooses by device.
        cuda_graph: replay each step as one CUDA graph; only on a GPU.
        validate_every: epochs between validations.
        samples: images drawn beside labels and prediction at each validation.
        loggers: of ``tensorboard``, ``wandb`` and ``mlflow``.
        listener: is told of the progress.

    Raises:
        OptionError: parameters that do not fit together.
        DataError: data that cannot be read.
        ModelError: a checkpoint that cannot be read, or a loss that is not finite.
        OutputError: a folder that cannot be written.
    """
    recipe = Recipe() if recipe is None else as_instance(recipe, Recipe, "recipe", "Recipe(epochs=1)")
    listener = Listener() if listener is None else as_instance(listener, Listener, "listener", "Listener()")
    recipe.check()
    accumulate, validate_every = as_whole(accumulate, "accumulate", 1), as_whole(validate_every, "validate_every", 1)
    workers = None if workers is None else as_whole(workers, "workers", least=0)
    samples = as_whole(samples, "samples", least=0)
    as_path(backbone_weights, "backbone_weights")
    for name, given in (("init", init), ("distil", distil)):
        as_path_or_none(given, name)
    ensure_known(as_several(loggers, "loggers"))
    if resume and not holds_run(as_path(output, "output")):
        fix = "leave resume out, or name the folder of a run"
        raise OptionError(f"there is no run to resume in {output}", fix, parameter="resume")
    if isinstance(dataset, str) or dataset is None:
        place = as_path_or_none(root, "root")
        data = open_training_data(dataset, place, split, PixelFormat(recipe.channels))
    else:
        checked = None if validation is None else _labelled(validation, "validation")
        data = TrainingData("", _labelled(dataset, "dataset"), checked)
    label_set = data.training_set.label_set
    if recipe.scenes_share and (label_set != CAMVID or data.name == "scenes"):
        recipe = replace(recipe, scenes_share=0.0)
    if recipe.qat and init is None and not resume:
        init = bundled_start(recipe.model, label_set)
    folder = as_path(output, "output")
    with joined(device) as world, ExitStack() as held:
        recipe = replace(recipe, autocast=world.autocast(recipe.autocast))
        if world.first:
            folder = held.enter_context(claimed_folder(folder, overwrite=overwrite, resume=resume))
        folder = Path(world.agree(str(folder)))
        if folder != Path(output):
            listener.note(f"{output} holds a run already: this one goes into {folder} (--overwrite replaces it)")
        ensure_run_writable(folder)
        shape = shape_note(data.training_set, recipe.size_hw) if data.name != "scenes" and not resume else ()
        for line in (*data.notes, *shape):
            listener.note(line)
        if world.first and data.name != "scenes":
            for finding in quick_check(data.training_set, data.validation_set):
                if recipe.binary and finding.kind in ("ignore-is-class", "class-never-occurs"):
                    raise DataError(finding.problem)
                if (finding.kind, finding.split, finding.severity) == ("nothing-labelled", "train", "defect"):
                    raise DataError(finding.problem)
                listener.warn(finding.problem)
        if world.first and not resume:
            facts = {
                "recipe": recipe.to_dict(),
                "dataset": data.name,
                "root": None if root is None else str(Path(root).resolve()),
                "split": split,
                "classes": list(label_set.classes),
                "init": None if init is None else str(init),
                "backbone_weights": str(backbone_weights),
                "distil": None if distil is None else str(distil),
                "pspnet_edge": __version__,
            }
            write_json(folder / RECIPE, facts)
        with _no_trace_of_a_failed_start(folder, world.first and not resume):
            return run_training(
                recipe,
                data.training_set,
                data.validation_set,
                open_dataset("scenes", None, "train", data.training_set.pixels) if recipe.scenes_share else None,
                folder,
                init=checkpoint_named(init),
                backbone_weights=backbone_weights if isinstance(backbone_weights, str) else Path(backbone_weights),
                teacher=checkpoint_named(distil),
                resume=resume,
                world=world,
                accumulate=accumulate,
                workers=workers,
                cuda_graph=cuda_graph,
                validate_every=validate_every,
                samples=samples,
                loggers=loggers,
                listener=listener,
            )


def bundled_start(model: str, label_set: LabelSet) -> str:
    """The bundled model that quantization-aware training refines where none is named, if it fits.

    Raises:
        OptionError: no bundled model is of this network with these classes.
    """
    start = load_checkpoint(bundled.checkpoint_path(bundled.DEFAULT))
    if start.model.preset != model or start.label_set.classes != label_set.classes:
        raise OptionError(
            f"--qat refines a trained network, and no bundled model is a {model} with the classes of {label_set.name}",
            "give --init CHECKPOINT",
        )
    return bundled.DEFAULT


def _labelled(given: Dataset, parameter: str) -> Dataset:
    if not is_labelled(given):
        fix = f"give {'a name, or ' if parameter == 'dataset' else ''}an object with label_set, __len__ and __getitem__"
        raise OptionError(f"{given!r:.60} is not a data set", fix, parameter=parameter)
    return given


def checkpoint_named(name: StrPath | None) -> Path | None:
    """The checkpoint of a bundled name, or the path itself."""
    return None if name is None else bundled.checkpoint_at(as_path(name, "checkpoint"))


@contextmanager
def _no_trace_of_a_failed_start(folder: Path, applies: bool) -> Iterator[None]:
    """Remove the recipe of a run that failed before its first checkpoint, so that the next one can have its folder."""
    try:
        yield
    except BaseException:
        if applies and not (folder / LAST).exists():
            (folder / RECIPE).unlink(missing_ok=True)
        raise
