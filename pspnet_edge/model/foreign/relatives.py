"""Smaller projects that build PSPNet in PyTorch: CSAIL, bubbliiiing, kazuto1011 and Lextal.

Their structure was read in their public repositories: CSAILVision/semantic-segmentation-pytorch,
bubbliiiing/pspnet-pytorch, kazuto1011/pspnet-pytorch and Lextal/pspnet-pytorch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ModelError
from . import mobilenet
from .layout import Layout, Preprocessing
from .planner import GraphPlan, Planner
from .settings import Settings, numbers, whole_number, whole_numbers
from .weights import ForeignWeights

CSAIL_MARKER = "decoder.ppm."
BUBBLIIIING_MARKER = "master_branch.0.stages."
KAZUTO_MARKER = "ppm.stages."
LEXTAL_MARKER = "psp.stages."

_AUX = ("only training reads it",)


def _deep_stem(prefix: str) -> tuple[tuple[str, str], ...]:
    """Three convolutions beside each other rather than in a sequence."""
    return tuple(
        (rf"backbone\.stem\.{place + kind}", f"{prefix}{name}{number}")
        for number, place in ((1, 0), (2, 3), (3, 6))
        for kind, name in ((0, "conv"), (1, "bn"))
    )


def csail(weights: ForeignWeights, meta: Mapping[str, Any], settings: Settings) -> Layout:
    """A stage that lost its stride begins with half its dilation; both convolutions of a basic block dilate."""
    names = (
        *_deep_stem("encoder."),
        (r"backbone\.(.+)", r"encoder.\1"),
        (r"pyramid\.stages\.(\d+)\.0", r"decoder.ppm.\1.1"),
        (r"pyramid\.stages\.(\d+)\.1", r"decoder.ppm.\1.2"),
        (r"fuse\.(\d)", r"decoder.conv_last.\1"),
        (r"classifier", r"decoder.conv_last.4"),
        (r"aux_head\.0\.(\d)", r"decoder.cbr_deepsup.\1"),
        (r"aux_head\.2", r"decoder.conv_last_deepsup"),
    )
    dilated = "dilated" in str(settings.get("MODEL", "arch_encoder") or "dilated")
    assumed = [] if settings else ["output stride 8 (an encoder whose name ends with 'dilated')"]
    common: dict[str, Any] = {
        "assumed": (*assumed, "align_corners=False"),
        "left_out": (
            ("decoder.cbr_deepsup.", *_AUX),
            ("decoder.conv_last_deepsup.", *_AUX),
            ("encoder.fc.", "it classifies whole images"),
        ),
        "settings": settings.source,
    }
    stride = 8 if dilated else 32
    if "encoder.features.0.0.weight" in weights:
        plan = mobilenet.with_halved_dilation(weights, "encoder.features.", stride, aux=14)
        return Layout(names, {"align_corners": False}, graph=plan, **common)
    if "encoder.layer1.0.conv1.weight" not in weights or "encoder.conv3.weight" not in weights:
        raise ModelError(
            f"the encoder in {weights.path} is not a ResNet or MobileNetV2 of CSAIL's code (HRNet and others are not "
            "PSPNets): give the files of a ppm or ppm_deepsup network"
        )
    fixed = {"align_corners": False, "contract_dilation": True, "output_stride": stride}
    return Layout(names, fixed, **common)


def bubbliiiing(weights: ForeignWeights, meta: Mapping[str, Any], settings: Settings) -> Layout:
    """CSAIL's backbones with everything resized corner to corner; pixels are divided by 255 and no more."""
    stem = (
        *((rf"backbone\.stem\.{place}", f"backbone.conv1.{place}") for place in (0, 1, 3, 4, 6)),
        (r"backbone\.stem\.7", "backbone.bn1"),
    )
    apart = _deep_stem("backbone.")
    names = (
        *(stem if "backbone.conv1.0.weight" in weights else apart),
        (r"pyramid\.stages\.(\d+)\.0", r"master_branch.0.stages.\1.1"),
        (r"pyramid\.stages\.(\d+)\.1", r"master_branch.0.stages.\1.2"),
        (r"fuse\.(\d)", r"master_branch.0.bottleneck.\1"),
        (r"classifier", r"master_branch.1"),
        (r"aux_head\.0\.(\d)", r"auxiliary_branch.\1"),
        (r"aux_head\.2", r"auxiliary_branch.4"),
    )
    common: dict[str, Any] = {
        "left_out": (("auxiliary_branch.", *_AUX), ("backbone.fc.", "it classifies whole images")),
        "preprocessing": Preprocessing((0.0,) * 3, (255.0,) * 3, "rgb", "pixels divided by 255, as the project does"),
        "settings": settings.source,
    }
    stride = whole_number(settings.get("downsample_factor"), "downsample_factor") or 16
    assumed = ("align_corners=True", f"downsample_factor={stride}")
    if "backbone.features.0.0.weight" in weights:
        plan = mobilenet.with_halved_dilation(weights, "backbone.features.", stride, aux=13)
        return Layout(names, {"align_corners": True}, assumed=assumed, graph=plan, **common)
    fixed = {"align_corners": True, "contract_dilation": True, "output_stride": stride}
    return Layout(names, fixed, assumed=assumed, **common)


