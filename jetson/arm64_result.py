"""What ``try_arm64.sh`` compares and writes: run by the computer that emulates, not by the machine."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import onnx
from onnx import numpy_helper

from pspnet_edge import processor
from pspnet_edge.__main__ import main as command_line
from pspnet_edge.data.datasets import SceneSet
from pspnet_edge.data.geometry import frame_at
from pspnet_edge.data.scenes import Drive

SCENES = 10
"""Images of the small data set that both computers are measured on."""
FRAMES = 5
"""Frames of the demo that both computers segment."""
ENGINE_HW = (384, 480)
"""Size of the bundled model's input."""
EQUAL_PIXELS = 0.999
"""The least share of equal pixels of the two computers' INT8 masks of the same frames. All were equal when tried; a
convolution that ONNX Runtime leaves in floating point on one of them would change some."""
EQUAL_DEMO = 0.99
"""The same where each computer draws the frames itself: two releases of OpenCV draw some pixels differently."""
MIOU_APART = 0.005


def with_unsigned_weights(content: bytes, precision: str) -> bytes:
    """An INT8 graph, serialized, whose weights have uint8 codes 128 higher, with a zero point of 128: the same sums.

    Of two unsigned codes ONNX Runtime adds the products in int32 on every processor, if more slowly; of an unsigned and
    a signed one, x86 without VNNI adds them in int16 and cuts them off.
    """
    proto = onnx.load_model_from_string(content)
    values = {value.name: value for value in proto.graph.initializer}
    zeros = {node.input[2] for node in proto.graph.node if node.op_type == "QuantizeLinear" and node.attribute}
    for name in zeros:
        zero = numpy_helper.to_array(values[name]).astype(np.uint8)
        values[name].CopyFrom(numpy_helper.from_array(zero + np.uint8(128), name))
    # They say that the codes are signed.
    del proto.graph.value_info[:]
    return bytes(proto.SerializeToString())


def edge(*arguments: str) -> None:
    """The product's command line, to be compared with ARM64's.

    On x86 without VNNI the product makes activations or weights coarser until their sums fit. Those masks are as good,
    and not ARM64's; so this gets the exact sums another way.
    """
    sys.argv = ["pspnet-edge", *arguments]
    exact = mock.patch("pspnet_edge.engine.onnxruntime.as_computed_here", with_unsigned_weights)
    with nullcontext() if processor.int8_sums_fit() else exact:
        command_line()


class Wrong(Exception):
    """A step ended well, and what it made is not what was expected."""


def write_frames(folder: Path) -> None:
    """Write the demo's first frames, at the engine's size, so that nothing is left to draw or scale."""
    folder.mkdir(parents=True)
    for index, frame in zip(range(FRAMES), Drive().frames()):
        cv2.imwrite(str(folder / f"{index}.png"), frame_at(frame.image, ENGINE_HW))


