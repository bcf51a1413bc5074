"""The training loop."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..artifact import write_bytes
from ..data.datasets import Dataset, class_frequencies, iterate
from ..data.geometry import frame_at
from ..errors import ModelError, OptionError
from ..metrics import ConfusionMatrix
from ..model.checkpoint import load_checkpoint, save_checkpoint
from ..model.pspnet import PSPNet
from .batches import TrainingSamples, epoch_batches, normalised
from .loss import class_weights, segmentation_loss
from .schedule import WeightAverage, warmup_poly

INPUT_HW = (384, 480)
"""Size at which validation feeds the network, the size it is exported at."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a run computes. Two runs with the same recipe and data compute the same."""

    model: str = "pspnet_lite0"
    epochs: int = 45
    batch: int = 8
    crop_hw: tuple[int, int] = (288, 384)
    scales: tuple[float, float] = (0.7, 2.0)
    learning_rate: float = 1e-3
    backbone_factor: float = 0.3
    """Learning rate of the pre-trained backbone against that of the new layers."""
    weight_decay: float = 0.01
    warmup_epochs: float = 1.0
    average_decay: float = 0.998
    scenes_share: float = 0.08
    """Procedural scenes mixed in, as a share of the real images."""
    autocast: bool = True
    """Compute in bfloat16 where PyTorch deems it safe; weights and their average stay in float32."""
    seed: int = 0


@dataclass(frozen=True)
class EpochResult:
    """One row of metrics.csv."""

    epoch: int
    loss: float
    miou: float
    pixel_accuracy: float
    learning_rate: float


@dataclass(frozen=True)
class TrainingResult:
    """What a finished run leaves."""

    checkpoint: Path
    epochs: int
    miou: float | None


def train(
    recipe: Recipe,
    training_set: Dataset,
    validation_set: Dataset | None,
    scenes: Dataset | None,
    folder: Path,
    *,
    init: Path | None = None,
    resume: bool = False,
    workers: int = 1,
    validate_every: int = 5,
    on_step: Callable[[int, int, float], None] = lambda step, steps, loss: None,
    on_epoch: Callable[[EpochResult], None] = lambda result: None,
) -> TrainingResult:
    """Train, leaving ``last.pt`` (to resume), ``final.pt`` or ``best.pt`` and ``metrics.csv`` in ``folder``.

    With a validation set ``best.pt`` holds the averaged weights of the best validated epoch; without one, choosing
    would be guessing, and ``final.pt`` holds those of the last epoch.

    Args:
        recipe: what to compute.
        training_set: images to learn from.
        validation_set: images that choose the epoch, or None.
        scenes: where ``recipe.scenes_share`` is drawn from, or None.
        folder: where the files go.
        init: a checkpoint whose weights replace the ImageNet start.
        resume: go on from ``last.pt`` in ``folder``.
        workers: processes that prepare batches.
        validate_every: epochs between validations.
        on_step: called after each step with (step, steps, loss).
        on_epoch: called after each epoch.
    """
    if len(training_set) < recipe.batch:
        raise OptionError(
            f"{len(training_set)} training images are fewer than one batch of {recipe.batch}: lower --batch"
        )
    label_set = training_set.label_set
    torch.manual_seed(recipe.seed)
    model = _starting_model(recipe, len(label_set), init)
    model = model.to(memory_format=torch.channels_last)
    run = _Run(recipe, model, training_set, scenes, workers)
    last, chosen = folder / "last.pt", folder / ("best.pt" if validation_set is not None else "final.pt")
    rows: list[EpochResult] = run.restore(last) if resume else []
    for epoch in range(len(rows), recipe.epochs):
        loss = run.epoch(epoch, on_step)
        due = (epoch + 1) % validate_every == 0 or epoch + 1 == recipe.epochs
        matrix = validate(run.average.model, validation_set) if validation_set is not None and due else None
        result = EpochResult(
            epoch + 1,
            loss,
            matrix.miou() if matrix else float("nan"),
            matrix.pixel_accuracy() if matrix else float("nan"),
            run.learning_rate(),
        )
        best = _best(rows)
        rows.append(result)
        facts = {"recipe": asdict(recipe), "epochs": epoch + 1, "val_miou": result.miou if matrix else None}
        if (matrix and (best is None or result.miou > best)) or (validation_set is None and epoch + 1 == recipe.epochs):
            save_checkpoint(chosen, run.average.model, label_set, facts)
        save_checkpoint(last, model, label_set, facts, run.state(rows))
        write_bytes(folder / "metrics.csv", _csv(rows))
        on_epoch(result)
    return TrainingResult(chosen, len(rows), _best(rows))


def validate(model: PSPNet, dataset: Dataset) -> ConfusionMatrix:
    """The confusion matrix of a model in PyTorch over a data set, at the labels' own size."""
    matrix = ConfusionMatrix(len(dataset.label_set))
    with torch.inference_mode():
        for image, mask in iterate(dataset):
            x = normalised(torch.from_numpy(frame_at(image, INPUT_HW))[None], model.mean, model.std)
            logits = F.interpolate(model(x), size=mask.shape, mode="bilinear", align_corners=model.align_corners)
            matrix.add(mask, logits.argmax(1)[0].to(torch.uint8).numpy())
    return matrix


