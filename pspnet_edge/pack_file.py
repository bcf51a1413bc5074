"""The file format of a pack: one model with all that a board needs to build, check and run it.

A pack is a plain zip whose entries are stored, not compressed, in the order of their names and with one fixed time, so
that equal parts give equal bytes on every machine. Its comment is a seal: the SHA-256 of every byte before it. Whoever
reads a pack checks the seal first, then the zip's structure, then ``manifest.json`` by its shape, then every part's
size and SHA-256. Nothing is ever extracted by a name that the file chose.

    manifest.json    what is in the pack and what it was measured to do
    manifest.sig     OpenSSH's signature of the manifest; only in signed packs
    model.onnx       FP32
    model.calib.json the calibration table, with what the accuracy gate keeps out of INT8; only where there is one
    licence.txt      licence or model card
    golden/NN.png    frames at the model's size
    golden/NN.P.png  the mask that precision P gave where the pack was made
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import struct
import unicodedata
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from .artifact import write_bytes
from .document import (
    LABEL_SET,
    SHA256,
    SHAPE_NHW,
    Flag,
    List,
    Map,
    Number,
    Optional,
    Record,
    Text,
    Unfit,
    check_value,
    parse_json,
)
from .errors import PackError
from .inputs import check_file
from .labels import LabelSet
from .records import to_json

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
MODEL = "model.onnx"
TABLE = "model.calib.json"
LICENCE = "licence.txt"
MOST_GOLDEN = 32
MOST_RELEASE = 10**12
"""So that a date such as 20261126 or 202611261015 may be the number."""
_MOST_PARTS = 4 + 4 * MOST_GOLDEN
_MOST_BYTES = 3 << 30
_MOST_MANIFEST_BYTES = 4 << 20
_MOST_PART_BYTES = {MODEL: (1 << 31) - 1, TABLE: 64 << 20, LICENCE: 4 << 20, SIGNATURE: 64 << 10}
_MOST_PICTURE_BYTES = 256 << 20
_GOLDEN = re.compile(r"golden/(\d\d)(?:\.(fp32|fp16|int8))?\.png")
_SEAL = b"pspnet-edge pack sha256:"
_SEAL_BYTES = len(_SEAL) + 64
_TIME = (1980, 1, 1, 0, 0, 0)
_LOCAL_HEADER = struct.Struct("<4s3HI3I2H")
"""Signature; version, flags, method; time and date; CRC, two sizes; lengths of the name and of what follows it."""
_REMAKE = "pspnet-edge pack MODEL -o NAME.pspnet"
_SHARE = Number(0, 1)
_PRECISION = Text(among=("fp32", "fp16", "int8"))
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}"
_SHAPE = Record(
    {
        "kind": Text(among=("pack",)),
        "format_version": Number(whole=True),
        "made_by": Record({"pspnet_edge": Text(50)}, closed=True),
        "name": Text(80, pattern=NAME_PATTERN),
        "parts": Map(Record({"sha256": SHA256, "bytes": Number(0, _MOST_BYTES, whole=True)}, closed=True), _MOST_PARTS),
        "label_set": LABEL_SET,
        "shape_nhw": SHAPE_NHW,
        "channels": Number(1, 4, whole=True),
        "precisions": List(_PRECISION, 1, 3),
        "kept_float": List(Text(1000)),
        "measured": Optional(
            Record(
                {
                    "miou": _SHARE,
                    "precision": Optional(_PRECISION),
                    "dataset": Optional(Text(200)),
                    "split": Optional(Text(200)),
                    "images": Optional(Number(0, 10**9, whole=True)),
                },
                closed=True,
            )
        ),
        "golden": Record(
            {
                "names": List(Text(1000), 1, MOST_GOLDEN),
                "source": Text(1000),
                "agreement_with_fp32": Map(_SHARE, 3),
                "limits": Map(_SHARE, 3),
            },
            closed=True,
        ),
        "run": Record(
            {},
            {
                "fit": Text(among=("stretch", "letterbox", "crop")),
                "roi": Text(50, pattern=r"\d{1,5}(,\d{1,5}){3}"),
                "tiles": Flag(),
                "flip": Text(among=("90", "180", "270", "horizontal", "vertical")),
            },
            closed=True,
        ),
    },
    {"release": Number(1, MOST_RELEASE, whole=True)},
    closed=True,
)


@dataclass(frozen=True)
class PackFile:
    """A pack whose bytes are all checked: seal, structure, manifest, and every part's size and SHA-256."""

    path: Path
    sha256: str
    """Of the whole file; with the name it identifies the version."""
    manifest: Mapping[str, Any]
    manifest_bytes: bytes
    _spans: Mapping[str, tuple[int, int]]

    @property
    def name(self) -> str:
        """What whoever made it called the model."""
        return str(self.manifest["name"])

    @property
    def version(self) -> str:
        """The name of the folder that it is installed in."""
        return f"{self.name}-{self.sha256[:12]}"

    def made(self, version: str | None) -> bool:
        """Whether a version that is installed on a board was built from it."""
        return version is not None and version.startswith(f"{self.version}-")

    @property
    def label_set(self) -> LabelSet:
        """The model's classes."""
        return LabelSet.from_facts(self.manifest["label_set"])

    @property
    def release(self) -> int:
        """The number that its maker gave it, higher in each later one; 0 where none was given."""
        return int(self.manifest.get("release", 0))

    @property
    def is_signed(self) -> bool:
        """Whether it carries a signature; whose it is, ``deploy.signature`` checks."""
        return SIGNATURE in self._spans

    def has(self, part: str) -> bool:
        """Whether it holds a part."""
        return part in self._spans

    def read(self, part: str) -> bytes:
        """The content of a part, checked again while it is read.

        Raises:
            PackError: no such part, or the file changed since it was opened.
        """
        if part not in self._spans:
            raise PackError(f"{self.path} holds no {part}", "recreate it", _REMAKE)
        start, size = self._spans[part]
        try:
            with self.path.open("rb") as stream:
                stream.seek(start)
                content = stream.read(size)
        except OSError as error:
            raise PackError(f"the pack {self.path} cannot be read ({error.strerror})", "check the disk") from error
        expected = self.manifest["parts"].get(part)
        if expected is not None and hashlib.sha256(content).hexdigest() != expected["sha256"]:
            raise PackError(f"the pack {self.path} changed while it was read", "try again")
        return content


