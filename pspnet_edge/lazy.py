"""Optional packages, imported where they are used, with a sentence instead of a traceback when one is missing."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shlex
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

from .errors import MissingPackage

_EXTRA = {
    "torch": "train",
    "timm": "train",
    "yaml": "train",
    "safetensors.torch": "train",
    "tensorboard": "train",
    "wandb": "wandb",
    "mlflow": "mlflow",
    "openvino": "openvino",
    "onnxruntime": "onnxruntime",
    "aiohttp": "web",
    "cv2": "opencv",
    "matplotlib": "report",
    "matplotlib.figure": "report",
    "jinja2": "report",
    "jtop": "jetson",
    "pycocotools.mask": "data",
    "PIL.Image": "data",
    "PIL.ImageDraw": "data",
    "pyarrow.parquet": "parquet",
    "tensorrt_rtx": "tensorrt-rtx",
}

_REPORTERS = {"openvino": "openvino_telemetry", "timm": "wandb"}
"""By package, one that it imports, unasked, to report to a vendor; it works without that one."""

_UNKNOWN_ORIGIN = "PATH-OF-CLONE-OR-WHEEL"


def available(module: str) -> bool:
    """Whether ``module`` can be found, without importing it."""
    return importlib.util.find_spec(module) is not None


def require(module: str, purpose: str) -> ModuleType:
    """Import ``module`` or raise ``MissingPackage`` naming what needs it and the command that installs it.

    Args:
        module: the import name, e.g. ``"openvino"``.
        purpose: what the caller wants to do, as a phrase after "to", e.g. ``"run an OpenVINO engine"``.
    """
    try:
        return load(module)
    except ImportError as error:
        extra = _EXTRA.get(module)
        command = install_command(extra) if extra else f"pip install {module}"
        raise MissingPackage(
            f"{module} is needed to {purpose} and could not be imported ({error})", None, command
        ) from error


def load(module: str) -> ModuleType:
    """Import ``module`` so that it reports nothing to its vendor: no usage data is sent and no files are left for that.

    A program that imported it before us has decided for itself.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime 1.32 reads it when it is loaded
    reporter = _REPORTERS.get(module)
    if reporter is None or module in sys.modules or reporter in sys.modules:
        return importlib.import_module(module)
    sys.modules[reporter] = None  # type: ignore[assignment]  # to Python: not installed
    try:
        return importlib.import_module(module)
    finally:
        del sys.modules[reporter]


def install_command(extra: str) -> str:
    """The command that adds an extra to this installation, from the clone or the wheel that it came from."""
    place, editable = _origin()
    return f"pip install {'-e ' if editable else ''}{shlex.quote(f'{place}[{extra}]')}"


def _origin() -> tuple[str, bool]:
    """Where pip took this package from and whether it points there; a placeholder where that is gone or unknown."""
    clone = Path(__file__).resolve().parents[1]
    if (clone / "pyproject.toml").is_file():
        return str(clone), True
    try:
        text = metadata.distribution("pspnet-edge").read_text("direct_url.json")
        url = urlsplit(json.loads(text or "{}")["url"])
    except (metadata.PackageNotFoundError, ValueError, KeyError, TypeError):
        return _UNKNOWN_ORIGIN, False
    place = Path(unquote(url.path))
    return (str(place), False) if url.scheme == "file" and place.exists() else (_UNKNOWN_ORIGIN, False)
