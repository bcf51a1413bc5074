"""Who writes where: locks that one process at a time holds, and temporary files that name their owner.

A lock or a temporary file whose owner died is free: the kernel drops the lock with the process.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
import secrets
import shutil
import stat
import time
from pathlib import Path

from .errors import OutputError

_MARK = "~pspnet-edge"
_TEMPORARY = re.compile(re.escape(_MARK) + r"-([0-9a-f]+)-([0-9a-f]+)-([0-9a-f]{8})-[0-9a-f]+(\..*)?$")
_CHILDREN_END_S = 15.0
"""Children of a killed process, such as those that load data, hold its locks until they notice."""
_log = logging.getLogger(__name__)
_cleaned: set[tuple[int, int]] = set()


class InUse(OutputError):
    """Another process is writing there."""


def acquire(target: Path, path: Path, wait_s: float) -> int | None:
    """Take the lock of ``target``, which another process may hold now.

    Args:
        target: the file that will be written.
        path: what the user calls it.
        wait_s: how long the other process is waited for.

    Returns:
        The descriptor that holds the lock; None where our parent holds it.

    Raises:
        InUse: another process still holds it.
        OSError: the lock cannot be made.
    """
    lock = lock_of(target)
    started, next_word = time.monotonic(), 1.0
    target.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OutputError(f"{lock} is not an ordinary file", "remove it")
        if try_lock(descriptor) and _is_same_file(descriptor, lock):
            try:
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"{os.getpid()}\n".encode())
            except OSError:  # the disk is full
                lock.unlink(missing_ok=True)
                os.close(descriptor)
                raise
            return descriptor
        owner = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        if owner == str(os.getppid()):  # a child that writes for its parent
            return None
        waited_s = time.monotonic() - started
        if waited_s >= (wait_s if _lives(owner) else max(wait_s, _CHILDREN_END_S)):
            raise InUse(
                f"{path} is being written by another process ({owner or 'unknown'})",
                "wait for it or choose another path",
            )
        if waited_s >= next_word:
            next_word += 60
            _log.warning("waiting for process %s, which writes %s", owner or "unknown", path)
        time.sleep(0.05)


def lock_of(target: Path) -> Path:
    """The file that is locked while ``target`` is written."""
    name = os.fsencode(target.name)[: 254 - len(_MARK) - 5].decode("utf-8", "ignore")
    return target.with_name(f".{name}{_MARK}.lock")


def temporary_name(stem: str, suffix: str) -> str:
    """A hidden name that tells which process it belongs to."""
    owner = f"{os.getpid():x}-{_started(os.getpid()) or 0:x}-{_boot()}"
    mark = f"{_MARK}-{owner}-{secrets.token_hex(4)}{suffix}"
    room = 254 - len(os.fsencode(mark))
    return "." + os.fsencode(stem)[:room].decode("utf-8", "ignore") + mark


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files whose owner is gone; once per process and folder.

    Whatever writes into a folder does it; what finds there what an earlier command wrote, and so writes nothing, has to
    ask for it.
    """
    with contextlib.suppress(OSError):
        status = folder.stat()
        if (status.st_dev, status.st_ino) in _cleaned:
            return
        _cleaned.add((status.st_dev, status.st_ino))
        names = [entry.name for entry in os.scandir(folder) if _MARK in entry.name]
        for name in names:
            place = folder / name
            if name.endswith(f"{_MARK}.lock"):
                _remove_lock(place)
            elif (found := _TEMPORARY.search(name)) and not _owner_lives(*found.groups()[:3]) and _is_free(place):
                _log.info("removing %s, left by a process that is gone", place)
                if place.is_dir() and not place.is_symlink():
                    shutil.rmtree(place, ignore_errors=True)
                else:
                    place.unlink(missing_ok=True)


def _lives(owner: str) -> bool:
    return owner.isdigit() and _started(int(owner)) is not None


def _owner_lives(pid: str, started: str, boot: str) -> bool:
    # Of another boot, or of another container: the lock alone decides.
    return boot == _boot() and _started(int(pid, 16)) == int(started, 16)


def _is_free(place: Path) -> bool:
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return try_lock(descriptor)
    finally:
        os.close(descriptor)


def _remove_lock(place: Path) -> None:
    descriptor = os.open(place, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if try_lock(descriptor) and _is_same_file(descriptor, place):
            place.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _started(pid: int) -> int | None:
    """When a process began, in clock ticks since the boot; None where it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] == b"Z" else int(fields[19])  # field 22 of proc(5); the first two are cut off


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
    except OSError:
        return "0" * 8


def try_lock(descriptor: int) -> bool:
    """Whether the file is locked by us now. On a file system without locks every file counts as free."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def _is_same_file(descriptor: int, place: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), place.lstat())
    except OSError:
        return False