def write_scenes(folder: Path) -> None:
    """Write a data set of drawn streets: each from another one."""
    scenes = SceneSet("test")
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for index in range(0, len(scenes), len(scenes) // SCENES):
        image, mask = scenes[index]
        cv2.imwrite(str(folder / "images" / f"{scenes.name(index)}.png"), image)
        cv2.imwrite(str(folder / "masks" / f"{scenes.name(index)}.png"), mask)
    names = "".join(f"{name}\n" for name in scenes.label_set.classes)
    (folder / "classes.txt").write_text(names, encoding="utf-8")


def equal_pixels(first: Path, second: Path) -> float:
    """The share of equal pixels of two folders of masks, which must have the same names and sizes."""
    names = sorted(path.name for path in first.glob("*.png"))
    if not names or names != sorted(path.name for path in second.glob("*.png")):
        raise Wrong(f"{first} and {second} do not hold the same masks")
    pairs = [[cv2.imread(str(folder / name), cv2.IMREAD_UNCHANGED) for folder in (first, second)] for name in names]
    if any(one.shape != other.shape for one, other in pairs):
        raise Wrong(f"masks in {first} and {second} differ in size")
    # A mask with a palette is read as its colours.
    return float(np.mean([np.mean((one == other).reshape(*one.shape[:2], -1).all(axis=2)) for one, other in pairs]))


class Trial:
    """What the steps left in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.home = folder / "machine/root/trial"
        self.here = folder / "here"

    def names(self) -> list[str]:
        """The steps that ran, in their order."""
        return [path.stem for path in sorted((self._folder / "steps").glob("*.status"), key=_when)]

    def status(self, name: str) -> tuple[int, int]:
        """Exit status and seconds of a step."""
        status, seconds = (self._folder / "steps" / f"{name}.status").read_text(encoding="utf-8").split()
        return int(status), int(seconds)

    def printed(self, name: str) -> str:
        """What a step wrote to stdout."""
        return (self._folder / "steps" / f"{name}.out").read_text(encoding="utf-8")

    def last_word(self, name: str) -> str:
        """The last line of a step that failed."""
        error = (self._folder / "steps" / f"{name}.err").read_text(encoding="utf-8", errors="replace")
        lines = (error + self.printed(name)).strip().splitlines()
        return lines[-1] if lines else "it printed nothing"

    def json(self, name: str) -> dict[str, Any]:
        """The JSON object that a step printed."""
        found: dict[str, Any] = json.loads(self.printed(name))
        return found

    def json_here(self, name: str) -> dict[str, Any]:
        """The same of this computer."""
        found: dict[str, Any] = json.loads((self.here / f"{name}.json").read_text(encoding="utf-8"))
        return found


def _when(path: Path) -> float:
    return path.stat().st_mtime


def _setup(trial: Trial) -> str:
    expect("setup: done" in trial.printed("setup"), "setup.sh did not come to its end")
    return "the venv has the system's OpenCV and NumPy, as before"


def _versions(trial: Trial) -> str:
    found = trial.json("versions")
    expect(found["machine"] == "aarch64", f"the machine is {found['machine']}")
    for name in ("numpy", "cv2"):
        expect(" in /usr/lib/python3/dist-packages" in found[name], f"{name} is {found[name]}, not the system's")
    expect(found["opencv_gstreamer"], "the system's OpenCV has no GStreamer")
    return _in_words(found)


def _build(trial: Trial) -> str:
    there, here = trial.json("build"), trial.json_here("build")
    expect(there["precision"] == "int8", f"the engine is {there['precision']}")
    for name in ("runtime", "precision", "flavour", "model_sha256", "calibration_sha256"):
        expect(there[name] == here[name], f"{name} is {there[name]} there and {here[name]} here")
    return f"INT8 in {there['int8_mac_fraction']:.1%} of the multiplications"


def _frames(trial: Trial) -> str:
    frames = trial.json("frames")["frames"]
    share = equal_pixels(trial.home / "frame_masks", trial.here / "frame_masks")
    expect(frames == FRAMES, f"{frames} of {FRAMES} frames were segmented")
    expect(share >= EQUAL_PIXELS, f"only {share:.3%} of the pixels are those of x86")
    return f"{frames} frames of the demo as files: {share:.3%} of the pixels of the masks equal to x86"


def _demo(trial: Trial) -> str:
    frames = trial.json("demo")["frames"]
    share = equal_pixels(trial.home / "masks", trial.here / "masks")
    expect(share >= EQUAL_DEMO, f"only {share:.3%} of the pixels are those of x86")
    recorded = _frames_of(trial.home / "demo.mp4")
    expect(recorded == frames, f"{recorded} of {frames} frames were recorded")
    return f"{frames} frames that each computer drew: {share:.3%} of the pixels equal to x86; {recorded} recorded"


def _evaluate(trial: Trial) -> str:
    there, here = trial.json("evaluate"), trial.json_here("evaluate")
    apart = abs(there["miou"] - here["miou"])
    expect(there["images"] == here["images"] == SCENES, f"{there['images']} images there and {here['images']} here")
    expect(apart <= MIOU_APART, f"mIoU {there['miou']:.4f} there and {here['miou']:.4f} here")
    return f"mIoU {there['miou']:.4f} of {SCENES} drawn streets, {here['miou']:.4f} on x86"


def _doctor(trial: Trial) -> str:
    states = [check["state"] for check in trial.json("doctor")["checks"]]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))


def _gstreamer(trial: Trial) -> str:
    (check,) = [check for check in trial.json("gstreamer")["checks"] if check["name"] == "sources"]
    expect("through OpenCV" in check["reason"], f"OpenCV was not tried: {check['reason']}")
    return str(check["reason"])


def _camera(trial: Trial) -> str:
    frames, recorded = trial.json("camera")["frames"], _frames_of(trial.home / "camera.mp4")
    expect(frames == FRAMES, f"{frames} of {FRAMES} frames were segmented")
    # While a camera gives nothing, its last picture is shown again, and recorded. Under qemu it may be too slow.
    expect(recorded >= frames, f"{recorded} of {frames} frames were recorded")
    return f"csi://0 with a test picture for the sensor: {frames} frames segmented, {recorded} recorded"


def _pip(trial: Trial) -> str:
    found = trial.json("pip")
    expect("/usr/lib/python3/dist-packages" in found["cv2"], f"OpenCV is {found['cv2']}, not the system's")
    return _in_words(found)


def _newer_numpy(trial: Trial) -> str:
    found = trial.json("newer-numpy")
    expect(" in /root/" in found["numpy"], f"NumPy is {found['numpy']}, not the venv's")
    return f"the system's OpenCV beside NumPy {found['numpy'].partition(' ')[0]} in the venv"


def _pip_plain(trial: Trial) -> str:
    found = trial.json("pip-plain")
    expect("/root/" in found["cv2"] and "/root/" in found["numpy"], f"not all is of the venv: {_in_words(found)}")
    return _in_words(found)


CHECKS: dict[str, Callable[[Trial], str]] = {
    "setup": _setup,
    "versions": _versions,
    "build": _build,
    "frames": _frames,
    "demo": _demo,
    "evaluate": _evaluate,
    "doctor": _doctor,
    "gstreamer": _gstreamer,
    "camera": _camera,
    "pip": _pip,
    "newer-numpy": _newer_numpy,
    "pip-plain": _pip_plain,
}
"""By the name of its step: looks at what it left and says what it found."""


def expect(holds: bool, otherwise: str) -> None:
    """Raise ``Wrong`` unless something holds."""
    if not holds:
        raise Wrong(otherwise)


def judge(trial: Trial, name: str) -> dict[str, Any]:
    """One line of the result: name, state, seconds and what was found."""
    status, seconds = trial.status(name)
    try:
        expect(status == 0, f"exit status {status}: {trial.last_word(name)}")
        state, says = "pass", CHECKS[name](trial)
    except (Wrong, ValueError, KeyError, OSError) as error:
        state, says = "fail", f"{type(error).__name__}: {error}"
    return {"name": name, "state": state, "seconds": seconds, "says": says}


def result_of(folder: Path, emulator: str) -> dict[str, Any]:
    """The whole result, as it is written."""
    trial = Trial(folder)
    missing = CHECKS.keys() - set(trial.names())
    steps = [judge(trial, name) for name in CHECKS if name not in missing]
    steps += [{"name": name, "state": "fail", "seconds": 0, "says": "it did not run"} for name in sorted(missing)]
    debian = (folder / "machine/etc/debian_version").read_text(encoding="utf-8").strip()
    qemu = subprocess.run(["qemu-aarch64-static", "--version"], capture_output=True, text=True, check=True).stdout
    return {
        "date": date.today().isoformat(),
        "machine": f"Debian {debian} arm64 in qemu {qemu.split()[2]}, by {emulator}",
        "here": {
            "python": platform.python_version(),
            "machine": platform.machine(),
            "cv2": cv2.__version__,
            "numpy": np.__version__,
            "onnxruntime": metadata.version("onnxruntime"),
            "weights": "int8" if processor.int8_sums_fit() else "uint8",
        },
        "steps": steps,
    }


def table(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    lines = [f"{result['date']}: {result['machine']}; compared with {_in_words(result['here'])}.", ""]
    lines += ["| step | state | seconds | found |", "|---|---|---|---|"]
    lines += [f"| {step['name']} | {step['state']} | {step['seconds']} | {step['says']} |" for step in result["steps"]]
    return "\n".join(lines) + "\n"


def _in_words(versions: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in versions.items() if isinstance(value, str))


def _frames_of(film: Path) -> int:
    capture = cv2.VideoCapture(str(film))
    count = 0
    while capture.grab():
        count += 1
    capture.release()
    return count


def main(command: str, *more: str) -> int:
    """``inputs FOLDER`` writes what both computers read; ``edge ARGUMENTS`` is the product's command line;
    ``result FOLDER EMULATOR`` writes and prints the result.
    """
    if command == "edge":
        edge(*more)
        return 0
    folder = Path(more[0])
    if command == "inputs":
        write_frames(folder / "frames")
        write_scenes(folder / "scenes")
        return 0
    result = result_of(folder, more[1])
    (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    (folder / "result.md").write_text(table(result), encoding="utf-8")
    print(table(result), end="")
    return int(any(step["state"] != "pass" for step in result["steps"]))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
