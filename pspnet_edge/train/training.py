"""The training loop: from a data set and a recipe to a folder with checkpoints and figures."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from ..artifact import sha256_of, write_json
from ..data.check.rules import one_class_problem
from ..data.datasets import Dataset
from ..data.held_out import HeldOut
from ..errors import DataError, OptionError, PspnetEdgeError
from ..metrics import ConfusionMatrix
from ..model.checkpoint import Checkpoint, check_checkpoint_file
from ..model.pspnet import PSPNet
from ..records import JsonRecord, counted
from .checkpoints import LAST, RunFiles
from .distil import soft_labels
from .distributed import ALONE, World
from .history import EpochResult, best_result
from .listener import Listener, RunHeader
from .loggers import opened_loggers
from .qat import quantise
from .recipe import Recipe
from .recipe_file import NAME as RECIPE
from .start import IMAGENET, Start, resumable_checkpoint, starting_network, with_network
from .step import Run
from .validate import validate, write_samples

_log = logging.getLogger(__name__)

_FEW_CROPS = 4


@dataclass(frozen=True)
class TrainingResult(JsonRecord):
    """What a finished run leaves.

    ``miou`` and ``per_class_iou`` (0–1, NaN for a class that does not occur) are those of ``checkpoint`` on the
    validation images; None and empty without them.
    """

    checkpoint: Path
    epochs: int
    miou: float | None
    per_class_iou: dict[str, float]
    folder: Path
    stopped_early: bool = False


def run_training(
    recipe: Recipe,
    training_set: Dataset,
    validation_set: Dataset | None,
    scenes: Dataset | None,
    folder: Path,
    *,
    init: Path | None = None,
    backbone_weights: str | Path = IMAGENET,
    teacher: Path | None = None,
    resume: bool = False,
    world: World = ALONE,
    accumulate: int = 1,
    workers: int | None = 1,
    cuda_graph: bool = False,
    validate_every: int = 5,
    samples: int = 0,
    loggers: Sequence[str] = (),
    trained_split: str | None = None,
    facts: Mapping[str, object] | None = None,
    listener: Listener | None = None,
) -> TrainingResult:
    """Train, leaving ``last.pt`` (to resume), ``final.pt`` or ``best.pt``, metrics and pictures in ``folder``.

    With a validation set ``best.pt`` holds the averaged weights of the best validated epoch; without one, choosing
    would be guessing, and ``final.pt`` holds those of the last epoch. Of several processes the first writes.

    Args:
        recipe: what to compute.
        training_set: images to learn from.
        validation_set: images that choose the epoch, or None.
        scenes: where ``recipe.scenes_share`` is drawn from, or None.
        folder: where the files go; several machines must share it.
        init: a checkpoint whose weights replace the ImageNet start.
        backbone_weights: ``imagenet``, ``none`` or a file, where there is no ``init``.
        teacher: a checkpoint to distil from; its probabilities are kept in ``folder/teacher``.
        resume: continue from ``last.pt`` in ``folder``, on any number of processes; ``epochs``,
            ``patience`` and ``autocast`` may differ from before.
        world: the processes that compute the run together; see ``distributed.joined``.
        accumulate: micro-batches per step in each process, to need less memory.
        workers: loader processes; None chooses by device.
        cuda_graph: replay each step as one CUDA graph, which makes small networks train faster on a large GPU.
        validate_every: epochs between validations.
        samples: images drawn beside their labels and the prediction into ``folder/samples`` at each validation.
        loggers: of ``tensorboard``, ``wandb`` and ``mlflow``.
        trained_split: what checkpoints call the images trained on: data set and split.
        facts: what ``recipe.json`` says of the run from its first step on.
        listener: is told of the progress in every process.

    Raises:
        OptionError: a recipe that is invalid or does not fit the data, the processes or the device.
        PspnetEdgeError: a batch that does not fit into memory.
        ModelError: a checkpoint that cannot be read, or a loss that is not finite.
    """
    recipe = with_network(recipe, init)
    _check(recipe, training_set, validation_set, world, accumulate)
    if cuda_graph:
        _check_cuda_graph(recipe, world, accumulate)
    listener = listener or Listener()
    torch.manual_seed(recipe.seed)
    label_set = training_set.label_set
    if teacher:
        check_checkpoint_file(teacher)
    teacher_sha256 = sha256_of(teacher) if teacher else None
    saved = resumable_checkpoint(folder / LAST, recipe, teacher_sha256, label_set) if resume else None
    if saved is None:
        start = starting_network(recipe, label_set, init, backbone_weights)
    else:
        start = Start(saved.model, _changed(saved, training_set), tuple(saved.facts.get("trained_on", ())))
    trained_on = tuple(dict.fromkeys((*start.trained_on, label_set.name)))
    validates, pixels, images = validation_set is not None, training_set.pixels, len(training_set)
    held_out = validation_set.key if isinstance(validation_set, HeldOut) else None
    files = RunFiles(
        folder, recipe, label_set, validates, teacher_sha256, trained_on, held_out, pixels, images, trained_split
    )
    if saved is not None:
        files.resume(saved)
        if said := files.finished(saved):
            listener.note(said)
            return _result(files, label_set.classes, folder, stopped_early=len(files.rows) < recipe.epochs)
    for line in start.notes:
        listener.note(line)
    model = start.model
    if min(recipe.size_hw) < model.smallest_side:
        # Else the run would end with a checkpoint that export refuses.
        height, width = recipe.size_hw
        fix = f"give sides of at least {model.smallest_side}"
        raise OptionError(f"{height}x{width} is too small for {recipe.model}", fix, parameter="size_hw")
    if recipe.qat and model.quantiser is None:
        quantise(model, training_set)
    for line in _batchnorm_warnings(recipe, world, accumulate):
        listener.warn(line)
    soft = None
    if teacher:
        soft = soft_labels(
            teacher, training_set, folder / "teacher", recipe.distil_scale, world,
            lambda done: listener.teacher(done, images),
        )  # fmt: skip
    run = Run(recipe, model, training_set, scenes, soft, world, accumulate, workers, cuda_graph)
    if saved is not None:
        run.restore(saved)
        del saved
    if facts is not None and world.first:
        write_json(folder / RECIPE, facts)
    done = len(files.rows)
    listener.start(_header(recipe, run, training_set, validation_set, scenes, folder, world, done))
    batches = run.micro_batches(range(done, recipe.epochs))
    steps_done = done * run.steps_per_epoch
    with (
        opened_loggers(loggers if world.first else (), folder, recipe, label_set.classes, steps_done) as logger,
        _explain_out_of_memory(recipe, world, accumulate),
    ):

        def after_step(step: int, steps: int, loss: float) -> None:
            logger.step(step, loss)
            listener.step(step, steps, loss)

        for epoch in range(done, recipe.epochs):
            began = time.monotonic()
            loss = run.epoch(epoch, batches, after_step)
            last = epoch + 1 == recipe.epochs
            due = last or (epoch + 1) % validate_every == 0
            averaged = run.average.model
            # Without SyncBatchNorm each process has its own statistics; the first one's are kept.
            world.broadcast(averaged)
            matrix = _validated(averaged, validation_set, world, listener, recipe.size_hw) if due else None
            row = EpochResult.measured(epoch + 1, loss, matrix, run.learning_rate(), time.monotonic() - began)
            best = files.add(row)
            stop = files.stops_early()
            if world.first:
                if due and samples:
                    seen = training_set if validation_set is None else validation_set
                    write_samples(averaged, seen, samples, epoch + 1, folder / "samples", world.device, recipe.size_hw)
                files.write(run, best, last or stop, matrix)
            logger.epoch(row)
            _log.info("epoch %d of %d: loss %.4f, val mIoU %.4f", row.epoch, recipe.epochs, row.loss, row.miou)
            listener.epoch(row, best and validation_set is not None)
            if stop:
                listener.note(
                    f"stopping early: val mIoU has not improved for {counted(files.epochs_since_best(), 'epoch')}"
                )
                break
    world.wait()
    return _result(files, label_set.classes, folder, stopped_early=len(files.rows) < recipe.epochs)


def _changed(saved: Checkpoint, training_set: Dataset) -> tuple[str, ...]:
    """A line for the user where a resumed run has other images than before."""
    before = saved.facts.get("images")
    if not isinstance(before, int) or before == len(training_set):
        return ()
    return (f"this run had {before} training images before, and continues with {len(training_set)}",)


def _check(
    recipe: Recipe, training_set: Dataset, validation_set: Dataset | None, world: World, accumulate: int
) -> None:
    recipe.check()
    if len(training_set.label_set) == 1:
        raise DataError(one_class_problem(training_set.label_set.classes[0]))
    if recipe.binary and len(training_set.label_set) != 2:
        raise OptionError(
            f"a binary network has 2 classes, background and an object, and the data has {len(training_set.label_set)}",
            "merge classes with `pspnet-edge data import --map`, or leave --binary out",
        )
    if len(training_set) < recipe.batch:
        raise OptionError(
            f"{len(training_set)} training images are fewer than one batch of {recipe.batch}", "lower --batch"
        )
    parts = world.size * accumulate
    if recipe.batch % parts:
        raise OptionError(
            f"a batch of {recipe.batch} cannot be divided evenly by {world.size} processes and {accumulate} "
            f"accumulation steps",
            f"give --batch a multiple of {parts}",
        )
    if recipe.patience and validation_set is None:
        raise OptionError("early stopping needs validation images", "leave --patience out, or use a split with val")
    if recipe.autocast == "fp16" and world.device.type != "cuda":
        raise OptionError("fp16 training requires a GPU", "give --autocast bf16 or none on a CPU")
    if recipe.autocast == "bf16" and world.device.type == "cuda" and not torch.cuda.is_bf16_supported(False):
        raise OptionError("this GPU does not support bfloat16", "give --autocast fp16 or none")


def _check_cuda_graph(recipe: Recipe, world: World, accumulate: int) -> None:
    """Refuse what a captured step cannot do: wait for the processor, or for another process."""
    reason = None
    if world.device.type != "cuda":
        reason = "there is no GPU"
    elif world.size > 1 or accumulate > 1:
        reason = "the batch is computed in several parts"
    elif recipe.autocast == "fp16" or recipe.ohem or recipe.qat:
        reason = "fp16's scaler, OHEM and quantization-aware training read values back in every step"
    if reason:
        raise OptionError(f"a step cannot be a CUDA graph: {reason}", "leave it out", parameter="cuda_graph")


def _batchnorm_warnings(recipe: Recipe, world: World, accumulate: int) -> list[str]:
    if recipe.freeze and recipe.freeze != ("backbone",):
        return []
    synchronized = world.device.type == "cuda"
    crops = recipe.batch // ((1 if synchronized else world.size) * accumulate)
    lines = []
    if world.size > 1 and not synchronized:
        lines.append(
            "SyncBatchNorm has no CPU implementation: each process normalizes by its own crops, "
            "unless --freeze batchnorm"
        )
    if crops < _FEW_CROPS:
        lines.append(
            f"BatchNorm sees only {crops} crop{'s' * (crops > 1)} at a time: "
            f"when fine-tuning, --freeze batchnorm usually gives a better network; otherwise raise --batch"
        )
    return lines


def _header(
    recipe: Recipe,
    run: Run,
    training_set: Dataset,
    validation_set: Dataset | None,
    scenes: Dataset | None,
    folder: Path,
    world: World,
    epochs_done: int,
) -> RunHeader:
    sizes = [(value.numel(), value.requires_grad) for value in run.model.parameters()]
    device = torch.cuda.get_device_name(world.device) if world.device.type == "cuda" else "CPU"
    return RunHeader(
        model=recipe.model,
        folder=folder,
        device=device,
        autocast=run.autocast,
        processes=world.size,
        workers=run.workers,
        images=len(training_set),
        validation_images=None if validation_set is None else len(validation_set),
        scenes=round(len(training_set) * recipe.scenes_share) if scenes is not None else 0,
        classes=training_set.label_set.classes,
        parameters=sum(size for size, _ in sizes),
        trained_parameters=sum(size for size, trained in sizes if trained),
        epochs_done=epochs_done,
        epochs=recipe.epochs,
        steps_per_epoch=run.steps_per_epoch,
    )


def _validated(
    model: PSPNet, dataset: Dataset | None, world: World, listener: Listener, size_hw: tuple[int, int]
) -> ConfusionMatrix | None:
    if dataset is None:
        return None
    images = len(dataset)
    return validate(model, dataset, world, lambda done: listener.validation(done, images), size_hw)


def _result(files: RunFiles, classes: Sequence[str], folder: Path, stopped_early: bool) -> TrainingResult:
    best = best_result(files.rows)
    return TrainingResult(
        checkpoint=files.chosen,
        epochs=len(files.rows),
        miou=best.miou if best else None,
        per_class_iou=dict(zip(classes, best.iou)) if best else {},
        folder=folder,
        stopped_early=stopped_early,
    )


@contextmanager
def _explain_out_of_memory(recipe: Recipe, world: World, accumulate: int) -> Iterator[None]:
    """Turn PyTorch's various out-of-memory errors into one sentence."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.cuda.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        crops = recipe.batch // (world.size * accumulate)
        height, width = recipe.crop_hw
        fixes = ["raise --accumulate"] if crops > 1 else []
        raise PspnetEdgeError(
            f"{crops} crops of {height}x{width} at a time do not fit into the memory of {world.device}",
            " or ".join([*fixes, "lower --crop" if crops == 1 else "lower --batch or --crop"]),
        ) from error
