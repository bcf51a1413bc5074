"""The sidecar of an artefact: the JSON beside it that says what it is, and its fingerprint."""

from __future__ import annotations

import math
import platform
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import __version__
from .artifact import sha256_of, sidecar_path, write_json
from .document import LABEL_SET, LARGEST_BYTES, SHA256, SHAPE_NHW, Record, Text, Unfit, check_value, parse_json
from .errors import ModelError

FORMAT_VERSION = 1
_SIDECARS = {
    "engine": Record(
        {
            "sha256": SHA256,
            "made_by": Record({"pspnet_edge": Text(50)}),
            "runtime": Text(50),
            "precision": Text(among=("fp32", "fp16", "int8")),
            "shape_nhw": SHAPE_NHW,
            "label_set": LABEL_SET,
        },
        {"model": Text(1000), "runtime_version": Text(200)},
    ),
    "model": Record({"sha256": SHA256}, {"label_set": LABEL_SET, "network": Text(200)}),
}
_MOST_PIXELS = 1 << 28


def write_sidecar(path: Path, kind: str, facts: Mapping[str, object], *, content: Path | None = None) -> None:
    """Write the sidecar of an artefact: its own fingerprint, what made it, and ``facts``.

    ``content`` is where the artefact's bytes are now, when it has not been moved to ``path`` yet.
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
    write_json(sidecar_path(path), {**header, **facts})


def read_sidecar(path: Path, kind: str, remake: str) -> Any:
    """Read and check the sidecar of ``path``: a JSON object.

    Args:
        path: the artefact, not the sidecar.
        kind: what it must describe: ``"model"`` or ``"engine"``.
        remake: the command that makes the pair again, quoted in errors.

    Raises:
        ModelError: there is none, it is damaged, of another kind or format, or does not belong to the file.
    """
    place = sidecar_path(path)
    try:
        if not stat.S_ISREG((status := place.stat()).st_mode) or status.st_size > LARGEST_BYTES:
            raise ModelError(f"the sidecar {place} cannot be read (no ordinary file)", "recreate it", remake)
        facts = parse_json(place.read_bytes())
    except FileNotFoundError:
        raise ModelError(
            f"{path} has no sidecar {place.name}, which every {kind} made here has", "make both", remake
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"the sidecar {place} cannot be read ({error})", "recreate it", remake) from error
    if not isinstance(facts, dict) or facts.get("kind") != kind:
        raise ModelError(f"{place} is not the sidecar of a pspnet-edge {kind}", "make it", remake)
    if facts.get("format_version") != FORMAT_VERSION:
        raise ModelError(
            f"{place} has format version {facts.get('format_version')!r:.20} and this package reads {FORMAT_VERSION}",
            "recreate it",
            remake,
        )
    try:
        check_value(facts, _SIDECARS[kind], "it")
        if kind == "engine" and (pixels := math.prod(facts["shape_nhw"])) > _MOST_PIXELS:
            raise Unfit(f"it claims {pixels} pixels a batch, more than {_MOST_PIXELS}")
    except Unfit as error:
        raise ModelError(f"the sidecar {place} is damaged ({error})", "recreate it", remake) from error
    if facts.get("sha256") != sha256_of(path):
        raise ModelError(f"{path} is not the file that its sidecar describes", "recreate both", remake)
    return facts
