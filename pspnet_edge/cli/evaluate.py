"""``pspnet-edge evaluate``: mIoU of an engine."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..records import counted
from .options import (
    DatasetOption,
    EngineArgument,
    ModelOption,
    PrecisionOption,
    RootOption,
    RuntimeOption,
    chosen_dataset,
    engine_or_default,
)
from .output import Advance, JsonFlag, progress, result, say

if TYPE_CHECKING:
    from ..data.datasets import Dataset
    from ..data.geometry import Geometry
    from ..measure.facts import Evaluated
    from ..measure.processes import Processes


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evaluate")(evaluate)


def evaluate(
    engine: EngineArgument = None,
    dataset: DatasetOption = None,
    root: RootOption = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="train, val or test; for a folder also all. Default: test, else val, else the images that training "
            "held out, else all.",
        ),
    ] = None,
    fit: Annotated[
        str,
        typer.Option(metavar="HOW", help="How images are fitted to the engine's input: stretch, letterbox or crop."),
    ] = "stretch",
    tiles: Annotated[
        bool,
        typer.Option("--tiles", help="Segment large images in overlapping tiles of the engine's input size."),
    ] = False,
    model: ModelOption = None,
    precision: PrecisionOption = "auto",
    runtime: RuntimeOption = "auto",
    as_json: JsonFlag = False,
) -> None:
    """Measure an engine's mIoU over a split, at the resolution of the labels.

    Examples:

      pspnet-edge evaluate mine.engine --root my_data

      pspnet-edge evaluate runs/mine/best.pt --root my_data --split val --precision fp32

    To use several processes or machines: torchrun --nproc-per-node N -m pspnet_edge evaluate …
    """
    from ..data.geometry import Geometry
    from ..measure.processes import started_processes

    geometry = Geometry(fit, tiles=tiles)

    with started_processes() as processes:
        facts = _evaluated(processes, engine, dataset, root, split, model, precision, runtime, geometry)
    if processes.rank != 0:
        return
    lines = [
        f"mIoU {facts['miou']:.4f}, pixel accuracy {facts['pixel_accuracy']:.4f}, {counted(facts['images'], 'image')}"
    ]
    if facts["coverage"] < 1:
        lines[0] += f", on the {facts['coverage']:.2%} of the labelled pixels that the engine did not leave unknown"
    lines += [f"  {name:<14}{iou:.4f}" for name, iou in facts["per_class_iou"].items()]
    result(facts, as_json, "\n".join(lines))


def _evaluated(
    processes: Processes,
    engine: str | None,
    dataset: str | None,
    root: Path | None,
    split: str | None,
    model: str | None,
    precision: str,
    runtime: str,
    geometry: Geometry,
) -> Evaluated:
    """The measured figures, and what they were measured on; the same in every process."""
    from ..data.held_out import about_images, split_or_unseen, trained_on_split
    from ..measure.evaluate import evaluate_engine

    name = processes.in_turn(lambda: chosen_dataset(dataset, root))
    with processes.in_turn(lambda: engine_or_default(engine, model, precision, runtime)) as opened:
        info = opened.info

        def chosen() -> tuple[Dataset, str]:
            images, part = split_or_unseen(name, root, split, info.facts, info.pixels)
            if said := about_images(name, root, split or "test", part, len(images), info.facts):
                say(said)
            return images, part

        labelled, part = processes.in_turn(chosen)
        with _progress(processes, len(labelled)) as advance:
            facts = evaluate_engine(opened, labelled, on_image=advance, processes=processes, geometry=geometry)
    return {
        **facts,
        "engine": str(info.path),
        "runtime": info.runtime,
        "precision": info.precision,
        "dataset": name,
        "split": part,
        "trained_on": trained_on_split(name, part, info.facts),
        "fit": "tiles" if geometry.tiles else geometry.fit,
    }


def _progress(processes: Processes, images: int) -> AbstractContextManager[Advance]:
    """The first process shows the progress of its share, the others nothing."""
    return progress("evaluate", len(processes.share(images))) if processes.rank == 0 else nullcontext(_nothing)


def _nothing(done: int, note: str = "") -> None:
    """Ignore progress."""
