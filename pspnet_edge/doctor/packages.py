"""Python's packages: OpenCV, NumPy, TensorRT, CUDA, torch, and the runtimes of the processor."""

from __future__ import annotations

import re

from ..lazy import install_command
from .board import find_jetson
from .probe import CUDA_DRIVER, Probed
from .system import System
from .verdict import Verdict, Wanted, block, ok, skip, warn

_SYSTEM_PACKAGES = "/usr/lib/python3*/dist-packages"
_OLD_NUMPY_WANTED = ("numpy.core.multiarray failed to import", "_ARRAY_API not found", "compiled using NumPy 1.x")
_NEW_NUMPY_WANTED = ("compiled against ABI version", "numpy.dtype size changed", "binary incompatibility")
_KNOWN_TENSORRT = ((8, 6), (11, 4))
"""Oldest and newest whose interface the code was checked against; see docs/tensorrt.md."""
_RUNTIMES = ("tensorrt", "openvino", "onnxruntime")


def check_numpy(system: System, wanted: Wanted) -> Verdict:
    """Whether NumPy is one that the compiled packages were made for."""
    numpy = system.probe("numpy")
    if "version" not in numpy:
        return block(f"NumPy cannot be imported ({_reason(numpy)})", "pip install --force-reinstall numpy")
    version = numpy["version"]
    of_system = system.paths(f"{_SYSTEM_PACKAGES}/numpy")
    if int(version.split(".")[0]) >= 2 and of_system and not numpy["file"].startswith("/usr/lib/"):
        opencv = system.probe("cv2")
        if "version" not in opencv and system.paths(f"{_SYSTEM_PACKAGES}/cv2*"):
            return block(
                f"NumPy {version} from pip hides the system's, which the system's OpenCV was compiled against",
                "pip uninstall -y numpy",
            )
    for package in ("cv2", "tensorrt", "onnxruntime"):
        facts = system.probe(package)
        said = facts.get("error", "") + facts.get("printed", "")
        if any(sign in said for sign in _OLD_NUMPY_WANTED):
            return block(f"{package} was compiled for NumPy 1 and {version} is installed", "pip install 'numpy<2'")
        if any(sign in said for sign in _NEW_NUMPY_WANTED):
            return block(
                f"{package} was compiled for a newer NumPy than {version}, which is installed",
                "pip install --upgrade numpy",
            )
    return ok(f"NumPy {version} fits the packages that were compiled against it")


def check_opencv(system: System, wanted: Wanted) -> Verdict:
    """Whether OpenCV imports, and whether a wheel hides JetPack's."""
    opencv = system.probe("cv2")
    if "version" not in opencv:
        return _no_opencv(system, opencv)
    of_jetpack = system.paths(f"{_SYSTEM_PACKAGES}/cv2*")
    if find_jetson(system) and of_jetpack and opencv.get("wheels") and not opencv["file"].startswith("/usr/lib/"):
        return warn(
            f"OpenCV {opencv['version']} from pip hides JetPack's in {of_jetpack[0]}, which has GStreamer",
            f"pip uninstall -y {' '.join(opencv['wheels'])}",
        )
    return ok(f"OpenCV {opencv['version']} from {opencv['file']}")


def check_gstreamer(system: System, wanted: Wanted) -> Verdict:
    """Whether a CSI camera can be opened: through OpenCV, or through GStreamer's own Python binding."""
    jetson = find_jetson(system)
    if jetson is None and not wanted.csi:
        return skip("only a CSI camera needs GStreamer, and none was asked for")
    if jetson is None:
        return block("a CSI camera goes through NVIDIA's Argus, which only a Jetson has: give --camera N")
    opencv, binding = system.probe("cv2"), system.probe("gi")
    if opencv.get("gstreamer"):
        return ok("OpenCV has GStreamer")
    if "version" in binding and binding.get("argus"):
        return ok("OpenCV has no GStreamer; CSI cameras go through GStreamer's Python binding")
    if "version" in binding:
        says, command = "GStreamer has no nvarguscamerasrc", "sudo apt-get install -y nvidia-l4t-gstreamer"
    elif opencv.get("wheels") and system.paths(f"{_SYSTEM_PACKAGES}/cv2*"):
        says = "pip's OpenCV has no GStreamer and hides JetPack's, which has"
        command = f"pip uninstall -y {' '.join(opencv['wheels'])}"
    else:
        says = "OpenCV has no GStreamer, and GStreamer's Python binding is not installed"
        command = "sudo apt-get install -y python3-gi python3-gst-1.0"
    return (block if wanted.csi else warn)(f"{says}: a CSI camera cannot be opened", command)


