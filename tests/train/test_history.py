from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path

import numpy as np

from pspnet_edge.labels import LabelSet, bright_palette
from pspnet_edge.metrics import ConfusionMatrix
from pspnet_edge.train import plots
from pspnet_edge.train.history import EpochResult, best_result, write_metrics

NAN = float("nan")
ROWS = [EpochResult(1, 2.0, NAN, NAN, 0.1, elapsed_s=3.0), EpochResult(2, 1.5, 0.4, 0.8, 0.05, (0.6, 0.2), 4.0)]


def test_metrics_are_a_table_with_a_column_per_class(tmp_path: Path) -> None:
    write_metrics(tmp_path / "metrics.csv", ROWS, ("road", "car"))
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [row["miou"] for row in rows] == ["nan", "0.4"]
    assert [row["iou car"] for row in rows] == ["nan", "0.2"]
    assert list(rows[0])[:5] == ["epoch", "loss", "miou", "pixel_accuracy", "learning_rate"]


def test_the_best_result_is_the_first_with_the_highest_miou() -> None:
    assert best_result(ROWS) is ROWS[1]
    assert best_result(ROWS[:1]) is None
    equal = EpochResult(3, 1.0, 0.4, 0.8, 0.0)
    assert best_result([*ROWS, equal]) is ROWS[1]


def test_figures_come_from_the_confusion_matrix() -> None:
    matrix = ConfusionMatrix(3)
    matrix.counts[:] = [[8, 2, 0], [0, 10, 0], [0, 0, 0]]
    row = EpochResult.measured(4, 0.5, matrix, 0.01, 2.0)
    np.testing.assert_allclose(row.iou, [0.8, 10 / 12, NAN])
    assert row.miou == (0.8 + 10 / 12) / 2
    assert row.validated
    assert not EpochResult.measured(4, 0.5, None, 0.01, 2.0).validated


def test_rows_of_an_older_version_are_read() -> None:
    assert EpochResult.from_facts(asdict(ROWS[1])) == ROWS[1]
    older = {"epoch": 2, "loss": 1.5, "miou": 0.4, "pixel_accuracy": 0.8, "learning_rate": 0.05}
    assert EpochResult.from_facts(older).iou == ()


def test_the_legend_of_the_curves_hides_none_of_them() -> None:
    figure = plots._figure((11, 4.2))
    axes = figure.subplots()
    rows = [EpochResult(epoch, 1.0, 0.4, 0.8, 0.05, (0.9, 0.02), 4.0) for epoch in (1, 2, 3)]
    plots._draw_scores(axes, rows, LabelSet("two", ("road", "car"), bright_palette(("road", "car"))))
    figure.canvas.draw()
    legend, drawn = axes.get_legend().get_window_extent(), axes.get_window_extent()
    assert legend.x0 >= drawn.x1
    assert legend.x1 <= figure.bbox.x1
