"""Imported networks of smaller projects, and of smp's other encoders, compute what the originals compute.

The references of bubbliiiing, kazuto1011 and Lextal are written from the structure of their public repositories.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pspnet_edge.errors import ModelError
from pspnet_edge.labels import CAMVID
from pspnet_edge.model.checkpoint import load_checkpoint, save_checkpoint
from pspnet_edge.model.foreign.importer import import_checkpoint
from pspnet_edge.model.pspnet import PSPNet

SIZES = ((65, 97), (96, 128))
TOLERANCE = 1e-4
Network = Callable[["Drawn", Tensor], Tensor]


class Drawn:
    """Random tensors by key, drawn where a reference first asks for them."""

    def __init__(self) -> None:
        self.state: dict[str, Tensor] = {}
        self._random = torch.Generator().manual_seed(0)

    def tensor(self, key: str, *shape: int, std: float = 0.1, around: float = 0.0) -> Tensor:
        return self.state.setdefault(key, around + torch.randn(*shape, generator=self._random) * std)

    def conv(
        self,
        x: Tensor,
        key: str,
        width: int,
        kernel: int,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> Tensor:
        inputs = x.shape[1] // groups
        weight = self.tensor(f"{key}.weight", width, inputs, kernel, kernel, std=(2 / (inputs * kernel**2)) ** 0.5)
        added = self.tensor(f"{key}.bias", width) if bias else None
        return F.conv2d(x, weight, added, stride, dilation * (kernel // 2), dilation, groups)

    def norm(self, x: Tensor, key: str) -> Tensor:
        width = x.shape[1]
        variance = self.state.setdefault(f"{key}.running_var", 0.5 + torch.rand(width, generator=self._random))
        return F.batch_norm(
            x,
            self.tensor(f"{key}.running_mean", width),
            variance,
            self.tensor(f"{key}.weight", width, std=0.05, around=0.6),
            self.tensor(f"{key}.bias", width),
        )


def bottleneck(
    t: Drawn, x: Tensor, names: dict[str, str], width: int, strides: tuple[int, int], dilation: int
) -> Tensor:
    y = F.relu(t.norm(t.conv(x, names["conv1"], width, 1, strides[0]), names["bn1"]))
    y = F.relu(t.norm(t.conv(y, names["conv2"], width, 3, strides[1], dilation), names["bn2"]))
    y = t.norm(t.conv(y, names["conv3"], 4 * width, 1), names["bn3"])
    if x.shape != y.shape:
        x = t.norm(t.conv(x, names["down"], 4 * width, 1, strides[0] * strides[1]), names["downbn"])
    return F.relu(x + y)


def pooled(x: Tensor, y: Tensor, align: bool) -> Tensor:
    return F.interpolate(y, x.shape[2:], mode="bilinear", align_corners=align)


def kazuto(older: bool) -> Network:
    """Bins 6, 3, 2, 1; blocks count from 1; the first version had the stride in the first convolution."""

    def run(t: Drawn, x: Tensor) -> Tensor:
        for number, width, stride in ((1, 64, 2), (2, 64, 1), (3, 128, 1)):
            key = f"fcn.layer1.conv{number}"
            x = F.relu(t.norm(t.conv(x, f"{key}.conv", width, 3, stride), f"{key}.bn"))
        x = F.max_pool2d(x, 3, 2, 1)
        for stage, (count, dilation) in enumerate(zip((3, 4, 6, 3), (1, 1, 2, 4))):
            for index in range(count):
                key = f"fcn.layer{stage + 2}.block{index + 1}"
                parts = {"conv1": "reduce", "conv2": "conv3x3", "conv3": "increase", "down": "proj"}
                names = {ours: f"{key}.{theirs}.conv" for ours, theirs in parts.items()}
                names |= {f"bn{n}": f"{key}.{parts[f'conv{n}']}.bn" for n in (1, 2, 3)} | {"downbn": f"{key}.proj.bn"}
                step = 2 if stage == 1 and index == 0 else 1
                x = bottleneck(t, x, names, 64 << stage, (step, 1) if older else (1, step), dilation)
        parts_ = [x]
        for index, size in enumerate((6, 3, 2, 1)):
            key = f"ppm.stages.{'' if older else 's'}{index}.conv"
            y = F.relu(t.norm(t.conv(F.adaptive_avg_pool2d(x, size), f"{key}.conv", 512, 1), f"{key}.bn"))
            parts_.append(pooled(x, y, False))
        x = F.relu(t.norm(t.conv(torch.cat(parts_, 1), "final.conv5_4.conv", 512, 3), "final.conv5_4.bn"))
        return t.conv(x, "final.conv6", 21, 1, bias=True)

    return run


def lextal(t: Drawn, x: Tensor) -> Tensor:
    """ResNet-18 whose first block of a stage does not dilate; branches without BatchNorm; three doublings."""
    x = F.relu(t.norm(t.conv(x, "feats.conv1", 64, 7, 2), "feats.bn1"))
    x = F.max_pool2d(x, 3, 2, 1)
    for stage, dilation in enumerate((1, 1, 2, 4)):
        for index in range(2):
            key = f"feats.layer{stage + 1}.{index}"
            stride, spread = (2 if stage == 1 else 1, 1) if index == 0 else (1, dilation)
            y = F.relu(t.norm(t.conv(x, f"{key}.conv1", 64 << stage, 3, stride, spread), f"{key}.bn1"))
            y = t.norm(t.conv(y, f"{key}.conv2", 64 << stage, 3, 1, spread), f"{key}.bn2")
            if x.shape != y.shape:
                x = t.norm(t.conv(x, f"{key}.downsample.0", 64 << stage, 1, stride), f"{key}.downsample.1")
            x = F.relu(x + y)
    branches = [
        pooled(x, t.conv(F.adaptive_avg_pool2d(x, size), f"psp.stages.{index}.1", x.shape[1], 1), False)
        for index, size in enumerate((1, 2, 3, 6))
    ]
    return doublings(t, torch.cat([*branches, x], 1))


def doublings(t: Drawn, x: Tensor) -> Tensor:
    x = F.relu(t.conv(x, "psp.bottleneck", 1024, 1, bias=True))
    for name, width in (("up_1", 256), ("up_2", 64), ("up_3", 64)):
        x = F.interpolate(x, (2 * x.shape[2], 2 * x.shape[3]), mode="bilinear", align_corners=False)
        x = t.norm(t.conv(x, f"{name}.conv.0", width, 3, bias=True), f"{name}.conv.1")
        x = F.prelu(x, t.tensor(f"{name}.conv.2.weight", 1, around=0.25))
    t.tensor("classifier.0.weight", 256, 256)  # classifies whole images
    return t.conv(x, "final.0", 7, 1, bias=True)


def lextal_squeezenet(t: Drawn, x: Tensor) -> Tensor:
    x = F.relu(t.conv(x, "feats.feat_1.0", 64, 3, 2, bias=True))
    plan = (("feat_2", 1, ((16, 64), (16, 64)), 1), ("feat_3", 1, ((32, 128), (32, 128)), 2),
            ("feat_4", 0, ((48, 192), (48, 192), (64, 256), (64, 256)), 4))  # fmt: skip
    for stage, start, widths, dilation in plan:
        if start:
            x = F.max_pool2d(x, 3, 2, 1)
        for place, (narrow, wide) in enumerate(widths, start):
            key = f"feats.{stage}.{place}"
            s = F.relu(t.conv(x, f"{key}.squeeze", narrow, 1, bias=True))
            one = F.relu(t.conv(s, f"{key}.expand1x1", wide, 1, bias=True))
            x = torch.cat([one, F.relu(t.conv(s, f"{key}.expand3x3", wide, 3, 1, dilation, bias=True))], 1)
    branches = [
        pooled(x, t.conv(F.adaptive_avg_pool2d(x, size), f"psp.stages.{index}.1", x.shape[1], 1), False)
        for index, size in enumerate((1, 2, 3, 6))
    ]
    return doublings(t, torch.cat([*branches, x], 1))


def bubbliiiing(t: Drawn, x: Tensor) -> Tensor:
    """MobileNetV2 at stride 16: the blocks from 14 on dilate by 2, the first of them by 1."""
    x = F.relu6(t.norm(t.conv(x, "backbone.features.0.0", 32, 3, 2), "backbone.features.0.1"))
    settings = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    number = 1
    for expand, width, count, step in settings:
        for index in range(count):
            key, y, inner = f"backbone.features.{number}.conv", x, x.shape[1] * expand
            stride, dilation = (step if index == 0 else 1), 1
            if number >= 14:
                stride, dilation = 1, 1 if number == 14 else 2
            place = 0
            if expand != 1:
                y, place = F.relu6(t.norm(t.conv(y, f"{key}.0", inner, 1), f"{key}.1")), 3
            y = t.conv(y, f"{key}.{place}", inner, 3, stride, dilation, groups=inner)
            y = F.relu6(t.norm(y, f"{key}.{place + 1}"))
            y = t.norm(t.conv(y, f"{key}.{place + 3}", width, 1), f"{key}.{place + 4}")
            x = x + y if stride == 1 and x.shape == y.shape and not (step == 2 and index == 0) else y
            number += 1
    key, parts = "master_branch.0", [x]
    for index, size in enumerate((1, 2, 3, 6)):
        y = t.conv(F.adaptive_avg_pool2d(x, size), f"{key}.stages.{index}.1", 80, 1)
        parts.append(pooled(x, F.relu(t.norm(y, f"{key}.stages.{index}.2")), True))
    x = F.relu(t.norm(t.conv(torch.cat(parts, 1), f"{key}.bottleneck.0", 80, 3), f"{key}.bottleneck.1"))
    return t.conv(x, "master_branch.1", 21, 1, bias=True)


@pytest.mark.parametrize(
    ("reference", "format_name", "bgr"),
    [
        (kazuto(older=False), "kazuto1011", True),
        (kazuto(older=True), "kazuto1011", True),
        (lextal, "lextal", False),
        (lextal_squeezenet, "lextal", False),
        (bubbliiiing, "bubbliiiing", False),
    ],
)
def test_small_projects(reference: Network, format_name: str, bgr: bool, tmp_path: Path) -> None:
    drawn = Drawn()
    with torch.inference_mode():
        reference(drawn, torch.zeros(1, 3, *SIZES[0]))
        torch.save({f"module.{key}": value for key, value in drawn.state.items()}, tmp_path / "a.pth")
        imported = import_checkpoint(tmp_path / "a.pth")
        assert imported.format == format_name
        assert imported.preprocessing.colour == ("bgr" if bgr else "rgb")
        for size_hw in SIZES:
            x = torch.randn(1, 3, *size_hw, generator=torch.Generator().manual_seed(1))
            expected, ours = reference(drawn, x), imported.model(x.flip(1) if bgr else x)
            assert expected.std() > 0.05, "the reference must say something"
            assert float((ours - expected).abs().max()) <= TOLERANCE


def smp_network(randomise: Callable[[nn.Module], None], encoder: str, depth: int = 3, **settings: Any) -> nn.Module:
    smp = pytest.importorskip("segmentation_models_pytorch", reason="it is in the dev extra")
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network: nn.Module = smp.PSPNet(
            encoder, encoder_weights=None, encoder_depth=depth, upsampling=2**depth, **{"classes": 5, **settings}
        ).eval()
    randomise(network)
    return network


def assert_same(network: nn.Module, model: PSPNet, channels: int = 3, classes: slice = slice(None)) -> None:
    for size_hw in ((96, 160), (224, 128)):
        x = torch.randn(1, channels, *size_hw)
        with torch.inference_mode():
            expected, ours = network(x), F.interpolate(model(x), size_hw, mode="bilinear", align_corners=True)
        assert float((ours[:, classes] - expected).abs().max()) <= TOLERANCE


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("encoder", "depth"),
    [
        ("resnext50_32x4d", 3), ("se_resnet50", 3), ("efficientnet-b0", 3), ("mobilenet_v2", 5), ("vgg11", 3),
        ("densenet121", 4), ("timm-efficientnet-b0", 3), ("tu-mobilenetv3_large_100", 4),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (
            ("efficientnet-b1", 4), ("efficientnet-b2", 5), ("vgg13_bn", 3), ("vgg16", 3), ("vgg19_bn", 3),
            ("resnet152", 3), ("tu-resnet18", 4), ("tu-regnety_004", 4), ("timm-res2net50_26w_4s", 3),
        )),
    ],
)  # fmt: skip
def test_encoders_of_smp(
    encoder: str, depth: int, tmp_path: Path, randomise_norms: Callable[[nn.Module], None]
) -> None:
    theirs = smp_network(randomise_norms, encoder, depth)
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    imported = import_checkpoint(tmp_path / "a.pth")
    assert imported.encoder in (encoder, encoder.replace("timm-res", "tu-res"), "")
    save_checkpoint(tmp_path / "ours.pt", imported.model, imported.label_set, {})
    assert_same(theirs, load_checkpoint(tmp_path / "ours.pt").model)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "settings", [{"in_channels": 1}, {"in_channels": 4}, {"decoder_use_norm": False}], ids=["1", "4", "no norm"]
)
def test_other_inputs_and_decoders_of_smp(
    settings: dict[str, Any], tmp_path: Path, randomise_norms: Callable[[nn.Module], None]
) -> None:
    theirs = smp_network(randomise_norms, "resnet18", **settings)
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    model = import_checkpoint(tmp_path / "a.pth").model
    assert_same(theirs, model, settings.get("in_channels", 3))
    assert len(model.mean) == settings.get("in_channels", 3)


@pytest.mark.filterwarnings("ignore")
def test_one_logit_becomes_two_classes_with_the_threshold_between(
    tmp_path: Path, randomise_norms: Callable[[nn.Module], None]
) -> None:
    theirs = smp_network(randomise_norms, "resnet18", classes=1)
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    imported = import_checkpoint(tmp_path / "a.pth", threshold=0.6)
    assert imported.label_set.classes == ("background", "object")
    assert_same(theirs, imported.model, classes=slice(1, 2))
    x = torch.randn(1, 3, 96, 160)
    with torch.inference_mode():
        ours = F.interpolate(imported.model(x), (96, 160), mode="bilinear", align_corners=True).argmax(1)
        assert torch.equal(ours, (theirs(x)[:, 0].sigmoid() > 0.6).long())


@pytest.mark.filterwarnings("ignore")
def test_a_folder_of_save_pretrained_is_read(tmp_path: Path, randomise_norms: Callable[[nn.Module], None]) -> None:
    theirs = smp_network(randomise_norms, "mobilenet_v2", 5)
    theirs.save_pretrained(str(tmp_path / "mine"))  # type: ignore[operator]
    imported = import_checkpoint(tmp_path / "mine")
    assert imported.remarks == ("read config.json",)
    assert imported.encoder == "mobilenet_v2"
    assert_same(theirs, imported.model)


@pytest.mark.filterwarnings("ignore")
def test_the_exported_graph_computes_an_imported_network_on_its_picture(
    tmp_path: Path, randomise_norms: Callable[[nn.Module], None]
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from pspnet_edge.graph.export import model_from_network

    theirs = smp_network(randomise_norms, "efficientnet-b0", classes=11)
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    imported = import_checkpoint(tmp_path / "a.pth", mean=[0.5, 0.4, 0.3], std=[0.2, 0.25, 0.3], colour="bgr")
    graph = model_from_network(imported.model, CAMVID, {}, size_hw=(96, 160)).proto
    frame = np.random.default_rng(0).integers(0, 256, (1, 96, 160, 3), np.uint8)
    (mask,) = onnxruntime.InferenceSession(graph.SerializeToString()).run(None, {graph.graph.input[0].name: frame})
    x = torch.from_numpy(frame).permute(0, 3, 1, 2).float() / 255
    x = (x - torch.tensor([0.5, 0.4, 0.3]).reshape(1, 3, 1, 1)) / torch.tensor([0.2, 0.25, 0.3]).reshape(1, 3, 1, 1)
    with torch.inference_mode():
        expected = theirs(x).argmax(1)
    assert float((torch.from_numpy(mask) == expected).float().mean()) >= 0.999


def test_weights_that_are_not_numbers_stop(tmp_path: Path) -> None:
    drawn = Drawn()
    with torch.inference_mode():
        lextal(drawn, torch.zeros(1, 3, *SIZES[0]))
    drawn.state["final.0.bias"] = torch.full((7,), torch.nan)
    torch.save(drawn.state, tmp_path / "a.pth")
    with pytest.raises(ModelError, match=r"final\.0\.bias in .* values that are not numbers"):
        import_checkpoint(tmp_path / "a.pth")
