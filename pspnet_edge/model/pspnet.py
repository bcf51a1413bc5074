"""PSPNet: backbone, context head, decoder, aux head.

Source: H. Zhao et al., Pyramid Scene Parsing Network, CVPR 2017.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ModelError, OptionError, one_of
from .backbone import MOST_WEIGHTS, Backbone, EfficientNetLite, MobileNetV3
from .imagenet import MEAN, STD, values_for
from .node_graph import GraphBackbone, NodeGraph
from .pyramid import GlobalContext, PyramidPooling, conv_bn_relu, decoder_convolution, detail_branch, resize
from .quantiser import Quantiser
from .resnet import DEPTHS, ResNet
from .vgg import Vgg16

CHANNELS = (1, 3, 4)
"""What a frame can have: grey or thermal, BGR, BGR and a fourth."""


@dataclass(frozen=True)
class Preset:
    """What tells one network of the family from another."""

    backbone: str
    pyramid_width: int
    """Channels of each bin."""
    fuse_width: int
    aux_width: int
    """Channels inside the aux head; 0 for none."""
    output_stride: int = 8
    context: str = "pyramid"
    """The context head: ``pyramid`` or ``global``."""
    bins: tuple[int, ...] = (1, 2, 3, 6)
    fuse_kernel: int = 3
    classifier_kernel: int = 1
    decoder_strides: tuple[int, ...] = (8, 4)
    """Strides that the decoder climbs through, deepest first; the logits have the last of them."""
    decoder_widths: tuple[int, ...] = ()
    """Channels at each of these strides; empty for no decoder: the logits have the output stride."""
    lateral_widths: tuple[int, ...] = ()
    """Channels that the backbone's features add at each of these strides."""
    decoder_kernel: str = "dense"
    """The decoder's convolutions: ``dense`` 3×3, ``depthwise`` 5×5 and 1×1, or ``branches`` (see ``pyramid``)."""
    trunk_divisor: int = 1
    """2 lets the backbone see the image at half its size, after ICNet (H. Zhao et al., ECCV 2018)."""
    detail_width: int = 0
    """Channels of a thin branch on the full image that gives the stride-4 features; 0 for none."""
    align_corners: bool = False
    """How everything is resized, the logits to the input too."""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    """What the input is normalized with, RGB in 0–255; empty for the backbone's."""
    stages: int = 4
    stem_widths: tuple[int, ...] = ()
    contract_dilation: bool = False
    dilate_second: bool = True
    average_shortcut: bool = False
    project_first: bool = False
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    stride_first: bool = False
    groups: int = 1
    group_width: int = 64
    first_dilation: int = 0
    width: int = 64
    """These thirteen are the ResNet's, see ``resnet.ResNet``."""
    in_channels: int = 3
    """Of the frames: 3, 1 (grey, thermal) or 4 (a fourth beside the colours)."""
    scratch: bool = False
    """Whether training starts from random weights, because there are no others of the backbone."""
    pyramid_relu: bool = True
    """Whether the branches of the pyramid end with a ReLU."""
    binary: bool = False
    """Whether there is one logit for two classes: the first of the two is a constant, the threshold."""
    nodes: tuple[Mapping[str, Any], ...] = ()
    features: tuple[int, ...] = ()
    """The backbone ``graph``, see ``node_graph``: its nodes, and those that are its features."""
    neck: tuple[Mapping[str, Any], ...] = ()
    """What an imported decoder computes between the fusion and the classifier, as nodes; the last is its result."""


def _light(backbone: str) -> Preset:
    return Preset(
        backbone, 64, 128, 64, output_stride=16, fuse_kernel=1, decoder_widths=(64, 64), lateral_widths=(32, 32)
    )


def _embedded(backbone: str, widths: tuple[int, ...], laterals: tuple[int, ...], pyramid: int, fuse: int) -> Preset:
    """Trunk at stride 32, which needs no dilated convolution, and a decoder over strides 16 and 8 to 4."""
    return Preset(
        backbone, pyramid, fuse, 64, output_stride=32, fuse_kernel=1,
        decoder_strides=(16, 8, 4), decoder_widths=widths, lateral_widths=laterals,
    )  # fmt: skip


