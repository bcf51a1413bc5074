"""``pspnet-edge train``: data set → checkpoint."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import DatasetOption, RootOption
from .output import Advance, JsonFlag, progress, result, say

if TYPE_CHECKING:
    from ..labels import LabelSet
    from ..train.distributed import World
    from ..train.metrics_log import EpochResult

_SAMPLES = "What a sample is"
_OPTIMISER = "How weights move"
_LOSS = "What is made smaller"
_TEACHER = "A teacher"
_SPREAD = "Where it is computed"
_FILES = "What is left behind"

_EPOCHS, _LEARNING_RATE = 45, 1e-3
# From a trained network, so that it learns to be rounded and does not forget.
_QAT_EPOCHS, _QAT_LEARNING_RATE = 10, 3e-5


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train")(train)


def train(
    model: Annotated[str, typer.Option(help="Name of the network; docs/models.md lists them.")] = "pspnet_lite0",
    dataset: DatasetOption = "camvid",
    root: RootOption = None,
    split: Annotated[str, typer.Option(help="train, or trainval for a final model.")] = "train",
    epochs: Annotated[int | None, typer.Option(min=1, help="Default: 45, with --qat 10.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Windows a step, over all processes and parts.")] = 8,
    init: Annotated[
        str | None, typer.Option(metavar="CHECKPOINT", help="Start from these weights; a bundled name too.")
    ] = None,
    qat: Annotated[
        bool,
        typer.Option(
            "--qat",
            help="Quantisation-aware: refine the network of --init (left out, the bundled one) as INT8 computes it; "
            "`export` then writes its calibration table too.",
        ),
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from last.pt in the output folder.")] = False,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    crop: Annotated[
        str, typer.Option(metavar="HEIGHTxWIDTH", help="Size of the windows.", rich_help_panel=_SAMPLES)
    ] = "288x384",
    scales: Annotated[
        tuple[float, float],
        typer.Option(metavar="LOW HIGH", help="Their magnification.", rich_help_panel=_SAMPLES),
    ] = (0.7, 2.0),
    rotate: Annotated[
        float,
        typer.Option(min=0.0, max=180.0, metavar="DEGREES", help="Largest turn either way.", rich_help_panel=_SAMPLES),
    ] = 0.0,
    scenes_share: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="Procedural scenes mixed in, for CamVid's classes.", rich_help_panel=_SAMPLES
        ),
    ] = 0.08,
    optimizer: Annotated[
        str, typer.Option(metavar="adamw|sgd", help="sgd has momentum 0.9.", rich_help_panel=_OPTIMISER)
    ] = "adamw",
    learning_rate: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Its peak; sgd wants about 0.01. Default: 0.001, with --qat 0.00003.",
            rich_help_panel=_OPTIMISER,
        ),
    ] = None,
    backbone_factor: Annotated[
        float, typer.Option(min=0.0, help="Of the learning rate, for the backbone.", rich_help_panel=_OPTIMISER)
    ] = 0.3,
    weight_decay: Annotated[float, typer.Option(min=0.0, rich_help_panel=_OPTIMISER)] = 0.01,
    warmup_epochs: Annotated[float, typer.Option(min=0.0, rich_help_panel=_OPTIMISER)] = 1.0,
    average_decay: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Of the running average of weights.", rich_help_panel=_OPTIMISER)
    ] = 0.998,
    dropout: Annotated[float, typer.Option(min=0.0, max=0.9, rich_help_panel=_OPTIMISER)] = 0.1,
    freeze_batchnorm: Annotated[
        bool,
        typer.Option("--freeze-batchnorm", help="Keep BatchNorm's statistics.", rich_help_panel=_OPTIMISER),
    ] = False,
    class_weights: Annotated[bool, typer.Option(help="Weigh rare classes more.", rich_help_panel=_LOSS)] = True,
    ohem: Annotated[bool, typer.Option("--ohem", help="Learn from hard pixels alone.", rich_help_panel=_LOSS)] = False,
    ohem_threshold: Annotated[
        float,
        typer.Option(max=1.0, help="Hard: the own class gets less than this.", rich_help_panel=_LOSS),
    ] = 0.7,
    ohem_kept: Annotated[
        float, typer.Option(max=1.0, help="Share of pixels kept at least.", rich_help_panel=_LOSS)
    ] = 0.1,
    lovasz_weight: Annotated[
        float, typer.Option(min=0.0, help="Of the Lovász loss, a surrogate of mIoU.", rich_help_panel=_LOSS)
    ] = 0.0,
    distil: Annotated[
        str | None,
        typer.Option(
            metavar="CHECKPOINT", help="Learn from what this says too; a bundled name too.", rich_help_panel=_TEACHER
        ),
    ] = None,
    distil_weight: Annotated[float, typer.Option(min=0.0, help="Of its term.", rich_help_panel=_TEACHER)] = 1.0,
    distil_scale: Annotated[
        float, typer.Option(help="Magnification at which it sees the images.", rich_help_panel=_TEACHER)
    ] = 1.0,
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda", help="auto: a GPU where there is one.", rich_help_panel=_SPREAD)
    ] = "auto",
    autocast: Annotated[
        str, typer.Option(metavar="bf16|fp16|none", help="fp16 on GPUs alone.", rich_help_panel=_SPREAD)
    ] = "bf16",
    accumulate: Annotated[
        int, typer.Option(min=1, help="Parts that a process's share of a batch is cut in.", rich_help_panel=_SPREAD)
    ] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Processes that prepare batches.", rich_help_panel=_SPREAD)] = 1,
    validate_every: Annotated[
        int, typer.Option(min=1, metavar="EPOCHS", help="Between validations.", rich_help_panel=_FILES)
    ] = 5,
    samples: Annotated[int, typer.Option(min=0, help="Images drawn at each validation.", rich_help_panel=_FILES)] = 4,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Figures for TensorBoard.", rich_help_panel=_FILES)
    ] = False,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", rich_help_panel=_FILES)] = Path("runs/train"),
    as_json: JsonFlag = False,
) -> None:
    """Train a network; leaves last.pt, best.pt (or final.pt for trainval), metrics.csv and samples/.

    On several GPUs or machines: torchrun --nproc-per-node N -m pspnet_edge train …
    """
    from ..artifact import ensure_writable
    from ..data.datasets import open_dataset
    from ..labels import CAMVID
    from ..lazy import require
    from .options import parse_size

    epochs = epochs or (_QAT_EPOCHS if qat else _EPOCHS)
    if learning_rate is None:
        learning_rate = _QAT_LEARNING_RATE if qat else _LEARNING_RATE
    crop_hw = parse_size(crop)
    training_set = open_dataset(dataset, root, split)
    validation_set = None if split == "trainval" else open_dataset(dataset, root, "val")
    mix = scenes_share > 0 and dataset != "scenes" and training_set.label_set == CAMVID
    for name in ("last.pt", "best.pt", "final.pt", "metrics.csv"):
        ensure_writable(output / name)
    require("torch", "train")
    from ..train.distributed import joined
    from ..train.recipe import Recipe
    from ..train.training import train as run_training

    recipe = Recipe(
        model=model,
        epochs=epochs,
        batch=batch,
        crop_hw=crop_hw,
        scales=scales,
        rotate=rotate,
        optimizer=optimizer,
        learning_rate=learning_rate,
        backbone_factor=backbone_factor,
        weight_decay=weight_decay,
        warmup_epochs=warmup_epochs,
        average_decay=average_decay,
        dropout=dropout,
        freeze_batchnorm=freeze_batchnorm,
        scenes_share=scenes_share if mix else 0.0,
        class_weights=class_weights,
        ohem=ohem,
        ohem_threshold=ohem_threshold,
        ohem_kept=ohem_kept,
        distil_weight=distil_weight,
        distil_scale=distil_scale,
        lovasz_weight=lovasz_weight,
        autocast=autocast,
        qat=qat,
        seed=seed,
    )
    if qat and init is None and not resume:
        init = bundled_start(model, training_set.label_set)
    teacher = checkpoint_named(distil)
    with joined(device) as world:
        shown = _Shown(world, epochs, len(training_set) if teacher else 0)
        if shown.speaks and qat and not resume:
            say(f"refining {init} for INT8")
        if shown.speaks and world.size > 1 and world.device.type == "cpu" and not freeze_batchnorm:
            say("SyncBatchNorm has no CPU path: each process normalises by its own windows, unless --freeze-batchnorm")
        with shown:
            done = run_training(
                recipe,
                training_set,
                validation_set,
                open_dataset("scenes", None, "train") if mix else None,
                output,
                init=checkpoint_named(init),
                teacher=teacher,
                resume=resume,
                world=world,
                accumulate=accumulate,
                workers=workers,
                validate_every=validate_every,
                samples=samples,
                tensorboard=tensorboard,
                on_teacher=shown.teacher,
                on_step=shown.step,
                on_epoch=shown.epoch,
            )
    if shown.speaks:
        facts = {"miou": done.miou, "checkpoint": str(done.checkpoint), "epochs": done.epochs}
        quality = f"val mIoU {done.miou:.4f}" if done.miou is not None else "no validation split"
        result(facts, as_json, f"{done.checkpoint}: {done.epochs} epochs, {quality}")


class _Shown(ExitStack):
    """What the first process tells of a run while it goes on; the others are silent."""

    def __init__(self, world: World, epochs: int, images: int) -> None:
        super().__init__()
        self.speaks = world.first
        self._epochs, self._images = epochs, images
        self._bar: tuple[str, Advance] | None = None

    def teacher(self, done: int) -> None:
        """Of the images that a teacher looks at."""
        self._advance("teacher", self._images, done, "")

    def step(self, step: int, steps: int, loss: float) -> None:
        """Of the steps."""
        self._advance("train", steps, step, f"loss {loss:.3f}")

    def epoch(self, row: EpochResult) -> None:
        """The figures of an epoch, in a line."""
        if self.speaks:
            measured = f", val mIoU {row.miou:.4f}" if row.validated else ""
            say(f"epoch {row.epoch}/{self._epochs}: loss {row.loss:.4f}{measured}")

    def _advance(self, what: str, total: int, done: int, note: str) -> None:
        if not self.speaks:
            return
        if self._bar is None or self._bar[0] != what:
            self.close()
            self._bar = what, self.enter_context(progress(what, total))
        self._bar[1](done, note)


def bundled_start(model: str, label_set: LabelSet) -> str:
    """The bundled model that quantisation-aware training refines where none is named, if it is of that kind."""
    from .. import bundled
    from ..errors import OptionError
    from ..graph.onnx_file import read_model

    start = read_model(bundled.onnx_path(bundled.DEFAULT))
    if start.preset != model or start.label_set.classes != label_set.classes:
        raise OptionError(
            f"--qat refines a trained network, and none that is bundled is a {model} with the classes of "
            f"{label_set.name}: give --init CHECKPOINT"
        )
    return bundled.DEFAULT


def checkpoint_named(name: str | None) -> Path | None:
    """The checkpoint of a bundled name, or the path itself."""
    from .. import bundled

    if name is None:
        return None
    return bundled.checkpoint_path(name) if name in bundled.names() else Path(name)
