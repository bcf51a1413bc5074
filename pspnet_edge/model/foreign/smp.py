"""segmentation-models-pytorch: ResNets are built here, every other encoder is taken from the package itself."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from ...errors import ModelError, OptionError
from ...lazy import available, require
from .layout import Layout, Preprocessing
from .planner import GraphPlan
from .settings import Settings
from .trace import trace
from .weights import ForeignWeights

MARKER = "decoder.psp.blocks."

_NAMES = (
    (r"backbone\.stem\.0", r"encoder.conv1"),
    (r"backbone\.stem\.1", r"encoder.bn1"),
    (r"backbone\.(.+)", r"encoder.\1"),
    (r"pyramid\.stages\.(\d+)\.(\d)", r"decoder.psp.blocks.\1.pool.1.\2"),
    (r"fuse\.(\d)", r"decoder.conv.\1"),
    (r"classifier", r"segmentation_head.0"),
)
_HEADS_LEFT_OUT = (
    ("encoder.fc.", "it classifies whole images"),
    ("classification_head.", "it classifies whole images"),
)
_DEPTHS = (3, 4, 5)

# A key that only the encoders of a family have, and how the names of the family begin.
_FAMILIES = (
    ("encoder._conv_stem.weight", ("efficientnet-",)),
    ("encoder.conv_stem.weight", ("timm-efficientnet", "timm-tf_efficientnet")),
    ("encoder.features.denseblock1.denselayer1.norm1.weight", ("densenet",)),
    ("encoder.features.0.0.weight", ("mobilenet_v2",)),
    ("encoder.features.0.weight", ("vgg",)),
    ("encoder.layer0.conv1.weight", ("se_res", "senet", "se_resnext")),
    ("encoder.layer1.0.conv2.conv.weight", ("timm-sk",)),
    ("encoder.stage0.rbr_conv.0.conv.weight", ("mobileone",)),
)
_TIMM_FAMILIES = (
    ("conv_stem.weight", ("mobilenet", "efficientnet", "tf_", "ghostnet", "mnasnet", "fbnet", "lcnet", "tinynet")),
    ("conv1.weight", ("resnet", "resnext", "seresne", "res2ne", "wide_resnet", "skresne", "ecaresnet", "dla", "hrnet")),
    ("conv1.0.weight", ("resnet", "resnext", "seresnet", "ecaresnet", "resnest")),
    ("stem.conv.weight", ("regnet", "gernet", "rexnet", "repvgg")),
    ("features_0.weight", ("vgg",)),
    ("features_conv0.weight", ("densenet",)),
)
_UNTRACED = (
    ("encoder.patch_embed1.proj.weight", "a Mix Transformer (mit_b0 to mit_b5)"),
    ("encoder.model.blocks.0.attn.qkv.weight", "a Vision Transformer (tu-vit)"),
    ("encoder.model.layers_0.blocks.0.attn.qkv.weight", "a Swin Transformer (tu-swin)"),
)
_LONGEST_SEARCH_S = 120.0
# timm has over a thousand networks; these are looked at before all others.
_COMMON = (
    "mobilenetv3_large_100", "mobilenetv3_small_100", "mobilenetv2_100", "efficientnet_b0", "efficientnet_b1",
    "efficientnet_b2", "efficientnet_b3", "efficientnet_b4", "efficientnet_lite0", "resnet18", "resnet34", "resnet50",
    "resnet101", "resnet18d", "resnet34d", "resnet50d", "seresnet50", "resnext50_32x4d", "regnetx_002", "regnety_002",
    "regnety_004", "regnety_008", "densenet121", "vgg16_bn", "hrnet_w18", "res2net50_26w_4s", "mobilenetv4_conv_small",
    "mobilenetv4_conv_medium", "tf_efficientnet_b0", "tf_efficientnetv2_b0", "tf_mobilenetv3_large_100",
    "tf_efficientnet_lite0", "ghostnet_100", "dla34", "repvgg_a0", "rexnet_100", "gernet_s",
)  # fmt: skip


def layout(weights: ForeignWeights, meta: Mapping[str, Any], settings: Settings, encoder: str | None = None) -> Layout:
    """No dilation; the decoder reads one stage, by default the third, and the later ones are in the file unused."""
    _ensure_known_decoder(weights)
    named = settings.get("encoder_name")
    encoder = encoder or (named if isinstance(named, str) else None)
    assumed = ["align_corners=True"]
    read = weights.shape("decoder.psp.blocks.0.pool.1.0.weight")[1]
    if _is_resnet(weights) and not (encoder or "").startswith(("tu-", "timm-")):
        return _of_resnet(weights, settings, read, assumed)
    name, plan = _from_package(weights, settings, encoder, read, assumed)
    return Layout(
        _NAMES,
        {"align_corners": True},
        assumed=tuple(assumed),
        left_out=(*_HEADS_LEFT_OUT, ("encoder.", "the decoder reads what comes before it")),
        features_last=True,
        preprocessing=_preprocessing(name),
        graph=plan,
        settings=settings.source,
        encoder=name,
    )


def _of_resnet(weights: ForeignWeights, settings: Settings, read: int, assumed: list[str]) -> Layout:
    first = weights.shape("encoder.conv1.weight")[0] * (4 if "encoder.layer1.0.conv3.weight" in weights else 1)
    stages = (read // first).bit_length()
    return Layout(
        _NAMES,
        {"stages": stages, "output_stride": 2 << stages, "align_corners": True},
        assumed=tuple(assumed),
        left_out=(
            *(
                (f"encoder.layer{stage}.", f"the decoder reads layer{stages} and nothing after it")
                for stage in range(stages + 1, 5)
            ),
            *_HEADS_LEFT_OUT,
        ),
        features_last=True,
        settings=settings.source,
    )


def _is_resnet(weights: ForeignWeights) -> bool:
    """Whether the encoder has torchvision's layout and no layer beside it."""
    if "encoder.conv1.weight" not in weights or "encoder.layer1.0.conv2.weight" not in weights:
        return False
    known = re.compile(
        r"encoder\.(conv1|bn1|fc|layer[1-4]\.\d+\.(conv[123]|bn[123]|downsample\.[01]))\.(weight|bias|running_mean|"
        r"running_var|num_batches_tracked)"
    )
    return all(known.fullmatch(key) for key in weights if key.startswith("encoder."))


