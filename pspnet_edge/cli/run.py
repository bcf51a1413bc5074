"""``pspnet-edge run``: the camera loop."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import Annotated

import typer

from .options import EngineArgument, ModelOption, PrecisionOption, RuntimeOption, engine_or_default
from .output import JsonFlag, progress, result


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run")(run)


def run(
    engine: EngineArgument = None,
    camera: Annotated[int | None, typer.Option(min=0, help="Index of a camera.")] = None,
    place: Annotated[
        str | None, typer.Option("--input", metavar="PATH|demo", help="Video, image, folder of images, or demo.")
    ] = None,
    view: Annotated[str, typer.Option(metavar="auto|window|none", help="auto: a window where a display is.")] = "auto",
    record: Annotated[Path | None, typer.Option(metavar="FILE", help="Keep the overlay as a video.")] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    model: ModelOption = None,
    precision: PrecisionOption = "fp32",
    runtime: RuntimeOption = "auto",
    as_json: JsonFlag = False,
) -> None:
    """Segment a camera, a video, images or the demo drive; shows class colours, a legend, FPS and age."""
    from ..camera.loop import Loop
    from ..camera.sinks import Recorder, Sink, Window, check_view
    from ..camera.sources import open_source

    view = check_view(view)
    with contextlib.ExitStack() as held:
        source = open_source(camera, place)
        held.callback(source.close)
        sinks: list[Sink] = []
        if record is not None:
            sinks.append(held.enter_context(Recorder(record, source.fps)))
        opened = held.enter_context(engine_or_default(engine, model, precision, runtime))
        if view == "window":
            sinks.append(held.enter_context(Window()))
        loop = Loop(source, opened, sinks, frames)
        for number in (signal.SIGINT, signal.SIGTERM):
            held.callback(signal.signal, number, signal.signal(number, lambda *_: loop.stop()))
        advance = held.enter_context(progress(f"run {source.name}", frames))
        facts = loop.run(advance)
        info = opened.info
    facts |= {
        "source": source.name,
        "engine": str(info.path),
        "runtime": info.runtime,
        "precision": info.precision,
        "record": str(record) if record else None,
    }
    latency, age = facts["latency_ms"], facts["age_ms"]
    summary = (
        f"{facts['frames']} frames, {facts['dropped']} dropped, {facts['fps']:.1f} FPS; "
        f"compute p50 {latency['p50']:.1f} p99 {latency['p99']:.1f} ms; "
        f"age p50 {age['p50']:.1f} p99 {age['p99']:.1f} ms"
    )
    result(facts, as_json, summary)
