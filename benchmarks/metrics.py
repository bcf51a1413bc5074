"""mIoU of this package held against torchmetrics', and both timed.

    python benchmarks/metrics.py [--camvid ../shared/data/camvid] [--quick]

Cases: random masks with ignored pixels and absent classes, and what the bundled model predicts for procedural scenes and,
with --camvid, for photographs. torchmetrics counts in whole numbers, which must be equal, but reduces them in float32; its
reduction is run in float64 here, so that a difference is one of meaning and not of rounding. A quick look writes nothing.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torchmetrics
from torchmetrics.classification import MulticlassJaccardIndex
from zoo import ROOT

from pspnet_edge.artifact import write_bytes, write_json
from pspnet_edge.data.datasets import Dataset, open_dataset
from pspnet_edge.data.geometry import frame_at, mask_at
from pspnet_edge.data.subset import evenly_spaced
from pspnet_edge.engine.backends import open_engine
from pspnet_edge.engine.build import build_engine, prepare_model
from pspnet_edge.labels import IGNORE
from pspnet_edge.metrics import ConfusionMatrix

ALLOWED = 1e-9
Masks = Sequence[tuple[np.ndarray, np.ndarray]]
"""Pairs of label and prediction."""


@dataclass(frozen=True)
class Row:
    """One case: the largest difference of mIoU and of any class's IoU, and milliseconds a mask."""

    case: str
    masks: int
    size_hw: tuple[int, int]
    classes: int
    absent: int
    ignored: float
    miou: float
    difference: float
    ours_ms: float
    torchmetrics_ms: float


class Double(torch.Tensor):
    """torchmetrics calls ``float()`` on its counts before it divides; this makes that float64."""

    def float(self) -> torch.Tensor:  # type: ignore[override]
        return self.as_subclass(torch.Tensor).double()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camvid", type=Path)
    parser.add_argument("--quick", action="store_true", help="few masks and repetitions, and nothing is written")
    options = parser.parse_args()
    rows = [compared(name, masks, classes, 2 if options.quick else 9) for name, masks, classes in cases(options)]
    print(table(rows))
    worst = max(row.difference for row in rows)
    if worst > ALLOWED:
        raise SystemExit(f"mIoU differs from torchmetrics' by {worst:.1e}, more than {ALLOWED:.0e}")
    if not options.quick:
        facts = {"torchmetrics": torchmetrics.__version__, "torch": torch.__version__, "allowed": ALLOWED}
        write_json(ROOT / "benchmarks/results/metrics.json", facts | {"rows": [asdict(row) for row in rows]})
        command = "`python benchmarks/metrics.py --camvid …`"
        page = f"# mIoU beside torchmetrics {torchmetrics.__version__}\n\nMade by {command}.\n\n{table(rows)}\n"
        write_bytes(ROOT / "benchmarks/results/metrics.md", page.encode())


def cases(options: argparse.Namespace) -> list[tuple[str, Masks, int]]:
    made: list[tuple[str, Masks, int]] = [
        ("random", random_masks(0, 19), 19),
        ("random, two classes", random_masks(1, 2), 2),
        ("random, 4 of 11 absent", random_masks(2, 11, absent=(0, 3, 7, 10)), 11),
        ("random, 100 of 150 absent", random_masks(3, 150, absent=tuple(range(50, 150))), 150),
        ("random, all but ignored", random_masks(4, 11, ignored=0.999), 11),
    ]
    images = 5 if options.quick else 50
    made.append(("scenes, predicted", predicted(open_dataset("scenes", None, "test"), images), 11))
    if options.camvid:
        made.append(("CamVid test, predicted", predicted(open_dataset("camvid", options.camvid, "test"), images), 11))
    return made


