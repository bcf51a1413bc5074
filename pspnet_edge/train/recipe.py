"""What a training run computes, and how each part of it is called and explained on the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, Literal, get_args

from ..errors import OptionError
from ..records import JsonRecord

Optimizer = Literal["adamw", "sgd"]
Autocast = Literal["auto", "bf16", "fp16", "none"]
Frozen = Literal["batchnorm", "backbone", "features"]
Panel = Literal["Data", "Optimizer", "Loss", "Distillation", "Compute", "Output"]

_CHANNELS = (1, 3, 4)
"""As in ``pixels``, which loads OpenCV; the command line reads this file without it."""

_LARGEST = 1e15
"""Above it a float does not hold every whole number."""

AUTO, DEFAULT_MODEL = "auto", "pspnet_lite0"

CHANGEABLE_ON_RESUME = ("epochs", "patience", "autocast")
"""Fields that decide when a run ends, not what its next step computes."""


@dataclass(frozen=True)
class RecipeOption:
    """How a field of the recipe appears on the command line."""

    help: str
    panel: Panel | None
    name: str = ""
    """Name without dashes where it is not the field's."""
    metavar: str = ""
    minimum: float | None = None
    maximum: float | None = None
    qat: float | None = None
    """The default with ``--qat`` where that differs."""


def _option(
    default: Any,
    help: str,
    panel: Panel | None = None,
    name: str = "",
    metavar: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    qat: float | None = None,
) -> Any:
    return field(
        default=default,
        metadata={"option": RecipeOption(help, panel, name, metavar, minimum, maximum, qat)},
    )


@dataclass(frozen=True)
class Recipe(JsonRecord):
    """Everything that decides what a run computes: the same recipe, data and start compute the same weights.

    How the work is divided (processes, accumulation, loader processes, device) is not part of it; see ``distributed``.
    The help text, limits and panel of each field are those of its command-line option.
    """

    model: str = _option(
        AUTO, f"Network preset; docs/models.md lists them. auto: that of the --init checkpoint, else {DEFAULT_MODEL}."
    )
    epochs: int = _option(45, "Passes over the training images.", minimum=1, qat=10)
    batch: int = _option(8, "Crops per optimizer step, summed over processes and accumulation steps.", minimum=1)
    seed: int = _option(0, "Random seed.", minimum=0)
    channels: int = _option(
        3, "Image channels: 1 (grey, thermal), 3 (BGR), or 4 (BGR plus one, such as depth).", "Data", metavar="1|3|4"
    )
    binary: bool = _option(
        False,
        "Two classes, background and object, as one sigmoid output; `export --threshold` sets the cut-off.",
        "Data",
    )
    crop_hw: tuple[int, int] = _option((288, 384), "Training crop size.", "Data", "crop", "HEIGHTxWIDTH")
    size_hw: tuple[int, int] = _option(
        (384, 480), "Input size for validation and `export`.", "Data", "size", "HEIGHTxWIDTH"
    )
    scales: tuple[float, float] = _option((0.7, 2.0), "Range of the random scale factor.", "Data", metavar="LOW HIGH")
    rotate: float = _option(
        0.0, "Maximum random rotation, either way.", "Data", metavar="DEGREES", minimum=0, maximum=180
    )
    scenes_share: float = _option(
        0.08,
        "Synthetic scenes to add, as a fraction of the training images; ignored unless the classes are CamVid's.",
        "Data",
        minimum=0,
        maximum=1,
    )
    optimizer: Optimizer = _option("adamw", "sgd uses a momentum of 0.9.", "Optimizer")  # noqa: RUF009
    learning_rate: float = _option(
        1e-3, "Peak learning rate; with sgd, set about 0.01.", "Optimizer", minimum=0, qat=3e-5
    )
    backbone_factor: float = _option(
        0.3, "Backbone learning rate, relative to the other layers.", "Optimizer", minimum=0
    )
    weight_decay: float = _option(
        0.01, "Weight decay; not applied to BatchNorm parameters and biases.", "Optimizer", minimum=0
    )
    warmup_epochs: float = _option(1.0, "Epochs of linear learning-rate warm-up.", "Optimizer", minimum=0)
    average_decay: float = _option(
        0.998, "Decay of the exponential moving average (EMA) of the weights.", "Optimizer", minimum=0, maximum=1
    )
    dropout: float = _option(0.1, "Dropout before the classifier layers.", "Optimizer", minimum=0, maximum=0.9)
    freeze: tuple[Frozen, ...] = _option(
        (),
        "Parts to freeze, comma-separated: batchnorm (running statistics only), backbone (weights and "
        "running statistics), features (the same for everything but the classifier layers).",
        "Optimizer",
        metavar="PART[,PART]",
    )
    patience: int = _option(0, "Stop when val mIoU has not improved for N epochs; 0: never.", "Optimizer", minimum=0)
    class_weights: bool = _option(True, "Weight rare classes more in the cross-entropy.", "Loss")
    ohem: bool = _option(False, "Online hard example mining: cross-entropy of hard pixels only.", "Loss")
    ohem_threshold: float = _option(
        0.7, "A pixel is hard if the probability of its true class is below this.", "Loss", maximum=1
    )
    ohem_kept: float = _option(0.1, "At least this fraction of the pixels counts as hard.", "Loss", maximum=1)
    lovasz_weight: float = _option(0.0, "Weight of the Lovász-Softmax loss, a surrogate of mIoU.", "Loss", minimum=0)
    distil_weight: float = _option(1.0, "Weight of the distillation loss.", "Distillation", minimum=0)
    distil_scale: float = _option(1.0, "Scale factor of the teacher's input images.", "Distillation")
    autocast: Autocast = _option("auto", "Mixed precision; auto: bf16 if the device supports it.", "Compute")  # noqa: RUF009
    qat: bool = _option(
        False,
        "Quantization-aware training: fine-tune the --init network (default: the bundled model) with INT8 rounding; "
        "`export` then also writes its calibration table.",
    )

    def __post_init__(self) -> None:
        for one in fields(self):
            if isinstance(value := getattr(self, one.name), list):
                object.__setattr__(self, one.name, tuple(value))

    def check(self) -> None:
        """Raise ``OptionError`` for values of another type than their field's, or outside their limits."""
        for one in fields(self):
            if not fits(getattr(self, one.name), one.default):
                raise OptionError(
                    f"{getattr(self, one.name)!r:.60} does not fit",
                    f"give {expected_like(one.default)}",
                    parameter=one.name,
                )
            _ensure_within_limits(one.name, getattr(self, one.name), one.metadata["option"])
        _ensure_one_of("optimizer", self.optimizer, get_args(Optimizer))
        _ensure_one_of("autocast", self.autocast, get_args(Autocast))
        for part in self.freeze:
            _ensure_one_of("freeze", part, get_args(Frozen))
        if not 0 < self.scales[0] <= self.scales[1]:
            raise OptionError(
                f"{self.scales[0]:g} to {self.scales[1]:g} is not a range",
                "give two numbers above 0, the smaller first",
                parameter="scales",
            )
        for name in ("ohem_threshold", "ohem_kept", "distil_scale"):
            if getattr(self, name) <= 0:
                raise OptionError(f"{getattr(self, name):g} is too small", "give a value above 0", parameter=name)
        if self.channels not in _CHANNELS:
            raise OptionError(f"{self.channels} channels are not supported", "choose 1, 3 or 4", parameter="channels")
        for name in ("crop_hw", "size_hw"):
            if min(getattr(self, name)) < 1:
                raise OptionError(f"{_shown(getattr(self, name))} is not a size", "give at least 1x1", parameter=name)

    @staticmethod
    def from_facts(facts: Mapping[str, Any]) -> Recipe:
        """The inverse of ``to_dict``; a field that an older version did not have gets its default."""
        values = dict(facts)
        if values.pop("freeze_batchnorm", False):  # as recipes said it before ``freeze``
            values["freeze"] = ["batchnorm"]
        if isinstance(values.get("autocast"), bool):
            values["autocast"] = "bf16" if values["autocast"] else "none"
        known = {one.name for one in fields(Recipe)}
        chosen: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items() if key in known
        }
        return Recipe(**chosen)

    def differences(self, saved: Recipe) -> list[str]:
        """``--name was saved value, not this value`` of each field that must be equal to resume and is not."""
        values = [(one, getattr(saved, one.name), getattr(self, one.name)) for one in fields(self)]
        return [
            f"--{option_name(one)} was {_shown(before)}, not {_shown(now)}"
            for one, before, now in values
            if one.name not in CHANGEABLE_ON_RESUME and before != now
        ]


