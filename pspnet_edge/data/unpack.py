"""Archives from the network, unpacked with distrust: plain files and folders below the root, and nothing else."""

from __future__ import annotations

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from ..errors import DataError, OutputError
from ..records import first_line
from .files import is_litter
from .progress import Progress, silent

_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    ValueError,
    OverflowError,
)

# The most that masks and pictures ever compress by, and more members than any tool exports.
_SWELLS = 300
_MOST_MEMBERS = 5_000_000


@dataclass(frozen=True)
class _Member:
    name: str
    size_bytes: int
    is_folder: bool
    is_file: bool
    open: Callable[[], IO[bytes] | None]


def scratch_of(archive: Path, root: Path) -> Path:
    """Where ``unpack`` writes until the folder is whole."""
    return root / f".{archive.name}.unpacking"


def unpack(
    archive: Path,
    folder: str,
    root: Path,
    progress: Progress = silent,
    on_whole: Callable[[int], None] = lambda files: None,
) -> int:
    """Take one folder out of a tar or zip archive; it appears in ``root`` whole or not at all.

    Args:
        archive: the file; its content says whether it is a zip or a tar, compressed or not.
        folder: the name of a folder at the top of the archive or one below; the rest is left out.
        root: where it goes. A folder of that name must not be there.
        progress: shows how many files are written.
        on_whole: called with the number of files when all are written, before the folder appears.

    Returns:
        How many files were written.

    Raises:
        DataError: damaged, without that folder, or with anything that is not a plain file or folder below the root.
        OutputError: the root cannot be written or is too full.
    """
    scratch = scratch_of(archive, root)
    try:
        shutil.rmtree(scratch, ignore_errors=True)  # of a fetch that was killed
        with _members(archive) as members:
            wanted = _wanted(archive, folder, members)
            _ensure_room(root, sum(member.size_bytes for _, member in wanted))
            with progress(f"Unpacking {folder}", len(wanted)) as advance:
                for done, (place, member) in enumerate(wanted, 1):
                    _write(archive, member, scratch / place)
                    advance(done, "")
        on_whole(len(wanted))
        (scratch / folder).replace(root / folder)
    except _DAMAGED as error:
        raise DataError(f"{archive} is damaged ({first_line(error)})", "remove it and fetch it again") from error
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be unpacked into {root} ({error.strerror or error})",
            "free space there or choose another --root",
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return len(wanted)


def unpack_all(archive: Path, target: Path, progress: Progress = silent) -> int:
    """Unpack everything of a tar or zip archive into an empty folder, after a look at every member.

    Files that operating systems leave behind are skipped.

    Returns:
        How many files were written.

    Raises:
        DataError: damaged, or with anything that is not a plain file or folder below the target, or that swells beyond
            belief.
        OutputError: the target cannot be written or is too full.
    """
    try:
        with _members(archive) as members:
            wanted = [entry for entry in _safe(archive, members) if not any(map(is_litter, entry[0].parts))]
            size_bytes = sum(member.size_bytes for _, member in wanted)
            if size_bytes > max(_SWELLS * archive.stat().st_size, 1 << 30) or len(members) > _MOST_MEMBERS:
                raise DataError(
                    f"{archive} would unpack to {size_bytes / 1e9:.1f} GB in {len(members)} files, which no export "
                    f"does",
                    "check where it comes from",
                )
            _ensure_room(target, size_bytes)
            with progress(f"Unpacking {archive.name}", len(wanted)) as advance:
                for done, (place, member) in enumerate(wanted, 1):
                    _write(archive, member, target / place)
                    advance(done, "")
    except _DAMAGED as error:
        raise DataError(f"{archive} is damaged ({first_line(error)})", "export it again") from error
    except OSError as error:
        raise OutputError(
            f"{archive} cannot be unpacked into {target} ({error.strerror or error})", "free space there"
        ) from error
    return len(wanted)


@contextmanager
def _members(archive: Path) -> Iterator[list[_Member]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            yield [_zip_member(opened, info) for info in opened.infolist()]
        return
    with tarfile.open(archive) as tar:
        yield [_tar_member(tar, info) for info in tar.getmembers()]


def _zip_member(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive was not made on Unix
    encrypted = bool(info.flag_bits & 1)
    is_file = not info.is_dir() and kind in (0, stat.S_IFREG) and not encrypted
    return _Member(info.filename, info.file_size, info.is_dir(), is_file, lambda: opened.open(info))


def _tar_member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    return _Member(info.name, info.size, info.isdir(), info.isreg(), lambda: tar.extractfile(info))


def _safe(archive: Path, members: list[_Member]) -> list[tuple[PurePosixPath, _Member]]:
    """The files of an archive and their paths in it, after a look at every member."""
    files: dict[PurePosixPath, _Member] = {}
    for member in members:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or "\\" in member.name:
            raise _refused(archive, member, "leads out of the folder it is unpacked in")
        if not member.is_file and not member.is_folder:
            raise _refused(archive, member, "is a link, a device or encrypted, not a plain file")
        if member.is_folder:
            continue
        if path in files:
            raise _refused(archive, member, "is in it twice")
        files[path] = member
    return list(files.items())


def _wanted(archive: Path, folder: str, members: list[_Member]) -> list[tuple[Path, _Member]]:
    """The files of ``folder`` and where each goes."""
    wanted: dict[Path, _Member] = {}
    for path, member in _safe(archive, members):
        if folder not in path.parts[:2]:
            continue
        place = Path(*path.parts[path.parts.index(folder) :])
        if place in wanted:
            raise _refused(archive, member, "is in it twice")
        wanted[place] = member
    if not wanted:
        raise DataError(
            f"{archive} holds no folder {folder}", "it is another archive, so check the address given with --url"
        )
    return list(wanted.items())


def _refused(archive: Path, member: _Member, reason: str) -> DataError:
    return DataError(
        f"{archive} is not safe to unpack, because its member {member.name!r} {reason}",
        "remove it and fetch from another address with --url",
    )


def _ensure_room(root: Path, size_bytes: int) -> None:
    free_bytes = shutil.disk_usage(root).free
    if size_bytes > free_bytes:
        raise OutputError(
            f"{root} has {free_bytes / 1e9:.1f} GB free and {size_bytes / 1e9:.1f} GB are needed",
            "free space there or choose another --root",
        )


def _write(archive: Path, member: _Member, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    source = member.open()
    if source is None:
        raise _refused(archive, member, "has no content")
    # A new file with plain permissions: those of the archive, owner and set-user-id included, are not taken.
    with source, place.open("xb") as target:
        shutil.copyfileobj(source, target)
