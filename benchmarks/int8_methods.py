"""INT8 of this package beside ONNX Runtime's, NVIDIA Model Optimizer's and NNCF's, in one table from one run.

    python benchmarks/int8_methods.py --camvid ../shared/data/camvid [--images 10] [--calibration-images 8]

All quantise the same FP32 model on the same calibration images, and one evaluator runs what they made in ONNX Runtime on
the CamVid test split. Each tool has an environment of its own, made by this script; one that cannot be installed, or that
fails on the model, stands in the table with its reason. A quick look (--images) prints the table and writes nothing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from int8_graph import int8_mac_share, tensorrt_objection
from zoo import ROOT, with_section

from pspnet_edge import __version__, bundled
from pspnet_edge.artifact import write_bytes, write_json
from pspnet_edge.data.calibration_list import read_list, shipped_list
from pspnet_edge.data.datasets import Dataset, open_dataset
from pspnet_edge.data.geometry import frame_at, mask_at
from pspnet_edge.data.subset import evenly_spaced
from pspnet_edge.graph.calibrate import table_from_dataset
from pspnet_edge.graph.onnx_file import ModelFile, read_model, write_model
from pspnet_edge.graph.quantize import int8_model, with_uint8_activations
from pspnet_edge.metrics import ConfusionMatrix

WORKERS = Path(__file__).parent / "int8_workers"
DOCUMENT = ROOT / "docs" / "int8.md"
REQUIREMENTS = {
    "onnxruntime": ("onnxruntime", "onnx", "sympy"),
    "modelopt": ("nvidia-modelopt[onnx]",),
    "nncf": ("nncf", "onnx", "onnxruntime"),
}


class ToolFailed(Exception):
    """A tool could not be installed or failed on the model; the message is its last words."""


@dataclass(frozen=True)
class Method:
    """A row: what it is called, the tool that makes it ("" is this package), and the arguments of the tool's worker."""

    name: str
    tool: str
    arguments: tuple[str, ...]


@dataclass
class Row:
    """What was measured; figures are None where ``failure`` says why there are none."""

    method: str
    version: str
    miou: float | None = None
    drop: float | None = None
    pixels_changed: float | None = None
    """Share of the mask pixels that differ from FP32's: steadier than mIoU, where changes for better and worse cancel."""
    int8_mac_fraction: float | None = None
    tensorrt_objection: str | None = None
    seconds_to_quantise: float | None = None
    failure: str | None = None


METHODS = (
    Method("pspnet-edge", "", ("symmetric", "second-order", "equalised")),
    Method("pspnet-edge, channels not equalised", "", ("symmetric", "second-order", "plain")),
    Method("pspnet-edge, weights to the nearest", "", ("symmetric", "nearest", "equalised")),
    Method("pspnet-edge, neither", "", ("symmetric", "nearest", "plain")),
    Method("pspnet-edge, uint8 flavour for x86", "", ("uint8", "second-order", "equalised")),
    *(Method(f"ONNX Runtime {m}", "onnxruntime", (m, "default")) for m in ("MinMax", "Entropy", "Percentile")),
    *(
        Method(f"ONNX Runtime {m}, convolutions only", "onnxruntime", (m, "convolutions"))
        for m in ("MinMax", "Entropy", "Percentile")
    ),
    *(Method(f"NVIDIA ModelOpt {m}", "modelopt", (m,)) for m in ("max", "entropy")),
    Method("NNCF, symmetric", "nncf", ("performance",)),
    Method("NNCF, asymmetric activations", "nncf", ("mixed",)),
)


def main() -> None:
    """Parse the command line, measure, print the table, and write it where it belongs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camvid", type=Path, required=True)
    parser.add_argument("--images", type=int, help="a quick look: so many test images, and nothing is written")
    parser.add_argument("--calibration-images", type=int, help="so many of the calibration list, evenly spaced")
    parser.add_argument("--environments", type=Path, default=ROOT / ".venv-int8", help="default: .venv-int8")
    options = parser.parse_args()
    test = open_dataset("camvid", options.camvid, "test")
    if options.images:
        test = evenly_spaced(test, options.images)
    calibration = calibration_images(options.camvid, options.calibration_images)
    with tempfile.TemporaryDirectory() as folder:
        rows = measured(test, calibration, options.environments, Path(folder))
    print(table(rows))
    if not (options.images or options.calibration_images):
        facts = {
            "model": bundled.DEFAULT,
            "test_images": len(test),
            "calibration_images": len(calibration),
            "rows": [asdict(row) for row in rows],
        }
        write_json(ROOT / "benchmarks" / "results" / "int8_methods.json", facts)
        write_bytes(DOCUMENT, with_section(DOCUMENT.read_text(encoding="utf-8"), "int8_methods", table(rows)).encode())


def calibration_images(camvid: Path, count: int | None) -> Dataset:
    """The images of CamVid's shipped list, or some of them."""
    listed = shipped_list("camvid")
    if listed is None:
        raise SystemExit("pspnet_edge/data/calibration/camvid.txt is missing: make it with calibration/make.py")
    chosen = read_list(listed).of(open_dataset("camvid", camvid, "train"))
    return evenly_spaced(chosen, count) if count else chosen


