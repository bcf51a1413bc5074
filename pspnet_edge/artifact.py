"""Every file this package writes: atomic, only where an ordinary file is or can be, and by one process at a time.

``find_target`` decides for all of them. A device node, FIFO, socket or folder is never replaced; a symbolic link to an
ordinary file stays, and the file behind it is replaced.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .errors import OptionError, OutputError
from .ownership import acquire, lock_of, remove_leftovers, temporary_name, try_lock
from .records import to_json

_log = logging.getLogger(__name__)

LONGEST_NAME_BYTES = 235
"""File systems take 255; the rest is for ``.json``, ``.calib.json`` and ``.partial`` behind it."""

_CHUNK_BYTES = 1 << 20
_MOST_LINKS = 40
_WAIT_S = 600.0
_OTHER_PLACE = "choose another path or free this one"

_held: dict[Path, int] = {}
_held_guard = threading.Lock()


def find_target(path: Path) -> Path:
    """Where writing ``path`` writes: itself, or the ordinary file that a symbolic link leads to.

    Raises:
        OutputError: ``path`` is not a usable file name, or what is there is not an ordinary file.
    """
    _check_name(path)
    try:
        place = path.parent.resolve() / path.name
        links = 0
        while place.is_symlink():
            links += 1
            if links > _MOST_LINKS:
                raise OutputError(f"{path} is a symbolic link to itself", _OTHER_PLACE)
            if place.parent.as_posix().startswith("/proc/"):  # /dev/stdout, which may be any open file
                raise OutputError(f"{path} is an open file of a process, not an ordinary file", _OTHER_PLACE)
            pointed = place.parent / place.readlink()
            place = pointed.parent.resolve() / pointed.name
        kind = _kind_of(place)
        if kind is None and links and not place.parent.is_dir():
            raise OutputError(f"{path} is a symbolic link to {place}, whose folder is missing", _OTHER_PLACE)
    except (OSError, RuntimeError) as error:
        raise _not_writable(path, error) from error
    _refuse_special(path, kind, links > 0)
    return place


@contextlib.contextmanager
def atomic_path(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it replaces ``path``, on failure it is removed.

    Another process that is writing ``path`` is waited for.

    Args:
        path: the file to write; missing folders are made.
        durable: wait until the content is on the disk. False for one of many files, such as a mask per frame.

    Raises:
        OutputError: the folder cannot be made or written, or ``path`` is not an ordinary file.
    """
    target = find_target(path)
    with claim(path) if durable else contextlib.nullcontext():
        try:
            # The suffix stays, because writers such as OpenCV choose the container by it.
            temporary, descriptor = _make_temporary(target.parent, target.stem, target.suffix)
        except OSError as error:
            raise _not_writable(path, error) from error
        try:
            yield temporary
            if durable:
                _flush(temporary)
            _replace(temporary, target, path)
            if durable:  # the others are pictures, one per frame
                _log.debug("wrote %s", path)
        except OSError as error:
            raise _not_writable(path, error) from error
        finally:
            temporary.unlink(missing_ok=True)
            os.close(descriptor)


@contextlib.contextmanager
def claim(path: Path, *, wait_s: float = _WAIT_S) -> Iterator[None]:
    """Be the one process that writes ``path``; a lock whose owner died is taken over.

    It may be nested, in one process and in its direct children.

    Args:
        path: the file that will be written.
        wait_s: how long another process is waited for.

    Raises:
        InUse: another process still writes ``path`` after ``wait_s``.
        OutputError: the folder cannot be written.
    """
    target = find_target(path)
    with _held_guard:
        nested = target in _held
        _held[target] = _held.get(target, 0) + 1
    try:
        try:
            descriptor = None if nested else acquire(target, path, wait_s)
        except OSError as error:
            raise _not_writable(path, error) from error
        try:
            yield
        finally:
            if descriptor is not None:
                # Removed while it is held, so that whoever waits sees that this is not the lock any more.
                lock_of(target).unlink(missing_ok=True)
                os.close(descriptor)
    finally:
        with _held_guard:
            _held[target] -= 1
            if not _held[target]:
                del _held[target]


def replace(source: Path, path: Path) -> None:
    """Move a finished file to ``path``, on the same file system.

    Raises:
        OutputError: it cannot be moved, or ``path`` is not an ordinary file.
    """
    target = find_target(path)
    try:
        _replace(source, target, path)
    except OSError as error:
        raise _not_writable(path, error) from error


