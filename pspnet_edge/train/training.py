"""The training loop: from a data set and a recipe to a folder with checkpoints and figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from ..artifact import sha256_of
from ..data.datasets import Dataset
from ..errors import OptionError
from ..model.checkpoint import load_checkpoint
from ..model.pspnet import PSPNet
from .checkpoints import LAST, Keeper, row_of
from .distil import soft_labels
from .distributed import ALONE, World
from .metrics_log import EpochResult, best_miou, board
from .qat import quantise
from .recipe import Recipe
from .step import OnStep, Run
from .validate import validate, write_samples

__all__ = ["EpochResult", "Recipe", "TrainingResult", "train"]


@dataclass(frozen=True)
class TrainingResult:
    """What a finished run leaves."""

    checkpoint: Path
    epochs: int
    miou: float | None


def train(
    recipe: Recipe,
    training_set: Dataset,
    validation_set: Dataset | None,
    scenes: Dataset | None,
    folder: Path,
    *,
    init: Path | None = None,
    teacher: Path | None = None,
    resume: bool = False,
    world: World = ALONE,
    accumulate: int = 1,
    workers: int = 1,
    validate_every: int = 5,
    samples: int = 0,
    tensorboard: bool = False,
    on_teacher: Callable[[int], None] = lambda done: None,
    on_step: OnStep = lambda step, steps, loss: None,
    on_epoch: Callable[[EpochResult], None] = lambda result: None,
) -> TrainingResult:
    """Train, leaving ``last.pt`` (to resume), ``final.pt`` or ``best.pt`` and ``metrics.csv`` in ``folder``.

    With a validation set ``best.pt`` holds the averaged weights of the best validated epoch; without one, choosing
    would be guessing, and ``final.pt`` holds those of the last epoch. Of several processes the first writes.

    Args:
        recipe: what to compute.
        training_set: images to learn from.
        validation_set: images that choose the epoch, or None.
        scenes: where ``recipe.scenes_share`` is drawn from, or None.
        folder: where the files go; several machines must share it.
        init: a checkpoint whose weights replace the ImageNet start.
        teacher: a checkpoint to distil from; what it says of the images is kept in ``folder/teacher``.
        resume: go on from ``last.pt`` in ``folder``, on any number of processes.
        world: the processes that compute the run together; see ``distributed.joined``.
        accumulate: parts in which each process computes its share of a batch, to need less memory.
        workers: processes that prepare batches.
        validate_every: epochs between validations.
        samples: images drawn beside their labels and the prediction into ``folder/samples`` at each validation.
        tensorboard: write TensorBoard's files into ``folder/tensorboard``.
        on_teacher: called with the number of images that the teacher has seen.
        on_step: called after each step with (step, steps, loss).
        on_epoch: called after each epoch.

    Raises:
        OptionError: a recipe that means nothing or does not fit the data, the processes or the device.
        ModelError: a checkpoint that cannot be read, or a loss that is no number.
    """
    _check(recipe, training_set, world, accumulate)
    torch.manual_seed(recipe.seed)
    model = _starting_model(recipe, len(training_set.label_set), folder / LAST if resume else init)
    if recipe.qat and model.quantiser is None:
        quantise(model, training_set)
    soft, taught_by = None, None
    if teacher:
        taught_by = sha256_of(teacher)
        soft = soft_labels(teacher, training_set, folder / "teacher", recipe.distil_scale, world, on_teacher)
    run = Run(recipe, model, training_set, scenes, soft, world, accumulate, workers)
    keeper = Keeper(folder, recipe, training_set.label_set, validation_set is not None, taught_by)
    if resume:
        keeper.resume(run)
    done = len(keeper.rows)
    parts = run.parts(range(done, recipe.epochs))
    figures = folder / "tensorboard" if tensorboard and world.first else None
    with board(figures, done * run.steps_an_epoch) as shown, _memory_spoken_of(recipe, world, accumulate):

        def after_step(step: int, steps: int, loss: float) -> None:
            shown.step(step, loss)
            on_step(step, steps, loss)

        for epoch in range(done, recipe.epochs):
            loss = run.epoch(epoch, parts, after_step)
            due = (epoch + 1) % validate_every == 0 or epoch + 1 == recipe.epochs
            averaged = run.average.model
            # Without SyncBatchNorm each process has its own statistics; the first one's are those that are kept.
            world.spread(averaged)
            matrix = validate(averaged, validation_set, world) if validation_set is not None and due else None
            row = row_of(epoch + 1, loss, matrix, run.learning_rate())
            chosen = keeper.add(row)
            if world.first:
                keeper.write(run, chosen)
                if due and samples:
                    seen = training_set if validation_set is None else validation_set
                    write_samples(averaged, seen, samples, epoch + 1, folder / "samples", world.device)
            shown.epoch(row)
            on_epoch(row)
    world.wait()
    return TrainingResult(keeper.chosen, len(keeper.rows), best_miou(keeper.rows))


def _check(recipe: Recipe, training_set: Dataset, world: World, accumulate: int) -> None:
    recipe.check()
    if len(training_set) < recipe.batch:
        raise OptionError(
            f"{len(training_set)} training images are fewer than one batch of {recipe.batch}: lower --batch"
        )
    pieces = world.size * accumulate
    if recipe.batch % pieces:
        raise OptionError(
            f"a batch of {recipe.batch} cannot be cut evenly for {world.size} processes and {accumulate} parts each: "
            f"give --batch a multiple of {pieces}"
        )
    if recipe.autocast == "fp16" and world.device.type != "cuda":
        raise OptionError("fp16 trains on a GPU alone: give --autocast bf16 or none on a CPU")
    if recipe.autocast == "bf16" and world.device.type == "cuda" and not torch.cuda.is_bf16_supported(False):
        raise OptionError("this GPU computes no bfloat16: give --autocast fp16 or none")


@contextmanager
def _memory_spoken_of(recipe: Recipe, world: World, accumulate: int) -> Iterator[None]:
    """Turn PyTorch's many ways to say that memory is short into one sentence."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.cuda.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        windows = recipe.batch // (world.size * accumulate)
        height, width = recipe.crop_hw
        raise OptionError(
            f"{windows} windows of {height}x{width} at a time do not fit into the memory of {world.device}: "
            f"raise --accumulate, or lower --batch or --crop"
        ) from error


def _starting_model(recipe: Recipe, classes: int, init: Path | None) -> PSPNet:
    """From ImageNet, or from a checkpoint: every weight that fits; a classifier for other classes starts anew."""
    if init is None:
        if recipe.qat:
            raise OptionError(
                "--qat refines a network that is trained already: give --init CHECKPOINT or a bundled name"
            )
        model = PSPNet(recipe.model, classes)
        model.backbone.load_imagenet()
        return model
    source = load_checkpoint(init).model
    if source.preset != recipe.model:
        raise OptionError(f"{init} holds a {source.preset}, not a {recipe.model}: give --model {source.preset}")
    model = PSPNet(recipe.model, classes, source.architecture)
    if recipe.qat:
        model.quantiser = source.quantiser
    own = model.state_dict()
    known = {key: value for key, value in source.state_dict().items() if key in own and value.shape == own[key].shape}
    model.load_state_dict(own | known)
    return model
