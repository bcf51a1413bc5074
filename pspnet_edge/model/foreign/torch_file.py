"""PyTorch's own files, read for their weights."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .allowed import CONTAINERS, RECONSTRUCT, SCALAR, Refused, is_harmless, named_inert

_MOST_NAMES = 64


def load_torch(path: Path) -> Any:
    """``torch.load`` for weights, with harmless objects beside them made inert.

    Raises:
        Refused: the file names something that is not harmless.
        Exception: of torch, for a damaged file.
    """
    known: list[Any] = list(_KNOWN)
    names: set[str] = set()
    for _ in range(_MOST_NAMES):
        try:
            with torch.serialization.safe_globals(known):
                return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            asked = _asked(str(error))
            if asked is None or asked in names:
                raise
            module, _, name = asked.rpartition(".")
            module = module or "builtins"  # which PyTorch leaves out of the name
            if not is_harmless(module, name):
                raise Refused(f"{module}.{name}") from error
            names.add(asked)
            known.append((named_inert(module, name), f"{module}.{name}"))
    raise Refused("more names than weights could need")


_KNOWN: tuple[Any, ...] = (
    *((make, f"collections.{name}") for name, make in CONTAINERS.items()),
    *(
        (function, f"{package}.multiarray.{name}")
        for package in ("numpy.core", "numpy._core")
        for function, name in ((RECONSTRUCT, "_reconstruct"), (SCALAR, "scalar"))
    ),
    np.ndarray,
    np.dtype,
    *{type(np.dtype(code)) for code in "?bBhHiIlLqQefdSU"},
    (named_inert("_codecs", "encode"), "_codecs.encode"),
)


def _asked(message: str) -> str | None:
    """The name that PyTorch's reader stopped at."""
    for pattern in (r"GLOBAL (\S+)", r"for class (\S+?)[,\s]", r"type (?:of )?<class '([^']+)'>"):
        found = re.search(pattern, message)
        if found:
            return found[1].strip("`'\"")
    return None
