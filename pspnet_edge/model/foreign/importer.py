"""From a foreign checkpoint to one of our networks."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import ModelError, OptionError
from ...labels import LabelSet
from ..imagenet import values_for
from ..pspnet import PSPNet
from . import mmseg, paddleseg, relatives, semseg, smp
from .classes import named_classes
from .files import StoredCheckpoint, read_stored
from .layout import Colour, Layout, Preprocessing, build
from .places import Given, find_given
from .settings import Settings, find_settings
from .state import WeightsChoice
from .weights import ForeignWeights

_LAYOUTS: dict[str, tuple[str, Callable[..., Layout]]] = {
    "semseg": (semseg.MARKER, semseg.layout),
    "mmseg": (mmseg.MARKER, mmseg.layout),
    "smp": (smp.MARKER, smp.layout),
    "paddleseg": (paddleseg.MARKER, paddleseg.layout),
    "csail": (relatives.CSAIL_MARKER, relatives.csail),
    "bubbliiiing": (relatives.BUBBLIIIING_MARKER, relatives.bubbliiiing),
    "kazuto1011": (relatives.KAZUTO_MARKER, relatives.kazuto),
    "lextal": (relatives.LEXTAL_MARKER, relatives.lextal),
}
FORMATS: tuple[str, ...] = tuple(_LAYOUTS)

# Keys of other families of networks, so that what is held out can be named; the first that fits decides.
_OTHER_NETWORKS = (
    ("segformer.", "a SegFormer of transformers"),
    ("beit.", "a BEiT of transformers"),
    ("data2vec_vision.", "a Data2Vec of transformers"),
    ("dpt.", "a DPT of transformers"),
    ("mobilevit.", "a MobileViT of transformers"),
    ("mobilevitv2.", "a MobileViTV2 of transformers"),
    ("mobilenet_v2.", "a MobileNetV2 of transformers"),
    ("decode_head.lateral_convs.", "a UPerNet"),  # it has a pyramid of the same name as mmsegmentation's PSPNet
    ("decoder.fpn_lateral_blocks.", "a UPerNet of segmentation-models-pytorch"),
    ("decoder.blocks.", "a U-Net, Linknet or MAnet of segmentation-models-pytorch"),
    ("decoder.aspp.", "a DeepLabV3 of segmentation-models-pytorch"),
    ("decoder.seg_blocks.", "an FPN of segmentation-models-pytorch"),
    ("decoder.mlp_stage.", "a SegFormer of segmentation-models-pytorch"),
    ("decoder.fpa.", "a PAN of segmentation-models-pytorch"),
    ("decoder.reassemble_blocks.", "a DPT of segmentation-models-pytorch"),
    ("decode_head.image_pool", "a DeepLabV3 of mmsegmentation"),
    ("decode_head.aspp", "a DeepLabV3 of mmsegmentation"),
    ("classifier.0.convs", "a DeepLabV3 of torchvision"),
    ("classifier.cbr.", "an LR-ASPP of torchvision"),
    ("model.22.", "a YOLO network"),
)
_ANOTHER_OF_MMSEG = ("decode_head.", "another network of mmsegmentation")


@dataclass(frozen=True)
class ImportOptions:
    """What weights do not show and a user knows; None leaves it to the file, its configuration or the format."""

    bins: Sequence[int] | None = None
    """Of the pyramid, in the order of its branches."""
    label_set: LabelSet | None = None
    """What it was trained for; the logits are put into this order."""
    class_names: Sequence[str] | None = None
    """Its classes in the order of its logits."""
    weights: WeightsChoice | None = None
    """``model`` or ``ema``, where the file holds both."""
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    scale: float | None = None
    """Pixels are divided by ``scale`` before ``mean`` and ``std``; None: 255 where ``std`` is at most 1, else 1."""
    colour: Colour | None = None
    """The order of the network's channels, and of ``mean`` and ``std``."""
    threshold: float | None = None
    """Of the probability, for a network of one logit."""
    config: Path | None = None
    """The configuration of its training: .py, .yml or .json."""
    encoder: str | None = None
    """What segmentation-models-pytorch calls its encoder."""
    decoder: Path | None = None
    """CSAIL's second file."""
    output_stride: int | None = None
    """8, 16 or 32."""
    align_corners: bool | None = None


