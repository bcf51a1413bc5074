"""The models that ship in ``zoo/``: where their files are."""

from __future__ import annotations

import os
from pathlib import Path

DEFAULT = "pspnet_lite0_camvid"

FOLDER = Path(__file__).parent / "zoo"


def names() -> list[str]:
    """Names of the bundled models, in order."""
    return sorted(path.stem for path in FOLDER.glob("*.onnx"))


def onnx_path(name: str) -> Path:
    """The FP32 model."""
    return FOLDER / f"{name}.onnx"


def table_path(name: str) -> Path:
    """Its calibration table."""
    return FOLDER / f"{name}.calib.json"


def card_path(name: str) -> Path:
    """Its model card: data, licence, recipe, measured figures."""
    return FOLDER / f"{name}.md"


def checkpoint_path(name: str) -> Path:
    """Its weights, to train on from."""
    return FOLDER / f"{name}.pt"


def checkpoint_at(place: str | os.PathLike[str]) -> Path:
    """The weights of a bundled name, or the path itself."""
    text = os.fspath(place)
    return checkpoint_path(text) if text in names() else Path(text)


def names_model(place: str | os.PathLike[str]) -> bool:
    """Whether an engine is built from what was given: a bundled name, or an ``.onnx``, ``.pt`` or ``.pspnet``."""
    text = os.fspath(place)
    return text in names() or Path(text).suffix.lower() in (".onnx", ".pt", ".pspnet")


def name_of(path: Path) -> str:
    """What to call the model in a file: its name without suffix, or that of the run's folder for ``best.pt``.

    ``runs/mine/best.pt`` and ``final.pt`` are ``mine``, and ``last.pt`` is ``mine-last``.
    """
    run = path.absolute().parent.name
    if path.suffix == ".pt" and run:
        if path.stem in ("best", "final"):
            return run
        if path.stem == "last":
            return f"{run}-last"
    return path.stem