PRESETS = {
    "pspnet_fast": _embedded("lite0", (64, 48, 24), (32, 24, 12), pyramid=48, fuse=96),
    "pspnet_balanced": _embedded("lite2", (96, 64, 48), (48, 32, 24), pyramid=64, fuse=128),
    "pspnet_accurate": _embedded("lite2", (128, 96, 48), (64, 48, 24), pyramid=96, fuse=160),
    "pspnet_plain": Preset(
        "resnet18",
        48,
        96,
        64,
        output_stride=32,
        fuse_kernel=1,
        decoder_strides=(16, 8),
        decoder_widths=(96, 96),
        lateral_widths=(64, 64),
        width=40,
        stem_widths=(16, 16, 32),
        average_shortcut=True,
        scratch=True,
    ),
    "pspnet_lite0": _light("lite0"),
    "pspnet_lite1": _light("lite1"),
    "pspnet_lite2": _light("lite2"),
    "pspnet_mobilenetv3": _light("mobilenetv3"),
    "pspnet_r18": Preset("resnet18", 128, 128, 64),
    "pspnet_r34": Preset("resnet34", 128, 128, 64),
    "pspnet_r50": Preset("resnet50", 512, 512, 256),
    "pspnet_r101": Preset("resnet101", 512, 512, 256),
    "pspnet_vgg16": Preset("vgg16", 128, 512, 128),
}
IMPORTED = "pspnet_imported"
"""What a network that no preset describes is called: it exists only as an imported checkpoint, with all its fields."""
_IMPORTED = Preset("graph", 512, 512, 0)


