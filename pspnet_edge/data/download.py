"""One file over HTTP, resumed where an earlier attempt broke off. Checking what came is the caller's."""

from __future__ import annotations

import http.client
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from .. import __version__
from ..artifact import ensure_writable, find_target, replace
from ..errors import DataError, OptionError, OutputError
from ..log import redacted
from .progress import Progress, silent
from .reading import is_whole_number

_CHUNK_BYTES = 1 << 18
_MOST_RESTARTS = 3
_MB = 1_000_000


class _ConnectionBroke(Exception):
    pass


def download(
    url: str,
    target: Path,
    progress: Progress = silent,
    *,
    timeout_s: float = 30.0,
    tries: int = 5,
    pause_s: float = 2.0,
) -> None:
    """Download ``url`` to ``target``; until it is whole the bytes are in ``target`` + ``.part``.

    A connection that breaks is taken up again where it broke, after ``pause_s`` and longer each time, until ``tries``
    in a row bring nothing. A killed download resumes when it is started again.

    Raises:
        OptionError: the address is not http or https.
        DataError: the server refuses, or does not answer.
        OutputError: the folder of ``target`` cannot be written or is too full.
    """
    if not url.startswith(("http://", "https://")):
        raise OptionError(
            f"{redacted(url)!r} is not a web address", "give --url one that starts with https:// or http://"
        )
    part = part_of(target)
    ensure_writable(target)
    find_target(part)
    failures = restarts = 0
    while True:
        had_bytes = _size_bytes(part)
        try:
            if _received(url, part, had_bytes, progress, timeout_s):
                break
            reason = "the connection was closed early"
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500 and error.code != 429:
                raise DataError(
                    f"the server answered {error.code} {error.reason} for {redacted(url)}",
                    "check the address or give another with --url",
                ) from error
            reason = f"the server answered {error.code} {error.reason}"
        except (OSError, http.client.HTTPException, _ConnectionBroke) as error:
            reason = str(getattr(error, "reason", None) or error) or type(error).__name__
        if _size_bytes(part) < had_bytes:
            restarts += 1
            if restarts > _MOST_RESTARTS:
                raise DataError(
                    f"{redacted(url)} returns different content each time a download is resumed, so it never completes",
                    "give another address with --url",
                )
        failures = 1 if _size_bytes(part) > had_bytes else failures + 1
        if failures >= tries:
            raise DataError(
                f"{redacted(url)} could not be fetched ({reason}) and {_size_bytes(part) / _MB:.1f} MB are kept",
                "check the network and give the same command again to resume",
            )
        time.sleep(pause_s * failures)
    replace(part, target)


def part_of(target: Path) -> Path:
    """Where the bytes of an unfinished download are."""
    return target.with_name(target.name + ".part")


def _received(url: str, part: Path, had_bytes: int, progress: Progress, timeout_s: float) -> bool:
    """Ask for what is missing and append it; whether the file is whole now."""
    headers = {"User-Agent": f"pspnet-edge/{__version__}"}
    if had_bytes:
        headers["Range"] = f"bytes={had_bytes}-"
    try:
        response = urllib.request.urlopen(urllib.request.Request(_ascii_url(url), headers=headers), timeout=timeout_s)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        error.close()
        # Nothing lies beyond what is here: it is whole, or it is longer than the file and so of another one.
        if error.headers.get("Content-Range", "").endswith(f"/{had_bytes}"):
            return True
        part.unlink()
        return False
    except ValueError as error:  # where it redirects to
        raise DataError(
            f"{redacted(url)} redirects to an invalid address ({error})", "give another address with --url"
        ) from error
    with response:
        if response.status != 206:
            had_bytes = 0  # a server that cannot resume sends all of it
        elif not _starts_at(response.headers.get("Content-Range", ""), had_bytes):
            part.unlink(missing_ok=True)
            return False
        length = response.headers.get("Content-Length")
        total_bytes = had_bytes + int(length) if length and is_whole_number(length) else None
        _ensure_room(part, (total_bytes or 0) - had_bytes)
        _append(response, part, had_bytes, total_bytes, progress)
    return total_bytes is None or _size_bytes(part) == total_bytes


def _append(
    response: http.client.HTTPResponse, part: Path, had_bytes: int, total_bytes: int | None, progress: Progress
) -> None:
    total_mb = None if total_bytes is None else -(-total_bytes // _MB)
    done_bytes, start = had_bytes, time.monotonic()
    try:
        with (
            part.open("ab" if had_bytes else "wb") as stream,
            progress(f"Fetching {part.stem} (MB)", total_mb) as advance,
        ):
            for chunk in _chunks(response):
                stream.write(chunk)
                done_bytes += len(chunk)
                speed = (done_bytes - had_bytes) / _MB / max(time.monotonic() - start, 1e-3)
                advance(done_bytes // _MB, f"{speed:.1f} MB/s")
    except OSError as error:
        raise _not_writable(part, error) from error


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        while chunk := response.read(_CHUNK_BYTES):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        # A broken connection and a full disk are both OSErrors: here they part.
        raise _ConnectionBroke(str(error) or type(error).__name__) from error


def _ascii_url(url: str) -> str:
    """An address with other letters, as people paste it, in the form that goes over the wire."""
    parts = urllib.parse.urlsplit(url)
    try:
        host = parts.netloc.encode("idna").decode() if not parts.netloc.isascii() else parts.netloc
    except UnicodeError as error:
        raise OptionError(f"{redacted(url)!r} is not a web address", "correct its host name") from error
    path, query = (urllib.parse.quote(text, safe="/%=&?+,:;@~!*'()$") for text in (parts.path, parts.query))
    return urllib.parse.urlunsplit((parts.scheme, host, path, query, ""))


def _starts_at(content_range: str, first_byte: int) -> bool:
    return re.match(rf"bytes {first_byte}-", content_range) is not None


def _size_bytes(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _ensure_room(part: Path, missing_bytes: int) -> None:
    free_bytes = shutil.disk_usage(part.parent).free
    if missing_bytes > free_bytes:
        raise OutputError(
            f"{part.parent} has {free_bytes / 1e9:.1f} GB free and {missing_bytes / 1e9:.1f} GB are to come",
            "free space there or choose another --root",
        )


def _not_writable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path} cannot be written ({error.strerror or error})",
        "free space there or choose another --root; what has come is kept and the same command resumes from there",
    )
