"""Pictures of a run's figures: the curves of loss and mIoU, and the confusion matrix."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..artifact import atomic_path
from ..labels import LabelSet
from ..lazy import available, install_command, require
from ..lettering import plottable
from ..metrics import ConfusionMatrix
from .history import EpochResult, best_result

_log = logging.getLogger(__name__)
_MOST_CLASSES_WRITTEN = 24
_MOST_CLASSES_DRAWN = 10


def draw_curves(path: Path, rows: Sequence[EpochResult], label_set: LabelSet, name: str) -> None:
    """Draw loss and learning rate, and mIoU with the classes' IoU, over the epochs, as a PNG file."""
    figure = _figure((11, 4.2))
    if figure is None:
        return
    epochs = [row.epoch for row in rows]
    loss, score = figure.subplots(1, 2)
    alone = "o" if len(rows) == 1 else None  # a line of one point is not seen
    loss.plot(epochs, [row.loss for row in rows], color="#1f4e9c", marker=alone, label="training loss")
    loss.set(title=plottable(f"{name}: loss"), xlabel="epoch", ylabel="loss")
    loss.grid(alpha=0.3)
    loss.xaxis.get_major_locator().set_params(integer=True)
    rate = loss.twinx()
    rate.plot(epochs, [row.learning_rate for row in rows], color="#999999", linestyle=":", label="learning rate")
    rate.set_ylabel("learning rate", color="#777777")
    validated = [row for row in rows if row.validated]
    best = best_result(rows)
    if best is None:
        score.text(0.5, 0.5, "no validation split", ha="center", va="center", transform=score.transAxes)
        score.set_axis_off()
    else:
        _draw_scores(score, validated, label_set)
        score.set(
            title=f"val mIoU, best {best.miou:.4f} at epoch {best.epoch}", xlabel="epoch", ylabel="IoU", ylim=(0, 1)
        )
    _save(figure, path)


def _draw_scores(axes: Any, rows: Sequence[EpochResult], label_set: LabelSet) -> None:
    epochs = [row.epoch for row in rows]
    marker = "o" if len(rows) < 30 else None
    measured = [row for row in rows if row.iou]
    alone = "o" if len(measured) == 1 else None
    if measured and len(label_set) <= _MOST_CLASSES_DRAWN:
        for index, label in enumerate(map(plottable, label_set.classes)):
            values = [row.iou[index] for row in measured]
            axes.plot([row.epoch for row in measured], values, linewidth=1, alpha=0.7, marker=alone, label=label)
    axes.plot(epochs, [row.miou for row in rows], color="black", linewidth=2, marker=marker, label="mIoU")
    axes.grid(alpha=0.3)
    axes.xaxis.get_major_locator().set_params(integer=True)
    # Beside the axes: over them it hides lines, since scores may lie anywhere between 0 and 1.
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)


def draw_confusion_matrix(path: Path, matrix: ConfusionMatrix, classes: Sequence[str], title: str) -> None:
    """Draw the share of each label's pixels that was predicted as each class, as a PNG file."""
    side = float(np.clip(2.5 + 0.42 * len(classes), 4.5, 16))
    figure = _figure((side + 1, side))
    if figure is None:
        return
    counts = matrix.counts.astype(np.float64)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes = figure.subplots()
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks, names = range(len(classes)), [plottable(name) for name in classes]
    axes.set_xticks(ticks, names, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(ticks, names, fontsize=8)
    axes.set(xlabel="predicted", ylabel="label", title=plottable(f"val mIoU {matrix.miou():.4f}, {title}"))
    if len(classes) <= _MOST_CLASSES_WRITTEN:
        for row, column in np.argwhere(shares >= 0.005):
            share = shares[row, column]
            colour = "white" if share > 0.5 else "black"
            text = f"{share:.2f}".lstrip("0")
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=7)
    figure.colorbar(drawn, ax=axes, shrink=0.8, label="share of the label's pixels")
    _save(figure, path)


def _figure(size: tuple[float, float]) -> Any:
    """A matplotlib figure of ``size`` in inches, or None where matplotlib is not installed."""
    if not available("matplotlib"):
        _log.warning("matplotlib is not installed, so no charts are drawn: %s", install_command("report"))
        return None
    figure_module = require("matplotlib.figure", "draw charts")
    return figure_module.Figure(figsize=size, layout="constrained", dpi=110)


def _save(figure: Any, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