def random_masks(seed: int, classes: int, *, absent: tuple[int, ...] = (), ignored: float = 0.1) -> Masks:
    """Noise of the classes that are not absent, right in about three of five pixels."""
    rng = np.random.default_rng(seed)
    present = [index for index in range(classes) if index not in absent]
    pairs = []
    for _ in range(5):
        label = rng.choice(present, (120, 160)).astype(np.uint8)
        guess = np.where(rng.random(label.shape) < 0.6, label, rng.choice(present, label.shape)).astype(np.uint8)
        label[rng.random(label.shape) < ignored] = IGNORE
        pairs.append((label, guess))
    return pairs


def predicted(dataset: Dataset, images: int) -> Masks:
    """Labels, and what the bundled model makes of their images."""
    pairs = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.engine"
        build_engine(prepare_model(None), "fp32", "onnxruntime", path)
        with open_engine(path) as engine:
            chosen = evenly_spaced(dataset, images)
            for image, label in (chosen[index] for index in range(len(chosen))):
                (mask,) = engine.infer(frame_at(image, engine.size_hw)[None])
                pairs.append((label, mask_at(mask, (label.shape[0], label.shape[1]))))
    return pairs


def compared(case: str, masks: Masks, classes: int, repetitions: int) -> Row:
    """Both metrics over the same masks.

    Raises:
        AssertionError: a count differs.
    """
    ours = ConfusionMatrix(classes)
    for label, guess in masks:
        ours.add(label, guess)
    theirs = torchmetrics_iou(masks, classes, "none")
    present = np.isfinite(ours.iou())
    mean = float(torchmetrics_iou(masks, classes, "macro"))
    difference = max(abs(ours.miou() - mean), np.abs(ours.iou() - theirs)[present].max())

    def count() -> None:
        matrix = ConfusionMatrix(classes)
        for label, guess in masks:
            matrix.add(label, guess)
        matrix.miou()

    tensors = [(torch.from_numpy(label), torch.from_numpy(guess)) for label, guess in masks]

    def count_in_torchmetrics() -> None:
        metric = MulticlassJaccardIndex(classes, ignore_index=IGNORE, validate_args=False)
        for label, guess in tensors:
            metric.update(guess[None], label[None])
        metric.compute()

    labels = np.concatenate([label.ravel() for label, _ in masks])
    return Row(
        case,
        len(masks),
        (masks[0][0].shape[0], masks[0][0].shape[1]),
        classes,
        int((~present).sum()),
        round(float((labels == IGNORE).mean()), 4),
        ours.miou(),
        float(difference),
        round(milliseconds(count, repetitions) / len(masks), 3),
        round(milliseconds(count_in_torchmetrics, repetitions) / len(masks), 3),
    )


def torchmetrics_iou(masks: Masks, classes: int, average: str) -> np.ndarray:
    """torchmetrics' IoU of each class (``none``) or their mean (``macro``), reduced in float64.

    Raises:
        AssertionError: its counts are not ours.
    """
    metric = MulticlassJaccardIndex(classes, average=average, ignore_index=IGNORE)
    ours = ConfusionMatrix(classes)
    for label, guess in masks:
        metric.update(torch.from_numpy(guess)[None], torch.from_numpy(label)[None])
        ours.add(label, guess)
    np.testing.assert_array_equal(metric.confmat.numpy(), ours.counts)
    metric.confmat = metric.confmat.as_subclass(Double)
    return np.asarray(metric.compute().numpy())


def milliseconds(work: Callable[[], None], repetitions: int) -> float:
    """Median of several runs, the first not counted."""
    times = []
    for _ in range(repetitions + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times[1:]))


def table(rows: list[Row]) -> str:
    head = "| masks | size | classes (absent) | ignored | mIoU | largest difference | ours, ms a mask | torchmetrics, ms a mask |"
    lines = [head, "|---|---|---|---|---|---|---|---|"]
    lines += [
        f"| {r.masks} {r.case} | {r.size_hw[0]}×{r.size_hw[1]} | {r.classes} ({r.absent}) | {r.ignored:.1%} | {r.miou:.4f} "
        f"| {r.difference:.0e} | {r.ours_ms} | {r.torchmetrics_ms} |"
        for r in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
