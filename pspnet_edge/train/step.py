"""The state of one training run, network, optimizer and weight average, and how a step changes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from ..data.datasets import Dataset, class_frequencies
from ..errors import ModelError
from ..model.batchnorm import tolerate_single_values
from ..model.checkpoint import Checkpoint
from ..model.pspnet import PSPNet
from .batches import MicroBatch, SoftLabels, TrainingSamples, choose_workers, micro_batches, normalised
from .captured import CapturedStep
from .distributed import ALONE, DistributedNetwork, World
from .freezing import freeze_weights, set_training_mode
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
        soft: a teacher's probabilities of the images, or None.
        world: the processes that compute together.
        accumulate: how many micro-batches a process computes per step.
        workers: loader processes; None chooses by device.
        cuda_graph: replay each step as a CUDA graph; see ``captured``.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: PSPNet,
        training_set: Dataset,
        scenes: Dataset | None,
        soft: SoftLabels | None = None,
        world: World = ALONE,
        accumulate: int = 1,
        workers: int | None = 1,
        cuda_graph: bool = False,
    ) -> None:
        self._recipe, self._world, self._accumulate = recipe, world, accumulate
        self.autocast = world.autocast(recipe.autocast)
        self.model = model.to(world.device).to(memory_format=torch.channels_last)
        for module in self.model.modules():
            if isinstance(module, torch.nn.Dropout2d):
                module.p = recipe.dropout
        tolerate_single_values(self.model)
        freeze_weights(self.model, recipe.freeze)
        self._samples = TrainingSamples(
            training_set, scenes, recipe.scenes_share, recipe.crop_hw, recipe.scales, recipe.seed, soft, recipe.rotate
        )
        self.workers = choose_workers(workers, world)
        self.steps_per_epoch = len(self._samples) // recipe.batch
        weights = torch.ones(len(training_set.label_set))
        if recipe.class_weights:
            weights = class_weights(class_frequencies(training_set))
        self._objective = Objective(recipe, model, weights.to(world.device))
        self._optimizer = _optimizer(model, recipe, cuda_graph)
        self._scaler = torch.amp.GradScaler(world.device.type, enabled=self.autocast == "fp16")
        self.average = WeightAverage(model, recipe.average_decay)
        self._mean, self._std = (torch.tensor(values, device=world.device) for values in (model.mean, model.std))
        self._captured = CapturedStep(self._compute_and_update, self._forget_gradients) if cuda_graph else None
        self._network = DistributedNetwork(model, world, synchronize_batchnorm="batchnorm" not in recipe.freeze)

    def learning_rate(self) -> float:
        """The current learning rate of the layers outside the backbone."""
        return float(self._optimizer.param_groups[-1]["lr"])

    def begin_epoch(self, epoch: int) -> None:
        """Put the network and the generator into the state in which every epoch starts."""
        # Dropout draws from torch's generator: seeding it by epoch makes a resumed run the same as an unbroken one.
        torch.manual_seed(self._recipe.seed * 100_003 + epoch + self._world.rank * 1_000_000_007)
        set_training_mode(self.model, self._recipe.freeze)

    def epoch(self, epoch: int, samples: Iterator[MicroBatch], on_step: OnStep) -> float:
        """Train one epoch on micro-batches from ``samples``; the mean loss."""
        self.begin_epoch(epoch)
        losses: list[float] = []
        steps = self.steps_per_epoch * self._recipe.epochs
        for step in range(epoch * self.steps_per_epoch, (epoch + 1) * self.steps_per_epoch):
            losses.append(self.step([next(samples) for _ in range(self._accumulate)], step))
            on_step(step + 1, steps, losses[-1])
        return float(np.mean(losses))

    def micro_batches(self, epochs: range) -> Iterator[MicroBatch]:
        """What this process computes in these epochs; see ``batches.micro_batches``."""
        return micro_batches(self._samples, epochs, self._recipe.batch, self._accumulate, self.workers, self._world)

    def step(self, samples: Sequence[MicroBatch], step: int) -> float:
        """Update the weights by one batch, of which ``samples`` are this process's; the loss of the whole batch."""
        warmup = round(self._recipe.warmup_epochs * self.steps_per_epoch)
        factor = warmup_poly(step, self.steps_per_epoch * self._recipe.epochs, warmup)
        for group in self._optimizer.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(group["base"] * factor)
            else:
                group["lr"] = group["base"] * factor
        if self._captured is not None:
            value = _finite_loss(float(self._captured(samples[0])), step)
        else:
            value = self._update(samples, step)
        self.average.update(self.model)
        return value

    def _update(self, samples: Sequence[MicroBatch], step: int) -> float:
        self._forget_gradients()
        totals = self._world.total(self._objective.totals(samples))
        local = sum(
            self._add_gradient(sample, totals, last=number + 1 == len(samples)) for number, sample in enumerate(samples)
        )
        value = _finite_loss(float(self._world.total(torch.as_tensor(local))), step)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return value

    def _compute_and_update(self, sample: MicroBatch) -> torch.Tensor:
        loss = self._add_gradient(sample, self._objective.totals([sample]), last=True)
        self._optimizer.step()
        return loss

    def _forget_gradients(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)

    def _add_gradient(self, sample: MicroBatch, totals: torch.Tensor, last: bool) -> torch.Tensor:
        cast, device = self.autocast, self._world.device
        fraction = 1 / (self._accumulate * self._world.size)
        with self._network.accumulation(last):
            x = normalised(sample[0], self._mean, self._std)
            # Casts that are kept between steps would be missing from a captured one.
            with torch.autocast(device.type, _CASTS[cast], enabled=cast != "none", cache_enabled=not self._captured):
                logits, aux_logits = self._network(x)
            loss = self._objective.loss(logits, aux_logits, sample, totals, fraction)
            # DistributedDataParallel averages over processes, and these are parts of a sum.
            self._scaler.scale(loss * self._world.size).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def state(self) -> dict[str, object]:
        """What ``restore`` needs beside the weights."""
        return {
            "recipe": self._recipe.to_dict(),
            "optimizer": self._optimizer.state_dict(),
            "average": self.average.state(),
            "scaler": self._scaler.state_dict(),
        }

    def restore(self, saved: Checkpoint) -> None:
        """Take weights, optimizer and average from a loaded ``last.pt`` whose recipe fits."""
        assert saved.training is not None
        self.model.load_state_dict(saved.model.state_dict())
        self._optimizer.load_state_dict(saved.training["optimizer"])
        for group in self._optimizer.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"] = group["lr"].to(self._world.device)
        self.average.restore(saved.training["average"])
        self._scaler.load_state_dict(saved.training["scaler"])


def _finite_loss(value: float, step: int) -> float:
    if not np.isfinite(value):
        raise ModelError(f"the loss became {value} at step {step}", "lower the learning rate and resume from last.pt")
    return value


def _optimizer(model: PSPNet, recipe: Recipe, captures: bool) -> torch.optim.Optimizer:
    """The recipe's optimizer; one that is captured reads its learning rate from the GPU's memory."""
    groups = _parameter_groups(model, recipe)
    if captures:
        for group in groups:
            group["lr"] = torch.tensor(group["lr"], device=next(model.parameters()).device)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=_MOMENTUM)
    return torch.optim.AdamW(groups, capturable=captures)


def _parameter_groups(model: PSPNet, recipe: Recipe) -> list[dict[str, object]]:
    """Backbone and other layers at separate rates; no weight decay on BatchNorm and biases."""
    groups: list[dict[str, object]] = []
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
