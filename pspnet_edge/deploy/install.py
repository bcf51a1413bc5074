"""Putting a pack to work on the machine it is on: build, check, measure, switch, watch, and go back where it fails."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..artifact import atomic_path, sha256_of, write_bytes, write_json
from ..data.progress import Progress, silent
from ..doctor.examine import CHECKS
from ..doctor.system import RealSystem
from ..doctor.verdict import Verdict, Wanted
from ..engine.backends import backend_of, choose_runtime, open_engine, read_info
from ..engine.build import build_engine
from ..engine.engine import Engine
from ..engine.model import Model
from ..errors import DeployError, EngineError, MissingPackage, OptionError, PackError
from ..graph.onnx_file import read_model
from ..inputs import as_number, as_whole
from ..measure.facts import Percentiles
from ..measure.latency import engine_slice, percentiles
from ..measure.power import power_meter
from ..pack_file import MODEL, TABLE, PackFile, read_pack
from ..records import JsonRecord
from .golden import Picture, compare, golden_frames, golden_masks, segment
from .service import Service, watch
from .signature import check_signature
from .store import Store

_NOT_NEEDED = frozenset({"torch", "gstreamer", "power_mode", "clocks", "display", "camera", "argus", "engine"})
"""Checks of the doctor that say nothing about building and running an engine."""
_ROOM_FACTOR = 4
"""Free disk that a version needs, in sizes of its pack: the pack, the engine, and what is written while it is built."""
_LEAST_ROOM_BYTES = 64 << 20
DEFAULT_WATCH_S = 60.0
DEFAULT_KEEP = 3

Say = Callable[[str], None]


@dataclass(frozen=True)
class Demands:
    """What a version must fulfil before it is put to work, and how."""

    precision: str = "auto"
    """``auto`` takes the pack's first."""
    runtime: str = "auto"
    public_key: Path | None = None
    """Whoever signed the pack; None takes unsigned packs too."""
    min_fps: float = 0.0
    measure_s: float = 3.0
    watch_s: float = DEFAULT_WATCH_S
    keep: int = DEFAULT_KEEP
    allow_new_classes: bool = False
    """Whether the classes may be others than the active version's."""
    allow_older: bool = False
    """Whether the pack's release may be lower than the active version's."""

    def __post_init__(self) -> None:
        as_number(self.min_fps, "min_fps", least=0)
        as_number(self.measure_s, "measure_s", least=0.1, most=600)
        as_number(self.watch_s, "watch_s", least=0, most=3600)
        as_whole(self.keep, "keep", least=2, most=1000)


@dataclass(frozen=True)
class Deployed(JsonRecord):
    """What is active on a board, and how it was found to be."""

    board: str
    version: str
    state: str
    """``active``, or ``rolled_back`` where an earlier version was made active."""
    agreement: float
    fps: float
    latency_ms: dict[str, float]
    precision: str
    runtime: str
    watts: float | None
    kept_float: tuple[str, ...]
    before: str | None = None
    """The version that was active before."""
    service: str | None = None
    removed: tuple[str, ...] = field(default=())
    """Old versions that were removed."""
    release: int = 0
    """The pack's number; 0 where it has none."""


def deploy_pack(
    path: Path,
    store: Store,
    demands: Demands = Demands(),
    *,
    service: Service | None = None,
    progress: Progress = silent,
    say: Say = lambda text: None,
) -> Deployed:
    """Build a pack for this machine, check it, and make it the active version.

    A process that is killed leaves the version before or the new one active, whole in both cases. Deploying the same
    pack again continues from there.

    Args:
        path: the pack.
        store: the versions of this board.
        demands: what must be fulfilled.
        service: what runs the active version; None where nothing does.
        progress: shows how far the build is.
        say: told each step.

    Raises:
        PackError: the pack cannot be trusted or used; nothing is written.
        DeployError: the machine, the golden frames, the speed or the service refuse it; the version before is active.
        BuildError, EngineError, OutputError: as the names say.
    """
    pack = _trusted(path, demands)
    precision, runtime = _choose(pack, demands)
    version = f"{pack.version}-{precision}-{runtime}"
    _refuse_other_classes(pack, store, demands)
    _preflight(store, path.stat().st_size)
    with store.locked():
        _refuse_older(pack, store, demands)
        pending = store.pending()
        if pending is not None and pending.version != version:
            say(f"{pending.version} was activated and its watch did not end: replacing it")
            store.settle()
        if not _is_installed(store, pack, version):
            _install(pack, version, store, precision, runtime, demands, progress, say)
        else:
            say(f"{version} is installed already")
        _ensure_speed(store.facts(version)["fps"], demands)
        if service is not None:
            store.open_to_all(version)
        before = pending.before if pending is not None and pending.version == version else store.active()
        if store.active() != version:
            store.activate(version, watched=service is not None)
        if service is not None:
            _watch(store, service, before, demands, progress, say)
        store.settle()
        removed = store.prune(demands.keep)
        return describe(store, before=before, service=service, removed=removed)


