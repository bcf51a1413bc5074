"""The INT8 accuracy gate: what quantization costs, which layers cost it, and which to leave unquantized to pay less.

The canonical Q/DQ graph runs in ONNX Runtime on the processor, which computes what TensorRT will.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import cast

import numpy as np
import onnx
from numpy.typing import NDArray

from ..data.datasets import ImageSet, is_labelled
from ..data.geometry import frame_at, mask_at
from ..data.progress import Advance
from ..data.subset import evenly
from ..errors import BuildError, DataError, OptionError
from ..labels import IGNORE
from ..metrics import ConfusionMatrix
from .calibration_table import Accuracy, CalibrationTable
from .onnx_file import ModelFile
from .quantize import convolution_macs, int8_mac_fraction, int8_model, quantised_convolutions
from .reference import ReferenceSession

_RANKING_IMAGES = 6
_LEAST_FRACTION = 0.5
"""Less than this share of the MACs in INT8 is no INT8 engine: the gate refuses instead."""


@dataclass(frozen=True)
class LayerCost:
    """What quantizing one convolution alone does to the masks."""

    layer: str
    disagreement: float
    """Share of mask pixels that change, 0–1."""
    mac_fraction: float


@dataclass(frozen=True)
class GateResult:
    """What the gate decided, as the sidecar records it."""

    metric: str
    """``miou`` against labels, or ``agreement`` with FP32 where there are none."""
    images: int
    fp32: float
    int8: float
    drop: float
    max_drop: float
    drop_before: float
    """With every layer in INT8."""
    left_in_float: tuple[LayerCost, ...]
    int8_mac_fraction: float

    def facts(self, measured_on: str) -> Accuracy:
        """As JSON values.

        Args:
            measured_on: what to call the images.
        """
        values = {"measured_on": measured_on, **asdict(self), "left_in_float": list(map(asdict, self.left_in_float))}
        return cast(Accuracy, values)


def gated_int8_model(
    model: ModelFile,
    table: CalibrationTable,
    dataset: ImageSet,
    max_drop: float,
    *,
    on_step: Advance = lambda done, note: None,
) -> tuple[ModelFile, GateResult]:
    """Quantize, and leave the costliest convolutions unquantized until the loss is within ``max_drop``.

    Args:
        model: the FP32 model.
        table: ranges for it.
        dataset: with labels, or bare images, whose masks are compared with FP32's.
        max_drop: the largest loss of mIoU (or of agreement) to accept, 0–1.
        on_step: called with the progress.

    Returns:
        The Q/DQ model and what was measured.

    Raises:
        OptionError: ``max_drop`` is not a fraction.
        DataError: the labels are of other classes.
        BuildError: the limit would leave too little in INT8.
    """
    if not 0 <= max_drop < 1:
        raise OptionError(
            f"{max_drop} is not a fraction", "give the mIoU that INT8 may lose, such as 0.003", parameter="max_drop"
        )
    judge = _Judge(model, dataset, on_step)
    # What an earlier gate decided, perhaps on other images, does not count.
    table = replace(table.carried_to(model.proto), kept_float=(), gate=None)
    left: list[LayerCost] = []
    graph = int8_model(model, table)
    before = drop = judge.drop(graph.proto)
    if before > max_drop:
        ranking = layer_costs(model, table, judge.images(_RANKING_IMAGES), on_step=on_step)
        left = _fewest(model, table, ranking, judge, max_drop)
        graph = int8_model(model, table, keep=[cost.layer for cost in left])
        drop = judge.drop(graph.proto)
    result = GateResult(
        metric=judge.metric,
        images=len(dataset),
        fp32=judge.fp32,
        int8=judge.fp32 - drop,
        drop=drop,
        max_drop=max_drop,
        drop_before=before,
        left_in_float=tuple(left),
        int8_mac_fraction=int8_mac_fraction(graph.proto),
    )
    return graph, result


def layer_costs(
    model: ModelFile,
    table: CalibrationTable,
    images: Sequence[NDArray[np.uint8]],
    *,
    on_step: Advance = lambda done, note: None,
) -> list[LayerCost]:
    """What quantizing each convolution alone changes in the masks, costliest first."""
    frames = [frame_at(image, model.shape_nhw[1:]) for image in images]
    exact = _masks(model.proto, frames)
    macs = convolution_macs(model.proto)
    total = sum(macs.values())
    names = [node.name for node in quantised_convolutions(model.proto)]
    costs = []
    for position, name in enumerate(names):
        alone = int8_model(model, table, keep=[other for other in names if other != name])
        changed = np.mean([np.mean(a != b) for a, b in zip(exact, _masks(alone.proto, frames))])
        costs.append(LayerCost(name, float(changed), macs[name] / total))
        on_step(position + 1, f"layer {position + 1} of {len(names)}")
    return sorted(costs, key=lambda cost: -cost.disagreement)


def _fewest(
    model: ModelFile, table: CalibrationTable, ranking: list[LayerCost], judge: _Judge, max_drop: float
) -> list[LayerCost]:
    """The shortest run of the costliest layers that brings the drop within the limit: doubled, then halved in on."""

    def fits(count: int) -> bool:
        kept = [cost.layer for cost in ranking[:count]]
        return judge.drop(int8_model(model, table, keep=kept).proto) <= max_drop

    most = _most_that_may_be_left(ranking)
    high = 1
    while high < most and not fits(high):
        high *= 2
    if high >= most:
        high = most
        if most == 0 or not fits(most):
            raise BuildError(
                f"INT8 loses more than {max_drop} even with the {most} costliest layers unquantized",
                "calibrate on more images, allow a larger max_drop, or build fp16",
            )
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return ranking[:high]


def _most_that_may_be_left(ranking: list[LayerCost]) -> int:
    """How many of the costliest layers can leave INT8 before less than ``_LEAST_FRACTION`` of the MACs stays."""
    left = 0.0
    for count, cost in enumerate(ranking):
        left += cost.mac_fraction
        if left > 1 - _LEAST_FRACTION:
            return count
    return len(ranking)


class _Judge:
    """Measures graphs on one set of images against FP32."""

    def __init__(self, model: ModelFile, dataset: ImageSet, on_step: Advance) -> None:
        self._dataset = dataset
        self._size_hw = model.shape_nhw[1:]
        self._classes = len(model.label_set)
        self._on_step = on_step
        self._labelled = dataset if is_labelled(dataset) else None
        labels = self._labelled.label_set if self._labelled else model.label_set
        if labels.classes != model.label_set.classes:
            raise DataError(f"the model's classes are not those of {labels.name}: give the set it was trained for")
        self.metric = "miou" if self._labelled else "agreement"
        self._exact: list[NDArray[np.uint8]] = []
        if not self._labelled:
            exact = _session(model.proto)
            self._exact = [self._mask(exact, index) for index in self._indices()]
        self.fp32 = self._value(model.proto)

    def images(self, count: int) -> list[NDArray[np.uint8]]:
        """At most ``count`` images, evenly spaced."""
        return [self._dataset.image(index) for index in evenly(len(self._dataset), count)]

    def drop(self, graph: onnx.ModelProto) -> float:
        """How much less than FP32 a graph reaches."""
        return self.fp32 - self._value(graph)

    def _value(self, graph: onnx.ModelProto) -> float:
        session = _session(graph)
        matrix = ConfusionMatrix(self._classes)
        for index in self._indices():
            mask = self._mask(session, index)
            if not self._labelled:
                matrix.add(np.where(mask == IGNORE, IGNORE, self._exact[index]).astype(np.uint8), mask)
            else:
                label = self._labelled.mask(index)
                predicted = mask_at(mask, (label.shape[0], label.shape[1]))
                matrix.add(np.where(predicted == IGNORE, IGNORE, label).astype(np.uint8), predicted)
            self._on_step(index + 1, f"image {index + 1} of {len(self._dataset)}")
        return matrix.miou() if self.metric == "miou" else matrix.pixel_accuracy()

    def _indices(self) -> range:
        return range(len(self._dataset))

    def _mask(self, session: ReferenceSession, index: int) -> NDArray[np.uint8]:
        return _run(session, frame_at(self._dataset.image(index), self._size_hw))


def _session(graph: onnx.ModelProto) -> ReferenceSession:
    return ReferenceSession(graph, "measure what INT8 costs")


def _run(session: ReferenceSession, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(session.run(np.repeat(frame[None], session.batch, axis=0))[0][0])


def _masks(graph: onnx.ModelProto, frames: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    session = _session(graph)
    return [_run(session, frame) for frame in frames]
