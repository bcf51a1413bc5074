"""The moving parts of one training run: network, optimiser, average, and how a step moves them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.datasets import Dataset, class_frequencies
from ..errors import ModelError, OptionError
from ..model.batchnorm import freeze_statistics
from ..model.checkpoint import load_checkpoint
from ..model.pspnet import PSPNet
from .batches import Sample, SoftLabels, TrainingSamples, normalised, shares
from .distributed import ALONE, Spread, World
from .loss import class_weights
from .objective import Objective
from .recipe import Recipe
from .schedule import WeightAverage, warmup_poly

_CASTS = {"bf16": torch.bfloat16, "fp16": torch.float16, "none": torch.float32}
_MOMENTUM = 0.9

OnStep = Callable[[int, int, float], None]


class Run:
    """One run in one process.

    Args:
        recipe: what to compute.
        model: the network as it starts, on the CPU.
        training_set: images to learn from.
        scenes: where ``recipe.scenes_share`` is drawn from, or None.
        soft: what a teacher says of the images, or None.
        world: the processes that compute together.
        parts: how many parts a process computes its share of a batch in.
        workers: processes that prepare batches.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: PSPNet,
        training_set: Dataset,
        scenes: Dataset | None,
        soft: SoftLabels | None = None,
        world: World = ALONE,
        parts: int = 1,
        workers: int = 1,
    ) -> None:
        self._recipe, self._world, self._parts, self._workers = recipe, world, parts, workers
        self.model = model.to(world.device).to(memory_format=torch.channels_last)
        for module in self.model.modules():
            if isinstance(module, torch.nn.Dropout2d):
                module.p = recipe.dropout
        self._samples = TrainingSamples(
            training_set, scenes, recipe.scenes_share, recipe.crop_hw, recipe.scales, recipe.seed, soft, recipe.rotate
        )
        self.steps_an_epoch = len(self._samples) // recipe.batch
        self._objective = Objective(recipe, model, _weights(recipe, training_set).to(world.device))
        self._optimizer = _optimizer(model, recipe)
        self._scaler = torch.amp.GradScaler(world.device.type, enabled=recipe.autocast == "fp16")
        self.average = WeightAverage(model, recipe.average_decay)
        self._network = Spread(model, world, recipe.freeze_batchnorm)

    def learning_rate(self) -> float:
        """Of the new layers, now."""
        return float(self._optimizer.param_groups[-1]["lr"])

    def begin_epoch(self, epoch: int) -> None:
        """Put the network and the generator into the state in which every epoch starts."""
        # Dropout draws from torch's generator: seeding it by epoch makes a resumed run the same as an unbroken one.
        torch.manual_seed(self._recipe.seed * 100_003 + epoch + self._world.rank * 1_000_000_007)
        # A DataLoader used to take one number here; runs made then stay remakeable.
        torch.empty((), dtype=torch.int64).random_()
        self.model.train()
        if self._recipe.freeze_batchnorm:
            freeze_statistics(self.model)

    def epoch(self, epoch: int, parts: Iterator[Sample], on_step: OnStep) -> float:
        """Train one epoch on what ``parts`` gives; the mean loss."""
        self.begin_epoch(epoch)
        losses: list[float] = []
        steps = self.steps_an_epoch * self._recipe.epochs
        for step in range(epoch * self.steps_an_epoch, (epoch + 1) * self.steps_an_epoch):
            losses.append(self.step([next(parts) for _ in range(self._parts)], step))
            on_step(step + 1, steps, losses[-1])
        return float(np.mean(losses))

    def parts(self, epochs: range) -> Iterator[Sample]:
        """What this process computes in these epochs, part after part; see ``batches.shares``."""
        return shares(self._samples, epochs, self._recipe.batch, self._parts, self._workers, self._world)

    def step(self, parts: Sequence[Sample], step: int) -> float:
        """Move the weights by one batch, of which ``parts`` are this process's; the loss of the whole batch."""
        warmup = round(self._recipe.warmup_epochs * self.steps_an_epoch)
        factor = warmup_poly(step, self.steps_an_epoch * self._recipe.epochs, warmup)
        for group in self._optimizer.param_groups:
            group["lr"] = group["base"] * factor
        self._optimizer.zero_grad(set_to_none=True)
        totals = self._world.total(self._objective.totals(parts))
        local = sum(
            self._add_gradient(part, totals, last=number + 1 == len(parts)) for number, part in enumerate(parts)
        )
        value = float(self._world.total(torch.as_tensor(local)))
        if not np.isfinite(value):
            raise ModelError(f"the loss became {value} at step {step}: lower --learning-rate and resume from last.pt")
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self.average.update(self.model)
        return value

    def _add_gradient(self, part: Sample, totals: torch.Tensor, last: bool) -> torch.Tensor:
        cast, device = self._recipe.autocast, self._world.device
        share = 1 / (self._parts * self._world.size)
        with self._network.exchange(last):
            x = normalised(part[0], self.model.mean, self.model.std)
            with torch.autocast(device.type, _CASTS[cast], enabled=cast != "none"):
                logits, aux_logits = self._network(x)
            loss = self._objective.loss(logits, aux_logits, part, totals, share)
            # DistributedDataParallel averages over processes, and these are parts of a sum.
            self._scaler.scale(loss * self._world.size).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def state(self) -> dict[str, Any]:
        """What ``restore`` needs beside the weights."""
        return {
            "recipe": self._recipe.facts(),
            "optimizer": self._optimizer.state_dict(),
            "average": self.average.state(),
            "scaler": self._scaler.state_dict(),
        }

    def restore(self, path: Path) -> dict[str, Any]:
        """Load weights, optimiser and average from ``last.pt``; all that was kept with them."""
        checkpoint = load_checkpoint(path)
        state = checkpoint.training
        if state is None:
            raise ModelError(f"{path} holds no training state: resume from the last.pt of a run")
        changed = self._recipe.differences(state["recipe"])
        if changed:
            raise OptionError(
                f"{path} was made with another recipe ({', '.join(changed)} differ): give the same options to resume"
            )
        self.model.load_state_dict(checkpoint.model.state_dict())
        self._optimizer.load_state_dict(state["optimizer"])
        self.average.restore(state["average"])
        self._scaler.load_state_dict(state["scaler"])
        return state


def _weights(recipe: Recipe, training_set: Dataset) -> torch.Tensor:
    if not recipe.class_weights:
        return torch.ones(len(training_set.label_set))
    return class_weights(class_frequencies(training_set))


def _optimizer(model: PSPNet, recipe: Recipe) -> torch.optim.Optimizer:
    groups = _parameter_groups(model, recipe)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=_MOMENTUM)
    return torch.optim.AdamW(groups)


def _parameter_groups(model: PSPNet, recipe: Recipe) -> list[dict[str, Any]]:
    """Backbone and new layers at their own rates; no weight decay on BatchNorm and biases."""
    groups: list[dict[str, Any]] = []
    for in_backbone, factor in ((True, recipe.backbone_factor), (False, 1.0)):
        for decays in (False, True):
            parameters = [
                parameter
                for name, parameter in model.named_parameters()
                if name.startswith("backbone.") == in_backbone and (parameter.ndim > 1) == decays
            ]
            rate = recipe.learning_rate * factor
            groups.append(
                {
                    "params": parameters,
                    "lr": rate,
                    "base": rate,
                    "weight_decay": recipe.weight_decay if decays else 0.0,
                }
            )
    return groups
