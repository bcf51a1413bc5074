"""The learning-rate schedule, and the exponential moving average of the weights."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ..model.pspnet import PSPNet


def warmup_poly(step: int, steps: int, warmup: int, power: float = 0.9) -> float:
    """Factor on the learning rate at ``step`` of ``steps``: a linear rise, then ``(1 - progress)^power``.

    Source of the polynomial: L.-C. Chen et al., DeepLab, TPAMI 2018.
    """
    if step < warmup:
        return (step + 1) / warmup
    return float((1 - (step - warmup) / max(1, steps - warmup)) ** power)


class WeightAverage:
    """Exponential moving average of weights and BatchNorm statistics, the model that is evaluated and kept."""

    def __init__(self, model: PSPNet, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._decay = decay
        self._updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards ``model``; the first updates move it faster, so that the start is forgotten."""
        self._updates += 1
        share = 1 - min(self._decay, self._updates / (self._updates + 10))
        pairs = list(zip(self.model.state_dict().values(), model.state_dict().values()))
        # All at once: hundreds of small operations would keep a GPU waiting.
        moving = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([average for average, _ in moving], [value for _, value in moving], share)
        counting = [pair for pair in pairs if not pair[0].is_floating_point()]
        if counting:
            torch._foreach_copy_([average for average, _ in counting], [value for _, value in counting])

    def state(self) -> dict[str, object]:
        """What ``restore`` needs."""
        return {"weights": self.model.state_dict(), "updates": self._updates}

    def restore(self, state: dict[str, object]) -> None:
        """Continue from a saved state."""
        self.model.load_state_dict(state["weights"])  # type: ignore[arg-type]
        self._updates = int(state["updates"])  # type: ignore[call-overload]
