"""Versions on a board: one folder each, one symbolic link that says which is active, one process at a time.

    HOME/versions/NAME-SHA/   pack.pspnet  model.engine  model.engine.json  version.json
    HOME/active               symbolic link to versions/NAME-SHA, replaced by a rename
    HOME/history.json         the versions that were active, in order
    HOME/pending.json         there while a new version is watched
    HOME/lock

A version is made in a folder whose name begins with ``.``, and renamed when it is whole. Whatever is left with such a
name belongs to a process that died, because the lock is held while there is one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shlex
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..artifact import find_target, make_folder, write_json
from ..document import List, Number, Optional, Record, Text, read_document
from ..errors import DeployError, OutputError

VERSION_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_WAIT_S = 3600.0
_HISTORY_LENGTH = 100
_NAME = Text(200, pattern=VERSION_PATTERN)
_HISTORY = Record({"kind": Text(among=("history",)), "versions": List(_NAME, 0, 10_000)}, closed=True)
_PENDING = Record({"kind": Text(among=("pending",)), "version": _NAME, "before": Optional(_NAME)}, closed=True)
_VERSION = Record(
    {
        "kind": Text(among=("version",)),
        "version": _NAME,
        "precision": Text(among=("fp32", "fp16", "int8")),
        "runtime": Text(50),
        "agreement": Number(0, 1),
        "fps": Number(0),
        "latency_ms": Record({"p50": Number(0), "p95": Number(0), "p99": Number(0)}),
        "watts": Optional(Number(0)),
        "kept_float": List(Text(1000)),
        "run": Record({}),
        "classes": List(Text(200), 1, 254),
    },
    {"release": Number(0, whole=True)},
    closed=True,
)
_REMAKE = "pspnet-edge deploy NAME.pspnet"
_LONGEST_NAME_BYTES = 255


@dataclass(frozen=True)
class Pending:
    """A switch whose watch did not end."""

    version: str
    before: str | None


def default_home() -> Path:
    """``PSPNET_EDGE_HOME``, else ``~/.local/share/pspnet-edge`` or where ``XDG_DATA_HOME`` says."""
    if given := os.environ.get("PSPNET_EDGE_HOME"):
        return Path(given)
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "pspnet-edge"


class Store:
    """The versions below a folder.

    Raises:
        DeployError: a name that no file system takes.
    """

    def __init__(self, home: Path | None = None) -> None:
        self.home = (home or default_home()).absolute()
        if any(len(os.fsencode(part)) > _LONGEST_NAME_BYTES for part in self.home.parts):
            shown = f"{str(self.home)[:60]}…"
            raise DeployError(f"a name in {shown} is longer than {_LONGEST_NAME_BYTES} bytes", "give a shorter --home")
        self.versions_folder = self.home / "versions"
        self._active = self.home / "active"
        self._pending = self.home / "pending.json"
        self._history = self.home / "history.json"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Be the one process that changes versions, and clean up after one that died.

        Raises:
            OutputError: the folder cannot be written.
            DeployError: another process still changes versions after an hour.
        """
        make_folder(self.versions_folder)
        try:
            descriptor = os.open(self.home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise OutputError(f"{self.home} cannot be written ({error.strerror})", "give another --home") from error
        try:
            end = time.monotonic() + _WAIT_S
            while not _lock(descriptor):
                if time.monotonic() > end:
                    raise DeployError(f"another process is deploying to {self.home}", "wait for it or end it")
                time.sleep(0.2)
            self._clean()
            yield
        finally:
            os.close(descriptor)

    def active(self) -> str | None:
        """The version that is active; None where there is none."""
        try:
            name = self._active.readlink().name
        except OSError:
            return None
        return name if (self.versions_folder / name).is_dir() else None

    def engine(self, version: str) -> Path:
        """Its engine file."""
        return self.versions_folder / version / "model.engine"

    def active_engine(self) -> Path:
        """The engine of the active version, by the folder it is in, which a later switch does not change.

        Raises:
            DeployError: no version is active.
        """
        version = self.active()
        if version is None:
            raise self.nothing_active()
        return self.engine(version)

    def nothing_active(self) -> DeployError:
        """That no version is active here, and how to get one."""
        elsewhere = "" if self.home != default_home().absolute() else ", or set PSPNET_EDGE_HOME to the --home it is in"
        return DeployError(f"no version is active in {self.home}", f"deploy one{elsewhere}", self.command(_REMAKE))

    def command(self, command: str) -> str:
        """A ``deploy`` command for this folder."""
        return command if self.home == default_home().absolute() else f"{command} --home {shlex.quote(str(self.home))}"

    def versions(self) -> list[str]:
        """Names of the versions that are whole, the oldest first."""
        try:
            entries = [entry for entry in self.versions_folder.iterdir() if not entry.name.startswith(".")]
        except OSError:
            return []
        return [entry.name for entry in sorted(entries, key=lambda entry: (entry.stat().st_mtime_ns, entry.name))]

    def facts(self, version: str) -> dict[str, Any]:
        """What was measured when it was installed.

        Raises:
            DeployError: they cannot be read.
        """
        path = self.versions_folder / version / "version.json"
        found: dict[str, Any] = read_document(
            path, what="description of a version", shape=_VERSION, remake=_REMAKE, kind="version", error=DeployError
        )
        return found

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """An empty folder to make a version in; what is left there at the end is removed."""
        folder = self.versions_folder / f".staging-{os.getpid()}"
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def add(self, staged: Path, version: str) -> None:
        """Rename a staged folder, now whole, to the version that it is.

        Raises:
            OutputError: an unfinished version of this name holds what no version does, such as a FIFO.
        """
        for path in staged.iterdir():
            _flush(path)
        _flush(staged)
        for path in (self.versions_folder / version).glob("*"):
            find_target(path)
        self.remove(version)
        staged.rename(self.versions_folder / version)
        _flush(self.versions_folder)

    def open_to_all(self, version: str) -> None:
        """Let every user read a version: the service runs as another than whoever deploys, perhaps with umask 077."""
        place = self.versions_folder / version
        for path in (self.home, self.versions_folder, place, *place.iterdir()):
            mode = stat.S_IMODE(path.stat().st_mode)
            wanted = mode | (0o555 if path.is_dir() else 0o444)
            if wanted != mode:
                path.chmod(wanted)

    def activate(self, version: str, *, watched: bool) -> str | None:
        """Make a version the active one, in one rename; returns the one before.

        Args:
            version: a whole one.
            watched: whether ``settle`` or a rollback follows. A process that dies between leaves a note.
        """
        before = self.active()
        history = self.history()
        if before is not None and before in history:
            history = history[: len(history) - history[::-1].index(before)]
        if history[-1:] != [version]:
            history.append(version)
        write_json(self._history, {"kind": "history", "versions": history[-_HISTORY_LENGTH:]})
        if watched:
            write_json(self._pending, {"kind": "pending", "version": version, "before": before})
        self._point_to(version)
        return before

    def settle(self) -> None:
        """The active version is accepted."""
        self._pending.unlink(missing_ok=True)

    def go_back(self, version: str | None) -> None:
        """Make an earlier version the active one; None leaves none active."""
        if version is None:
            self._active.unlink(missing_ok=True)
        else:
            self._point_to(version)
        self.settle()

    def pending(self) -> Pending | None:
        """The switch that a process did not live to accept, or None."""
        if not self._pending.is_file():
            return None
        facts = self._read(self._pending, _PENDING, "pending")
        if facts is None or facts["version"] != self.active():
            self.settle()
            return None
        return Pending(facts["version"], facts["before"])

    def previous(self) -> str | None:
        """The version that was active before the active one and is still there."""
        history, active = self.history(), self.active()
        if active in history:
            history = history[: len(history) - history[::-1].index(active) - 1]
        there = set(self.versions()) - {active}
        return next((version for version in reversed(history) if version in there), None)

    def history(self) -> list[str]:
        """The versions that were active, in order."""
        facts = self._read(self._history, _HISTORY, "history") if self._history.is_file() else None
        return list(facts["versions"]) if facts else []

    def remove(self, version: str) -> None:
        """Remove a version; half removed it is not a version any more."""
        place = self.versions_folder / version
        if place.is_dir():
            doomed = self.versions_folder / f".removed-{version}"
            place.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)

    def prune(self, keep: int) -> list[str]:
        """Remove the oldest versions, so that ``keep`` are left; never the active one or the one before it."""
        kept = {self.active(), self.previous()}
        removable = [version for version in self.versions() if version not in kept]
        doomed = removable[: max(len(self.versions()) - keep, 0)]
        for version in doomed:
            self.remove(version)
        return doomed

    def _point_to(self, version: str) -> None:
        link = self.home / f".active-{os.getpid()}"
        link.unlink(missing_ok=True)
        link.symlink_to(Path("versions") / version)
        link.replace(self._active)
        _flush(self.home)

    def _clean(self) -> None:
        for place in self.versions_folder.glob(".*"):
            shutil.rmtree(place, ignore_errors=True)
        for link in self.home.glob(".active-*"):
            link.unlink(missing_ok=True)

    @staticmethod
    def _read(path: Path, shape: Record, kind: str) -> Any:
        """A small file of this folder; None where it is damaged, for then the link alone tells what is active."""
        try:
            return read_document(path, what=kind, shape=shape, remake=_REMAKE, kind=kind, error=DeployError)
        except DeployError:
            return None


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
