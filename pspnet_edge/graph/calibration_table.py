"""The calibration table: what was measured on calibration images, enough to place Q/DQ without any image.

One JSON file. It belongs to a set of weights, not to an input size: ``carried_to`` gives it the names of a graph of any
size.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import shlex
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TypedDict

import onnx

from ..artifact import write_json
from ..document import List, Map, Number, Optional, Record, Text, read_document
from ..errors import CalibrationError, OptionError
from ..inputs import is_file
from .rounding import Rounding
from .view import GraphView

_log = logging.getLogger(__name__)

FORMAT_VERSION = 3
_READABLE_VERSIONS = (2, 3)
_KIND = "calibration"
_SHARE = Number(-1, 1)
_GATE = Record(
    {
        "metric": Text(100),
        "measured_on": Text(2000),
        "images": Number(0, 10**9, whole=True),
        "fp32": _SHARE,
        "int8": _SHARE,
        "drop": _SHARE,
        "max_drop": Number(),
        "left_in_float": List(Record({"layer": Text(1000), "disagreement": _SHARE})),
    }
)
_SHAPE = Record(
    {
        "kind": Text(),
        "format_version": Number(whole=True),
        "weights_sha256": Text(64),
        "method": Text(100),
        "dataset": Text(1000),
        "images": Number(0, 10**9, whole=True),
        "images_sha256": Text(64),
        "amax": Map(Number(1e-30, 1e30)),
    },
    {
        "rounding": Map(Record({name: Text(64 << 20) for name in Rounding.__dataclass_fields__}, closed=True)),
        "stretch": Map(List(Number(1, 1e30))),
        "convolutions": Map(Record({"weights": Text(64), "reads": Text(1000)}, closed=True)),
        "kept_float": List(Text(1000)),
        "gate": Optional(_GATE),
    },
    closed=True,
)
REMAKE = "pspnet-edge calibrate MODEL --root DIR -o FILE"
"""What makes a table again that does not fit; whoever knows model and file names them."""
LEARNED = "learned"
"""The method of a table whose ranges come from quantization-aware training."""


@dataclass(frozen=True)
class Convolution:
    """How a convolution is recognized in a graph of another size, where it may have another name."""

    weights: str
    """Fingerprint of its weights and bias."""
    reads: str
    """The tensor that it reads."""


class LayerCostFacts(TypedDict):
    """What one layer costs in INT8."""

    layer: str
    disagreement: float
    mac_fraction: float


class Accuracy(TypedDict, total=False):
    """What the accuracy gate measured and decided."""

    metric: str
    measured_on: str
    images: int
    fp32: float
    int8: float
    drop: float
    max_drop: float
    drop_before: float
    left_in_float: list[LayerCostFacts]
    int8_mac_fraction: float


@dataclass(frozen=True)
class CalibrationTable:
    """Ranges of activations, how weights are rounded and channels stretched, and where all that came from."""

    weights_sha256: str
    """Which weights it belongs to, as ``weights_fingerprint`` gives it."""
    method: str
    """How ranges were chosen from histograms, or ``LEARNED``."""
    dataset: str
    images: int
    """How many were looked at; 0 where ranges were learned."""
    images_sha256: str
    """Fingerprint of the calibration images' shapes and pixels, in order; empty where ranges were learned."""
    amax: dict[str, float]
    """Tensor name → the absolute value that the largest int8 code represents."""
    rounding: dict[str, Rounding] = field(default_factory=dict)
    """Convolution → how its weights and bias differ from the nearest; the others are rounded to nearest."""
    stretch: dict[str, list[float]] = field(default_factory=dict)
    """Tensor → what each channel is multiplied by before the depthwise convolution that reads it."""
    convolutions: dict[str, Convolution] = field(default_factory=dict)
    """Every convolution of the graph that was calibrated; empty in tables of format 2."""
    kept_float: tuple[str, ...] = ()
    """Convolutions that the accuracy gate leaves unquantized."""
    gate: Accuracy | None = None
    """What the accuracy gate measured; None where none was asked for."""

    def carried_to(self, proto: onnx.ModelProto) -> CalibrationTable:
        """The table in the names of a graph with the same weights, of whatever size.

        Another size has other pooling nodes, and with them other names and another order of the convolutions behind.

        Raises:
            CalibrationError: the table was made for other weights.
        """
        view = GraphView(proto)
        here = convolutions_of(view)
        if self.weights_sha256 == weights_fingerprint(proto) and (not self.convolutions or self.convolutions == here):
            return self
        names = _matched(self.convolutions, here) if self.convolutions else _reordered(self.weights_sha256, view)
        if names is None:
            problem = "the calibration table belongs to different weights than this model's"
            raise CalibrationError(problem, "recreate it", REMAKE)
        own = self.convolutions or _former_convolutions(list(self.amax), names, here)
        tensors = dict(names) | {own[name].reads: here[names[name]].reads for name in own}
        return replace(
            self,
            weights_sha256=weights_fingerprint(proto),
            amax={tensors.get(name, name): value for name, value in self.amax.items()},
            rounding={names.get(name, name): value for name, value in self.rounding.items()},
            stretch={tensors.get(name, name): value for name, value in self.stretch.items()},
            convolutions=here,
            kept_float=tuple(names.get(name, name) for name in self.kept_float),
        )


def convolutions_of(view: GraphView) -> dict[str, Convolution]:
    """Every convolution of a graph, in its order."""
    found = {}
    for node in view.of_kind("Conv"):
        digest = hashlib.sha256()
        for name in node.input[1:]:
            stored = view.constant(name)
            if stored is not None:
                digest.update(stored.tobytes())
        found[node.name] = Convolution(digest.hexdigest()[:16], node.input[0])
    return found


