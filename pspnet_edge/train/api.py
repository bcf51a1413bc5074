"""``train`` as a function: from names and paths to a finished run."""

from __future__ import annotations

import inspect
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from .. import __version__, bundled
from ..data.check import Finding, few_of_each_kind, quick_check
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
from .recipe_file import START, field_names, read_run
from .run_folder import claimed_folder, ensure_run_writable, holds_run
from .start import IMAGENET, NONE, with_network
from .training import TrainingResult, run_training

StrPath = str | os.PathLike[str]
_Arguments = ParamSpec("_Arguments")
_Made = TypeVar("_Made")


def _explains_recipe_fields(function: Callable[_Arguments, _Made]) -> Callable[_Arguments, _Made]:
    """Say of a field of the recipe that is given as an argument where it belongs."""
    own, of_recipe = set(inspect.signature(function).parameters), field_names()

    @wraps(function)
    def checked(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> _Made:
        misplaced = [name for name in options if name in of_recipe and name not in own]
        if misplaced:
            given = ", ".join(f"{of_recipe[name]}={options[name]!r:.60}" for name in misplaced)
            raise OptionError("it is a field of the recipe", f"give recipe=Recipe({given})", parameter=misplaced[0])
        return function(*arguments, **options)

    return checked


@_explains_recipe_fields
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
        recipe: what to compute; left out, the default recipe. Where it names no network, that of ``init`` is taken.
        split: ``train``; or ``trainval``, ``all`` or ``val``, which leave no images to validate on.
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
    loggers = as_several(loggers, "loggers")
    ensure_known(loggers)
    if resume and not holds_run(as_path(output, "output")):
        fix = "leave resume out, or name the folder of a run"
        raise OptionError(f"there is no run to resume in {output}", fix, parameter="resume")
    if isinstance(dataset, str) or dataset is None:
        place = as_path_or_none(root, "root")
        data = open_training_data(dataset, place, split, PixelFormat(recipe.channels))
    else:
        checked = None if validation is None else _labelled(validation, "validation")
        data = TrainingData("", _labelled(dataset, "dataset"), checked)
    label_set, folder = data.training_set.label_set, as_path(output, "output")
    if recipe.scenes_share and (label_set != CAMVID or data.name == "scenes"):
        recipe = replace(recipe, scenes_share=0.0)
    resumed = read_run(folder / RECIPE).run if resume and (folder / RECIPE).exists() else {}
    recipe = with_network(recipe, _first_weights(folder, init, resume))
    if recipe.qat and init is None and not resume:
        init = bundled_start(recipe.model, label_set)
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
            of_data = "" if root is None else f" {shlex.quote(str(root))}"
            _tell(quick_check(data.training_set, data.validation_set), recipe, listener, f"data check{of_data}")
        facts = {
            "recipe": recipe.to_dict(),
            "dataset": data.name,
            "root": None if root is None else str(Path(root).resolve()),
            "split": split,
            "classes": list(label_set.classes),
            "init": _recorded(init),
            "backbone_weights": _recorded(backbone_weights),
            "distil": _recorded(distil),
            "accumulate": accumulate,
            "validate_every": validate_every,
            "samples": samples,
            "loggers": loggers,
            "pspnet_edge": __version__,
            **{name: resumed[name] for name in START if name in resumed},
        }
        with _no_trace_of_a_failed_start(folder, world.first and not resume):
            return run_training(
                recipe,
                data.training_set,
                data.validation_set,
                open_dataset("scenes", None, "train", data.training_set.pixels) if recipe.scenes_share else None,
                folder,
                init=None if resume else checkpoint_named(init),
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
                trained_split=f"{data.name} {split}" if data.name else None,
                facts=facts,
                listener=listener,
            )


def _first_weights(folder: Path, init: StrPath | None, resume: bool) -> Path | None:
    """The checkpoint that a run begins or continues with."""
    if resume:
        return folder / LAST if (folder / LAST).exists() else None
    return checkpoint_named(init)


def _tell(findings: Sequence[Finding], recipe: Recipe, listener: Listener, check: str) -> None:
    """Warn of what the quick check found, of many findings of a kind of the first few; ``check`` lists all.

    Raises:
        DataError: a finding that leaves nothing to learn, or masks at which training or validation would stop.
    """
    bad = [finding.problem for finding in findings if finding.kind == "bad-mask"]
    if len(bad) > 1:
        raise DataError(f"{len(bad)} masks cannot be used, first {bad[0]}", "list all", f"pspnet-edge {check} --json")
    if bad:
        raise DataError(bad[0])
    for finding in findings:
        if recipe.binary and finding.kind in ("ignore-is-class", "class-never-occurs"):
            raise DataError(finding.problem)
        if (finding.kind, finding.split, finding.severity) == ("nothing-labelled", "train", "defect"):
            raise DataError(finding.problem)
    few, more = few_of_each_kind(findings)
    for finding in few:
        listener.warn(finding.problem)
    for (_, split, kind), count in more.items():
        listener.warn(f"… and {count} more with {kind} in {split}, which `pspnet-edge {check} --json` lists")


def _recorded(given: StrPath | None) -> str | None:
    """A name as it is and a file by its whole path, so that the recipe can be used from another folder."""
    if given is None or str(given) in (IMAGENET, NONE, *bundled.names()):
        return None if given is None else str(given)
    return str(Path(given).resolve())


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
