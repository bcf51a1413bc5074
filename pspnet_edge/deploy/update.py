"""Finding a new pack at an address or in a folder, for a timer that asks again and again."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from .. import __version__
from ..artifact import make_folder, sha256_of, write_json
from ..data.download import download
from ..data.progress import Progress, silent
from ..document import Optional, Record, Text, read_document
from ..errors import DeployError, OptionError
from .store import Store

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_STATE = Record(
    {"kind": Text(among=("update",)), "source": Text(4000), "tag": Optional(Text(1000)), "sha256": Optional(Text(64))},
    {"problem": Optional(Text(10_000))},
    closed=True,
)


@dataclass(frozen=True)
class Offer:
    """A pack that was not tried before."""

    path: Path
    source: str
    tag: str | None
    """What the server calls this state of the file."""
    sha256: str


def find_offer(source: str, store: Store, progress: Progress = silent) -> Offer | None:
    """The pack that a source offers now; None where it is the one that was tried last, whether it was taken or refused.

    Args:
        source: an ``https://`` address of a pack, or a folder, whose newest pack is taken.
        store: keeps what was tried.
        progress: shows how far the download is.

    Raises:
        OptionError: neither an address nor a folder.
        DeployError, DataError: the server does not answer, or the folder holds no pack.
    """
    tried = _tried(store)
    if "://" in source:
        _check_address(source)
        tag = _tag(source)
        if tag is not None and tried.get("source") == source and tried.get("tag") == tag:
            return None
        path = store.home / "incoming" / "update.pspnet"
        download(source, path, progress)
    else:
        path, tag = _newest(Path(source)), None
    digest = sha256_of(path)
    if tried.get("sha256") == digest:
        return None
    return Offer(path, source, tag, digest)


def remember(store: Store, offer: Offer, problem: str | None) -> None:
    """Note that an offer was tried, so that a pack that was refused is not built again every hour."""
    make_folder(store.home)
    write_json(
        store.home / "update.json",
        {
            "kind": "update",
            "source": offer.source,
            "tag": offer.tag,
            "sha256": offer.sha256,
            "problem": problem[:10_000] if problem else None,
        },
    )
    (store.home / "incoming" / "update.pspnet").unlink(missing_ok=True)


def _tried(store: Store) -> dict[str, str | None]:
    path = store.home / "update.json"
    if not path.is_file():
        return {}
    try:
        found: dict[str, str | None] = read_document(
            path,
            what="note of the last update",
            shape=_STATE,
            remake="pspnet-edge deploy",
            kind="update",
            error=DeployError,
        )
    except DeployError:
        return {}
    return found


def _check_address(source: str) -> None:
    with contextlib.suppress(ValueError):  # as of half an IPv6 address
        parts = urllib.parse.urlsplit(source)
        if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            return
    raise OptionError(f"{source!r} is not an https:// address", "give one, or a folder", parameter="source")


def _tag(source: str) -> str | None:
    """The server's ETag, else its date of the last change, else None."""
    request = urllib.request.Request(source, method="HEAD", headers={"User-Agent": f"pspnet-edge/{__version__}"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            found = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
            return str(found)[:1000] if found else None
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise DeployError(
                f"{source} shows a certificate that this machine does not trust ({reason.verify_message})",
                "name the file of its issuer's certificate in SSL_CERT_FILE, or install that on this machine",
            ) from error
        raise DeployError(f"{source} does not answer ({reason})", "check the address and the network") from error


def _newest(folder: Path) -> Path:
    try:
        packs = [path for path in folder.glob("*.pspnet") if path.is_file()]
    except OSError:
        packs = []
    if not packs:
        raise DeployError(f"no .pspnet is in {folder}", "put one there, or give another folder")
    return max(packs, key=lambda path: (path.stat().st_mtime_ns, path.name))