@dataclass(frozen=True)
class Imported:
    """A network from another project, in evaluation mode."""

    model: PSPNet
    label_set: LabelSet
    format: str
    assumed: tuple[str, ...]
    """What the weights do not show and was taken as the format's default."""
    left_out: dict[str, str]
    """Reasons by key."""
    class_order: tuple[int, ...] | None
    """Which of the checkpoint's logits each class had; None where the order is the same."""
    remarks: tuple[str, ...] = ()
    """What was chosen: which of two state dicts, which configuration."""
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    """As the other network takes its input; ours is the same network for RGB."""
    threshold: float | None = None
    """Of the probability, where the other network has a single logit."""
    encoder: str = ""
    """What the other project calls the backbone, where that is known."""

    @property
    def bins(self) -> tuple[int, ...]:
        """Of the pyramid."""
        return self.model.shape.bins


def import_checkpoint(
    path: Path, format_name: str | None = None, options: ImportOptions | None = None, **values: Any
) -> Imported:
    """Read a PSPNet of another project.

    Args:
        path: its checkpoint, or a folder of ``save_pretrained`` or of CSAIL's two files.
        format_name: one of ``FORMATS``; None recognizes it by its keys.
        options: what weights do not show.
        values: fields of ``ImportOptions``, in place of ``options``.

    Raises:
        ModelError: a file that is damaged, unsafe, of another kind, or changed in a way that is not known.
        OptionError: options that do not fit the checkpoint.
    """
    options = replace(options or ImportOptions(), **values)
    _check(options)
    given = find_given(path, options.decoder)
    stored = _read(given, options.weights)
    name = _recognized(given.checkpoint, stored, format_name)
    weights = ForeignWeights(stored.tensors, given.checkpoint)
    settings = find_settings(given.checkpoint, stored.meta, options.config)
    layout = _layout(name, weights, stored, settings, options)
    threshold = options.threshold if options.threshold is not None else layout.threshold
    model, single = build(weights, layout, options.bins, threshold)
    if options.threshold is not None and not single:
        raise OptionError(
            f"a threshold is for a network of one logit, and {given.checkpoint} has {model.classes}: "
            "leave out --threshold"
        )
    preprocessing = _preprocessing(layout, stored.buffers, options, model.shape.in_channels)
    _normalize(model, preprocessing)
    labels, order = _classes(layout, options, model, single)
    if order is not None:
        _reorder(model, order)
    remarks = list(stored.remarks)
    if layout.settings:
        remarks.append(f"read {layout.settings}")
    assumed = list(layout.assumed)
    if options.bins is None and layout.bins is None:
        assumed.append(f"bins {','.join(map(str, model.shape.bins))}")
    left_out = weights.left_out | stored.beside
    return Imported(
        model,
        labels,
        name,
        tuple(assumed),
        left_out,
        order,
        tuple(remarks),
        preprocessing,
        threshold if single else None,
        layout.encoder,
    )


def _check(options: ImportOptions) -> None:
    if options.threshold is not None and not 0 < options.threshold < 1:
        raise OptionError(f"threshold {options.threshold} is not a probability: give a number between 0 and 1")
    if options.colour not in (None, "rgb", "bgr"):
        raise OptionError(f"unknown colour order {options.colour!r}: choose rgb or bgr")
    if options.weights not in (None, "model", "ema"):
        raise OptionError(f"unknown weights {options.weights!r}: choose model or ema")
    if options.output_stride not in (None, 8, 16, 32):
        raise OptionError(f"an output stride of {options.output_stride} is unknown: choose 8, 16 or 32")
    if options.bins is not None and (not options.bins or not all(0 < size <= 1000 for size in options.bins)):
        raise OptionError(f"bins of {list(options.bins)} cannot pool: give whole numbers from 1 to 1000")
    if options.scale is not None and not 0 < options.scale <= 1e6:
        raise OptionError(f"a scale of {options.scale} is not possible: give what pixels are divided by, e.g. 255")


