"""``pspnet-edge evaluate``: mIoU of an engine."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import (
    DatasetOption,
    EngineArgument,
    ModelOption,
    PrecisionOption,
    RootOption,
    RuntimeOption,
    engine_or_default,
)
from .output import JsonFlag, progress, result


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evaluate")(evaluate)


def evaluate(
    engine: EngineArgument = None,
    dataset: DatasetOption = "scenes",
    root: RootOption = None,
    split: Annotated[str, typer.Option(help="train, val or test; of a folder also all.")] = "test",
    model: ModelOption = None,
    precision: PrecisionOption = "fp32",
    runtime: RuntimeOption = "auto",
    as_json: JsonFlag = False,
) -> None:
    """Measure mIoU at the label's own resolution, from one confusion matrix over the split."""
    from ..data.datasets import open_dataset
    from ..report.evaluate import evaluate_engine

    labelled = open_dataset(dataset, root, split)
    with engine_or_default(engine, model, precision, runtime) as opened:
        with progress("evaluate", len(labelled)) as advance:
            facts = evaluate_engine(opened, labelled, on_image=advance)
        info = opened.info
    facts |= {
        "engine": str(info.path),
        "runtime": info.runtime,
        "precision": info.precision,
        "dataset": dataset,
        "split": split,
    }
    lines = [f"mIoU {facts['miou']:.4f}, pixel accuracy {facts['pixel_accuracy']:.4f}, {facts['images']} images"]
    lines += [f"  {name:<14}{iou:.4f}" for name, iou in facts["per_class_iou"].items()]
    result(facts, as_json, "\n".join(lines))