def measured(test: Dataset, calibration: Dataset, environments: Path, folder: Path) -> list[Row]:
    """FP32 and every method, each quantised and then evaluated in turn."""
    source = bundled.onnx_path(bundled.DEFAULT)
    size_hw = read_model(source).shape_nhw[1:]
    frames, output = folder / "frames.npy", folder / "quantised.onnx"
    np.save(frames, np.stack([frame_at(calibration.image(index), size_hw) for index in range(len(calibration))]))
    exact, masks = evaluated(source, test, size_hw)
    rows = [Row("FP32", onnxruntime.__version__, miou=exact, drop=0.0, pixels_changed=0.0, int8_mac_fraction=0.0)]
    say(rows[0])
    for method in METHODS:
        output.unlink(missing_ok=True)
        row = Row(method.name, "" if method.tool else __version__)
        try:
            quantise(method, row, source, calibration, frames, output, environments)
            graph = onnx.load(output)
            row.int8_mac_fraction, row.tensorrt_objection = int8_mac_share(graph), tensorrt_objection(graph)
            row.miou, own = evaluated(output, test, size_hw)
            row.drop = exact - row.miou
            row.pixels_changed = float(np.mean(own != masks))
        except ToolFailed as error:
            row.failure = str(error)
        rows.append(row)
        say(row)
    return rows


def quantise(
    method: Method, row: Row, source: Path, calibration: Dataset, frames: Path, output: Path, environments: Path
) -> None:
    """Write what a method makes of the model to ``output``, and its version and time into the row.

    Raises:
        ToolFailed: the tool cannot be installed or fails on the model.
    """
    if method.tool:
        python = environment(environments, method.tool)
        row.version = version(python, REQUIREMENTS[method.tool][0])
        worker = [python, WORKERS / f"with_{method.tool}.py", source, frames, output, *method.arguments]
        start = time.perf_counter()
        run(worker)
    else:
        start = time.perf_counter()
        write_model(output, ours(read_model(source), calibration, *method.arguments))
    row.seconds_to_quantise = round(time.perf_counter() - start, 1)


def ours(model: ModelFile, images: Dataset, flavour: str, rounding: str, channels: str) -> ModelFile:
    """What ``pspnet-edge build --precision int8`` makes of a table of `calibrate` with these options."""
    equalize = channels == "equalised"
    table, _ = table_from_dataset(model, images, dataset="camvid train", rounding=rounding, equalize=equalize)
    quantised = int8_model(model, table)
    return with_uint8_activations(quantised) if flavour == "uint8" else quantised


def evaluated(path: Path, dataset: Dataset, size_hw: tuple[int, int]) -> tuple[float, np.ndarray]:
    """mIoU of an ONNX file in ONNX Runtime, at the labels' own size, and its masks at its own."""
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise ToolFailed(f"ONNX Runtime does not load what it made: {last_line(str(error))}") from error
    name = session.get_inputs()[0].name
    matrix, masks = ConfusionMatrix(len(dataset.label_set)), []
    for index in range(len(dataset)):
        image, label = dataset[index]
        mask = session.run(None, {name: frame_at(image, size_hw)[None]})[0][0]
        matrix.add(label, mask_at(mask, (label.shape[0], label.shape[1])))
        masks.append(mask)
    return matrix.miou(), np.stack(masks)


def environment(folder: Path, tool: str) -> Path:
    """The Python of a tool's own environment, made when it is not there."""
    python, done = folder / tool / "bin" / "python", folder / tool / ".installed"
    if not done.is_file():
        print(f"installing {tool} in {folder / tool}", file=sys.stderr, flush=True)
        run([sys.executable, "-m", "venv", folder / tool])
        run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS[tool]])
        done.touch()
    return python


def version(python: Path, requirement: str) -> str:
    """Which version of a distribution an environment holds."""
    name = requirement.partition("[")[0]
    return run([python, "-c", f"import importlib.metadata as m; print(m.version({name!r}))"]).strip()


def run(command: Sequence[object]) -> str:
    """Run a program and return what it printed.

    Raises:
        ToolFailed: it failed.
    """
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolFailed(last_line(done.stderr) or f"ended with status {done.returncode}")
    return done.stdout


def last_line(text: str) -> str:
    """The last line that says something: of a traceback, the error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def say(row: Row) -> None:
    """A line on what was just measured."""
    figures = (
        row.failure
        or f"mIoU {row.miou:.4f}, drop {row.drop:+.4f}, {row.pixels_changed:.2%} of pixels changed, {row.int8_mac_fraction:.1%} of MACs in INT8"
    )
    print(f"{row.method}: {figures}", file=sys.stderr, flush=True)


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    lines = [
        "| method | version | CamVid test mIoU | drop | mask pixels changed | conv MACs in INT8 | TensorRT |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.failure is not None:
            failure = row.failure.replace("|", "\\|")
            lines.append(f"| {row.method} | {row.version} | failed: {failure} | | | | |")
            continue
        verdict = "" if row.tensorrt_objection is None else row.tensorrt_objection or "takes it"
        lines.append(
            f"| {row.method} | {row.version} | {row.miou:.4f} | {row.drop:.4f} | {row.pixels_changed:.2%} | {row.int8_mac_fraction:.1%} | {verdict} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