def _read(given: Given, weights: WeightsChoice | None) -> StoredCheckpoint:
    stored = read_stored(given.checkpoint, weights)
    if given.decoder is None:
        return stored
    decoder = read_stored(given.decoder, weights)
    tensors = {f"encoder.{key}": value for key, value in stored.tensors.items()}
    tensors |= {f"decoder.{key}": value for key, value in decoder.tensors.items()}
    return replace(stored, tensors=tensors, remarks=(*stored.remarks, f"the decoder is {given.decoder.name}"))


def _layout(
    name: str, weights: ForeignWeights, stored: StoredCheckpoint, settings: Settings, options: ImportOptions
) -> Layout:
    if name == "smp":
        encoder = options.encoder or _encoder_in(stored.meta)
        layout = smp.layout(weights, stored.meta, settings, encoder)
    elif options.encoder is not None:
        raise OptionError(f"--encoder is for checkpoints of segmentation-models-pytorch, not for {name}: leave it out")
    elif options.output_stride is not None and name in ("csail", "bubbliiiing"):
        layout = _LAYOUTS[name][1](weights, stored.meta, _with_stride(settings, options.output_stride))
    else:
        layout = _LAYOUTS[name][1](weights, stored.meta, settings)
    fixed = dict(layout.fixed)
    assumed = layout.assumed
    if options.output_stride is not None and name in ("semseg", "mmseg", "paddleseg", "kazuto1011", "lextal"):
        fixed["output_stride"] = options.output_stride
        fixed |= {"strides": (), "dilations": ()}
        if layout.graph is not None:
            raise OptionError(
                "an output stride cannot be given for this backbone: give its configuration with --config"
            )
        assumed = tuple(phrase for phrase in assumed if not phrase.startswith("output stride"))
    if options.align_corners is not None:
        fixed["align_corners"] = options.align_corners
        assumed = tuple(phrase for phrase in assumed if not phrase.startswith("align_corners"))
    return replace(layout, fixed=fixed, assumed=assumed)


def _with_stride(settings: Settings, stride: int) -> Settings:
    arch = "resnetdilated" if stride == 8 else "resnet"
    values = dict(settings.values) | {"downsample_factor": stride, "MODEL": {"arch_encoder": arch}}
    return Settings(settings.source or "--output-stride", values, settings.text)


def _encoder_in(meta: Mapping[str, Any]) -> str | None:
    for key in ("encoder_name", "encoder"):
        value = meta.get(key)
        if isinstance(value, str):
            return value
    return None


def _preprocessing(
    layout: Layout, buffers: Mapping[str, Tensor], options: ImportOptions, channels: int
) -> Preprocessing:
    """The format's or the configuration's; buffers beside the network come before it, options before both."""
    known = layout.preprocessing
    mean, std = values_for(channels, known.mean), values_for(channels, known.std)
    source = known.source
    held = [
        _buffer(buffers, name, channels)
        for name in (("mean", "pixel_mean", "image_mean"), ("std", "pixel_std", "image_std"))
    ]
    if not layout.settings and held[0] is not None and held[1] is not None:
        factor = 255.0 if max(held[1]) <= 1 else 1.0
        mean, std = (tuple(round(value * factor, 6) for value in values) for values in (held[0], held[1]))
        source = "the buffers mean and std beside the network" + (", for pixels of 0–1" if factor > 1 else "")
    if options.mean is not None or options.std is not None or options.scale is not None:
        mean, std = _given_normalization(options, channels)
        source = "the options"
    if len(mean) != channels or len(std) != channels:
        raise OptionError(
            f"{len(mean)} means and {len(std)} deviations do not fit {channels} channels: give --mean and --std"
        )
    return Preprocessing(mean, std, options.colour or known.colour, source)


def _buffer(buffers: Mapping[str, Tensor], names: Sequence[str], channels: int) -> tuple[float, ...] | None:
    for name in names:
        value = buffers.get(name)
        if value is not None and value.numel() == channels and bool(torch.isfinite(value.float()).all()):
            return tuple(round(float(number), 6) for number in value.flatten())
    return None