def _best(rows: list[EpochResult]) -> float | None:
    """The highest validated mIoU; NaN marks epochs that were not validated."""
    return max((row.miou for row in rows if row.miou == row.miou), default=None)


class _Run:
    """The moving parts of one training run."""

    def __init__(
        self, recipe: Recipe, model: PSPNet, training_set: Dataset, scenes: Dataset | None, workers: int
    ) -> None:
        self._recipe = recipe
        self._model = model
        self._workers = workers
        self._samples = TrainingSamples(
            training_set, scenes, recipe.scenes_share, recipe.crop_hw, recipe.scales, recipe.seed
        )
        self._weights = class_weights(class_frequencies(training_set))
        self._steps_an_epoch = len(self._samples) // recipe.batch
        self._optimizer = torch.optim.AdamW(_parameter_groups(model, recipe))
        self.average = WeightAverage(model, recipe.average_decay)

    def learning_rate(self) -> float:
        """Of the new layers, now."""
        return float(self._optimizer.param_groups[-1]["lr"])

    def epoch(self, epoch: int, on_step: Callable[[int, int, float], None]) -> float:
        """Train one epoch; the mean loss."""
        # Dropout draws from torch's generator: seeding it by epoch makes a resumed run the same as an unbroken one.
        torch.manual_seed(self._recipe.seed * 100_003 + epoch)
        self._model.train()
        losses: list[float] = []
        steps = self._steps_an_epoch * self._recipe.epochs
        batches = epoch_batches(self._samples, epoch, self._recipe.batch, self._workers)
        for offset, (frames, masks) in enumerate(batches):
            step = epoch * self._steps_an_epoch + offset
            losses.append(self._step(frames, masks, step, steps))
            on_step(step + 1, steps, losses[-1])
        return float(np.mean(losses))

    def _step(self, frames: Tensor, masks: Tensor, step: int, steps: int) -> float:
        warmup = round(self._recipe.warmup_epochs * self._steps_an_epoch)
        factor = warmup_poly(step, steps, warmup)
        for group in self._optimizer.param_groups:
            group["lr"] = group["base"] * factor
        x = normalised(frames, self._model.mean, self._model.std)
        with torch.autocast("cpu", torch.bfloat16, enabled=self._recipe.autocast):
            logits, aux_logits = self._model.forward_with_aux(x)
        loss = segmentation_loss(logits, aux_logits, masks, self._weights, self._model.align_corners)
        value = float(loss.detach())
        if not np.isfinite(value):
            raise ModelError(f"the loss became {value} at step {step}: lower --learning-rate and resume from last.pt")
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self.average.update(self._model)
        return value

    def state(self, rows: list[EpochResult]) -> dict[str, Any]:
        """What ``restore`` needs beside the weights."""
        return {
            "recipe": asdict(self._recipe),
            "optimizer": self._optimizer.state_dict(),
            "average": self.average.state(),
            "rows": [asdict(row) for row in rows],
        }

    def restore(self, path: Path) -> list[EpochResult]:
        """Load weights, optimiser and average from ``last.pt``; the rows of the epochs done."""
        checkpoint = load_checkpoint(path)
        state = checkpoint.training
        if state is None:
            raise ModelError(f"{path} holds no training state: resume from the last.pt of a run")
        saved, wanted = _plain(state["recipe"]), _plain(asdict(self._recipe))
        changed = sorted(key for key in wanted if saved.get(key) != wanted[key])
        if changed:
            raise OptionError(
                f"{path} was made with another recipe ({', '.join(changed)} differ): give the same options to resume"
            )
        self._model.load_state_dict(checkpoint.model.state_dict())
        self._optimizer.load_state_dict(state["optimizer"])
        self.average.restore(state["average"])
        return [EpochResult(**row) for row in state["rows"]]


def _plain(recipe: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in recipe.items()}


def _starting_model(recipe: Recipe, classes: int, init: Path | None) -> PSPNet:
    """From ImageNet, or from a checkpoint: every weight that fits; a classifier for other classes starts anew."""
    if init is None:
        model = PSPNet(recipe.model, classes)
        model.backbone.load_imagenet()
        return model
    source = load_checkpoint(init).model
    if source.preset != recipe.model:
        raise OptionError(f"{init} holds a {source.preset}, not a {recipe.model}: give --model {source.preset}")
    model = PSPNet(recipe.model, classes, source.architecture)
    own = model.state_dict()
    model.load_state_dict(
        own | {key: value for key, value in source.state_dict().items() if value.shape == own[key].shape}
    )
    return model


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


def _csv(rows: list[EpochResult]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(EpochResult.__dataclass_fields__))
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue().encode()
