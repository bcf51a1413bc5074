"""Imports one package and prints what it is, as one line of JSON.

The doctor runs this file's text in a separate interpreter, because an import may print, hang, make a CUDA context or
kill the process. It therefore imports nothing of this project.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import importlib.util
import json
import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

CUDA_DRIVER = "the CUDA driver"
"""What is not a package, but is asked in the same way, because starting CUDA may hang or kill the process too."""
OPENCV_WHEELS = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")


class Probed(TypedDict, total=False):
    """What is known of a package; only what was asked of it is there."""

    file: str
    version: str
    missing: bool
    error: str
    """How its import failed."""
    printed: str
    gstreamer: bool
    wheels: list[str]
    cuda: str | None
    argus: bool
    context_error: str


def probe(name: str) -> Probed:
    """What ``import name`` gives: ``file`` and ``version``, and what else the doctor asks of this package.

    Without the package, ``missing`` is true; where the import fails, ``error`` says how.
    """
    if name == CUDA_DRIVER:
        return _cuda()
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    if spec is None:
        return {"missing": True}
    facts: Probed = {"file": spec.origin or next(iter(spec.submodule_search_locations or [""]))}
    try:
        return facts | DETAILS.get(name, _plain)(name, facts["file"])
    except BaseException as error:  # SystemExit is one that packages raise on import
        return facts | {"error": f"{type(error).__name__}: {error}"}


def _plain(name: str, file: str) -> Probed:
    module = importlib.import_module(name)
    return {"version": str(getattr(module, "__version__", "unknown"))}


def _opencv(name: str, file: str) -> Probed:
    cv2: Any = importlib.import_module(name)
    return _plain(name, file) | {
        "gstreamer": cv2.CAP_GSTREAMER in cv2.videoio_registry.getBackends(),
        "wheels": [wheel for wheel in OPENCV_WHEELS if _installed(wheel)],
    }


def _cuda() -> Probed:
    """As the TensorRT runner starts CUDA: the driver's primary context, taken and given back."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return {"missing": True, "error": str(error)}
    version, device, context = ctypes.c_int(), ctypes.c_int(), ctypes.c_void_p()
    calls: tuple[tuple[str, Callable[[], int]], ...] = (
        ("cuInit", lambda: driver.cuInit(0)),
        ("cuDriverGetVersion", lambda: driver.cuDriverGetVersion(ctypes.byref(version))),
        ("cuDeviceGet", lambda: driver.cuDeviceGet(ctypes.byref(device), 0)),
        ("cuDevicePrimaryCtxRetain", lambda: driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)),
        ("cuDevicePrimaryCtxRelease", lambda: driver.cuDevicePrimaryCtxRelease_v2(device)),
    )
    facts: Probed = {}
    for name, call in calls:
        status = call()
        if status:
            text = ctypes.c_char_p()
            driver.cuGetErrorString(status, ctypes.byref(text))
            return facts | {"context_error": f"{name}: {(text.value or b'unknown error').decode()}"}
        if version.value:
            facts = {"version": f"{version.value // 1000}.{version.value % 1000 // 10}"}
    return facts


def _torch(name: str, file: str) -> Probed:
    """Without the import, which would read a gigabyte."""
    version = runpy.run_path(str(Path(file).with_name("version.py")))
    return {"version": version["__version__"], "cuda": version.get("cuda")}


def _not_imported(name: str, file: str) -> Probed:
    """Of a package whose import brings torch or takes seconds: what pip says of it."""
    try:
        return {"version": importlib.metadata.version(name)}
    except importlib.metadata.PackageNotFoundError:
        return {"version": "unknown"}


def _gstreamer(name: str, file: str) -> Probed:
    importlib.import_module(name).require_version("Gst", "1.0")
    gst: Any = importlib.import_module("gi.repository.Gst")
    gst.init(None)
    return {"version": gst.version_string(), "argus": gst.ElementFactory.find("nvarguscamerasrc") is not None}


def _installed(wheel: str) -> bool:
    try:
        importlib.metadata.distribution(wheel)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


DETAILS: dict[str, Callable[[str, str], Probed]] = {
    "cv2": _opencv,
    "torch": _torch,
    "gi": _gstreamer,
    **dict.fromkeys(("torchvision", "timm", "onnxslim", "matplotlib"), _not_imported),
}

if __name__ == "__main__":
    # As in ``lazy.load``: runtimes report to their vendors when they are imported.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    print("\n" + json.dumps(probe(sys.argv[1])))