def _ensure_known_decoder(weights: ForeignWeights) -> None:
    norm = "decoder.conv.1."
    if f"{norm}weight" in weights and f"{norm}running_mean" not in weights:
        raise ModelError(
            f"the decoder in {weights.path} was built with decoder_use_norm other than batchnorm or identity "
            "(LayerNorm, or an InstanceNorm with weights), which cannot be imported: train it with batchnorm"
        )
    others = any(key.startswith("decoder.psp.blocks.") and key.endswith(".running_mean") for key in weights)
    if not others and f"{norm}weight" not in weights and "decoder.conv.0.bias" not in weights:
        raise ModelError(
            f"the decoder in {weights.path} was built with decoder_use_norm='instancenorm', which cannot be imported: "
            "train it with batchnorm"
        )


def _from_package(
    weights: ForeignWeights, settings: Settings, encoder: str | None, read: int, assumed: list[str]
) -> tuple[str, GraphPlan]:
    """The encoder that has these tensors, as nodes."""
    if not available("segmentation_models_pytorch"):
        raise ModelError(
            f"the encoder in {weights.path} is not a ResNet, and the package that describes it is not installed: "
            "pip install segmentation-models-pytorch"
        )
    package = require("segmentation_models_pytorch", "import an encoder of it")
    untraced = next((what for key, what in _UNTRACED if key in weights), None)
    if untraced:
        raise ModelError(
            f"the encoder in {weights.path} is {untraced}, which cannot be imported: export the network to ONNX where "
            "it was trained, and use `pspnet-edge adapt`"
        )
    wanted = settings.get("encoder_depth")
    depths = (wanted,) if isinstance(wanted, int) and wanted in _DEPTHS else _DEPTHS
    shapes = {key: tuple(weights.tensor_shape(key)) for key in weights if key.startswith("encoder.")}
    names = [encoder] if encoder else None
    found: list[tuple[str, nn.Module, int]] = []
    for name in names or _candidates(package, weights):
        module, depth = _fitting(package, name, depths, shapes, read)
        if module is not None:
            found.append((name, module, depth))
            break
    if not found:
        if encoder:
            raise OptionError(
                f"the tensors in {weights.path} are not those of an encoder {encoder}: leave --encoder out to have it "
                "recognized"
            )
        raise ModelError(
            f"the encoder in {weights.path} was not recognized among those of segmentation-models-pytorch "
            f"{package.__version__}: name it with --encoder, e.g. --encoder tu-mobilenetv3_large_100"
        )
    name, module, depth = found[0]
    if not wanted and len(_depths_of(package, name, shapes, read, module)) > 1:
        assumed.append(f"encoder_depth={depth}")
    if not encoder:
        twin = _twin(package, name, depth, shapes)
        also = f"; {twin} has the same and pads otherwise: --encoder {twin}" if twin else ""
        assumed.append(f"encoder {name} by its tensors{also}")
    channels = _input_channels(module)
    return name, trace(module.eval(), "encoder.", channels, name)


