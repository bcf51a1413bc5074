"""The tensors of a foreign checkpoint, and an account of which of them have been used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path

import torch
from torch import Tensor

from ...errors import ModelError

_NAMED = 3


class ForeignWeights:
    """A state dict that knows which of its keys were taken and which were left out, and why."""

    def __init__(self, tensors: Mapping[str, Tensor], path: Path) -> None:
        self._tensors = tensors
        self._taken: set[str] = set()
        self.path = path
        self.left_out: dict[str, str] = {}
        """Reasons by key."""

    def __contains__(self, key: str) -> bool:
        return key in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def tensor_shape(self, key: str) -> tuple[int, ...]:
        """The shape of a tensor that is there, of any number of dimensions."""
        return tuple(self._tensors[key].shape)

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of a convolution's weight that must be there: (outputs, inputs, height, width).

        Raises:
            ModelError: it is missing, or not of four dimensions.
        """
        if key not in self._tensors:
            raise ModelError(
                f"{self.path} has no {key}, which every PSPNet of its kind has ({self._beside(key)}): "
                "it is another network, or a part of one"
            )
        shape = tuple(self._tensors[key].shape)
        if len(shape) != 4:
            raise ModelError(
                f"{key} in {self.path} has shape {list(shape)}, expected 4 dimensions: it is another network"
            )
        return shape

    def take(self, key: str, shape: tuple[int, ...]) -> Tensor:
        """A tensor of the expected shape, marked as used.

        Raises:
            ModelError: it is missing, has another shape, or holds values that are not numbers.
        """
        return self.take_any(key, (shape,))

    def take_any(self, key: str, shapes: Sequence[tuple[int, ...]]) -> Tensor:
        """A tensor of one of these shapes, marked as used.

        Raises:
            ModelError: it is missing, has another shape, or holds values that are not numbers.
        """
        shape = shapes[0]
        if key not in self._tensors:
            raise ModelError(
                f"{self.path} has no {key}, expected with shape {list(shape)} ({self._beside(key)}): "
                "the file is incomplete"
            )
        tensor = self._tensors[key]
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(
                f"{key} in {self.path} holds values that are not numbers (NaN or infinity): the training diverged, "
                "give an earlier checkpoint"
            )
        if tuple(tensor.shape) not in shapes:
            raise ModelError(
                f"{key} in {self.path} has shape {list(tensor.shape)}, expected {list(shape)}: "
                "the network was modified in a way that `import` does not support"
            )
        self._taken.add(key)
        return tensor

    def leave_out(self, prefix: str, reason: str) -> None:
        """Name every unused key that starts with ``prefix`` as left out."""
        for key in self._tensors:
            if key.startswith(prefix) and key not in self._taken:
                self.left_out[key] = reason

    def finish(self) -> None:
        """Check that every key was used or left out.

        Raises:
            ModelError: some were not, so the network holds parts that would be lost.
        """
        unknown = [key for key in self._tensors if key not in self._taken and key not in self.left_out]
        if unknown:
            named = ", ".join(f"{key} with shape {list(self._tensors[key].shape)}" for key in unknown[:_NAMED])
            more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
            raise ModelError(
                f"{self.path} holds {len(unknown)} tensors that a PSPNet of its kind does not have, {named}{more}: "
                "the network was modified in a way that `import` does not support"
            )

    def _beside(self, key: str) -> str:
        """What there is of the part of the network that a missing tensor belongs to."""
        part = key.partition(".")[0]
        there = [other for other in self._tensors if other.startswith(f"{part}.")]
        # Those that share most of the name say most.
        there.sort(key=lambda other: -sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(other, key))))
        if not there:
            return f"nor any other tensor of {part}; its first is {next(iter(self._tensors))}"
        more = f" and {len(there) - _NAMED} more" if len(there) > _NAMED else ""
        return f"of {part} it has {', '.join(there[:_NAMED])}{more}"