def weights_fingerprint(graph: onnx.ModelProto) -> str:
    """SHA-256 over names and bytes of all convolution weights and biases."""
    return _fingerprint(GraphView(graph), {})


def _fingerprint(view: GraphView, names: dict[str, str]) -> str:
    """``weights_fingerprint``, as if each convolution in ``names`` had that other name."""
    stored = {}
    for node in view.of_kind("Conv"):
        other = names.get(node.name, node.name)
        for name in node.input[1:]:
            if name in view.initializers:
                renamed = other + name[len(node.name) :] if name.startswith(f"{node.name}.") else name
                stored[renamed] = view.constant(name)
    digest = hashlib.sha256()
    for name in sorted(stored):
        values = stored[name]
        digest.update(name.encode())
        digest.update(b"" if values is None else values.tobytes())
    return digest.hexdigest()


def _matched(own: dict[str, Convolution], here: dict[str, Convolution]) -> dict[str, str] | None:
    """Name in the table → name in the graph, by weights; in order where several have equal ones."""
    waiting: defaultdict[str, list[str]] = defaultdict(list)
    for name, convolution in here.items():
        waiting[convolution.weights].append(name)
    if len(own) != len(here) or any(not waiting[convolution.weights] for convolution in own.values()):
        return None
    names = {}
    for name, convolution in own.items():
        if not waiting[convolution.weights]:
            return None
        names[name] = waiting[convolution.weights].pop(0)
    return names


def _reordered(wanted: str, view: GraphView) -> dict[str, str] | None:
    """As ``_matched``, for tables with one fingerprint of all weights: orders of the pyramid's branches are tried."""
    for branches in _branches(view):
        for order in itertools.permutations(branches):
            graph_to_table = dict(zip(branches, order))
            if _fingerprint(view, graph_to_table) == wanted:
                every = [node.name for node in view.of_kind("Conv")]
                names = {graph_to_table.get(name, name): name for name in every}
                return {name: names[name] for name in every}
    return None


def _branches(view: GraphView) -> Iterator[list[str]]:
    """Up to five convolutions in a row, with weights of one shape, that read pooled maps."""
    run: list[str] = []
    shape: tuple[int, ...] = ()
    for node in [*view.of_kind("Conv"), None]:
        pooled = node is not None and getattr(view.producer(node.input[0]), "op_type", "") in (
            "AveragePool",
            "GlobalAveragePool",
            "MatMul",
            "ReduceMean",
        )
        if node is not None and pooled and (not run or view.shape(node.input[1]) == shape):
            run.append(node.name)
            shape = view.shape(node.input[1])
            continue
        if 0 < len(run) <= 5:
            yield run
        run = []


def _former_convolutions(
    tensors: list[str], names: dict[str, str], here: dict[str, Convolution]
) -> dict[str, Convolution]:
    """What each convolution of a format 2 table read: its tensors are in the order in which convolutions read them."""
    waiting = list(tensors)
    reads: dict[str, str] = {}
    found = {}
    for name, other in names.items():
        tensor = here[other].reads
        if tensor not in reads:
            if not waiting:
                break
            reads[tensor] = waiting.pop(0)
        found[name] = Convolution(here[other].weights, reads[tensor])
    return found


def write_table(path: Path, table: CalibrationTable) -> None:
    """Write a table atomically."""
    write_json(path, {"format_version": FORMAT_VERSION, "kind": _KIND} | asdict(table))
    _log.info("wrote the calibration table %s: %d ranges, %s", path, len(table.amax), table.method)


def ensure_replaceable(path: Path, model: onnx.ModelProto, dataset: str) -> None:
    """Raise where a table of this model would be lost that another calibration would not give again.

    Args:
        path: where the new table goes.
        model: what it is made for.
        dataset: the images that it is made from.

    Raises:
        OptionError: the one there holds what the accuracy gate decided, or was made from other images.
    """
    try:
        there = read_table(path).carried_to(model) if is_file(path) else None
    except CalibrationError:  # damaged, or of former weights
        return
    if there is None:
        return
    if there.gate is not None or there.kept_float:
        holds = "holds which layers stay unquantized, as --max-drop decided"
    elif there.method == LEARNED:
        holds = "holds the ranges that training learned"
    elif not dataset.startswith(there.dataset):  # tables of 0.1 do not name the folder
        holds = f"was made from other images ({there.dataset})"
    else:
        return
    raise OptionError(
        f"{path} {holds}", "give it to replace the table, or choose another output", parameter="overwrite"
    )


def read_table(path: Path) -> CalibrationTable:
    """Read a table.

    Raises:
        CalibrationError: missing, truncated, another kind of file, another version, or values that no range can have.
    """
    content = read_document(
        path,
        what="calibration table",
        shape=_SHAPE,
        remake=f"pspnet-edge calibrate MODEL --root DIR -o {shlex.quote(str(path))}",
        kind=_KIND,
        version=_READABLE_VERSIONS,
        error=CalibrationError,
    )
    fields = {key: value for key, value in content.items() if key not in ("kind", "format_version")}
    fields["rounding"] = {name: Rounding(**packed) for name, packed in fields.get("rounding", {}).items()}
    fields["convolutions"] = {name: Convolution(**entry) for name, entry in fields.get("convolutions", {}).items()}
    fields["kept_float"] = tuple(fields.get("kept_float", ()))
    return CalibrationTable(**fields)
