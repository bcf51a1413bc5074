"""How fast an engine would be on a board that is not here: an estimate, never a measurement."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from ..errors import OptionError, one_of
from ..graph.precision import PRECISIONS
from .boards import BOARDS, Board
from .ends import with_our_ends
from .kernels import Kernel, fused_kernels, read_graph
from .roofline import LayerTime, layer_times

__all__ = ["BOARDS", "USUAL_ERROR", "Board", "Estimate", "estimate"]

USUAL_ERROR = 1.5
"""Factor between estimate and published figure within which 49 of 50 lie, whichever device or source is left out of the
fit; ``benchmarks/estimate.py`` measures it (docs/estimate.md)."""


class EstimateFacts(TypedDict):
    """A prediction for a board, which is never among the rows."""

    estimate: bool
    board: str
    board_title: str
    power_mode: str
    source: str
    precision: str
    latency_ms: float
    fps: float
    fps_low: float
    fps_high: float
    bound_by: dict[str, float]
    gmac: float
    kernels: int
    graph_ends_ms: float
    """The latency where the plan makes the network's input and the mask itself (``--head graph --tail graph``)."""
    graph_ends_kernels: int


@dataclass(frozen=True)
class Estimate:
    """What the roofline predicts for one frame, or one batch where the model has one."""

    board: str
    """A key of ``BOARDS``."""
    precision: str
    latency_ms: float
    """Of the GPU alone, frames and masks already in its memory, for one batch."""
    fps: float
    bound_by: dict[str, float]
    """Shares of the latency, by what bounds it: ``compute``, ``memory``, ``overhead``; they sum to 1."""
    gmac: float
    """10⁹ multiply-accumulates of one batch."""
    layers: tuple[LayerTime, ...]
    """One for each kernel that is launched, in their order; our head and tail among them where a board takes them."""
    graph_ends: tuple[LayerTime, ...]
    """The same where the plan makes the network's input and the mask itself."""

    def facts(self) -> EstimateFacts:
        """For a report: everything but the layers, and that it is an estimate."""
        board = BOARDS[self.board]
        return {
            "estimate": True,
            "board": self.board,
            "board_title": board.title,
            "power_mode": board.power_mode,
            "source": board.source,
            "precision": self.precision,
            "latency_ms": round(self.latency_ms, 3),
            "fps": round(self.fps, 1),
            "fps_low": round(self.fps / USUAL_ERROR, 1),
            "fps_high": round(self.fps * USUAL_ERROR, 1),
            "bound_by": {name: round(share, 3) for name, share in self.bound_by.items()},
            "gmac": round(self.gmac, 3),
            "kernels": len(self.layers),
            "graph_ends_ms": round(1000 * sum(layer.seconds for layer in self.graph_ends), 3),
            "graph_ends_kernels": len(self.graph_ends),
        }


def estimate(model: Path, precision: str, board: str) -> Estimate:
    """Predict the latency of a model's TensorRT engine on a board.

    Args:
        model: an ``.onnx`` file of static shape, of this package or another. One with Q/DQ computes in INT8 where the
            pairs say so; of an FP32 one every convolution but the last is taken to.
        precision: ``fp32``, ``fp16`` or ``int8``.
        board: a key of ``BOARDS``.

    Raises:
        OptionError: an unknown board or precision, or INT8 on a board that lacks it.
        ModelError: no ONNX file, or one whose shapes are not known.
    """
    chosen = BOARDS[one_of(board, BOARDS, "board")]
    one_of(precision, PRECISIONS, "precision")
    if precision == "int8" and not chosen.has_int8:
        raise OptionError(f"{chosen.title} does not compute in INT8: estimate fp16 for it")
    graph = read_graph(model)
    kernels = fused_kernels(graph, int8=precision == "int8")
    layers = layer_times(kernels_on(chosen, kernels), chosen, precision)
    seconds = sum(layer.seconds for layer in layers)
    bound_by = {
        bound: sum(getattr(layer, f"{bound}_s") for layer in layers) / seconds
        for bound in ("compute", "memory", "overhead")
    }
    batch = kernels[0].batch
    gmac = sum(kernel.macs for kernel in kernels) / 1e9
    return Estimate(
        board,
        precision,
        1000 * seconds,
        batch / seconds,
        bound_by,
        gmac,
        layers,
        layer_times(kernels, chosen, precision),
    )


def kernels_on(
    board: Board, kernels: tuple[Kernel, ...], picture_hw: tuple[int, int] | None = None
) -> tuple[Kernel, ...]:
    """The kernels of an engine as ``build`` makes it for a board: with our head and tail where it takes them."""
    return with_our_ends(kernels, picture_hw=picture_hw) if board.takes_our_kernels else kernels
