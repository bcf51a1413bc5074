"""A training step as one CUDA graph.

A small network launches thousands of kernels per step, each of which runs for microseconds: the processor cannot launch
them as fast as a GPU computes them. Captured once and replayed, the whole step is one launch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import OptionError
from ..records import first_line
from .batches import MicroBatch

_WARM_UP_STEPS = 3


class CapturedStep:
    """Runs ``compute`` on one sample after another: as it is at first, later by replaying its CUDA graph.

    Args:
        compute: a step on the current stream, from a sample on the GPU to the loss. It may read no value back, and no
            size in it may depend on the data.
        forget_gradients: sets every gradient to None, so that the captured backward pass allocates them.
    """

    def __init__(self, compute: Callable[[MicroBatch], Tensor], forget_gradients: Callable[[], None]) -> None:
        self._compute, self._forget_gradients = compute, forget_gradients
        self._warm_up_left = _WARM_UP_STEPS
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: MicroBatch | None = None
        self._loss: Tensor | None = None

    def __call__(self, sample: MicroBatch) -> Tensor:
        """One step; the loss, overwritten by the next call.

        Raises:
            OptionError: the capture is refused.
        """
        if self._warm_up_left > 0:
            self._warm_up_left -= 1
            return self._launch(sample)
        if self._graph is None:
            self._capture(sample)
        assert self._graph is not None
        assert self._inputs is not None
        assert self._loss is not None
        for place, value in zip(self._inputs, sample):
            place.copy_(value, non_blocking=True)
        self._graph.replay()
        return self._loss

    def _launch(self, sample: MicroBatch) -> Tensor:
        # On the stream of the capture, so that what libraries allocate at first use exists before it.
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            self._forget_gradients()
            loss = self._compute(sample)
        torch.cuda.current_stream().wait_stream(self._stream)
        return loss

    def _capture(self, sample: MicroBatch) -> None:
        first, second, third = (tensor.clone() for tensor in sample)
        self._inputs = (first, second, third)
        graph = torch.cuda.CUDAGraph()
        self._forget_gradients()
        try:
            # Only this thread is held to what a capture allows: another one pins the next batches meanwhile.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._loss = self._compute(self._inputs)
        except RuntimeError as error:
            problem = f"the training step cannot be captured into a CUDA graph ({first_line(error)})"
            raise OptionError(problem, "leave --cuda-graph out") from error
        self._graph = graph
