"""``pspnet-edge run``: the camera loop."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import EngineArgument, ModelOption, PrecisionOption, RuntimeOption, engine_or_default
from .output import JsonFlag, progress, result, say

if TYPE_CHECKING:
    from ..camera.loop import Loop
    from ..camera.sinks import Sink
    from ..camera.sources import Source
    from ..engine.engine import EngineInfo


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run")(run)


def run(
    engine: EngineArgument = None,
    camera: Annotated[
        list[str] | None,
        typer.Option(metavar="N|/dev/videoN", help="A camera, by index or device. May be given several times."),
    ] = None,
    place: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="PATH|GLOB|URL|csi://N|demo",
            help="Video, image, folder or glob of images, rtsp:// or http:// stream, CSI camera, or demo. May be "
            "given several times.",
        ),
    ] = None,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Ask cameras for this size.")] = None,
    fps: Annotated[float | None, typer.Option(min=0.1, help="Ask cameras for this rate.")] = None,
    pixels: Annotated[str, typer.Option(metavar="auto|mjpg|raw", help="Ask USB cameras for these pixels.")] = "auto",
    stall: Annotated[
        float, typer.Option(metavar="S", min=0.5, max=20, help="A camera or stream silent for so long is opened anew.")
    ] = 3.0,
    wait: Annotated[bool, typer.Option("--wait", help="Begin although a camera or stream is not there yet.")] = False,
    view: Annotated[
        str, typer.Option(metavar="auto|window|web|none", help="auto: a window where a display is.")
    ] = "auto",
    web_host: Annotated[str, typer.Option(help="Address of the web page.")] = "127.0.0.1",
    web_port: Annotated[int, typer.Option(min=0, max=65535, help="Its port; 0 takes a free one.")] = 8080,
    web_token: Annotated[
        str | None,
        typer.Option(envvar="PSPNET_EDGE_WEB_TOKEN", help="What it asks for; made up when bound beyond this machine."),
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Without --view web: serve /metrics on this port.")
    ] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep the overlay as .mp4; %Y%m%d-%H%M%S becomes the time.")
    ] = None,
    save_masks: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep the masks as palette PNGs.")] = None,
    rtp: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT|rtsp://…", help="Send the overlay of the first source as H.264 (GStreamer)."),
    ] = None,
    stats: Annotated[Path | None, typer.Option(metavar="FILE", help="Append a line of JSON a second.")] = None,
    watchdog: Annotated[bool, typer.Option("--watchdog", help="Tell systemd that the loop lives.")] = False,
    frames: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    model: ModelOption = None,
    precision: PrecisionOption = "fp32",
    runtime: RuntimeOption = "auto",
    as_json: JsonFlag = False,
) -> None:
    """Segment cameras, streams, videos, images or the demo drive; shows class colours, a legend, FPS and age."""
    from ..camera.loop import Loop
    from ..camera.mask_folder import MaskFolder
    from ..camera.sinks import Window, check_view
    from ..camera.sources import Settings, open_sources, size_from_text
    from ..camera.stats import StatsFile
    from ..camera.systemd import Watchdog

    view = check_view(view)
    asked = Settings(size_from_text(size), fps, pixels, stall, wait)
    with contextlib.ExitStack() as held:
        sources = open_sources(camera or [], place or [], asked)
        for source in sources:
            held.callback(source.close)
        tell_formats(sources)
        sinks: list[Sink] = []
        recorded: list[Path] = []
        if record is not None:
            from ..camera.recorder import Recorder

            recorder = held.enter_context(Recorder(record, sources, say))
            recorded = recorder.paths
            sinks.append(recorder)
        if rtp is not None:
            from ..camera.rtp import RtpOut

            sinks.append(held.enter_context(RtpOut(rtp, sources[0].fps, say)))
        opened = held.enter_context(engine_or_default(engine, model, precision, runtime))
        info = opened.info
        if save_masks is not None:
            sinks.append(MaskFolder(save_masks, info.label_set, len(sources), say))
        loop = Loop(sources, opened, sinks, frames)
        if view == "window":
            sinks.append(held.enter_context(Window([source.name for source in sources])))
        if view == "web" or metrics_port is not None:
            port = web_port if view == "web" else metrics_port or 0
            sinks += _served(held, loop, info, web_host, port, web_token, metrics_only=view != "web")
        for number in (signal.SIGINT, signal.SIGTERM):
            held.callback(signal.signal, number, signal.signal(number, lambda *_: loop.stop()))
        advance = held.enter_context(progress(f"run {', '.join(source.name for source in sources)}", frames))
        if stats is not None:
            held.enter_context(StatsFile(stats, loop.summary))
        if watchdog:
            held.enter_context(Watchdog(loop.stuck, loop.summary))
        facts = loop.run(advance)
    facts |= {
        "source": ", ".join(source.name for source in sources),
        "engine": str(info.path),
        "runtime": info.runtime,
        "precision": info.precision,
        "record": ", ".join(map(str, recorded)) or None,
    }
    result(facts, as_json, _in_words(facts))


def tell_formats(sources: list[Source]) -> None:
    """Say what live sources really give, which need not be what was asked for."""
    from ..camera.sources import LiveSource

    for source in sources:
        if isinstance(source, LiveSource):
            say(f"{source.name}: {source.format or 'not there yet, waiting for it'}")


def _served(
    held: contextlib.ExitStack,
    loop: Loop,
    info: EngineInfo,
    host: str,
    port: int,
    token: str | None,
    metrics_only: bool,
) -> list[Sink]:
    from ..camera.web import WebView

    view = held.enter_context(
        WebView(
            info.label_set,
            loop.summary,
            host=host,
            port=port,
            token=token,
            metrics_only=metrics_only,
            about=f"{info.path.name}, {info.precision}, {info.runtime}",
        )
    )
    say(f"{'metrics' if metrics_only else 'watch'} at {view.url}")
    if metrics_only and token is None and view.token is not None:
        say(f"they ask for Authorization: Bearer {view.token}")
    return [view]


def _in_words(facts: dict[str, Any]) -> str:
    latency, age = facts["latency_ms"], facts["age_ms"]
    return (
        f"{facts['frames']} frames, {facts['dropped']} dropped, {facts['fps']:.1f} FPS; "
        f"compute p50 {latency['p50']:.1f} p99 {latency['p99']:.1f} ms; "
        f"age p50 {age['p50']:.1f} p99 {age['p99']:.1f} ms"
    )
