"""Where mIoU is lost, and how much masks flicker, on masks whose figures are known."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("error_analysis")


@pytest.fixture
def temporal(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("temporal_consistency")


def square(left: int, size: int = 20) -> np.ndarray:
    mask = np.zeros((60, 60), np.uint8)
    mask[20 : 20 + size, left : left + size] = 1
    return mask


def test_boundary_iou_is_one_for_equal_masks_and_falls_faster_than_iou(errors: ModuleType) -> None:
    equal, shifted = errors.Analysis.of(2), errors.Analysis.of(2)
    equal.add(square(20), square(20))
    shifted.add(square(20), square(21))
    assert equal.boundary_iou() == pytest.approx([1, 1])
    # A band of 3 pixels inside a 20×20 square has 20² − 14² = 204 pixels; moved by one, 2·3·19 + 2·2·14 of them remain.
    assert shifted.boundary_iou()[1] == pytest.approx(170 / (2 * 204 - 170))
    assert shifted.boundary_iou()[1] < shifted.confusion.iou()[1]


def test_errors_are_told_apart_by_their_distance_from_a_boundary(errors: ModuleType) -> None:
    analysis = errors.Analysis.of(2)
    wrong = square(20)
    wrong[0, 0] = 1
    wrong[19, 25] = 1
    analysis.add(square(20), wrong)
    assert (analysis.errors, analysis.errors_at_boundary) == (2, 1)
    assert analysis.confusions(0, 1) == [(1, pytest.approx(2 / 3200))]


def test_ignored_pixels_count_nowhere(errors: ModuleType) -> None:
    analysis = errors.Analysis.of(2)
    label = np.full((60, 60), 255, np.uint8)
    analysis.add(label, square(20))
    assert analysis.errors == 0
    assert np.isnan(analysis.boundary_iou()).all()


def test_a_stride_keeps_what_is_large_and_loses_what_is_thin(errors: ModuleType) -> None:
    thin = np.zeros((64, 64), np.uint8)
    thin[:, 33] = 1
    assert (errors.through_stride(thin, 2, 4) == 1).sum() == 0
    large = square(20)
    assert (errors.through_stride(large, 2, 4) != large).mean() < 0.01


def test_a_pixel_that_is_back_within_three_frames_flickers_and_a_moving_edge_does_not(temporal: ModuleType) -> None:
    still = np.ones((1, 4), np.bool_)
    rows = [[0, 0, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 1, 0]]
    flicker = temporal.Flicker()
    for row in rows:
        flicker.add(np.array([row], np.uint8), still)
    # Of the four pixels: back after one frame, back after two, gone for good, unchanged. The second window adds none.
    assert (flicker.flickering, flicker.pixels) == (2, 8)
    assert (flicker.still_flickering, flicker.still_pixels) == (2, 8)


def test_what_moves_is_not_still(temporal: ModuleType) -> None:
    stillness = temporal.Stillness()
    frame = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    frame = np.repeat(np.repeat(frame[::8, ::8], 8, 0), 8, 1)
    assert not stillness.of(frame).any()
    assert stillness.of(frame).mean() > 0.95
    assert stillness.of(np.roll(frame, 4, axis=1)).mean() < 0.5
