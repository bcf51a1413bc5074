"""``pspnet-edge train``: data set → checkpoint."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..records import counted
from ..train.recipe import AUTO, Recipe
from .ending import Ended
from .output import JsonFlag, result, say
from .recipe_options import build_recipe, with_recipe_options

if TYPE_CHECKING:
    from ..train.recipe_file import RecipeFile
    from .training_progress import TrainingProgress

_data, _compute, _output = (partial(typer.Option, rich_help_panel=panel) for panel in ("Data", "Compute", "Output"))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train")(with_recipe_options(train))


def train(
    dataset: Annotated[
        str | None,
        _data(
            metavar="NAME",
            help="folder, camvid, voc, cityscapes, or scenes (synthetic streets). Default: detected from --root.",
        ),
    ] = None,
    root: Annotated[Path | None, _data(metavar="DIR", help="Data set folder; not needed for scenes.")] = None,
    split: Annotated[
        str | None,
        _data(
            metavar="train|trainval|all",
            help="Images to train on; no validation with trainval or all. \\[default: train]",
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="CHECKPOINT", help="Fine-tune from this checkpoint: a .pt file or the name of a bundled model."
        ),
    ] = None,
    backbone_weights: Annotated[
        str | None,
        typer.Option(
            metavar="imagenet|none|FILE",
            help="Initial backbone weights without --init; FILE is a torchvision or timm checkpoint. "
            "\\[default: imagenet]",
        ),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Read options from a TOML file, or reuse those of an earlier run from its recipe.json. The command "
            "line takes precedence.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Resume the run in --output; a larger --epochs extends it."),
    ] = False,
    distil: Annotated[
        str | None,
        typer.Option(
            rich_help_panel="Distillation",
            metavar="CHECKPOINT",
            help="Teacher to distil from: a .pt file or the name of a bundled model.",
        ),
    ] = None,
    device: Annotated[str, _compute(metavar="auto|cpu|cuda", help="auto: the GPU if there is one.")] = "auto",
    accumulate: Annotated[
        int | None,
        _compute(
            min=1,
            metavar="N",
            help="Split each --batch into N parts and accumulate their gradients; more parts use less memory. "
            "\\[default: 1]",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        _compute(min=0, metavar="N", help="Data-loader worker processes. Default: 1 on a CPU, up to 8 on a GPU."),
    ] = None,
    cuda_graph: Annotated[
        bool, _compute("--cuda-graph", help="Replay each step as a CUDA graph: faster for small networks.")
    ] = False,
    output: Annotated[
        Path,
        _output(
            "-o",
            "--output",
            metavar="DIR",
            help="Run folder. An existing run is kept: the new one goes to DIR-2, DIR-3, …",
        ),
    ] = Path("runs/train"),
    overwrite: Annotated[bool, _output("--overwrite", help="Replace the run in --output.")] = False,
    validate_every: Annotated[
        int | None, _output(min=1, metavar="EPOCHS", help="Epochs between validations. \\[default: 5]")
    ] = None,
    samples: Annotated[
        int | None, _output(min=0, metavar="N", help="Sample predictions to save at each validation. \\[default: 4]")
    ] = None,
    loggers: Annotated[
        str | None,
        _output(
            "--log",
            "--logger",  # torchrun takes --log for a shortened --log-dir
            metavar="NAME[,NAME]",
            help="Also log to tensorboard, wandb or mlflow. Under torchrun use --logger, "
            "because torchrun would take --log for its own option.",
        ),
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", hidden=True)] = False,
    freeze_batchnorm: Annotated[bool, typer.Option("--freeze-batchnorm", hidden=True)] = False,
    as_json: JsonFlag = False,
    recipe_values: dict[str, Any] = {},  # noqa: B006
) -> None:
    """Train a network.

    Writes last.pt, best.pt (final.pt if there is no validation), metrics.csv, results.png, confusion_matrix.png,
    recipe.json and samples/ to the run folder.

    Examples:

      pspnet-edge train --root my_data --init pspnet_lite0_camvid -o runs/mine

      pspnet-edge train --resume --epochs 90 -o runs/mine

    With few images, start from the bundled model as in the first example (docs/finetune.md).

    On several GPUs or machines: torchrun --nproc-per-node N -m pspnet_edge train …
    """
    from ..lazy import require
    from ..train.recipe_file import RecipeFile, read_recipe_file

    given = dict(recipe_values)
    if freeze_batchnorm:
        say("--freeze-batchnorm is now --freeze batchnorm")
        given["freeze"] = (*given.get("freeze", ()), "batchnorm")
    if tensorboard:
        say("--tensorboard is now --log tensorboard")
        loggers = f"{loggers or ''},tensorboard"
    asked = {
        "dataset": dataset,
        "root": root,
        "split": split,
        "init": init,
        "backbone_weights": backbone_weights,
        "distil": distil,
        "accumulate": accumulate,
        "validate_every": validate_every,
        "samples": samples,
        "loggers": None if loggers is None else [name.strip() for name in loggers.split(",") if name.strip()],
    }
    asked = {name: value for name, value in asked.items() if value is not None}
    saved = _saved_run(output) if resume else RecipeFile()
    file = RecipeFile() if recipe is None else read_recipe_file(recipe)
    if file.run and init is not None:
        given.setdefault("model", AUTO)  # that of the run need not be that of another checkpoint
    chosen = build_recipe(file.values, given, Recipe(**saved.values) if saved.values else None)
    taken = _taken(file.run, asked)
    require("torch", "train")
    from ..train.api import train as run_training
    from .training_progress import TrainingProgress, is_first_process

    if taken and is_first_process():
        say(f"from {recipe}: {', '.join(f'{name} {_shown(value)}' for name, value in taken.items())}")
    with TrainingProgress() as shown, _resumable(shown, output if resume else None):
        done = run_training(
            **{**saved.run, **taken, **asked},
            recipe=chosen,
            output=output,
            overwrite=overwrite,
            resume=resume,
            device=device,
            workers=workers,
            cuda_graph=cuda_graph,
            listener=shown,
        )
    if is_first_process():
        quality = f"val mIoU {done.miou:.4f}" if done.miou is not None else "no validation split"
        early = ", stopped early" if done.stopped_early else ""
        summary = (
            f"{done.checkpoint}: {counted(done.epochs, 'epoch')}{early}, {quality}\n"
            f"next: {shlex.join(['pspnet-edge', 'export', str(done.checkpoint), '-o', f'{done.folder.name}.onnx'])}"
        )
        result(done.to_dict(), as_json, summary)


@contextmanager
def _resumable(shown: TrainingProgress, resumed: Path | None) -> Iterator[None]:
    """Say with the end of a run that was told to end how it is continued, or that there is nothing to continue."""
    try:
        yield
    except Ended as end:
        folder = shown.folder or resumed
        if folder is None:
            end.words += " before the end of the first epoch, so nothing was saved"
        else:
            end.fix = "continue it"
            end.command = shlex.join(["pspnet-edge", "train", "--resume", "-o", str(folder)])
        raise


def _saved_run(folder: Path) -> RecipeFile:
    """What ``recipe.json`` of a run holds; nothing for a run of an older version."""
    from ..train.recipe_file import NAME, RecipeFile, read_run

    return read_run(folder / NAME) if (folder / NAME).exists() else RecipeFile()


def _taken(run: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """What an earlier run adds to a command line: what that is silent about and does not decide otherwise."""
    decided = set(asked)
    if "root" in asked:
        decided.add("dataset")  # another folder may have another layout
    if "backbone_weights" in asked:
        decided.add("init")
    return {name: value for name, value in run.items() if name not in decided}


def _shown(value: Any) -> str:
    return (", ".join(value) or "none") if isinstance(value, list) else str(value)
