"""Files that other steps rely on: atomic writes, fingerprints, and the JSON sidecar beside each artefact."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import __version__
from .errors import ModelError, OutputError

FORMAT_VERSION = 1
_CHUNK_BYTES = 1 << 20


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; on success it replaces ``path``, on failure it is removed.

    Raises:
        OutputError: the folder cannot be made or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The suffix stays, because writers such as OpenCV choose the container by it.
        descriptor, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
        os.close(descriptor)
    except OSError as error:
        raise _not_writable(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        _flush(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise _not_writable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def ensure_writable(path: Path) -> None:
    """Raise ``OutputError`` now if ``path`` could not be written at the end of long work."""
    if path.is_dir():
        raise OutputError(f"{path} is a folder: give -o the name of a file")
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _not_writable(path, error) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as indented JSON to ``path`` atomically."""
    write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())


def sha256_of(path: Path) -> str:
    """The SHA-256 of the file's content, as hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def sidecar_path(path: Path) -> Path:
    """Where the sidecar of ``path`` stands: ``model.onnx`` → ``model.onnx.json``.

    The whole name is kept, so that ``model.onnx`` and ``model.engine`` in one folder do not share a sidecar.
    """
    return path.with_name(f"{path.name}.json")


def write_sidecar(path: Path, kind: str, facts: dict[str, Any], *, content: Path | None = None) -> None:
    """Write the sidecar of an artefact: its own fingerprint, what made it, and ``facts``.

    ``content`` is where the artefact's bytes stand now, when it has not been moved to ``path`` yet.
    """
    header = {
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "sha256": sha256_of(content or path),
        "made_by": {
            "pspnet_edge": __version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
    }
    write_json(sidecar_path(path), header | facts)


def read_sidecar(path: Path, kind: str, remake: str) -> dict[str, Any]:
    """Read and check the sidecar of ``path``.

    Args:
        path: the artefact, not the sidecar.
        kind: what it must describe: ``"model"`` or ``"engine"``.
        remake: the command that makes the pair anew, quoted in errors.

    Raises:
        ModelError: there is none, it is damaged, of another kind or format, or does not belong to the file.
    """
    place = sidecar_path(path)
    try:
        facts = json.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path} has no sidecar {place.name}: make both with `{remake}`") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"the sidecar {place} cannot be read ({error}): make it anew with `{remake}`") from error
    if not isinstance(facts, dict) or facts.get("kind") != kind:
        raise ModelError(f"{place} is not the sidecar of a pspnet-edge {kind}: make it with `{remake}`")
    if facts.get("format_version") != FORMAT_VERSION:
        raise ModelError(
            f"{place} has format version {facts.get('format_version')} and this package reads {FORMAT_VERSION}: "
            f"make it anew with `{remake}`"
        )
    if facts.get("sha256") != sha256_of(path):
        raise ModelError(f"{path} is not the file that its sidecar describes: make both anew with `{remake}`")
    return facts


def _flush(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _not_writable(path: Path, error: OSError) -> OutputError:
    reason = error.strerror or str(error)
    return OutputError(f"{path} cannot be written ({reason}): choose another place with -o or free this one")