def check_tensorrt(system: System, wanted: Wanted) -> Verdict:
    """Whether JetPack's TensorRT is visible here, and a version that the package knows."""
    facts = system.probe("tensorrt")
    if "version" in facts:
        return _tensorrt_version(facts["version"])
    found = system.paths(f"{_SYSTEM_PACKAGES}/tensorrt")
    needed = find_jetson(system) is not None
    if not facts.get("missing"):
        command = (
            "sudo apt-get install -y --reinstall python3-libnvinfer" if needed else "pip install --upgrade tensorrt"
        )
        return (block if needed else warn)(f"TensorRT cannot be imported ({_reason(facts)})", command)
    if found:
        return _hidden_tensorrt(system, found[0])
    if not needed:
        return skip("TensorRT is not installed, and there is no Jetson here that needs it")
    return block("TensorRT for Python is not installed", "sudo apt-get install -y python3-libnvinfer")


def check_cuda(system: System, wanted: Wanted) -> Verdict:
    """Whether the CUDA driver gives a context, as running an engine needs it."""
    if find_jetson(system) is None and system.gpu() is None:
        return skip("no GPU whose driver could be tried")
    facts = system.probe(CUDA_DRIVER)
    if facts.get("missing"):
        return block(f"the CUDA driver cannot be loaded ({_reason(facts)})", "sudo apt-get install -y nvidia-jetpack")
    problem = str(facts.get("context_error") or facts.get("error") or "")
    if "out of memory" in problem:
        return block(
            f"the GPU gives no context ({problem}): end other programs, or the desktop",
            "sudo systemctl isolate multi-user.target",
        )
    if problem:
        return block(f"the GPU gives no context ({problem}), as after a fault of its driver", "sudo reboot")
    return ok(f"the driver supports CUDA {facts['version']} and gives a context")


def check_torch(system: System, wanted: Wanted) -> Verdict:
    """Whether torch, where it is installed beside a GPU, can use it."""
    if system.gpu() is None:
        return skip("no GPU that torch could use")
    facts = system.probe("torch")
    if "version" not in facts:
        return skip("torch is not installed; only training and export need it")
    if facts.get("cuda"):
        return ok(f"torch {facts['version']} for CUDA {facts['cuda']}")
    command = "uninstall -y" if find_jetson(system) else "install --force-reinstall"
    return warn(
        f"torch {facts['version']} has no CUDA: training would run on the processor; running engines needs no torch",
        f"pip {command} torch torchvision",
    )


def check_runtimes(system: System, wanted: Wanted) -> Verdict:
    """Whether anything here runs an engine."""
    facts = {runtime: system.probe(runtime) for runtime in _RUNTIMES}
    found = [f"{runtime} {fact['version'].split('-')[0]}" for runtime, fact in facts.items() if "version" in fact]
    broken = [f"{runtime} ({_reason(fact)})" for runtime, fact in facts.items() if "error" in fact]
    if found:
        return ok(", ".join(found))
    says = f"no runtime imports: {', '.join(broken)}" if broken else "no runtime is installed"
    return block(says, install_command("openvino"))


def _no_opencv(system: System, facts: Probed) -> Verdict:
    reason = _reason(facts)
    if "libGL" in reason:
        return block(f"OpenCV cannot be imported ({reason})", "sudo apt-get install -y libgl1 libglib2.0-0")
    if find_jetson(system):
        return block(f"OpenCV cannot be imported ({reason})", "sudo apt-get install -y --reinstall libopencv-python")
    return block(f"OpenCV cannot be imported ({reason})", "pip install --force-reinstall opencv-python")


def _tensorrt_version(text: str) -> Verdict:
    version = tuple(int(part) for part in re.findall(r"\d+", text)[:3])
    if version < _KNOWN_TENSORRT[0]:
        return block(f"TensorRT {text} is older than 8.6, the first that this package knows", "sdkmanager")
    if version[:2] > _KNOWN_TENSORRT[1]:
        return warn(
            f"TensorRT {text} is newer than {'.'.join(map(str, _KNOWN_TENSORRT[1]))}, the last one checked against",
            "pip install --upgrade pspnet-edge",
        )
    return ok(f"TensorRT {text}")


def _hidden_tensorrt(system: System, path: str) -> Verdict:
    of_python = re.search(r"python(3\.\d+)/", path)
    here = ".".join(map(str, system.python))
    if of_python and of_python[1] != here:
        return block(
            f"TensorRT in {path} is for Python {of_python[1]} and this is {here}",
            f"python{of_python[1]} -m venv --system-site-packages ~/pspnet-edge",
        )
    if system.in_venv:
        return block(
            f"TensorRT is in {path}, and this venv does not look there",
            "sed -i 's/^include-system-site-packages.*/include-system-site-packages = true/' "
            f"{system.prefix}/pyvenv.cfg",
        )
    return block(
        f"TensorRT is in {path}, and {system.prefix} does not look there",
        "python3 -m venv --system-site-packages ~/pspnet-edge",
    )


def _reason(facts: Probed) -> str:
    return "not installed" if facts.get("missing") else str(facts.get("error", "unknown")).splitlines()[0][:200]
