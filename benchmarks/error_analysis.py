"""Where mIoU is lost: by class, at boundaries, by confusion, by the size of the input, and by the stride of the logits.

    python benchmarks/error_analysis.py --root CamVid [--model NAME|ONNX|PT …] [--size 384x480 --size 576x720]

writes benchmarks/results/error_analysis.md. Boundary IoU is that of Cheng et al., "Boundary IoU: Improving Object-Centric
Image Segmentation Evaluation" (CVPR 2021): the IoU of the bands of ``BAND_PX`` pixels inside the outlines of label and prediction.
The ceiling of a stride is what the label itself scores when it has passed through a map of that stride, as logits do.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pspnet_edge import Segmenter, bundled
from pspnet_edge.artifact import write_bytes
from pspnet_edge.cli.options import parse_size
from pspnet_edge.data.datasets import Dataset, open_dataset
from pspnet_edge.data.geometry import mask_at
from pspnet_edge.engine.model import prepare_model
from pspnet_edge.labels import IGNORE
from pspnet_edge.metrics import ConfusionMatrix

ROOT = Path(__file__).resolve().parents[1]
BAND_PX = 3
STRIDE = 4

Mask = NDArray[np.uint8]


@dataclass
class Analysis:
    """Counts over a split."""

    confusion: ConfusionMatrix
    band_hits: NDArray[np.int64]
    band_unions: NDArray[np.int64]
    errors: int = 0
    errors_at_boundary: int = 0

    @staticmethod
    def of(classes: int) -> Analysis:
        return Analysis(ConfusionMatrix(classes), np.zeros(classes, np.int64), np.zeros(classes, np.int64))

    def add(self, label: Mask, predicted: Mask) -> None:
        """Count one pair of masks."""
        self.confusion.add(label, predicted)
        known = label != IGNORE
        wrong = known & (label != predicted)
        self.errors += int(wrong.sum())
        self.errors_at_boundary += int((wrong & near_boundary(label)).sum())
        for index in np.union1d(np.unique(label[known]), np.unique(predicted[known])):
            of_label, of_prediction = band(label == index) & known, band(predicted == index) & known
            self.band_hits[index] += int((of_label & of_prediction).sum())
            self.band_unions[index] += int((of_label | of_prediction).sum())

    def boundary_iou(self) -> NDArray[np.float64]:
        """``float [classes]``; NaN for a class that never occurs."""
        unions = self.band_unions.astype(np.float64)
        return np.divide(self.band_hits, unions, out=np.full(len(unions), np.nan), where=unions > 0)

    def confusions(self, index: int, count: int = 2) -> list[tuple[int, float]]:
        """The classes that pixels of one are taken for most often, with their share of its pixels."""
        row = self.confusion.counts[index].astype(np.float64)
        shares = row / max(row.sum(), 1)
        shares[index] = 0
        return [(int(other), float(shares[other])) for other in np.argsort(-shares)[:count]]


def band(of_class: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels of a class within ``BAND_PX`` of its outline; the edge of the image is none."""
    square = np.ones((3, 3), np.uint8)
    inside = cv2.erode(of_class.astype(np.uint8), square, iterations=BAND_PX, borderType=cv2.BORDER_REPLICATE)
    return of_class & (inside == 0)


def near_boundary(label: Mask) -> NDArray[np.bool_]:
    """The pixels within ``BAND_PX`` of one with another label."""
    square = np.ones((2 * BAND_PX + 1, 2 * BAND_PX + 1), np.uint8)
    changes: NDArray[np.bool_] = cv2.dilate(label, square) != cv2.erode(label, square)
    return changes


def through_stride(label: Mask, classes: int, stride: int) -> Mask:
    """The label after averaging each class to a map of ``stride`` and bilinear enlargement, the largest class taken."""
    height, width = label.shape
    small = (max(width // stride, 1), max(height // stride, 1))
    layers = [
        cv2.resize(
            cv2.resize((label == index).astype(np.float32), small, interpolation=cv2.INTER_AREA), (width, height)
        )
        for index in range(classes)
    ]
    return np.argmax(layers, axis=0).astype(np.uint8)


def predictions(model: str, size_hw: tuple[int, int], dataset: Dataset) -> Iterator[tuple[Mask, Mask]]:
    """Label and predicted mask of each image, both at the label's size."""
    with Segmenter(prepare_model(model, size_hw).path) as segmenter:
        for index in range(len(dataset)):
            image, label = dataset[index]
            yield label, mask_at(segmenter(image), (label.shape[0], label.shape[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of CamVid")
    parser.add_argument("--split", default="test")
    parser.add_argument("--model", action="append", help="may be repeated; the bundled models")
    parser.add_argument("--size", action="append", help="HEIGHTxWIDTH; may be repeated")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "benchmarks" / "results" / "error_analysis.md")
    options = parser.parse_args()
    dataset = open_dataset("camvid", options.root, options.split)
    classes = dataset.label_set.classes
    sizes = [parse_size(size) for size in options.size or ["384x480", "576x720"]]
    ceiling = ConfusionMatrix(len(classes))
    for index in range(len(dataset)):
        label = dataset.mask(index)
        ceiling.add(label, through_stride(label, len(classes), STRIDE))
    parts = [
        f"# Where mIoU is lost\n\nCamVid {options.split}, {len(dataset)} images. Made by `benchmarks/error_analysis.py`."
    ]
    for model in options.model or bundled.names():
        analyses = []
        for size_hw in sizes:
            analysis = Analysis.of(len(classes))
            for label, predicted in predictions(model, size_hw, dataset):
                analysis.add(label, predicted)
            analyses.append(analysis)
            print(f"{model} at {size_hw[0]}x{size_hw[1]}: mIoU {analysis.confusion.miou():.4f}", flush=True)
        parts.append(table(model, classes, sizes, analyses, ceiling))
    write_bytes(options.output, ("\n\n".join(parts) + "\n").encode())


def table(
    model: str,
    classes: tuple[str, ...],
    sizes: list[tuple[int, int]],
    analyses: list[Analysis],
    ceiling: ConfusionMatrix,
) -> str:
    """One model's part of the page."""
    names = [f"{height}×{width}" for height, width in sizes]
    head = ["class", *(f"IoU, {name}" for name in names), f"boundary IoU, {names[0]}"]
    head += [f"ceiling of stride {STRIDE}", f"taken for, {names[0]}"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    first = analyses[0]
    for index in np.argsort(first.confusion.iou()):
        taken_for = ", ".join(f"{classes[other]} {100 * share:.0f} %" for other, share in first.confusions(index))
        cells = [classes[index], *(f"{one.confusion.iou()[index]:.3f}" for one in analyses)]
        cells += [f"{first.boundary_iou()[index]:.3f}", f"{ceiling.iou()[index]:.3f}", taken_for]
        lines.append("| " + " | ".join(cells) + " |")
    cells = ["**mean**", *(f"{one.confusion.miou():.4f}" for one in analyses)]
    cells += [f"{np.nanmean(first.boundary_iou()):.4f}", f"{ceiling.miou():.4f}", ""]
    lines.append("| " + " | ".join(cells) + " |")
    share = first.errors_at_boundary / max(first.errors, 1)
    return (
        f"## {model}\n\n{100 * share:.0f} % of the wrong pixels at {names[0]} are within {BAND_PX} pixels of a label's boundary "
        f"(of an image of CamVid, 360×480).\n\n" + "\n".join(lines)
    )


if __name__ == "__main__":
    main()