def open_for_append(path: Path) -> int:
    """A file descriptor that appends to ``path``; no link is followed except to an ordinary file.

    Raises:
        OutputError: ``path`` is not an ordinary file.
        OSError: it cannot be opened.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(find_target(path), flags, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OutputError(f"{path} is not an ordinary file", _OTHER_PLACE)
    return descriptor


def make_folder(path: Path) -> None:
    """Make ``path`` and its parents where they are missing.

    Raises:
        OutputError: it cannot be made, or something that is not a folder is there.
    """
    if path.name not in ("", ".."):
        _check_name(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise OutputError(f"{path} is not a folder", "choose the name of a folder") from error
    except (OSError, ValueError) as error:
        raise _not_writable(path, error) from error


def ensure_writable(
    path: Path, *, sidecar: bool = False, inputs: Sequence[Path | None] = (), parameter: str = "output"
) -> None:
    """Raise an error now if ``path`` could not be written at the end of long work, or would replace what it reads.

    Args:
        path: the file that will be written.
        sidecar: whether its sidecar will be written too.
        inputs: the files that the work reads; None is none.
        parameter: which named ``path``.

    Raises:
        OptionError: ``path`` or its sidecar is one of ``inputs``.
        OutputError: it cannot be written.
    """
    _check_name(path, LONGEST_NAME_BYTES)
    places = [path, sidecar_path(path)] if sidecar else [path]
    target, *_ = (find_target(place) for place in places)
    for place in places:
        if any(given is not None and _is_same_file(place, given) for given in inputs):
            fix = "choose another path"
            raise OptionError(f"{place} is an input too, and would be replaced", fix, parameter=parameter)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise _not_writable(path, error) from error
    remove_leftovers(target.parent)


def ensure_folder_writable(folder: Path) -> None:
    """Raise ``OutputError`` now if no file could be written into ``folder``; it is made where it is missing."""
    make_folder(folder)
    ensure_writable(folder / "0")


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield an empty temporary folder, removed at the end; one that a killed process left is removed by the next.

    Raises:
        OutputError: the place for temporary files cannot be written.
    """
    try:
        place = _place_for_temporary_files()
        remove_leftovers(place)
        folder = place / temporary_name("scratch", "")
        folder.mkdir(mode=0o700)
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try_lock(descriptor)
    except OSError as error:
        raise OutputError(
            f"no temporary folder can be made ({error.strerror or error})", "free space, or set TMPDIR to a folder"
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _place_for_temporary_files() -> Path:
    """What ``tempfile.gettempdir`` chooses, without writing a file to try a folder: a kill would leave that."""
    named = [os.environ.get(name, "") for name in ("TMPDIR", "TEMP", "TMP")]
    usable = (folder for folder in [*named, "/tmp", "/var/tmp"] if folder and _can_hold_files(folder))
    tempfile.tempdir = tempfile.tempdir or next(map(os.path.abspath, usable), None)
    return Path(tempfile.gettempdir())


def _can_hold_files(folder: str) -> bool:
    """Whether files may be made in ``folder``, which has room; some file systems do not count their blocks."""
    if not os.access(folder, os.W_OK | os.X_OK):
        return False
    system = os.statvfs(folder)
    return system.f_bavail > 0 or system.f_blocks == 0


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as indented JSON to ``path`` atomically."""
    write_bytes(path, (to_json(content, indent=2) + "\n").encode())


def sha256_of(path: Path) -> str:
    """The SHA-256 of the file's content, as hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def sidecar_path(path: Path) -> Path:
    """The sidecar of ``path``: ``model.onnx`` → ``model.onnx.json``.

    The whole name is kept, so that ``model.onnx`` and ``model.engine`` in one folder do not share a sidecar.
    """
    return path.with_name(f"{path.name}.json")


def table_path_of(path: Path) -> Path:
    """The calibration table of a model, checkpoint or pack: beside it, under its name.

    ``mine.onnx`` and ``mine.pt`` share ``mine.calib.json``, because it belongs to their weights.
    """
    return path.with_suffix(".calib.json")


def _check_name(path: Path, longest: int = 255) -> None:
    shown = str(path).encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    if path.name in ("", "..") or str(path) == ".":
        raise OutputError(f"'{shown}' is a folder, not the name of a file", "choose the name of a file")
    if "\0" in str(path):
        raise OutputError(f"'{shown}' holds a NUL character", "choose another name")
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise OutputError(f"'{shown}' is not UTF-8", "choose another name") from None
    if len(os.fsencode(path.name)) > longest:
        raise OutputError(f"the name '{path.name[:40]}…' is longer than {longest} bytes", "choose a shorter name")


def _kind_of(place: Path) -> int | None:
    """The type bits of what is there, no link followed; None where nothing is."""
    try:
        return stat.S_IFMT(place.lstat().st_mode)
    except FileNotFoundError:
        return None


def _refuse_special(path: Path, kind: int | None, is_link: bool = False) -> None:
    if kind in (None, stat.S_IFREG):
        return
    names = {
        stat.S_IFDIR: "folder",
        stat.S_IFCHR: "device",
        stat.S_IFBLK: "device",
        stat.S_IFIFO: "FIFO",
        stat.S_IFSOCK: "socket",
        stat.S_IFLNK: "symbolic link",
    }
    name = names.get(kind, "special file")
    link = "symbolic link to a " if is_link else ""
    fix = "choose the name of a file" if kind == stat.S_IFDIR else "choose another path; --json is for pipes"
    raise OutputError(f"{path} is a {link}{name}, not an ordinary file", fix)


def _replace(temporary: Path, target: Path, path: Path) -> None:
    """Rename, unless something else came to the target while the work was done."""
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            kind: int | None = stat.S_IFMT(os.lstat(target.name, dir_fd=folder).st_mode)
        except FileNotFoundError:
            kind = None
        _refuse_special(path, kind)
        os.replace(temporary, target.name, dst_dir_fd=folder)
    finally:
        os.close(folder)


def _make_temporary(folder: Path, stem: str, suffix: str) -> tuple[Path, int]:
    """A new file that names its owner, and the descriptor that locks it. The kernel applies the umask."""
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    place = folder / temporary_name(stem, suffix)
    descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try_lock(descriptor)
    return place, descriptor


def _flush(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _is_same_file(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except (OSError, ValueError):  # one of them is not there
        return False


def _not_writable(path: Path, error: Exception) -> OutputError:
    reason = getattr(error, "strerror", None) or str(error)
    return OutputError(f"{path} cannot be written ({reason})", _OTHER_PLACE)