def _candidates(package: Any, weights: ForeignWeights) -> Iterator[str]:
    every = list(package.encoders.get_encoder_names())
    if any(key.startswith("encoder.model.") for key in weights):
        yield from _of_timm(weights)
        return
    for key, beginnings in _FAMILIES:
        if key in weights:
            yield from (name for name in every if name.startswith(beginnings))
            return
    yield from every


def _of_timm(weights: ForeignWeights) -> Iterator[str]:
    """Names of timm's networks: the common ones of the family first, then all of it, then the others."""
    import timm

    end = time.monotonic() + _LONGEST_SEARCH_S
    beginnings = next((names for key, names in _TIMM_FAMILIES if f"encoder.model.{key}" in weights), ("",))
    every = [*_COMMON, *(name for name in timm.list_models() if name not in _COMMON)]
    for name in (*[n for n in every if n.startswith(beginnings)], *[n for n in every if not n.startswith(beginnings)]):
        if time.monotonic() > end:
            return
        yield f"tu-{name}"


def _twin(package: Any, name: str, depth: int, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Another network of timm with the same tensors that computes something else: TensorFlow's pads otherwise."""
    if not name.startswith("tu-"):
        return None
    other = f"tu-{name[6:]}" if name.startswith("tu-tf_") else f"tu-tf_{name[3:]}"
    module = _made(package, other, depth, 3)
    return other if module is not None and _agreement(module, shapes) else None


def _fitting(
    package: Any, name: str, depths: tuple[int, ...], shapes: Mapping[str, tuple[int, ...]], read: int
) -> tuple[nn.Module | None, int]:
    """The encoder at the first depth whose tensors and output agree with the file."""
    for depth in depths:
        module = _made(package, name, depth, 3)
        if module is None:
            return None, 0
        channels = _agreement(module, shapes)
        if channels and module.out_channels[-1] == read:  # type: ignore[index]
            if channels != 3:
                module = _made(package, name, depth, channels)
            return module, depth
        if not name.startswith("tu-") and not channels:
            return None, 0  # the tensors of these do not depend on the depth
    return None, 0


def _made(package: Any, name: str, depth: int, channels: int) -> nn.Module | None:
    try:
        with warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")
            module: nn.Module = package.encoders.get_encoder(name, in_channels=channels, depth=depth, weights=None)
            return module
    except Exception:  # an unknown name, a depth that it does not have, or a network that cannot be made like this
        return None


def _agreement(module: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The input channels of the file where all else is as in the module; 0 where it is not."""
    own = {f"encoder.{key}": tuple(value.shape) for key, value in module.state_dict().items()}
    counted = {key for key in own if key.endswith("num_batches_tracked")}
    if not (set(own) - counted) <= set(shapes):
        return 0
    extra = [key for key in shapes if key not in own and not key.startswith(("encoder.fc.", "encoder.classifier."))]
    if [key for key in extra if not key.endswith("num_batches_tracked")]:
        return 0
    channels = 3
    for key, shape in own.items():
        theirs = shapes.get(key, shape)
        if theirs == shape:
            continue
        if len(shape) != 4 or shape[1] != 3 or (theirs[0], *theirs[2:]) != (shape[0], *shape[2:]):
            return 0
        channels = theirs[1]
    return channels


def _depths_of(
    package: Any, name: str, shapes: Mapping[str, tuple[int, ...]], read: int, module: nn.Module
) -> list[int]:
    if name.startswith("tu-"):
        return [0]
    found = []
    for depth in _DEPTHS:
        other = _made(package, name, depth, 3)
        if other is not None and other.out_channels[-1] == read:  # type: ignore[index]
            found.append(depth)
    return found


def _input_channels(module: nn.Module) -> int:
    return next(inner.in_channels for inner in module.modules() if isinstance(inner, nn.Conv2d))


def _preprocessing(name: str) -> Preprocessing:
    """ImageNet's for all but the encoders whose weights were made for another scale."""
    half = ("inceptionv4", "inceptionresnetv2", "xception", "dpn", "timm-tf_efficientnet_lite")
    if name.startswith(half):
        return Preprocessing((127.5,) * 3, (127.5,) * 3, "rgb", f"what {name}'s ImageNet weights take")
    return Preprocessing()