def write_pack(path: Path, manifest: Mapping[str, Any], parts: Mapping[str, bytes], signature: bytes | None) -> str:
    """Write a pack atomically and return its SHA-256.

    Args:
        path: the file.
        manifest: without ``kind``, ``format_version`` and ``parts``, which are added.
        parts: name → content, without manifest and signature.
        signature: of ``manifest_bytes`` of the same manifest and parts; None leaves the pack unsigned.

    Raises:
        PackError: the manifest is not of the form that readers expect.
        OutputError: the file cannot be written.
    """
    stored = {MANIFEST: manifest_bytes(manifest, parts), **parts}
    if signature is not None:
        stored[SIGNATURE] = signature
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        archive.comment = _SEAL + b"0" * 64
        for name in sorted(stored):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, stored[name])
    unsealed = content.getvalue()[:-64]
    sealed = unsealed + hashlib.sha256(unsealed).hexdigest().encode()
    write_bytes(path, sealed)
    return hashlib.sha256(sealed).hexdigest()


def manifest_bytes(manifest: Mapping[str, Any], parts: Mapping[str, bytes]) -> bytes:
    """The manifest as it is stored and signed.

    Raises:
        PackError: it is not of the form that readers expect.
    """
    listed = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in parts.items()
    }
    facts = {**manifest, "kind": "pack", "format_version": FORMAT_VERSION, "parts": listed}
    try:
        check_value(facts, _SHAPE, "the manifest")
    except Unfit as error:
        raise PackError(f"no pack can be made ({error})", "correct what it names") from error
    ordered = _sorted(facts)
    return (to_json(ordered, indent=2) + "\n").encode()


def check_pack_file(path: Path) -> None:
    """Raise ``PackError`` unless there is an ordinary file that may be a pack."""
    check_file(path, "pack", PackError, "make one", _REMAKE, most_bytes=_MOST_BYTES)