def roll_back(
    store: Store, pack: PackFile | None = None, *, service: Service | None = None, say: Say = lambda text: None
) -> Deployed:
    """Make the version before the active one active again.

    Args:
        store: the versions of this board.
        pack: what must be active for that; None goes back from any version.
        service: what runs the active version.
        say: told each step.

    Raises:
        DeployError: there is none, or the service does not start with it.
    """
    with store.locked():
        active, previous = store.active(), store.previous()
        if active is None:
            raise store.nothing_active()
        if pack is not None and not pack.made(active):
            say(f"{active} is active, which is not {pack.path.name}: nothing is rolled back")
            return describe(store)
        if previous is None:
            raise DeployError(
                f"there is no version before {active} in {store.home}",
                "see them",
                store.command("pspnet-edge deploy --list"),
            )
        store.go_back(previous)
        if service is not None:
            service.restart()
        say(f"{previous} is active again, {active} was")
        return describe(store, before=active, service=service, state="rolled_back")


def describe(
    store: Store,
    *,
    before: str | None = None,
    service: Service | None = None,
    removed: Sequence[str] = (),
    state: str = "active",
) -> Deployed:
    """The active version as a record."""
    version = store.active()
    if version is None:
        raise store.nothing_active()
    facts = store.facts(version)
    return Deployed(
        socket.gethostname(),
        version,
        state,
        facts["agreement"],
        facts["fps"],
        facts["latency_ms"],
        facts["precision"],
        facts["runtime"],
        facts["watts"],
        tuple(facts["kept_float"]),
        before if before != version else None,
        service.name if service else None,
        tuple(removed),
        facts.get("release", 0),
    )


def _trusted(path: Path, demands: Demands) -> PackFile:
    pack = read_pack(path)
    if demands.public_key is not None:
        check_signature(pack, demands.public_key)
    return pack


def _choose(pack: PackFile, demands: Demands) -> tuple[str, str]:
    offered = list(pack.manifest["precisions"])
    precision = offered[0] if demands.precision == "auto" else demands.precision
    if precision not in offered and precision != "fp32":
        raise OptionError(f"the pack offers {', '.join(offered)}, not {precision}", "choose one", parameter="precision")
    return precision, choose_runtime(demands.runtime)


def _refuse_other_classes(pack: PackFile, store: Store, demands: Demands) -> None:
    active = store.active()
    if active is None or demands.allow_new_classes:
        return
    classes = tuple(store.facts(active)["classes"])
    if classes != pack.label_set.classes:
        raise PackError(
            f"the pack's classes ({', '.join(pack.label_set.classes[:3])} …, {len(pack.label_set)} in all) are not "
            f"those of the active version {active} ({', '.join(classes[:3])} …, {len(classes)} in all)",
            "give --allow-new-classes if the program that reads the masks knows the new ones",
        )


def _refuse_older(pack: PackFile, store: Store, demands: Demands) -> None:
    """A signature says who made a pack, not that there is none later: an old one with a known fault is signed too."""
    active = store.active()
    if active is None or demands.allow_older:
        return
    release = store.facts(active).get("release", 0)
    if pack.release < release:
        found = f"release {pack.release}" if pack.release else "a pack without a release number"
        raise PackError(
            f"{pack.path} is {found}, and the active version {active} is release {release}",
            "give --allow-older if you want the older one",
        )


def _preflight(store: Store, pack_bytes: int) -> None:
    """Refuse where the doctor finds what keeps this machine from running, or the disk has no room."""
    system = RealSystem()
    for name, check in CHECKS.items():
        if name in _NOT_NEEDED:
            continue
        found = check(system, Wanted())
        for verdict in [found] if isinstance(found, Verdict) else found:
            if verdict.state == "block":
                raise DeployError(f"preflight: {verdict.says}", "fix it", verdict.command or "pspnet-edge doctor")
    needed, free = _ROOM_FACTOR * pack_bytes + _LEAST_ROOM_BYTES, system.free_bytes(str(store.home))
    if free < needed:
        raise DeployError(
            f"preflight: {free >> 20} MiB are free under {store.home} and {needed >> 20} MiB are needed",
            "free space, or keep fewer versions with --keep",
        )


def _is_installed(store: Store, pack: PackFile, version: str) -> bool:
    """Whether the version is there, whole, and still opens after an upgrade of the runtime."""
    if version not in store.versions():
        return False
    try:
        store.facts(version)
        info = read_info(store.engine(version))
        backend_of(info.runtime).ensure_opens_here(info.path, info)
        return sha256_of(store.versions_folder / version / "pack.pspnet") == pack.sha256
    except (DeployError, EngineError, OSError):
        return False


