"""mmsegmentation, versions 0 and 1."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...errors import ModelError
from ..imagenet import MEAN, STD
from . import mobilenet
from .layout import Layout, Preprocessing
from .settings import Settings, merged, numbers, whole_numbers
from .weights import ForeignWeights

MARKER = "decode_head.psp_modules."

_NAMES = (
    (r"pyramid\.stages\.(\d+)\.0", r"decode_head.psp_modules.\1.1.conv"),
    (r"pyramid\.stages\.(\d+)\.1", r"decode_head.psp_modules.\1.1.bn"),
    (r"fuse\.0", r"decode_head.bottleneck.conv"),
    (r"fuse\.1", r"decode_head.bottleneck.bn"),
    (r"classifier", r"decode_head.conv_seg"),
    (r"aux_head\.0\.0", r"auxiliary_head.convs.0.conv"),
    (r"aux_head\.0\.1", r"auxiliary_head.convs.0.bn"),
    (r"aux_head\.2", r"auxiliary_head.conv_seg"),
)
_SHALLOW_STEM = ((r"backbone\.stem\.0", r"backbone.conv1"), (r"backbone\.stem\.1", r"backbone.bn1"))
# An average pooling comes before the convolution of such a shortcut; it has a place but no weights.
_AVERAGE_SHORTCUT = (
    (r"(backbone\..+)\.downsample\.0", r"\1.downsample.1"),
    (r"(backbone\..+)\.downsample\.1", r"\1.downsample.2"),
)
# Of all its released models: those of stride 8 and of stride 32 have these dilations.
_D8, _D16, _D32 = ((1, 2, 1, 1), (1, 1, 2, 4)), ((1, 2, 2, 1), (1, 1, 1, 2)), ((1, 2, 2, 2), (1, 1, 2, 4))
_USUAL_THRESHOLD = 0.3
_LEFT_OUT = (
    ("auxiliary_head.", "only training reads it"),
    ("decode_head.loss_decode", "only training reads it"),
    ("backbone.fc.", "it classifies whole images"),
)


def layout(weights: ForeignWeights, meta: Mapping[str, Any], settings: Settings) -> Layout:
    """A dilated stage begins with half its dilation, and the second convolution of a basic block does not dilate.

    What weights do not show is read from the configuration, which most files carry, or from the name of the file.
    """
    settings = _with_bases(settings) if settings.missing else settings or _from_name(weights.path.name)
    _ensure_known(weights, settings)
    backbone, head = settings.table("model", "backbone"), _first(settings.get("model", "decode_head"))
    text = settings.text
    assumed: list[str] = []

    def known(value: Any, usual: Any, phrase: str) -> Any:
        if value is None and not settings:
            assumed.append(phrase)
        return usual if value is None else value

    align_corners = known(head.get("align_corners", _flag("align_corners", text)), False, "align_corners=False")
    threshold = head.get("threshold")
    bins = whole_numbers(head.get("pool_scales"), "pool_scales") or whole_numbers(
        _numbers(r"pool_scales=\(([\d,\s]+)\)", text), "pool_scales"
    )
    dataset = meta.get("dataset_meta")
    classes = dataset.get("classes") if isinstance(dataset, Mapping) else meta.get("CLASSES")
    fixed: dict[str, Any] = {"align_corners": bool(align_corners)}
    common: dict[str, Any] = {
        "bins": bins,
        "class_names": tuple(map(str, classes)) if isinstance(classes, (list, tuple)) and classes else None,
        "preprocessing": _preprocessing(settings),
        "threshold": threshold if isinstance(threshold, float) and 0 < threshold < 1 else _USUAL_THRESHOLD,
        "settings": settings.source,
        "left_out": _LEFT_OUT,
        "norm_eps": _norm_eps(backbone, head),
    }
    if "backbone.conv1.conv.weight" in weights and "backbone.layer7.0.conv.0.conv.weight" in weights:
        strides, dilations = _strides(backbone)
        if strides is None:
            assumed.append("output stride 8")
        graph = mobilenet.of_mmseg(
            weights, strides or (1, 2, 2, 1, 1, 1, 1), dilations or (1, 1, 1, 2, 2, 4, 4), _aux_index(settings)
        )
        return Layout(_NAMES, fixed, assumed=tuple(assumed), graph=graph, **common)
    shallow = "backbone.conv1.weight" in weights
    average = "backbone.layer2.0.downsample.2.weight" in weights
    names = (*(_SHALLOW_STEM if shallow else ()), *(_AVERAGE_SHORTCUT if average else ()), *_NAMES)
    contract = known(
        backbone.get("contract_dilation", _flag("contract_dilation", text)), not settings, "contract_dilation=True"
    )
    strides, dilations = _strides(backbone)
    if backbone:  # the class's own defaults where the configuration states none
        strides, dilations = strides or (1, 2, 2, 2), dilations or (1, 1, 1, 1)
    else:
        assumed.append("output stride 8")
        strides, dilations = _D8
    if (strides, dilations) != _D8:
        fixed |= {"strides": strides, "dilations": dilations}
    fixed |= {
        "contract_dilation": bool(contract),
        "dilate_second": False,
        "average_shortcut": average,
        "stride_first": backbone.get("style") == "caffe" or "style='caffe'" in text,
    }
    return Layout(names, fixed, assumed=tuple(assumed), **common)


def _from_name(name: str) -> Settings:
    """What the name of a released model says, e.g. pspnet_r50-d32_512x1024_80k_cityscapes….pth."""
    found = re.search(r"(?:^|[_-])d(8|16|32)(?=[_.-])", name) if name.startswith(("pspnet_", "mobilenet-v2-")) else None
    if not found or name.startswith("mobilenet"):
        return Settings()
    strides, dilations = {"8": _D8, "16": _D16, "32": _D32}[found[1]]
    backbone = {"strides": list(strides), "dilations": list(dilations), "contract_dilation": True}
    head = {"align_corners": "769x769" in name}
    return Settings("the name of the file", {"model": {"backbone": backbone, "decode_head": head}}, "")


def _with_bases(settings: Settings) -> Settings:
    """A configuration whose bases are not there, on those that the package has under their names."""
    bases = (name.rpartition("/")[2].replace("_d", "-d") for name in settings.missing)
    known = next((found for name in bases if (found := _from_name(name))), _from_name("pspnet_r50-d8.py"))
    said = f"{settings.source} (without {', '.join(settings.missing)}: taken as the released models have them)"
    return replace(settings, source=said, values=merged(known.values, settings.values))


def _ensure_known(weights: ForeignWeights, settings: Settings) -> None:
    kind = settings.get("model", "backbone", "type")
    plain = any(f"backbone.{name}.weight" in weights for name in ("conv1", "stem.0", "conv1.conv"))
    blocks = "backbone.layer1.0.conv1.weight" in weights or "backbone.layer7.0.conv.0.conv.weight" in weights
    split = "backbone.layer1.0.conv2.conv.weight" in weights or "backbone.layer1.0.conv2.fc1.weight" in weights
    if split or not (plain and blocks):
        name = kind or ("ResNeSt" if split else "one of another kind")
        raise ModelError(
            f"the backbone in {weights.path} is {name}: of mmsegmentation, ResNet, ResNetV1c, ResNetV1d, ResNeXt and "
            "MobileNetV2 can be imported; export the others to ONNX there and use `pspnet-edge adapt`"
        )
    if settings.get("model", "neck"):
        raise ModelError(
            f"{weights.path} has a neck between backbone and head ({settings.get('model', 'neck', 'type')}): "
            "only PSPNets without one can be imported"
        )


def _strides(backbone: Mapping[str, Any]) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """Strides and dilations of its stages."""
    return (
        whole_numbers(backbone.get("strides"), "strides"),
        whole_numbers(backbone.get("dilations"), "dilations"),
    )


def _first(value: Any) -> Mapping[str, Any]:
    value = value[0] if isinstance(value, list) and value else value
    return value if isinstance(value, Mapping) else {}


def _aux_index(settings: Settings) -> int:
    index = _first(settings.get("model", "auxiliary_head")).get("in_index")
    return index if isinstance(index, int) and 0 <= index < 8 else 2


def _norm_eps(backbone: Mapping[str, Any], head: Mapping[str, Any]) -> tuple[float, float]:
    values = []
    for part in (backbone, head):
        norm = part.get("norm_cfg")
        eps = norm.get("eps") if isinstance(norm, Mapping) else None
        values.append((numbers([eps], "eps") or (1e-5,))[0])
    return values[0], values[1]


def _preprocessing(settings: Settings) -> Preprocessing:
    text = settings.text
    preprocessor = settings.table("model", "data_preprocessor") or settings.table("data_preprocessor")
    if preprocessor and not settings.missing:  # the class's own defaults where the configuration states none
        preprocessor = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "bgr_to_rgb": False} | dict(preprocessor)
    found = preprocessor or settings.table("img_norm_cfg") or _normalize(settings.values)
    if not found:
        found = {field: _numbers(rf"\b{field}=\[([\d.,\s]+)\]", text) or None for field in ("mean", "std")}
        for flag in ("to_rgb", "bgr_to_rgb"):
            found[flag] = _flag(flag, text)
    mean, std = (numbers(found.get(field), field) for field in ("mean", "std"))
    to_rgb = found.get("bgr_to_rgb", found.get("to_rgb"))
    if not settings or settings.source == "the name of the file" or (settings.missing and not mean and not std):
        return Preprocessing(MEAN, STD, "rgb", "ImageNet's, as its released models have it")
    return Preprocessing(mean or MEAN, std or STD, "bgr" if to_rgb is False else "rgb", settings.source)


def _normalize(values: Any, depth: int = 0) -> Mapping[str, Any] | None:
    """The Normalize step of a pipeline, wherever it is."""
    if depth > 8:
        return None
    if isinstance(values, Mapping):
        if values.get("type") == "Normalize":
            return values
        values = list(values.values())
    if isinstance(values, list):
        for value in values:
            found = _normalize(value, depth + 1)
            if found:
                return found
    return None


def _flag(name: str, text: str) -> bool | None:
    found = re.search(rf"\b{name}\s*=\s*(True|False)", text)
    return None if found is None else found[1] == "True"


def _numbers(pattern: str, text: str) -> tuple[float, ...]:
    found = re.search(pattern, text)
    return tuple(float(value) for value in re.findall(r"[\d.]+", found[1])) if found else ()
