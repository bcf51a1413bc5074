"""Imported networks compute what the ones they come from compute.

Where the other project cannot be installed, an independent reference stands in for it: a function over a state dict
with the project's own keys, written from its layout. The state dict comes to be while the function first runs, each
tensor drawn where it is first asked for, so its keys are those that the reference uses and no others.
"""

from __future__ import annotations

import importlib.machinery
import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pspnet_edge.model.foreign.importer import Imported, import_checkpoint

SIZES = ((65, 97), (96, 128))
TOLERANCE = 1e-4


class Tensors:
    """Random tensors by key, the same at every run."""

    def __init__(self) -> None:
        self.state: dict[str, Tensor] = {}
        self._random = torch.Generator().manual_seed(0)

    def normal(self, key: str, *shape: int, std: float = 0.1) -> Tensor:
        return self.state.setdefault(key, torch.randn(*shape, generator=self._random) * std)

    def uniform(self, key: str, low: float, high: float, *shape: int) -> Tensor:
        return self.state.setdefault(key, low + (high - low) * torch.rand(*shape, generator=self._random))

    def convolution(self, x: Tensor, key: str, width: int, kernel: int, stride: int = 1, dilation: int = 1) -> Tensor:
        std = (2 / (x.shape[1] * kernel**2)) ** 0.5
        weight = self.normal(f"{key}.weight", width, x.shape[1], kernel, kernel, std=std)
        return F.conv2d(x, weight, None, stride, dilation * (kernel // 2), dilation)

    def with_bias(self, x: Tensor, key: str, width: int, kernel: int) -> Tensor:
        return self.convolution(x, key, width, kernel) + self.normal(f"{key}.bias", width)[:, None, None]

    def norm(self, x: Tensor, key: str, mean: str = "running_mean", variance: str = "running_var") -> Tensor:
        width = x.shape[1]
        return F.batch_norm(
            x,
            self.normal(f"{key}.{mean}", width),
            self.uniform(f"{key}.{variance}", 0.5, 1.5, width),
            # Below 1 on average, so that a hundred residual blocks do not blow the logits up.
            self.uniform(f"{key}.weight", 0.2, 0.6, width),
            self.normal(f"{key}.bias", width),
        )


Reference = Callable[[Tensors, Tensor], Tensor]
"""From an input to logits that are not resized."""


def torchvision_block(
    t: Tensors, x: Tensor, key: str, width: int, stride: int, dilations: tuple[int, int], bottleneck: bool
) -> Tensor:
    """A block with torchvision's keys; ``dilations`` of its first and second 3×3 convolution."""
    if bottleneck:
        y = F.relu(t.norm(t.convolution(x, f"{key}.conv1", width, 1), f"{key}.bn1"))
        y = F.relu(t.norm(t.convolution(y, f"{key}.conv2", width, 3, stride, dilations[0]), f"{key}.bn2"))
        y = t.norm(t.convolution(y, f"{key}.conv3", 4 * width, 1), f"{key}.bn3")
    else:
        y = F.relu(t.norm(t.convolution(x, f"{key}.conv1", width, 3, stride, dilations[0]), f"{key}.bn1"))
        y = t.norm(t.convolution(y, f"{key}.conv2", width, 3, 1, dilations[1]), f"{key}.bn2")
    if x.shape != y.shape:
        x = t.norm(t.convolution(x, f"{key}.downsample.0", y.shape[1], 1, stride), f"{key}.downsample.1")
    return F.relu(x + y)


def semseg(counts: tuple[int, ...], classes: int = 11, bins: tuple[int, ...] = (1, 2, 3, 6)) -> Reference:
    """hszhao/semseg: stem 64-64-128, every block of layer3 dilated by 2 and of layer4 by 4, corners aligned."""

    def run(t: Tensors, x: Tensor) -> Tensor:
        for place, width, stride in ((0, 64, 2), (3, 64, 1), (6, 128, 1)):
            x = F.relu(t.norm(t.convolution(x, f"layer0.{place}", width, 3, stride), f"layer0.{place + 1}"))
        x = F.max_pool2d(x, 3, 2, 1)
        for stage, (count, dilation) in enumerate(zip(counts, (1, 1, 2, 4))):
            for index in range(count):
                stride = 2 if stage == 1 and index == 0 else 1
                key = f"layer{stage + 1}.{index}"
                x = torchvision_block(t, x, key, 64 << stage, stride, (dilation, dilation), bottleneck=True)
            if stage == 2:
                aux = F.relu(t.norm(t.convolution(x, "aux.0", 256, 3), "aux.1"))
                t.with_bias(aux, "aux.4", classes, 1)
        parts = [x]
        for index, size in enumerate(bins):
            y = F.adaptive_avg_pool2d(x, size)
            y = t.convolution(y, f"ppm.features.{index}.1", x.shape[1] // len(bins), 1)
            y = F.relu(t.norm(y, f"ppm.features.{index}.2"))
            parts.append(F.interpolate(y, x.shape[2:], mode="bilinear", align_corners=True))
        x = F.relu(t.norm(t.convolution(torch.cat(parts, 1), "cls.0", 512, 3), "cls.1"))
        return t.with_bias(x, "cls.4", classes, 1)

    return run


def mmseg(counts: tuple[int, ...], *, bottleneck: bool, deep_stem: bool) -> Reference:
    """mmsegmentation: contracted dilation, and in a basic block none in the second convolution."""

    def run(t: Tensors, x: Tensor) -> Tensor:
        if deep_stem:
            for place, width, stride in ((0, 32, 2), (3, 32, 1), (6, 64, 1)):
                x = t.convolution(x, f"backbone.stem.{place}", width, 3, stride)
                x = F.relu(t.norm(x, f"backbone.stem.{place + 1}"))
        else:
            x = F.relu(t.norm(t.convolution(x, "backbone.conv1", 64, 7, 2), "backbone.bn1"))
        x = F.max_pool2d(x, 3, 2, 1)
        for stage, (count, dilation) in enumerate(zip(counts, (1, 1, 2, 4))):
            for index in range(count):
                stride = 2 if stage == 1 and index == 0 else 1
                first = max(dilation // 2, 1) if index == 0 else dilation
                key = f"backbone.layer{stage + 1}.{index}"
                x = torchvision_block(t, x, key, 64 << stage, stride, (first, 1), bottleneck)
            if stage == 2:
                aux = t.convolution(x, "auxiliary_head.convs.0.conv", 256 if bottleneck else 64, 3)
                aux = F.relu(t.norm(aux, "auxiliary_head.convs.0.bn"))
                t.with_bias(aux, "auxiliary_head.conv_seg", 19, 1)
        width = 512 if bottleneck else 128
        parts = [x]
        for index, size in enumerate((1, 2, 3, 6)):
            y = t.convolution(F.adaptive_avg_pool2d(x, size), f"decode_head.psp_modules.{index}.1.conv", width, 1)
            y = F.relu(t.norm(y, f"decode_head.psp_modules.{index}.1.bn"))
            parts.append(F.interpolate(y, x.shape[2:], mode="bilinear", align_corners=False))
        x = t.convolution(torch.cat(parts, 1), "decode_head.bottleneck.conv", width, 3)
        x = F.relu(t.norm(x, "decode_head.bottleneck.bn"))
        return t.with_bias(x, "decode_head.conv_seg", 19, 1)

    return run


def paddleseg(counts: tuple[int, ...], *, bottleneck: bool) -> Reference:
    """PaddleSeg: vd stem and shortcut, biases before BatchNorm, bins read from the last to the first."""

    def norm(t: Tensors, x: Tensor, key: str) -> Tensor:
        return t.norm(x, f"{key}._batch_norm", "_mean", "_variance")

    def layer(t: Tensors, x: Tensor, key: str, width: int, kernel: int, stride: int = 1, dilation: int = 1) -> Tensor:
        return norm(t, t.convolution(x, f"{key}._conv", width, kernel, stride, dilation), key)

    def biased(t: Tensors, x: Tensor, key: str, width: int, kernel: int) -> Tensor:
        return F.relu(norm(t, t.with_bias(x, f"{key}._conv", width, kernel), key))

    def block(t: Tensors, x: Tensor, key: str, width: int, stride: int, dilation: int, short: bool) -> Tensor:
        if bottleneck:
            y = F.relu(layer(t, x, f"{key}.conv0", width, 1))
            y = F.relu(layer(t, y, f"{key}.conv1", width, 3, stride, dilation))
            y = layer(t, y, f"{key}.conv2", 4 * width, 1)
        else:
            y = F.relu(layer(t, x, f"{key}.conv0", width, 3, stride, dilation))
            y = layer(t, y, f"{key}.conv1", width, 3, 1, dilation)
        if short:  # of the first block of every stage, even where the shapes agree
            if stride == 2:
                x = F.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False)
            x = layer(t, x, f"{key}.short", y.shape[1], 1)
        return F.relu(x + y)

    def run(t: Tensors, x: Tensor) -> Tensor:
        for number, width, stride in ((1, 32, 2), (2, 32, 1), (3, 64, 1)):
            x = F.relu(layer(t, x, f"backbone.conv1_{number}", width, 3, stride))
        x = F.max_pool2d(x, 3, 2, 1)
        for stage, (count, dilation) in enumerate(zip(counts, (1, 1, 2, 4))):
            for index in range(count):
                stride = 2 if stage == 1 and index == 0 else 1
                x = block(t, x, f"backbone.bb_{stage}_{index}", 64 << stage, stride, dilation, short=index == 0)
            if stage == 2:
                aux = biased(t, x, "head.auxlayer.conv_bn_relu", x.shape[1] // 4, 3)
                t.with_bias(aux, "head.auxlayer.conv", 19, 1)
        pooled = []
        for index, size in enumerate((1, 2, 3, 6)):
            y = biased(t, F.adaptive_avg_pool2d(x, size), f"head.psp_module.stages.{index}.1", x.shape[1] // 4, 1)
            pooled.append(F.interpolate(y, x.shape[2:], mode="bilinear", align_corners=False))
        x = biased(t, torch.cat([x, *reversed(pooled)], 1), "head.psp_module.conv_bn_relu2", 1024, 3)
        return t.with_bias(x, "head.conv", 19, 1)

    return run


def save_like_torch(state: dict[str, Tensor], path: Path) -> None:
    """As semseg and mmseg do: wrapped by DataParallel, the optimiser beside it."""
    torch.save({"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}, path)


def save_like_paddle(state: dict[str, Tensor], path: Path) -> None:
    """As Paddle does: a pickle of arrays, and a table of names beside them."""
    arrays: dict[str, Any] = OrderedDict((key, value.numpy()) for key, value in state.items())
    arrays["StructuredToParameterName@@"] = {key: f"parameter_{index}" for index, key in enumerate(state)}
    path.write_bytes(pickle.dumps(arrays, protocol=4))


def assert_same(reference: Reference, format_name: str, path: Path, bins: tuple[int, ...] | None = None) -> Imported:
    tensors = Tensors()
    with torch.inference_mode():
        reference(tensors, torch.zeros(1, 3, *SIZES[0]))
        (save_like_paddle if format_name == "paddleseg" else save_like_torch)(tensors.state, path)
        imported = import_checkpoint(path, format_name, bins=bins)
        for size_hw in SIZES:
            x = torch.randn(1, 3, *size_hw, generator=torch.Generator().manual_seed(1))
            expected, ours = reference(tensors, x), imported.model(x)
            assert expected.std() > 0.1, "the reference must say something"
            assert float((ours - expected).abs().max()) <= TOLERANCE
    return imported


def test_semseg_resnet50(tmp_path: Path) -> None:
    imported = assert_same(semseg((3, 4, 6, 3)), "semseg", tmp_path / "a.pth")
    assert imported.model.preset == "pspnet_r50"
    assert imported.model.architecture == {"align_corners": True, "stem_widths": [64, 64, 128]}
    assert imported.left_out == {"epoch": "training state"}


@pytest.mark.slow
def test_semseg_resnet101(tmp_path: Path) -> None:
    assert assert_same(semseg((3, 4, 23, 3)), "semseg", tmp_path / "a.pth").model.preset == "pspnet_r101"


def test_semseg_with_other_bins(tmp_path: Path) -> None:
    imported = assert_same(semseg((3, 4, 6, 3), bins=(1, 4)), "semseg", tmp_path / "a.pth", bins=(1, 4))
    assert imported.model.shape.bins == (1, 4)
    assert imported.model.shape.pyramid_width == 1024


@pytest.mark.parametrize(
    ("preset", "counts", "bottleneck", "deep_stem"),
    [
        ("pspnet_r18", (2, 2, 2, 2), False, False),
        ("pspnet_r18", (2, 2, 2, 2), False, True),
        ("pspnet_r50", (3, 4, 6, 3), True, True),
    ],
)
def test_mmseg(preset: str, counts: tuple[int, ...], bottleneck: bool, deep_stem: bool, tmp_path: Path) -> None:
    imported = assert_same(mmseg(counts, bottleneck=bottleneck, deep_stem=deep_stem), "mmseg", tmp_path / "a.pth")
    assert imported.model.preset == preset
    assert imported.model.shape.aux_width == (256 if bottleneck else 64)


@pytest.mark.parametrize(
    ("preset", "counts", "bottleneck"),
    [("pspnet_r18", (2, 2, 2, 2), False), ("pspnet_r50", (3, 4, 6, 3), True)],
)
def test_paddleseg(preset: str, counts: tuple[int, ...], bottleneck: bool, tmp_path: Path) -> None:
    imported = assert_same(paddleseg(counts, bottleneck=bottleneck), "paddleseg", tmp_path / "a.pdparams")
    assert imported.model.preset == preset
    assert imported.model.mean == imported.model.std == (127.5, 127.5, 127.5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("encoder", "depth"), [("resnet18", 3), ("resnet34", 3), ("resnet50", 3), ("resnet18", 4), ("resnet18", 5)]
)
def test_segmentation_models_pytorch(
    encoder: str, depth: int, tmp_path: Path, randomise_norms: Callable[[nn.Module], None]
) -> None:
    smp = pytest.importorskip(
        "segmentation_models_pytorch", reason="segmentation-models-pytorch is not installed: it is in the dev extra"
    )
    torch.manual_seed(0)
    theirs = smp.PSPNet(encoder, encoder_weights=None, classes=7, encoder_depth=depth, upsampling=2**depth).eval()
    randomise_norms(theirs)
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    imported = import_checkpoint(tmp_path / "a.pth", "smp")
    for size_hw in ((96, 160), (224, 128)):
        x = torch.randn(1, 3, *size_hw)
        with torch.inference_mode():
            expected, ours = theirs(x), imported.model(x)
        ours = F.interpolate(ours, size_hw, mode="bilinear", align_corners=imported.model.align_corners)
        assert float((ours - expected).abs().max()) <= TOLERANCE
    assert {key.split(".")[1] for key in imported.left_out} == {f"layer{stage}" for stage in range(depth, 5)}


@pytest.fixture
def without_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    """mmsegmentation imports mmcv's compiled operators, which PSPNet does not use and mmcv-lite does not have."""

    class Operators(types.ModuleType):
        __path__: tuple[str, ...] = ()

        def __getattr__(self, name: str) -> type:
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

    module = Operators("mmcv.ops")
    module.__spec__ = importlib.machinery.ModuleSpec("mmcv.ops", None)
    monkeypatch.setitem(sys.modules, "mmcv.ops", module)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("without_operators")
@pytest.mark.parametrize(
    ("kind", "depth", "contract"),
    [("ResNet", 18, True), ("ResNetV1c", 50, True), ("ResNetV1c", 18, False), ("ResNetV1d", 50, True)],
)
def test_mmsegmentation_itself(
    kind: str, depth: int, contract: bool, tmp_path: Path, randomise_norms: Callable[[nn.Module], None]
) -> None:
    reason = "mmsegmentation is not installed: pip install --no-deps mmsegmentation mmcv-lite==2.1.0 mmengine"
    pytest.importorskip("mmseg", reason=reason)
    resnet = pytest.importorskip("mmseg.models.backbones.resnet", reason=reason)
    heads = pytest.importorskip("mmseg.models.decode_heads", reason=reason)
    torch.manual_seed(0)
    last = 2048 if depth == 50 else 512
    settings = {"num_classes": 19, "align_corners": False, "norm_cfg": {"type": "BN"}}
    theirs = nn.Module()
    theirs.backbone = getattr(resnet, kind)(
        depth=depth, dilations=(1, 1, 2, 4), strides=(1, 2, 1, 1), contract_dilation=contract
    )
    theirs.decode_head = heads.PSPHead(
        in_channels=last, in_index=3, channels=last // 4, pool_scales=(1, 2, 3, 6), **settings
    )
    theirs.auxiliary_head = heads.FCNHead(
        in_channels=last // 2, in_index=2, channels=last // 8, num_convs=1, concat_input=False, **settings
    )
    randomise_norms(theirs.eval())
    meta = {"cfg": f"contract_dilation={contract}, pool_scales=(1, 2, 3, 6), align_corners=False"}
    torch.save({"meta": meta, "state_dict": theirs.state_dict()}, tmp_path / "a.pth")
    imported = import_checkpoint(tmp_path / "a.pth", "mmseg")
    for size_hw in SIZES:
        x = torch.randn(1, 3, *size_hw)
        with torch.inference_mode():
            features = theirs.backbone(x)
            expected, ours = theirs.decode_head(features), imported.model.forward_with_aux(x)
            assert float((ours[0] - expected).abs().max()) <= TOLERANCE
            assert float((ours[1] - theirs.auxiliary_head(features)).abs().max()) <= TOLERANCE


D32 = {"dilations": (1, 1, 2, 4), "strides": (1, 2, 2, 2), "contract_dilation": True}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("without_operators")
@pytest.mark.parametrize(
    ("kind", "settings", "name", "stated"),
    [
        ("ResNetV1c", {"depth": 50, **D32}, "a.pth", True),
        ("ResNet", {"depth": 18, **D32}, "pspnet_r18b-d32_512x1024_80k_cityscapes.pth", False),
        ("ResNetV1c", {"depth": 18}, "a.pth", True),
        ("ResNetV1c", {"depth": 18, "dilations": (1, 1, 1, 2), "strides": (1, 2, 2, 1)}, "a.pth", True),
        ("ResNet", {"depth": 50, "style": "caffe", **D32}, "a.pth", True),
        (
            "MobileNetV2",
            {"strides": (1, 2, 2, 1, 1, 1, 1), "dilations": (1, 1, 1, 2, 2, 4, 4), "out_indices": (1, 2, 4, 6)},
            "a.pth",
            False,
        ),
    ],
)
def test_the_configuration_of_mmsegmentation_decides(
    kind: str,
    settings: dict[str, Any],
    name: str,
    stated: bool,
    tmp_path: Path,
    randomise_norms: Callable[[nn.Module], None],
) -> None:
    reason = "mmsegmentation is not installed: pip install --no-deps mmsegmentation mmcv-lite==2.1.0 mmengine"
    pytest.importorskip("mmseg", reason=reason)
    backbones = pytest.importorskip("mmseg.models.backbones", reason=reason)
    heads = pytest.importorskip("mmseg.models.decode_heads", reason=reason)
    torch.manual_seed(0)
    last = {"MobileNetV2": 320}.get(kind, 2048 if settings.get("depth") == 50 else 512)
    common = {"num_classes": 5, "align_corners": False, "norm_cfg": {"type": "BN"}}
    theirs = nn.Module()
    theirs.backbone = getattr(backbones, kind)(**settings)
    theirs.decode_head = heads.PSPHead(in_channels=last, in_index=3, channels=32, pool_scales=(1, 2, 3, 6), **common)
    randomise_norms(theirs.eval())
    backbone = ", ".join(f"{key}={value!r}" for key, value in {"type": kind, **settings}.items())
    text = f"model = dict(backbone=dict({backbone}), decode_head=dict(type='PSPHead', align_corners=False))"
    torch.save({"meta": {"cfg": text} if stated else {}, "state_dict": theirs.state_dict()}, tmp_path / name)
    imported = import_checkpoint(tmp_path / name)
    for size_hw in SIZES:
        x = torch.randn(1, 3, *size_hw)
        with torch.inference_mode():
            expected = theirs.decode_head(theirs.backbone(x))
            assert float((imported.model(x) - expected).abs().max()) <= TOLERANCE


@pytest.mark.parametrize("arch", ["resnet18", "mobilenetv2"])
def test_csails_two_files_are_one_network(
    arch: str, tmp_path: Path, randomise_norms: Callable[[nn.Module], None]
) -> None:
    models = pytest.importorskip("mit_semseg.models.models", reason="the dev extra is not installed")
    torch.manual_seed(0)
    if arch == "mobilenetv2":
        encoder = models.MobileNetV2Dilated(models.mobilenet.mobilenetv2(pretrained=False), dilate_scale=8)
    else:
        encoder = models.ResnetDilated(models.resnet.resnet18(pretrained=False), dilate_scale=8)
    width = 320 if arch == "mobilenetv2" else 512
    decoder = models.ModelBuilder.build_decoder(arch="ppm_deepsup", fc_dim=width, num_class=7)
    for part, name in ((encoder, "encoder"), (decoder, "decoder")):
        randomise_norms(part.eval())
        torch.save(part.state_dict(), tmp_path / f"{name}_epoch_20.pth")
    imported = import_checkpoint(tmp_path / "encoder_epoch_20.pth")
    assert imported.format == "csail"
    for size_hw in SIZES:
        x = torch.randn(1, 3, *size_hw)
        with torch.inference_mode():
            expected = decoder(encoder(x, return_feature_maps=True))
            logarithms = expected["logits"] if isinstance(expected, dict) else expected[0]
            ours = imported.model(x).log_softmax(1)
            assert float((ours - logarithms.log_softmax(1)).abs().max()) <= TOLERANCE


@pytest.mark.parametrize(("stride", "align"), [(16, False), (8, True)])
def test_paddlesegs_yaml_decides(stride: int, align: bool, tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    tensors = Tensors()
    with torch.inference_mode():
        paddleseg((2, 2, 2, 2), bottleneck=False)(tensors, torch.zeros(1, 3, *SIZES[0]))
    save_like_paddle(tensors.state, tmp_path / "model.pdparams")
    text = f"model: {{type: PSPNet, align_corners: {align}, backbone: {{type: ResNet18_vd, output_stride: {stride}}}}}"
    normalize = "val_dataset: {transforms: [{type: Normalize, mean: [0.485, 0.456, 0.406], std: [0.2, 0.2, 0.2]}]}"
    (tmp_path / "pspnet.yml").write_text(f"{text}\n{normalize}\n")
    imported = import_checkpoint(tmp_path / "model.pdparams")
    assert imported.remarks == ("read pspnet.yml",)
    assert (imported.model.backbone.output_stride, imported.model.align_corners) == (stride, align)
    assert imported.model.std == (51.0, 51.0, 51.0)
