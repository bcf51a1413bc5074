"""``pspnet-edge run``: the camera loop."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..bundled import names_model
from ..records import counted
from .options import engine_or_default, is_given, parse_camera_size, refuse_given
from .output import Advance, JsonFlag, progress, result, say
from .run_outputs import Outputs

if TYPE_CHECKING:
    from ..camera.loop import Loop, RunSummary
    from ..camera.sources import Source

_source, _engine, _view, _output, _service = (
    partial(typer.Option, rich_help_panel=panel) for panel in ("Source", "Engine", "View", "Output", "Service")
)
_FOR_LIVE = ("size", "fps", "pixels", "stall", "wait")
_FOR_FILES = ("loop", "realtime")
_FOR_ENGINE_TO_BUILD = ("model", "precision", "runtime")
_FOR_PICTURES = ("show", "legend")
_FOR_SERVER = ("web_host", "web_port", "web_token")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run")(run)


def run(
    context: typer.Context,
    engine: Annotated[
        str | None,
        typer.Argument(
            metavar="ENGINE",
            help="Engine, or a model to build first: a bundled name, an .onnx or .pt file, or a pack (.pspnet). "
            "Default: the bundled model.",
        ),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT", help="Same as --input: videos, images, folders, URLs or demo."),
    ] = None,
    # --- source
    camera: Annotated[
        list[str] | None, _source(metavar="N", help="USB camera: index or /dev/videoN. Repeatable.")
    ] = None,
    place: Annotated[
        list[str] | None,
        _source(
            "--input",
            metavar="INPUT",
            help="Video, image, folder or glob of images, rtsp:// or http:// stream, csi://N camera, or demo (a "
            "synthetic street scene). Repeatable.",
        ),
    ] = None,
    size: Annotated[
        str | None, _source(metavar="HEIGHTxWIDTH", help="Frame size to request from cameras, height first.")
    ] = None,
    fps: Annotated[float | None, _source(min=0.1, metavar="N", help="Frame rate to request from cameras.")] = None,
    pixels: Annotated[str, _source(metavar="FORMAT", help="Pixel format of USB cameras: auto, mjpg or raw.")] = "auto",
    stall: Annotated[
        float, _source(metavar="S", min=0.5, max=20, help="Reopen a camera or stream after S seconds without a frame.")
    ] = 3.0,
    wait: Annotated[
        bool,
        _source(
            "--wait", help="Keep trying to open a camera or stream that is not there at the start, instead of failing."
        ),
    ] = False,
    flip: Annotated[
        str,
        _source(
            metavar="HOW", help="Rotate every source clockwise (90, 180, 270) or mirror it (horizontal, vertical)."
        ),
    ] = "none",
    fit: Annotated[
        str,
        _source(
            metavar="HOW",
            help="How frames are fitted to the engine's input: stretch, letterbox (padded) or crop (centred).",
        ),
    ] = "stretch",
    roi: Annotated[
        str | None, _source(metavar="X,Y,W,H", help="Segment only this region, in pixels; the mask is 255 outside it.")
    ] = None,
    tiles: Annotated[
        bool,
        _source(
            "--tiles", help="Segment large frames at full resolution, in overlapping tiles of the engine's input size."
        ),
    ] = False,
    loop: Annotated[bool, _source("--loop", help="Loop files endlessly.")] = False,
    realtime: Annotated[
        bool,
        _source("--realtime", help="Play files at their own frame rate; drop frames when inference cannot keep up."),
    ] = False,
    frames: Annotated[int | None, _source(min=1, metavar="N", help="Stop after N frames in total.")] = None,
    # --- engine
    model: Annotated[
        str | None, _engine(metavar="MODEL", help="Without ENGINE: the model to build from.", hidden=True)
    ] = None,
    precision: Annotated[
        str,
        _engine(
            metavar="auto|fp32|fp16|int8",
            help="Precision to build in, if ENGINE is a model. auto: int8 if there is a calibration table, else "
            "fp16 on a GPU, else fp32.",
        ),
    ] = "auto",
    runtime: Annotated[
        str,
        _engine(
            metavar="RUNTIME",
            help="Runtime to build for, if ENGINE is a model: tensorrt, openvino or onnxruntime. "
            "auto: the first available.",
        ),
    ] = "auto",
    active: Annotated[
        bool,
        _engine("--active", help="Run the engine that `deploy` activated, with the settings it was deployed with."),
    ] = False,
    home: Annotated[
        Path | None,
        _engine(
            metavar="DIR",
            help="With --active: folder of deployed versions. "
            "Default: $PSPNET_EDGE_HOME, else ~/.local/share/pspnet-edge.",
        ),
    ] = None,
    # --- view
    view: Annotated[
        str,
        _view(
            metavar="WHERE",
            help="Where to show frames: window, web (a live page) or none. "
            "auto: a window if there is a display, else none.",
        ),
    ] = "auto",
    show: Annotated[
        str, _view(metavar="WHAT", help="What to draw, on screen and in files: overlay, mask or side-by-side.")
    ] = "overlay",
    opacity: Annotated[float, _view(min=0, max=1, metavar="0-1", help="Opacity of the class colours.")] = 0.5,
    legend: Annotated[
        bool,
        _view(
            "--legend/--no-legend",
            help="Show the class names in a strip at the top. [default: on; turn off with --no-legend]".replace(
                "[", "\\["
            ),
            show_default=False,
        ),
    ] = True,
    hide: Annotated[
        list[str] | None,
        _view(metavar="CLASS[,CLASS]", help="Classes not to draw: names or ids, comma-separated. Repeatable."),
    ] = None,
    # --- output
    record: Annotated[
        Path | None,
        _output(metavar="FILE.mp4", help="Record what is drawn. %Y%m%d-%H%M%S in the name becomes the start time."),
    ] = None,
    save_masks: Annotated[
        Path | None,
        _output(metavar="DIR", help="Save class-id masks as PNG, named after the image or the frame number."),
    ] = None,
    save_overlays: Annotated[
        Path | None,
        _output(
            metavar="DIR",
            help="Save each drawn frame (see --show) as a JPEG, named after the image or the frame number.",
        ),
    ] = None,
    rtp: Annotated[
        str | None,
        _output(
            metavar="TARGET",
            help="Stream the first source's overlay as H.264 to HOST:PORT or an rtsp:// server (needs GStreamer).",
        ),
    ] = None,
    as_json: JsonFlag = False,
    # --- service
    web_host: Annotated[str, _service(metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    web_port: Annotated[
        int, _service(min=0, max=65535, metavar="PORT", help="Port to listen on; 0 picks a free one.")
    ] = 8080,
    web_token: Annotated[
        str | None,
        _service(
            envvar="PSPNET_EDGE_WEB_TOKEN",
            metavar="TOKEN",
            show_envvar=False,
            help="Access token, also read from $PSPNET_EDGE_WEB_TOKEN; one is generated if none is "
            "given and --web-host is not loopback.",
        ),
    ] = None,
    stats: Annotated[
        Path | None, _service(metavar="FILE", help="Append run statistics every second, as one JSON object per line.")
    ] = None,
    metrics_port: Annotated[
        int | None,
        _service(
            min=0,
            max=65535,
            metavar="PORT",
            help="Serve Prometheus /metrics on this port. Not needed with --view web, which serves it on --web-port.",
        ),
    ] = None,
    watchdog: Annotated[
        bool, _service("--watchdog", help="Send systemd watchdog pings while the loop is healthy.")
    ] = False,
) -> None:
    """Segment cameras, streams, videos or images, and show, record or save the result.

    Examples:

      pspnet-edge run --input demo --view web

      pspnet-edge run pspnet.engine --camera 0 --size 720x1280 --fps 30

      pspnet-edge run pspnet.engine drive.mp4 --record overlay.mp4

      pspnet-edge run pspnet.engine photos/ --save-masks masks --save-overlays overlays

      pspnet-edge run --active --camera 0 --view web
    """
    from ..camera.loop import Loop
    from ..camera.overlay import SHOWS, Overlay, class_ids
    from ..camera.sinks import check_view
    from ..camera.sources import Settings, local_path, open_sources
    from ..data.geometry import Geometry, roi_from_text
    from ..errors import OptionError, one_of

    if active:
        if engine is not None and _is_engine_or_model(engine):
            raise OptionError(f"{engine} is an engine or a model, and --active takes the deployed one", "leave one out")
        inputs = ([engine] if engine is not None else []) + (inputs or [])
        refuse_given(context, _FOR_ENGINE_TO_BUILD, "describes an engine to build, and --active takes the deployed one")
        engine, wanted = _active_version(context, home)
        fit, roi = wanted.get("fit", fit), wanted.get("roi", roi)
        tiles, flip = wanted.get("tiles", tiles), wanted.get("flip", flip)
    else:
        refuse_given(context, ("home",), "is for --active")
    engine, places = _split_arguments(engine, inputs or [], place or [])
    if engine is not None and not names_model(engine):
        refuse_given(context, _FOR_ENGINE_TO_BUILD, f"describes an engine to build, and {engine} is built already")
    serves = view == "web" or metrics_port is not None
    if not serves:
        refuse_given(context, _FOR_SERVER, "needs --view web or --metrics-port")
    view = check_view(view)
    draws = view == "window" or any(each is not None for each in (record, save_overlays, rtp))
    if not draws:
        refuse_given(context, _FOR_PICTURES, "needs a window, --record, --save-overlays or --rtp")
        if view != "web":
            refuse_given(context, ("opacity", "hide"), "needs a window, --view web, --record, --save-overlays or --rtp")
    geometry = Geometry(fit, roi_from_text(roi), tiles)
    camera_size = parse_camera_size(size)
    asked = Settings(camera_size, fps, pixels, stall, wait, loop, realtime, flip, past_unreadable=True)
    with contextlib.ExitStack() as held:
        sources = open_sources(camera or [], places, asked)
        for source in sources:
            held.callback(source.close)
        _check_sources(context, sources, places)
        tell_formats(sources)
        outputs = Outputs(held, sources, [local_path(each) for each in (engine, model, *places) if each])
        if record is not None:
            outputs.add_recorder(record)
        if rtp is not None:
            outputs.add_rtp(rtp)
        opened = held.enter_context(engine_or_default(engine, model, precision, runtime))
        info = opened.info
        asked.frames.pixels = info.pixels
        hidden = class_ids(info.label_set, hide or [])
        drawn = one_of(show, SHOWS, "choice", "show")
        overlay = Overlay(info.label_set, opacity, legend=legend, hide=hidden, show=drawn)
        outputs.add_folders(info.label_set, save_masks, save_overlays)
        main_loop = Loop(sources, opened, frames, geometry=geometry, overlay=overlay)
        if view == "window":
            outputs.add_window()
        if serves:
            from ..camera.web import WebView

            port = web_port if view == "web" else metrics_port or 0
            if view == "web" and metrics_port not in (None, web_port):
                say(f"--metrics-port {metrics_port} is not used: with --view web, /metrics is on port {web_port}")
            served = WebView(
                info.label_set,
                main_loop.summary,
                host=web_host,
                port=port,
                token=web_token,
                metrics_only=view != "web",
                about=f"{info.path.name}, {info.precision}, {info.runtime}",
                opacity=opacity,
                hide=hidden,
            )
            outputs.add_web(served, tells_token=web_token is None)
            if view == "web" and _count_frames(sources, None) is not None:
                slower = "" if realtime else ", --realtime at its own rate"
                say(f"the page ends with its input; --loop plays it again{slower}")
        if stats is not None:
            outputs.add_stats(stats, main_loop)
        if not outputs.sinks and stats is None and not is_given(context, "view"):
            say(
                "no display here, so nothing is shown or saved: add --view web, --record FILE.mp4 or "
                "--save-overlays DIR"
            )
        _end_on_signals(held, main_loop)
        advance = held.enter_context(progress(_title(sources), _count_frames(sources, frames)))
        if watchdog:
            from ..camera.systemd import Watchdog

            held.enter_context(Watchdog(main_loop.stuck, main_loop.summary))
        summary = main_loop.run(outputs.sinks, _with_rate(main_loop, advance, to_the_end=frames is None))
    facts = summary.to_dict()
    facts |= {
        "source": ", ".join(source.name for source in sources),
        "engine": str(info.path),
        "runtime": info.runtime,
        "precision": info.precision,
        "record": ", ".join(map(str, outputs.recorded)) or None,
        "outputs": outputs.paths(),
    }
    result(facts, as_json, _in_words(summary, outputs.in_words(), any(source.live for source in sources)))
    damaged = [source.trouble for source in summary.sources if source.lost and source.trouble]
    if damaged:
        say("; ".join(damaged))
        if frames is None or summary.frames < frames:  # with all of them given, the damage is of what was read ahead
            raise typer.Exit(1)


def _active_version(context: typer.Context, home: Path | None) -> tuple[str, dict[str, Any]]:
    """The engine of the active version, and what its pack says of how it is run, where the command line is silent."""
    from ..deploy.store import Store

    store = Store(home)
    engine = store.active_engine()
    wanted = store.facts(engine.parent.name)["run"]
    say(f"running {engine.parent.name}")
    return str(engine), {name: value for name, value in wanted.items() if not is_given(context, name)}


def tell_formats(sources: Sequence[Source]) -> None:
    """Say what live sources really give, which need not be what was asked for."""
    from ..camera.sources import LiveSource

    for source in sources:
        if isinstance(source, LiveSource):
            say(f"{source.name}: {source.format or 'not there yet, waiting for it'}")


def _is_engine_or_model(name: str) -> bool:
    from ..built import is_engine

    return names_model(name) or is_engine(Path(name))


def _split_arguments(engine: str | None, inputs: list[str], places: list[str]) -> tuple[str | None, list[str]]:
    """ENGINE and every input; a first argument that can only be an input is one."""
    from ..data.images import SUFFIXES, VIDEO_SUFFIXES
    from ..errors import EngineError, OptionError
    from ..inputs import refuse_run

    if engine is not None:
        suffix = Path(engine).suffix.lower()
        for name in inputs:
            if _is_engine_or_model(name):
                raise OptionError(f"{name} is an engine or a model, not an input", "name it before the inputs")
        refuse_run(Path(engine), "engine or model", EngineError)
        if engine == "demo" or "://" in engine or suffix in SUFFIXES | VIDEO_SUFFIXES or Path(engine).is_dir():
            return None, [engine, *inputs, *places]
    return engine, [*inputs, *places]


def _check_sources(context: typer.Context, sources: Sequence[Source], places: Sequence[str]) -> None:
    from ..camera.sources import LiveSource

    live = [isinstance(source, LiveSource) for source in sources]
    if not any(live):
        refuse_given(context, _FOR_LIVE, "is for cameras and streams, and there is none")
    if all(live) or list(places) == ["demo"]:
        refuse_given(context, _FOR_FILES if all(live) else ("loop",), "is for videos and images, and there is none")


def _end_on_signals(held: contextlib.ExitStack, loop: Loop) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        before = signal.getsignal(number)
        if number == signal.SIGHUP and before == signal.SIG_IGN:
            continue  # started with nohup
        signal.signal(number, lambda *_: loop.stop())
        held.callback(signal.signal, number, before)


def _title(sources: Sequence[Source]) -> str:
    names = [source.name for source in sources]
    return f"run {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"


def _count_frames(sources: Sequence[Source], limit: int | None) -> int | None:
    """How many frames there will be, as far as files say; None for what does not end."""
    total = 0
    for source in sources:
        length: int | None = getattr(source, "length", None)
        if length is None:
            return limit
        total += length
    return min(total, limit) if limit is not None else total


def _with_rate(loop: Loop, advance: Advance, *, to_the_end: bool) -> Callable[[int], None]:
    """Progress with the current rate beside it, updated twice a second.

    Args:
        loop: whose.
        advance: of the progress that is shown.
        to_the_end: whether files are played to their end, to which frames that were dropped bring it nearer too.
    """
    import time

    asked, note, dropped = 0.0, "", 0

    def on_frame(done: int) -> None:
        nonlocal asked, note, dropped
        now = time.monotonic()
        if now - asked > 0.5:
            summary = loop.summary()
            asked, note, dropped = now, f"{summary.fps_recent:.1f} FPS", summary.dropped if to_the_end else 0
        advance(done + dropped, note)

    return on_frame


def _in_words(summary: RunSummary, outputs: str, live: bool) -> str:
    latency, age = summary.latency_ms, summary.age_ms
    words = f"{counted(summary.frames, 'frame')}, {summary.dropped} dropped, {summary.fps:.1f} FPS"
    if summary.frames:
        warm_up = summary.warm_up["latency_ms"]
        warmed = len(warm_up) < summary.frames
        if warm_up and warmed:
            words += f"; first frame {warm_up[0]:.0f} ms"
        words += f"; compute p50 {latency['p50']:.1f} p99 {latency['p99']:.1f} ms"
        words += "" if warmed else " (warm-up only)"
        if live:
            words += f"; age p50 {age['p50']:.1f} p99 {age['p99']:.1f} ms"
    return f"{words}; wrote {outputs}" if outputs else words
