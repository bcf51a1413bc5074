"""The models that ship in ``zoo/``: where their files are."""

from __future__ import annotations

from pathlib import Path

DEFAULT = "pspnet_lite0_camvid"

_FOLDER = Path(__file__).parent / "zoo"


def names() -> list[str]:
    """Names of the bundled models, in order."""
    return sorted(path.stem for path in _FOLDER.glob("*.onnx"))


def onnx_path(name: str) -> Path:
    """The FP32 model."""
    return _FOLDER / f"{name}.onnx"


def table_path(name: str) -> Path:
    """Its calibration table."""
    return _FOLDER / f"{name}.calib.json"


def card_path(name: str) -> Path:
    """Its model card: data, licence, recipe, measured figures."""
    return _FOLDER / f"{name}.md"


def checkpoint_path(name: str) -> Path:
    """Its weights, to train on from."""
    return _FOLDER / f"{name}.pt"