def kazuto(weights: ForeignWeights, meta: Mapping[str, Any], settings: Settings) -> Layout:
    """The weights of the paper's Caffe networks: BGR less a mean, bins 6, 3, 2, 1, every block of a stage dilated."""
    older = "ppm.stages.0.conv.conv.weight" in weights
    block = [("conv1", "reduce"), ("conv2", "conv3x3"), ("conv3", "increase")]
    # Blocks count from 1 there, so that each has to be named.
    blocks = [
        (rf"backbone\.layer{stage}\.{index}\.{ours}", f"fcn.layer{stage + 1}.block{index + 1}.{theirs}.{part}")
        for stage in (1, 2, 3, 4)
        for index in range(40)
        if f"fcn.layer{stage + 1}.block{index + 1}.reduce.conv.weight" in weights
        for (name, theirs), place in zip((*block, ("downsample", "proj")), ("1", "2", "3", ""))
        for ours, part in (
            ((name, "conv"), (f"bn{place}", "bn")) if place else ((r"downsample\.0", "conv"), (r"downsample\.1", "bn"))
        )
    ]
    names = (
        *(
            (rf"backbone\.stem\.{place + kind}", f"fcn.layer1.conv{number}.{name}")
            for number, place in ((1, 0), (2, 3), (3, 6))
            for kind, name in ((0, "conv"), (1, "bn"))
        ),
        *blocks,
        (r"pyramid\.stages\.(\d+)\.0", r"ppm.stages.\1.conv.conv" if older else r"ppm.stages.s\1.conv.conv"),
        (r"pyramid\.stages\.(\d+)\.1", r"ppm.stages.\1.conv.bn" if older else r"ppm.stages.s\1.conv.bn"),
        (r"fuse\.0", "final.conv5_4.conv"),
        (r"fuse\.1", "final.conv5_4.bn"),
        (r"classifier", "final.conv6"),
        (r"aux_head\.0\.0", "aux.conv4_aux.conv"),
        (r"aux_head\.0\.1", "aux.conv4_aux.bn"),
        (r"aux_head\.2", "aux.conv6_1"),
    )
    mean = _mean_of_kazuto(settings, older)
    bins = whole_numbers(settings.get("PYRAMIDS"), "PYRAMIDS")
    return Layout(
        names,
        {"align_corners": False, "stride_first": older},
        assumed=("output stride 8 with dilation in every block", "align_corners=False")
        + (("the stride in the first 1×1 convolution, as the project's first version",) if older else ()),
        left_out=(("aux.", *_AUX),),
        bins=bins or (6, 3, 2, 1),
        preprocessing=Preprocessing(mean, (1.0, 1.0, 1.0), "bgr", settings.source or "the project's default"),
        settings=settings.source,
    )


def _mean_of_kazuto(settings: Settings, older: bool) -> tuple[float, ...]:
    """In the order of the network's channels, which is BGR."""
    named = settings.get("IMAGE", "MEAN")
    if isinstance(named, Mapping) and (mean := numbers([named.get(colour) for colour in "BGR"], "MEAN")):
        return mean
    return (104.008, 116.669, 122.675) if older else (103.939, 116.779, 123.68)