def _given_normalization(options: ImportOptions, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    mean = _per_channel(options.mean, channels, 0.0, "mean")
    std = _per_channel(options.std, channels, 1.0, "std")
    if min(std) <= 0:
        raise OptionError(f"std of {list(std)} cannot divide: give positive numbers")
    scale = options.scale
    if scale is None:
        if options.std is None:
            raise OptionError("a mean without std does not say what pixels are: give --scale 255 or --scale 1 too")
        scale = 255.0 if max(std) <= 1 else 1.0
    if scale < 0.1:
        scale = 1 / scale  # people also write the factor, 1/255
    return tuple(round(v * scale, 6) for v in mean), tuple(round(v * scale, 6) for v in std)


def _per_channel(values: Sequence[float] | None, channels: int, usual: float, name: str) -> tuple[float, ...]:
    if values is None:
        return (usual,) * channels
    if len(values) == 1:
        return (float(values[0]),) * channels
    if len(values) != channels:
        raise OptionError(f"{len(values)} values of {name} do not fit {channels} channels: give one per channel")
    return tuple(float(value) for value in values)


def _normalize(model: PSPNet, preprocessing: Preprocessing) -> None:
    """Record it; a network for BGR becomes the same network for RGB."""
    mean, std = list(preprocessing.mean), list(preprocessing.std)
    if preprocessing.colour == "bgr" and len(mean) >= 3:
        mean[:3], std[:3] = mean[2::-1], std[2::-1]
        for stem in model.input_convolutions():
            order = [2, 1, 0, *range(3, stem.weight.shape[1])]
            stem.weight.data = stem.weight.data[:, order].contiguous()
    model.set_normalization(mean, std)


def _classes(
    layout: Layout, options: ImportOptions, model: PSPNet, single: bool
) -> tuple[LabelSet, tuple[int, ...] | None]:
    usual = layout.orders.get(options.label_set.name) if options.label_set else None
    names = options.class_names or layout.class_names or usual
    if single:
        names = ("background", names[0]) if names and len(names) == 1 else names or ("background", "object")
    return named_classes(model.classes, options.label_set, names)


def _recognized(path: Path, stored: StoredCheckpoint, wanted: str | None) -> str:
    other = _named_by_keys(stored, _OTHER_NETWORKS)
    found = [name for name, (marker, _) in _LAYOUTS.items() if any(key.startswith(marker) for key in stored.tensors)]
    if found and not other and wanted in (None, *found):
        return wanted or found[0]
    if found and not other:
        raise ModelError(
            f"{path} is a checkpoint of {found[0]}, not of {wanted}",
            command=f"pspnet-edge import {shlex.quote(str(path))} --format {found[0]}",
        )
    first = next(iter(stored.tensors))
    other = other or _named_by_keys(stored, [_ANOTHER_OF_MMSEG])
    if other:
        raise ModelError(
            f"{path} is {other}, not a PSPNet: export it to ONNX where it was trained, and use `pspnet-edge adapt`"
        )
    if {"fc.weight", "classifier.weight", "head.fc.weight"} & set(stored.tensors):
        raise ModelError(
            f"{path} classifies whole images and has no segmentation head (its first key is {first}): "
            "train one on it with `pspnet-edge train --backbone-weights FILE`"
        )
    raise ModelError(
        f"{path} holds no pyramid pooling module of {wanted or ', '.join(FORMATS)} (its first key is {first}): "
        "give the checkpoint of a PSPNet; for another network, export it to ONNX and use `pspnet-edge adapt`"
    )


def _named_by_keys(stored: StoredCheckpoint, networks: Sequence[tuple[str, str]]) -> str | None:
    """What network has such keys."""
    return next((what for marker, what in networks if any(key.startswith(marker) for key in stored.tensors)), None)


def _reorder(model: PSPNet, order: Sequence[int]) -> None:
    """Put the logits into another order."""
    heads = [model.classifier] if model.aux_head is None else [model.classifier, model.aux_head[-1]]
    with torch.no_grad():
        for head in heads:
            for parameter in head.parameters():
                parameter.copy_(parameter[list(order)])