class PSPNet(nn.Module):
    """A network of the family.

    The paper gives the logits at the output stride of eight. At the sizes an embedded board can afford that loses
    poles and signs, so in the light presets, whose output stride is 16, two dense 3×3 convolutions bring in the
    stride-8 and stride-4 features first.

    Args:
        preset: a name in ``PRESETS``.
        classes: how many classes the logits have.
        changes: fields of ``Preset`` that differ from it, e.g. ``{"stem_widths": (64, 64, 128)}``.

    Raises:
        OptionError: an unknown preset or field, or values that do not fit together.
    """

    def __init__(self, preset: str, classes: int, changes: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.preset = preset
        self.classes = classes
        self.shape = shape = _shape(preset, changes or {})
        self.backbone = _backbone(shape)
        self.mean = shape.mean or values_for(shape.in_channels, self.backbone.mean)
        self.std = shape.std or values_for(shape.in_channels, self.backbone.std)
        self.align_corners = shape.align_corners
        channels = self.backbone.channels
        self.pyramid: PyramidPooling | GlobalContext
        if shape.context == "pyramid":
            self.pyramid = PyramidPooling(
                channels[-1], shape.pyramid_width, shape.bins, shape.align_corners, shape.pyramid_relu
            )
        else:
            self.pyramid = GlobalContext(channels[-1], shape.pyramid_width * len(shape.bins))
        self.fuse = conv_bn_relu(self.pyramid.channels, shape.fuse_width, shape.fuse_kernel)
        width = shape.fuse_width
        if shape.detail_width:
            self.detail = detail_branch(shape.in_channels, shape.detail_width)
        for stride, wide, lateral in self._decoder_steps():
            self.add_module(f"lateral{stride}", conv_bn_relu(self._channels_at(stride), lateral, 1))
            self.add_module(f"fuse{stride}", decoder_convolution(width + lateral, wide, shape.decoder_kernel))
            width = wide
        self.neck: NodeGraph | None = None
        if shape.neck:
            self.neck = NodeGraph(shape.neck, [len(shape.neck) - 1])
            width = self.neck.channels_of[-1]
        self.dropout = nn.Dropout2d(0.1)
        kernel = shape.classifier_kernel
        self.classifier = nn.Conv2d(width, classes, kernel, padding=kernel // 2)
        self.aux_head: nn.Sequential | None = None
        if shape.aux_width:
            self.aux_head = nn.Sequential(
                conv_bn_relu(channels[-2], shape.aux_width, 3),
                nn.Dropout2d(0.1),
                nn.Conv2d(shape.aux_width, classes, 1),
            )
        if shape.binary:
            self._hold_first_logit()
        self.quantiser: Quantiser | None = None
        """Where there is one, the network computes as its INT8 graph does."""

    @property
    def architecture(self) -> dict[str, object]:
        """What differs from the preset, as JSON values; ``changes`` of a network that is built the same."""
        own, usual = asdict(self.shape), asdict(PRESETS.get(self.preset, _IMPORTED))
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in own.items() if value != usual[key]
        }

    @property
    def logits_stride(self) -> int:
        """Pixels of the input per value of the logits."""
        if self.neck is not None:
            return self.neck.stride_of[-1]
        steps = self._decoder_steps()
        return steps[-1][0] if steps else self.backbone.output_stride * self.shape.trunk_divisor

    @property
    def size_multiple(self) -> int:
        """Input sides divisible by this give exact AveragePool in every bin."""
        bins = self.shape.bins if self.shape.context == "pyramid" else (1,)
        return math.lcm(*bins) * self.backbone.output_stride * self.shape.trunk_divisor

    @property
    def smallest_side(self) -> int:
        """Of a frame, in pixels; the bins of the pyramid need it."""
        return 2 * self.size_multiple // 6

    def forward(self, x: Tensor) -> Tensor:
        """Normalized RGB ``float [N, C, H, W]`` → logits ``float [N, classes, ⌈H/s⌉, ⌈W/s⌉]``.

        ``s`` is ``logits_stride``.
        """
        with self._precision():
            return self._decode(self._features(x))

    def forward_with_aux(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The logits and the aux head's logits (at its features' stride), for the training loss.

        A network without an aux head gives its logits twice.
        """
        with self._precision():
            features = self._features(x)
            logits = self._decode(features)
            return logits, logits if self.aux_head is None else self.aux_head(features[-2])

    @property
    def described_architecture(self) -> dict[str, object]:
        """``architecture`` for people: nodes are counted."""
        return {
            key: f"{len(value)} nodes" if isinstance(value, list) and key in ("nodes", "neck") else value
            for key, value in self.architecture.items()
        }

    def set_normalization(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Normalize the input with these, RGB in 0–255, one of each per channel."""
        self.mean, self.std = tuple(mean), tuple(std)
        usual = (
            values_for(self.shape.in_channels, self.backbone.mean),
            values_for(self.shape.in_channels, self.backbone.std),
        )
        own = ((), ()) if (self.mean, self.std) == usual else (self.mean, self.std)
        self.shape = replace(self.shape, mean=own[0], std=own[1])

    def remove_aux_head(self) -> None:
        """Leave out what only training reads."""
        self.aux_head = None
        self.shape = replace(self.shape, aux_width=0)

    def input_convolutions(self) -> list[nn.Conv2d]:
        """The convolutions that read the frame, whose weights know its colour order."""
        if isinstance(self.backbone, NodeGraph):
            return list(self.backbone.input_convolutions())
        return [next(module for module in self.modules() if isinstance(module, nn.Conv2d))]

    @property
    def threshold(self) -> float:
        """The probability above which a pixel is the object, in a binary network."""
        assert self.classifier.bias is not None
        return float(torch.sigmoid(self.classifier.bias[0].detach()))

    def set_threshold(self, probability: float) -> None:
        """Make a pixel of a binary network the object where its probability exceeds this.

        Raises:
            OptionError: not between 0 and 1, or the network is not binary.
        """
        if not 0 < probability < 1:
            raise OptionError(
                f"a threshold of {probability:g} is not a probability", "give a number between 0 and 1",
                parameter="threshold",
            )  # fmt: skip
        if not self.shape.binary:
            raise OptionError(
                f"a threshold is for a binary network, and this one has {self.classes} logits",
                "leave it out, or train with --binary",
                parameter="threshold",
            )
        assert self.classifier.bias is not None
        with torch.no_grad():
            self.classifier.bias[0] = math.log(probability / (1 - probability))

    def _hold_first_logit(self) -> None:
        """Make the first of two logits 0 for good. Their cross-entropy is then the binary one of a sigmoid."""
        if self.classes != 2:
            raise OptionError(f"a binary network has 2 classes, not {self.classes}: list background and the object")
        last = self.aux_head[-1] if self.aux_head is not None else None
        for head in (self.classifier, last):
            for value in head.parameters() if isinstance(head, nn.Conv2d) else ():
                with torch.no_grad():
                    value[0] = 0
                value.register_hook(_without_first)  # type: ignore[no-untyped-call]

    def never_quantised(self) -> Iterator[nn.Parameter]:
        """The weights of the convolutions that stay in higher precision: those of the classifier and the aux head."""
        for head in (self.classifier, self.aux_head):
            if head is not None:
                yield from head.parameters()

    def _decoder_steps(self) -> list[tuple[int, int, int]]:
        """(stride, channels, channels of the lateral) of each step of the decoder."""
        shape = self.shape
        return list(zip(shape.decoder_strides, shape.decoder_widths, shape.lateral_widths))

    def _features(self, x: Tensor) -> list[Tensor]:
        """What the decoder and the aux head read, shallow first; the last is the deepest."""
        trunk = F.avg_pool2d(x, 2) if self.shape.trunk_divisor == 2 else x
        features = self.backbone(trunk)
        return [self.detail(x), *features] if self.shape.detail_width else features

    def _place_of(self, stride: int) -> int:
        """Where the features of a stride are among ``_features``."""
        first = 4 if self.shape.detail_width else 4 * self.shape.trunk_divisor
        return (stride // first).bit_length() - 1

    def _channels_at(self, stride: int) -> int:
        detail = [self.shape.detail_width] if self.shape.detail_width else []
        return [*detail, *self.backbone.channels][self._place_of(stride)]

    def _precision(self) -> AbstractContextManager[object]:
        return nullcontext() if self.quantiser is None else self.quantiser.pairs(self.never_quantised())

    def _decode(self, features: list[Tensor]) -> Tensor:
        x = self.fuse(self.pyramid(features[-1]))
        for stride, _, _ in self._decoder_steps():
            feature = features[self._place_of(stride)]
            lateral = getattr(self, f"lateral{stride}")(feature)
            x = getattr(self, f"fuse{stride}")(torch.cat([_resize_like(x, feature), lateral], dim=1))
        if self.neck is not None:
            (x,) = self.neck(x)
        logits: Tensor = self.classifier(self.dropout(x))
        return logits


def _without_first(gradient: Tensor) -> Tensor:
    """A gradient that leaves the first output as it is."""
    kept = torch.ones_like(gradient)
    kept[0] = 0
    return gradient * kept


def _shape(preset: str, changes: Mapping[str, Any]) -> Preset:
    if not (preset == IMPORTED and changes):
        one_of(preset, sorted(PRESETS), "network")
    known = {field.name for field in fields(Preset)}
    unknown = sorted(set(changes) - known)
    if unknown:
        raise OptionError(f"this version knows no {', '.join(unknown)} in a model: upgrade pspnet-edge")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in changes.items()}
    shape = replace(PRESETS.get(preset, _IMPORTED), **values)
    if shape.context not in ("pyramid", "global"):
        raise OptionError(f"unknown context head {shape.context!r}: choose pyramid or global")
    if not shape.bins or min(shape.bins) < 1:
        raise OptionError(f"pyramid bins {shape.bins} are not valid: give whole numbers of at least 1")
    if shape.in_channels not in CHANNELS:
        raise OptionError(f"in_channels of {shape.in_channels} is unknown: choose one of 1, 3 and 4")
    for numbers in (shape.mean, shape.std):
        if numbers and len(numbers) != shape.in_channels:
            raise OptionError(
                f"{len(numbers)} values to normalize with do not fit {shape.in_channels} channels: give one per channel"
            )
    return shape


def _backbone(shape: Preset) -> Backbone:
    if shape.backbone == "graph":
        return GraphBackbone(shape.nodes, shape.features, MEAN, STD)
    if shape.backbone in DEPTHS:
        return ResNet(
            shape.backbone,
            shape.output_stride,
            stages=shape.stages,
            stem_widths=shape.stem_widths,
            contract_dilation=shape.contract_dilation,
            dilate_second=shape.dilate_second,
            average_shortcut=shape.average_shortcut,
            project_first=shape.project_first,
            in_channels=shape.in_channels,
            strides=shape.strides,
            dilations=shape.dilations,
            stride_first=shape.stride_first,
            groups=shape.groups,
            group_width=shape.group_width,
            first_dilation=shape.first_dilation,
            width=shape.width,
        )
    if shape.backbone == "vgg16":
        return Vgg16(shape.in_channels)
    if shape.backbone == "mobilenetv3":
        return MobileNetV3(shape.output_stride, shape.in_channels)
    return EfficientNetLite(shape.backbone, shape.output_stride, shape.in_channels)


def _resize_like(x: Tensor, like: Tensor) -> Tensor:
    return resize(x, (int(like.shape[-2]), int(like.shape[-1])))


def network_from_file(preset: str, classes: int, changes: Mapping[str, Any]) -> PSPNet:
    """``PSPNet`` as a file describes it: its size is checked before memory is taken.

    Raises:
        ModelError: it would have more weights than any network of the family.
        OptionError: as of ``PSPNet``.
    """
    if changes:
        with torch.device("meta"):
            weights = sum(value.numel() for value in PSPNet(preset, classes, changes).parameters())
        if weights > MOST_WEIGHTS:
            raise ModelError(f"it describes a network of {weights:.2g} weights, more than any PSPNet")
    return PSPNet(preset, classes, changes)
