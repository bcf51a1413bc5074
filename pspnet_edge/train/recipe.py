"""What a training run computes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..errors import OptionError

OPTIMIZERS = ("adamw", "sgd")
AUTOCASTS = ("bf16", "fp16", "none")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a run computes. Two runs with the same recipe and data compute the same.

    How the work is spread (processes, parts of a batch, workers, device) is no part of it; see ``distributed``.
    """

    model: str = "pspnet_lite0"
    epochs: int = 45
    batch: int = 8
    """Windows of one step of the optimiser, over all processes and parts."""
    crop_hw: tuple[int, int] = (288, 384)
    scales: tuple[float, float] = (0.7, 2.0)
    rotate: float = 0.0
    """Largest turn of a window either way, in degrees."""
    optimizer: str = "adamw"
    """``adamw``, or ``sgd`` with a momentum of 0.9."""
    learning_rate: float = 1e-3
    backbone_factor: float = 0.3
    """Learning rate of the pre-trained backbone against that of the new layers."""
    weight_decay: float = 0.01
    warmup_epochs: float = 1.0
    average_decay: float = 0.998
    dropout: float = 0.1
    freeze_batchnorm: bool = False
    """Keep BatchNorm's statistics as they start; its scale and shift still learn."""
    scenes_share: float = 0.08
    """Procedural scenes mixed in, as a share of the real images."""
    class_weights: bool = True
    """Weigh rare classes more in the cross-entropy."""
    ohem: bool = False
    """Cross-entropy of each image's hard pixels alone; see ``loss.hard_cross_entropy``."""
    ohem_threshold: float = 0.7
    ohem_kept: float = 0.1
    distil_weight: float = 1.0
    """Of the divergence from a teacher, where there is one."""
    distil_scale: float = 1.0
    """Magnification at which the teacher sees the images."""
    lovasz_weight: float = 0.0
    """Of the Lovász-Softmax loss, a surrogate of mIoU itself."""
    autocast: str = "bf16"
    """Compute in ``bf16`` or ``fp16`` where PyTorch deems it safe; weights and their average stay in float32."""
    qat: bool = False
    """Compute as the INT8 graph does, and learn the ranges of its activations too; see ``model/quantiser.py``."""
    seed: int = 0

    def check(self) -> None:
        """Raise ``OptionError`` for values that mean nothing."""
        if self.optimizer not in OPTIMIZERS:
            raise OptionError(f"there is no optimizer {self.optimizer!r}: choose one of {', '.join(OPTIMIZERS)}")
        if self.autocast not in AUTOCASTS:
            raise OptionError(f"there is no autocast {self.autocast!r}: choose one of {', '.join(AUTOCASTS)}")
        if not 0 < self.scales[0] <= self.scales[1]:
            raise OptionError(f"scales {self.scales[0]:g} to {self.scales[1]:g} are no range: give the smaller first")
        if not 0 < self.ohem_threshold <= 1 or not 0 < self.ohem_kept <= 1:
            raise OptionError("--ohem-threshold and --ohem-kept are shares: give more than 0 and at most 1")
        if self.distil_scale <= 0:
            raise OptionError(f"a teacher cannot look at images scaled by {self.distil_scale:g}: give more than 0")

    def facts(self) -> dict[str, Any]:
        """As JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def differences(self, saved: dict[str, Any]) -> list[str]:
        """The fields that differ from a saved recipe's ``facts``; one that they lack is younger and had its default."""
        known = Recipe().facts() | saved
        return sorted(key for key, value in self.facts().items() if known[key] != value)