def _install(
    pack: PackFile,
    version: str,
    store: Store,
    precision: str,
    runtime: str,
    demands: Demands,
    progress: Progress,
    say: Say,
) -> None:
    """Build and check in a staging folder, which becomes the version when all is well."""
    with store.staging() as folder:
        sources = folder / "source"
        model = Model(pack.name, sources / f"{pack.name}.onnx", None)
        write_bytes(model.path, pack.read(MODEL))
        if read_model(model.path).label_set != pack.label_set:
            raise PackError(f"the pack {pack.path} lists classes that differ from its model's", "recreate it")
        if pack.has(TABLE):
            model = Model(model.name, model.path, sources / f"{pack.name}.calib.json")
            write_bytes(sources / f"{pack.name}.calib.json", pack.read(TABLE))
        say(f"building {version}")
        engine_path = folder / "model.engine"
        with progress("build", None) as advance:
            built = build_engine(model, precision, runtime, engine_path, report=advance)
        frames = golden_frames(pack)
        with open_engine(engine_path) as engine:
            agreement = _check_golden(pack, precision, segment(engine, frames), say)
            ms, watts = _measure(engine, frames, demands)
        fps = round(1000 * engine.info.shape_nhw[0] / ms["p50"], 3)
        say(f"{fps:.1f} FPS, p50 {ms['p50']:.1f} ms, p99 {ms['p99']:.1f} ms")
        _ensure_speed(fps, demands)
        shutil.rmtree(sources)
        write_json(
            folder / "version.json",
            {
                "kind": "version",
                "version": version,
                "precision": precision,
                "runtime": runtime,
                "agreement": round(agreement, 6),
                "fps": fps,
                "latency_ms": ms,
                "watts": watts,
                "kept_float": list(built.get("kept_float") or ()),
                "run": dict(pack.manifest["run"]),
                "classes": list(pack.label_set.classes),
                "release": pack.release,
            },
        )
        with atomic_path(folder / "pack.pspnet") as temporary:
            shutil.copyfile(pack.path, temporary)
        if sha256_of(folder / "pack.pspnet") != pack.sha256:
            raise PackError(f"the pack {pack.path} changed while it was deployed", "try again")
        store.add(folder, version)


def _check_golden(pack: PackFile, precision: str, masks: Sequence[Picture], say: Say) -> float:
    """Compare with what FP32 gave where the pack was made; the share of equal pixels."""
    golden = pack.manifest["golden"]
    limit = golden["limits"].get(precision)
    if limit is None:
        raise PackError(f"the pack {pack.path} has no limit for {precision}", "recreate it")
    found = compare(masks, golden_masks(pack, "fp32"), pack.label_set.classes)
    if found.share < limit:
        raise DeployError(
            f"{pack.version} in {precision} agrees with FP32 on {found.share:.2%} of the golden frames' pixels, "
            f"{limit - found.share:.2%} below the limit of {limit:.2%}; the worst class is {found.worst_class}, with "
            f"{found.worst_share:.1%}",
            "recreate the pack, or try another --precision or --runtime",
        )
    own = compare(masks, golden_masks(pack, precision), pack.label_set.classes)
    say(f"golden frames: {found.share:.2%} as FP32, {own.share:.2%} as {precision} where the pack was made")
    return found.share


def _measure(engine: Engine, frames: Sequence[Picture], demands: Demands) -> tuple[Percentiles, float | None]:
    """Latency percentiles of the engine alone, and median watts where the board has a meter."""
    count = engine.info.shape_nhw[0]
    batches = [
        np.stack([frames[(start + offset) % len(frames)] for offset in range(count)]) for start in range(len(frames))
    ]
    try:
        with power_meter() as meter:
            measured = engine_slice(engine, batches, demands.measure_s)
            found = meter.between([(measured.began, measured.ended)]) if meter is not None else None
    except MissingPackage:  # a meter that does not answer is not a reason to keep an old model
        measured, found = engine_slice(engine, batches, demands.measure_s), None
    return percentiles(measured.ms), found["watts"] if found else None


def _ensure_speed(fps: float, demands: Demands) -> None:
    if fps < demands.min_fps:
        raise DeployError(
            f"it runs at {fps:.1f} FPS, below --min-fps {demands.min_fps:g}",
            "use a smaller model or input size, or lower --min-fps",
        )


def _watch(store: Store, service: Service, before: str | None, demands: Demands, progress: Progress, say: Say) -> None:
    """Restart the service and watch it; go back to the version before where it is not healthy."""
    version = store.active()
    say(f"restarting {service.name}; it is watched for {demands.watch_s:.0f} s")
    try:
        service.restart()
        with progress("watch", round(demands.watch_s)) as advance:
            problem = watch(service, demands.watch_s, lambda done: advance(done, ""))
    except DeployError as error:
        problem = error.problem
    if problem is None:
        return
    back = before if before != version else None
    if back is None:
        raise DeployError(
            f"{version} is active and its service is not healthy ({problem}), and there is no version to roll back to",
            "see why",
            f"journalctl -eu {service.name}",
        )
    store.go_back(back)
    try:
        service.restart()
    except DeployError as error:
        problem += f"; with {back}: {error.problem}"
    raise DeployError(f"{version} was rolled back to {back}: {problem}", "see why", f"journalctl -eu {service.name}")
