"""``pspnet-edge deploy``: pack → the active version of this board, or of many."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import RuntimeOption
from .output import JsonFlag, progress, result, say

if TYPE_CHECKING:
    from ..deploy.fleet import Orders
    from ..deploy.install import Demands, Deployed
    from ..deploy.service import Service
    from ..deploy.store import Store

_boards = partial(typer.Option, rich_help_panel="Other boards")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("deploy")(deploy)


def deploy(
    pack: Annotated[Path | None, typer.Argument(metavar="PACK", help="A .pspnet file from `pack`.")] = None,
    home: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the deployed versions. Default: $PSPNET_EDGE_HOME, else ~/.local/share/pspnet-edge.",
        ),
    ] = None,
    precision: Annotated[
        str, typer.Option(metavar="auto|fp32|fp16|int8", help="auto: the pack's first choice.")
    ] = "auto",
    runtime: RuntimeOption = "auto",
    key: Annotated[Path | None, typer.Option(metavar="PUBLIC", help="Refuse packs not signed with this key.")] = None,
    min_fps: Annotated[
        float, typer.Option(min=0, metavar="N", help="Refuse the version if it is slower than this.")
    ] = 0.0,
    measure: Annotated[float, typer.Option(min=0.1, max=600, metavar="S", help="Seconds of speed measurement.")] = 3.0,
    keep: Annotated[int, typer.Option(min=2, max=1000, metavar="N", help="Number of versions to keep.")] = 3,
    allow_new_classes: Annotated[
        bool, typer.Option("--allow-new-classes", help="Accept classes that differ from the active version's.")
    ] = False,
    allow_older: Annotated[
        bool, typer.Option("--allow-older", help="Accept a release number lower than the active version's.")
    ] = False,
    service: Annotated[
        str, typer.Option(metavar="UNIT", help="systemd unit to restart, if it exists; none: no unit.")
    ] = "pspnet-edge",
    health: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Health check after the restart: must answer 200, e.g. http://127.0.0.1:8080/healthz."
        ),
    ] = None,
    watch: Annotated[
        float, typer.Option(min=0, max=3600, metavar="S", help="Seconds that the service must stay up to be accepted.")
    ] = 60.0,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="URL|DIR", help="Fetch a new signed pack from here. Needs --key."),
    ] = None,
    to: Annotated[
        list[str] | None, _boards(metavar="USER@HOST[:PORT]", help="Board to deploy to over ssh. Repeatable.")
    ] = None,
    fleet: Annotated[Path | None, _boards(metavar="FILE.toml", help="List of boards.")] = None,
    canary: Annotated[int, _boards(min=0, metavar="N", help="Deploy to N boards first; stop if one fails.")] = 0,
    continue_on_error: Annotated[
        bool, _boards("--continue-on-error", help="Continue with the other boards after a failure.")
    ] = False,
    install: Annotated[bool, _boards("--install", help="Install pspnet-edge first, from --wheelhouse.")] = False,
    wheelhouse: Annotated[
        Path | None, _boards(metavar="DIR", help="Folder of wheels, for boards without internet.")
    ] = None,
    ssh_config: Annotated[
        Path | None, _boards(metavar="FILE", help="ssh configuration to use instead of ~/.ssh/config.")
    ] = None,
    list_versions: Annotated[
        bool,
        typer.Option("--list", help="List the versions on this board, or the active one on each of the other boards."),
    ] = False,
    rollback: Annotated[
        bool,
        typer.Option("--rollback", help="Reactivate the previous version; with PACK, only on boards that run PACK."),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Install a pack on this board, or on others over ssh: build its engine, check it and make it the active version.

    The engine must reproduce the masks of the pack's golden frames and reach --min-fps. It is then activated, and the
    service is restarted and watched. If a step fails, the previous version stays active or becomes active again. The
    switch is atomic, even if the command is killed. Exit status 1 if the pack is refused or rolled back.

    Examples:

      pspnet-edge deploy mine.pspnet --min-fps 25

      pspnet-edge deploy mine.pspnet --to me@board1 --to me@board2:2222 --canary 1

      pspnet-edge deploy --list --fleet fleet.toml

      pspnet-edge deploy mine.pspnet --rollback --fleet fleet.toml
    """
    from ..deploy.fleet import Orders
    from ..deploy.install import Demands, deploy_pack, roll_back
    from ..deploy.signature import check_signature
    from ..deploy.store import Store
    from ..pack_file import check_pack_file, read_pack

    _check_usage(pack, source, list_versions, rollback)
    if to or fleet is not None:
        if source is not None:
            raise typer.BadParameter("it is for this board: leave out --to and --fleet", param_hint="--from")
        if install != (wheelhouse is not None):
            raise typer.BadParameter("--install and --wheelhouse DIR go together", param_hint="--install")
        arguments = [] if rollback else _remote_demands(precision, runtime, min_fps, measure, keep, watch)
        arguments += ["--service", service] + (["--health", health] if health else [])
        arguments += ["--allow-new-classes"] if allow_new_classes and not rollback else []
        arguments += ["--allow-older"] if allow_older and not rollback else []
        if key is not None and pack is not None:
            check_signature(read_pack(pack), key)
        orders = Orders(
            tuple(arguments),
            pack,
            "rollback" if rollback else "list" if list_versions else "deploy",
            canary,
            continue_on_error or list_versions,
            wheelhouse,
            ssh_config,
            str(home) if home else None,
        )
        _deploy_to_boards(to or [], fleet, orders, as_json)
        return
    if canary or continue_on_error or install or wheelhouse is not None:
        raise typer.BadParameter("it is for other boards: give --to or --fleet", param_hint="--canary")
    store = Store(home)
    if list_versions:
        _list(store, as_json)
        return
    if pack is not None:
        check_pack_file(pack)  # before a word about the service
    runs = _service(service, health)
    if rollback:
        leave = None if pack is None else read_pack(pack)
        _show(roll_back(store, leave, service=runs, say=say), as_json)
        return
    demands = Demands(
        precision=precision,
        runtime=runtime,
        public_key=key,
        min_fps=min_fps,
        measure_s=measure,
        watch_s=watch,
        keep=keep,
        allow_new_classes=allow_new_classes,
        allow_older=allow_older,
    )
    if pack is not None:
        _show(deploy_pack(pack, store, demands, service=runs, progress=progress, say=say), as_json)
    elif source is not None:
        _update(source, store, demands, runs, as_json)