def option_name(one: Field[Any]) -> str:
    """The option of a field, without its dashes: ``crop_hw`` is ``crop``."""
    option: RecipeOption = one.metadata["option"]
    return (option.name or one.name).replace("_", "-")


def qat_defaults(recipe: Recipe) -> Recipe:
    """The recipe with the defaults of quantization-aware training: short and careful, so that little is forgotten."""
    changes = {one.name: one.metadata["option"].qat for one in fields(recipe) if one.metadata["option"].qat is not None}
    return replace(recipe, qat=True, **changes)


def fits(value: Any, default: Any) -> bool:
    """Whether a value has the type of a field's default: a whole number fits a float, a tuple has as many entries."""
    if isinstance(default, tuple):
        like = default[0] if default else ""
        right = isinstance(value, tuple) and (not default or len(value) == len(default))
        return right and all(fits(entry, like) for entry in value)
    if isinstance(default, (int, float)) and not isinstance(default, bool):
        kinds = (int, float) if isinstance(default, float) else int
        return isinstance(value, kinds) and not isinstance(value, bool) and abs(value) <= _LARGEST
    return isinstance(value, type(default))


def expected_like(default: Any) -> str:
    """``"a whole number such as 45"``: what fits the default of a field."""
    if isinstance(default, tuple):
        return f"a list such as {json.dumps(list(default) or ['batchnorm'])}"
    kinds = {bool: "true or false,", int: "a whole number", float: "a number", str: "a text"}
    return f"{kinds[type(default)]} such as {json.dumps(default)}"


def _ensure_within_limits(name: str, value: Any, option: RecipeOption) -> None:
    if option.minimum is not None and value < option.minimum:
        raise OptionError(f"{value:g} is too small", f"give at least {option.minimum:g}", parameter=name)
    if option.maximum is not None and value > option.maximum:
        raise OptionError(f"{value:g} is too large", f"give at most {option.maximum:g}", parameter=name)


def _ensure_one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        fix = f"choose {', '.join(choices[:-1])} or {choices[-1]}"
        raise OptionError(f"unknown value {value!r}", fix, parameter=name)


def _shown(value: Any) -> str:
    return "x".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)