def read_pack(path: str | os.PathLike[str]) -> PackFile:
    """Open a pack and check all of it; nothing is written.

    Raises:
        PackError: missing, damaged, of another format, or not such a file as ``write_pack`` makes.
    """
    path = Path(path)
    check_pack_file(path)
    try:
        with path.open("rb") as stream:
            digest = _check_seal(stream, path)
            with _zip(stream, path) as archive:
                spans = _spans(archive, stream, path)
            manifest_content = _content(stream, spans[MANIFEST])
            manifest = _manifest(manifest_content, path)
            _check_parts(manifest, spans, stream, path)
    except OSError as error:
        raise PackError(f"the pack {path} cannot be read ({error.strerror or error})", "check the disk") from error
    return PackFile(path, digest, manifest, manifest_content, spans)


def _check_seal(stream: BinaryIO, path: Path) -> str:
    """Compare the seal with what is before it; the SHA-256 of the whole file."""
    size = stream.seek(0, os.SEEK_END)
    if size <= _SEAL_BYTES + 22:
        raise _not_a_pack(path)
    stream.seek(size - _SEAL_BYTES)
    seal = stream.read(_SEAL_BYTES)
    if not seal.startswith(_SEAL):
        stream.seek(0)
        if stream.read(2) != b"PK":
            raise _not_a_pack(path)
        raise PackError(
            f"the pack {path} has no seal at its end: it is cut off or altered", "copy or recreate it", _REMAKE
        )
    digest, left = hashlib.sha256(), size - 64
    stream.seek(0)
    while left and (chunk := stream.read(min(left, 1 << 20))):
        digest.update(chunk)
        left -= len(chunk)
    if digest.hexdigest().encode() != seal[len(_SEAL) :]:
        raise PackError(f"the pack {path} is damaged or altered: its seal does not fit", "copy or recreate it", _REMAKE)
    digest.update(seal[-64:])
    return digest.hexdigest()


@contextmanager
def _zip(stream: BinaryIO, path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(stream) as archive:
            yield archive
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, UnicodeDecodeError) as error:
        raise PackError(f"the pack {path} is not a valid zip file ({error})", "recreate it", _REMAKE) from error


def _spans(archive: zipfile.ZipFile, stream: BinaryIO, path: Path) -> dict[str, tuple[int, int]]:
    """Where each part's bytes are. What is compressed, named strangely, doubled or too large is refused.

    So is whatever another program may read otherwise: every byte belongs to a part, to its header, or to the directory,
    and headers and directory agree.
    """
    entries = archive.infolist()
    if len(entries) > _MOST_PARTS:
        raise _altered(path, f"it holds {len(entries)} parts, more than {_MOST_PARTS}")
    spans: dict[str, tuple[int, int]] = {}
    if len(archive.comment) != _SEAL_BYTES:
        raise _altered(path, "there is more than the seal at its end")
    follows = 0
    for entry in entries:
        name = entry.orig_filename
        if name not in (MANIFEST, SIGNATURE, MODEL, TABLE, LICENCE) and not _GOLDEN.fullmatch(name):
            raise _altered(path, f"it holds a part named {name[:60]!r}")
        if name in spans:
            raise _altered(path, f"it holds {name} twice")
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise _altered(path, f"{name} is compressed, from {entry.file_size} bytes to {entry.compress_size}")
        most = _MOST_MANIFEST_BYTES if name == MANIFEST else _MOST_PART_BYTES.get(name, _MOST_PICTURE_BYTES)
        if entry.file_size > most:
            raise _altered(path, f"{name} has {entry.file_size} bytes, more than {most}")
        if entry.flag_bits & ~0x800:
            raise _altered(path, f"{name} is encrypted or streamed")
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
            raise _altered(path, f"{name} is not an ordinary file")
        if entry.header_offset != follows:
            raise _altered(path, f"{name} does not follow the part before it")
        _check_local_header(entry, stream, path)
        start = follows + _LOCAL_HEADER.size + len(name)
        spans[name] = (start, entry.file_size)
        follows = start + entry.file_size
    if archive.start_dir != follows:
        raise _altered(path, "its directory does not follow its parts")
    if MANIFEST not in spans:
        raise _altered(path, f"it holds no {MANIFEST}")
    return spans