def _check_usage(pack: Path | None, source: str | None, list_versions: bool, rollback: bool) -> None:
    if (pack is not None and not rollback) + (source is not None) + list_versions + rollback != 1:
        raise typer.BadParameter(
            "give one of PACK, --from, --list and --rollback; PACK and --rollback where PACK is active",
            param_hint="PACK",
        )


def _update(source: str, store: Store, demands: Demands, runs: Service | None, as_json: bool) -> None:
    """Deploy what a source offers, once: a pack that was refused is not tried again before it changes."""
    from ..deploy.install import deploy_pack, describe
    from ..deploy.update import find_offer, remember
    from ..errors import OptionError, PspnetEdgeError

    if demands.public_key is None:
        raise OptionError("--from takes signed packs only", "give the maker's public key with --key")
    offer = find_offer(source, store, progress)
    if offer is None:
        say(f"nothing new at {source}")
        _show(describe(store), as_json)
        return
    try:
        deployed = deploy_pack(offer.path, store, demands, service=runs, progress=progress, say=say)
    except PspnetEdgeError as error:
        remember(store, offer, str(error))
        raise
    remember(store, offer, None)
    _show(deployed, as_json)


def _remote_demands(precision: str, runtime: str, min_fps: float, measure: float, keep: int, watch: float) -> list[str]:
    """What a board is told, spelled as on its own command line."""
    words = ["--precision", precision, "--runtime", runtime, "--min-fps", str(min_fps)]
    return [*words, "--measure", str(measure), "--keep", str(keep), "--watch", str(watch)]


def _deploy_to_boards(to: list[str], fleet: Path | None, orders: Orders, as_json: bool) -> None:
    from ..deploy.fleet import read_fleet, run_fleet, summary_of, table_of
    from ..deploy.remote import parse_target

    targets = [parse_target(text) for text in to] + (read_fleet(fleet) if fleet is not None else [])
    results = run_fleet(targets, orders, lambda board, line: say(f"{board}: {line}"))
    result(summary_of(results), as_json, table_of(results))
    if any(each.state in ("failed", "skipped") for each in results):
        failed = [each.board for each in results if each.state == "failed"]
        say(f"pspnet-edge: failed on {', '.join(failed)}")
        raise typer.Exit(1)


def _service(unit: str, health: str | None) -> Service | None:
    """The unit where systemd knows it; None, with a word about it, where it does not."""
    from ..deploy.service import SystemdService
    from ..errors import OptionError

    if health is not None and not health.startswith(("http://", "https://")):
        raise OptionError(f"{health!r} is not an address", "give one that begins with http://", parameter="health")
    if unit == "none":
        return None
    found = SystemdService(unit, health)
    if found.exists:
        return found
    say(f"no service {unit} is here: nothing is restarted or watched")
    return None


def _show(deployed: Deployed, as_json: bool) -> None:
    facts = deployed.to_dict()
    facts["boards"] = [dict(facts)]
    before = f", before it {deployed.before}" if deployed.before else ""
    summary = (
        f"{deployed.version} is {deployed.state.replace('_', ' ')}: agreement {deployed.agreement:.2%}, "
        f"{deployed.fps:.1f} FPS{before}"
    )
    result(facts, as_json, summary)


def _list(store: Store, as_json: bool) -> None:
    from ..errors import DeployError

    active, previous = store.active(), store.previous()
    rows: list[dict[str, object]] = []
    for version in store.versions():
        state = "active" if version == active else "previous" if version == previous else "installed"
        try:
            facts = {name: value for name, value in store.facts(version).items() if name != "kind"}
        except DeployError as error:
            facts = {"version": version, "problem": error.problem}
            state = "damaged"
        rows.append({**facts, "state": state})
    lines = [
        f"{row['state']:<10}{row['version']}"
        + (f"  release {row['release']}" if row.get("release") else "")
        + (f"  {row['fps']:.1f} FPS, agreement {row['agreement']:.2%}" if "fps" in row else "")
        for row in rows
    ]
    result({"home": str(store.home), "active": active, "versions": rows}, as_json, "\n".join(lines) or "no versions")
