"""Optional packages, imported where they are used, with a sentence instead of a traceback when one is missing."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

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
    "tensorrt_rtx": "tensorrt-rtx",
}


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
        return importlib.import_module(module)
    except ImportError as error:
        extra = _EXTRA.get(module)
        package = f"'pspnet-edge[{extra}]'" if extra else module
        raise MissingPackage(
            f"{module} is needed to {purpose} and could not be imported ({error})", None, f"pip install {package}"
        ) from error
