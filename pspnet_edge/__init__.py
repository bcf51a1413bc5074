"""PSPNet segmentation for embedded GPUs: train, export, calibrate, build INT8/FP16 engines, run a camera loop.

In Python: ``from pspnet_edge import Segmenter``.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Loaded when it is first asked for, so that importing the package loads neither OpenCV nor a runtime.
    if name == "Segmenter":
        return import_module(".camera.segmenter", __name__).Segmenter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