def lextal(weights: ForeignWeights, meta: Mapping[str, Any], settings: Settings) -> Layout:
    """Pooled features without BatchNorm or ReLU, before the features themselves; three doublings with PReLU after."""
    names = (
        (r"backbone\.stem\.0", "feats.conv1"),
        (r"backbone\.stem\.1", "feats.bn1"),
        (r"backbone\.(.+)", r"feats.\1"),
        (r"pyramid\.stages\.(\d+)\.0", r"psp.stages.\1.1"),
        (r"fuse\.0", "psp.bottleneck"),
        (r"classifier", "final.0"),
    )
    common: dict[str, Any] = {
        "assumed": ("align_corners=False", "ImageNet normalization (the project states none)"),
        "left_out": (("classifier.", "it classifies whole images"), ("feats.fc.", "it classifies whole images")),
        "features_last": True,
        "neck": _doublings(weights),
        "settings": settings.source,
    }
    fixed: dict[str, Any] = {"align_corners": False, "pyramid_relu": False, "aux_width": 0}
    if "feats.layer1.0.conv1.weight" in weights:
        # A stage's first block neither steps nor dilates; the later ones dilate.
        return Layout(names, fixed | {"first_dilation": 1}, **common)
    if "feats.feat_1.0.weight" in weights:
        return Layout(names, fixed, graph=_squeezenet(weights), **common)
    if "feats.start_features.conv0.weight" in weights:
        left_out = (*common.pop("left_out"), *((f"feats.{name}", "it is in the file twice") for name in _TWICE))
        return Layout(names, fixed, graph=_densenet(weights), left_out=left_out, **common)
    raise ModelError(f"the backend in {weights.path} is none of Lextal's: ResNets, squeezenet and densenet are")


_TWICE = ("denseblock", "transition")


def _doublings(weights: ForeignWeights) -> GraphPlan:
    planner = Planner(weights, weights.shape("psp.bottleneck.weight")[0], stride=8)
    x = 0
    for name in ("up_1", "up_2", "up_3"):
        x = planner.add("resize", [x], factor=2, bilinear=True, align_corners=False)
        x = planner.norm(planner.convolution(x, f"{name}.conv.0"), f"{name}.conv.1")
        x = planner.prelu(x, f"{name}.conv.2")
    return planner.plan([x])


def _squeezenet(weights: ForeignWeights) -> GraphPlan:
    planner = Planner(weights, weights.shape("feats.feat_1.0.weight")[1])
    x = planner.add("relu", [planner.convolution(0, "feats.feat_1.0", 2)])
    features = []
    for stage, places, dilations in (
        ("feat_2", (1, 2), (1, 1)),
        ("feat_3", (1, 2), (2, 2)),
        ("feat_4", (0, 1, 2, 3), (4, 4, 4, 4)),
    ):
        if stage != "feat_4":
            x = planner.add("max_pool", [x], kernel=[3, 3], stride=[2, 2], padding=[1, 1])
        for place, dilation in zip(places, dilations):
            key = f"feats.{stage}.{place}"
            squeezed = planner.add("relu", [planner.convolution(x, f"{key}.squeeze")])
            wide = [
                planner.add("relu", [planner.convolution(squeezed, f"{key}.expand1x1")]),
                planner.add("relu", [planner.convolution(squeezed, f"{key}.expand3x3", 1, dilation)]),
            ]
            x = planner.add("concatenate", wide)
        features.append(x)
    return planner.plan(features)


def _densenet(weights: ForeignWeights) -> GraphPlan:
    planner = Planner(weights, weights.shape("feats.start_features.conv0.weight")[1])
    x = planner.convolution(0, "feats.start_features.conv0", 2)
    x = planner.add("relu", [planner.norm(x, "feats.start_features.norm0")])
    x = planner.add("max_pool", [x], kernel=[3, 3], stride=[2, 2], padding=[1, 1])
    features = []
    for block in range(0, 7, 2):
        layer = 1
        while f"feats.blocks.{block}.denselayer{layer}.{_dot(weights, block, 'conv', 1)}.weight" in weights:
            key = f"feats.blocks.{block}.denselayer{layer}"
            y = x
            for number in (1, 2):
                y = planner.add("relu", [planner.norm(y, f"{key}.{_dot(weights, block, 'norm', number)}")])
                y = planner.convolution(y, f"{key}.{_dot(weights, block, 'conv', number)}")
            x = planner.add("concatenate", [x, y])
            layer += 1
        features.append(x)
        if block < 6:
            key = f"feats.blocks.{block + 1}"
            x = planner.add("relu", [planner.norm(x, f"{key}.norm")])
            x = planner.convolution(x, f"{key}.conv")
            if block == 0:
                x = planner.add("average_pool", [x], kernel=[2, 2], stride=[2, 2])
    return planner.plan(features)


def _dot(weights: ForeignWeights, block: int, name: str, number: int) -> str:
    """Old versions of PyTorch allowed a dot in the name of a layer."""
    dotted = f"{name}.{number}"
    return dotted if f"feats.blocks.{block}.denselayer1.{dotted}.weight" in weights else f"{name}{number}"
