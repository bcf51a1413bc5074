"""``pspnet-edge train``: data set → checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import DatasetOption, RootOption
from .output import JsonFlag, progress, result, say


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train")(train)


def train(
    model: Annotated[str, typer.Option(help="Name of the network; docs/models.md lists them.")] = "pspnet_lite0",
    dataset: DatasetOption = "camvid",
    root: RootOption = None,
    split: Annotated[str, typer.Option(help="train, or trainval for a final model.")] = "train",
    epochs: Annotated[int, typer.Option(min=1)] = 45,
    batch: Annotated[int, typer.Option(min=1)] = 8,
    crop: Annotated[str, typer.Option(metavar="HEIGHTxWIDTH", help="Size of the training windows.")] = "288x384",
    learning_rate: Annotated[float, typer.Option(min=0.0)] = 1e-3,
    scenes_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Procedural scenes mixed in, for CamVid's classes.")
    ] = 0.08,
    autocast: Annotated[bool, typer.Option(help="Compute in bfloat16 where it is safe.")] = True,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes that prepare batches.")] = 1,
    init: Annotated[
        str | None, typer.Option(metavar="CHECKPOINT", help="Start from these weights; a bundled name too.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from last.pt in the output folder.")] = False,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR")] = Path("runs/train"),
    as_json: JsonFlag = False,
) -> None:
    """Train a network; leaves last.pt, best.pt (or final.pt for trainval) and metrics.csv."""
    from ..artifact import ensure_writable
    from ..data.datasets import open_dataset
    from ..labels import CAMVID
    from ..lazy import require
    from .export import parse_size

    crop_hw = parse_size(crop)
    training_set = open_dataset(dataset, root, split)
    validation_set = None if split == "trainval" else open_dataset(dataset, root, "val")
    mix = scenes_share > 0 and dataset != "scenes" and training_set.label_set == CAMVID
    ensure_writable(output / "last.pt")
    require("torch", "train")
    from ..train.loop import EpochResult, Recipe
    from ..train.loop import train as run_training

    recipe = Recipe(
        model=model,
        epochs=epochs,
        batch=batch,
        crop_hw=crop_hw,
        learning_rate=learning_rate,
        scenes_share=scenes_share if mix else 0.0,
        autocast=autocast,
        seed=seed,
    )

    def tell(row: EpochResult) -> None:
        measured = f", val mIoU {row.miou:.4f}" if row.miou == row.miou else ""
        say(f"epoch {row.epoch}/{epochs}: loss {row.loss:.4f}{measured}")

    steps = epochs * ((len(training_set) + round(len(training_set) * recipe.scenes_share)) // batch)
    with progress("train", steps) as advance:
        done = run_training(
            recipe,
            training_set,
            validation_set,
            open_dataset("scenes", None, "train") if mix else None,
            output,
            init=checkpoint_named(init),
            resume=resume,
            workers=workers,
            on_step=lambda step, _, loss: advance(step, f"loss {loss:.3f}"),
            on_epoch=tell,
        )
    facts = {"miou": done.miou, "checkpoint": str(done.checkpoint), "epochs": done.epochs}
    quality = f"val mIoU {done.miou:.4f}" if done.miou is not None else "no validation split"
    result(facts, as_json, f"{done.checkpoint}: {done.epochs} epochs, {quality}")


def checkpoint_named(init: str | None) -> Path | None:
    """The checkpoint of a bundled name, or the path itself."""
    from .. import bundled

    if init is None:
        return None
    return bundled.checkpoint_path(init) if init in bundled.names() else Path(init)