def _check_local_header(entry: zipfile.ZipInfo, stream: BinaryIO, path: Path) -> None:
    """Compare the header before a part with what the directory says; streaming readers see only the former."""
    name = entry.orig_filename.encode()
    stream.seek(entry.header_offset)
    header = stream.read(_LOCAL_HEADER.size + len(name))
    expected = _LOCAL_HEADER.pack(
        b"PK\3\4", 0, entry.flag_bits, zipfile.ZIP_STORED, 0, entry.CRC, entry.file_size, entry.file_size, len(name), 0
    )
    # The version that is needed, and the time, say nothing about the content.
    expected = expected[:4] + header[4:6] + expected[6:10] + header[10:14] + expected[14:] + name
    if header != expected:
        raise _altered(path, f"the header of {entry.orig_filename} says something else than the directory")


def _manifest(content: bytes, path: Path) -> dict[str, Any]:
    try:
        facts = parse_json(content)
    except ValueError as error:
        raise PackError(f"the manifest of {path} cannot be read ({error})", "recreate it", _REMAKE) from error
    if not isinstance(facts, dict) or facts.get("kind") != "pack":
        raise _not_a_pack(path)
    if facts.get("format_version") != FORMAT_VERSION or isinstance(facts["format_version"], bool):
        raise PackError(
            f"{path} has format version {facts.get('format_version')!r:.20}, this package reads {FORMAT_VERSION}",
            "update pspnet-edge or recreate the pack",
            _REMAKE,
        )
    try:
        check_value(facts, _SHAPE, "it")
        LabelSet.from_facts(facts["label_set"])
    except ValueError as error:
        raise PackError(f"the manifest of {path} is damaged ({error})", "recreate it", _REMAKE) from error
    return facts


def _check_parts(
    manifest: Mapping[str, Any], spans: Mapping[str, tuple[int, int]], stream: BinaryIO, path: Path
) -> None:
    listed = manifest["parts"]
    if missing := {MODEL, LICENCE} - set(listed):
        raise _altered(path, f"it holds no {min(missing)}")
    if different := set(listed) ^ (set(spans) - {MANIFEST, SIGNATURE}):
        raise _altered(path, f"its manifest and its parts differ in {min(different)[:60]!r}")
    for index in range(len(manifest["golden"]["names"])):
        for precision in (None, "fp32", *manifest["golden"]["limits"]):
            if (name := golden_part(index, precision)) not in listed:
                raise _altered(path, f"it holds no {name}")
    for name, facts in listed.items():
        start, size = spans[name]
        if size != facts["bytes"]:
            raise _altered(path, f"{name} has {size} bytes and its manifest says {facts['bytes']}")
        digest, left = hashlib.sha256(), size
        stream.seek(start)
        while left and (chunk := stream.read(min(left, 1 << 20))):
            digest.update(chunk)
            left -= len(chunk)
        if digest.hexdigest() != facts["sha256"]:
            raise _altered(path, f"{name} is not the part that its manifest describes")


def golden_part(index: int, precision: str | None) -> str:
    """The part that holds a golden frame, or its mask in a precision."""
    return f"golden/{index:02d}{f'.{precision}' if precision else ''}.png"


def _content(stream: BinaryIO, span: tuple[int, int]) -> bytes:
    stream.seek(span[0])
    return stream.read(span[1])


def _sorted(value: Any) -> Any:
    """The same JSON value with every object's names in order; class names keep theirs, being a list."""
    if isinstance(value, Mapping):
        return {name: _sorted(value[name]) for name in sorted(value)}
    if isinstance(value, (list, tuple)):
        return [_sorted(entry) for entry in value]
    return value


def _altered(path: Path, what: str) -> PackError:
    return PackError(f"the pack {path} was altered: {what}", "take it from where it was made, or recreate it", _REMAKE)


def _not_a_pack(path: Path) -> PackError:
    return PackError(f"{path} is not a pack of pspnet-edge", "make one", _REMAKE)


def plain_name(name: str) -> str:
    """The name of a model in the letters that the name of a version may have: ``Förder band`` → ``Forder-band``."""
    bare = "".join(letter for letter in unicodedata.normalize("NFKD", name) if not unicodedata.combining(letter))
    return re.sub(r"[^A-Za-z0-9._-]+", "-", bare).strip("-._")[:80].rstrip("-._") or "model"
