from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import onnxslim
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pspnet_edge.errors import OptionError
from pspnet_edge.model.pspnet import PRESETS, PSPNet

HEAVY = ("pspnet_r101", "pspnet_vgg16")
EVERY = [pytest.param(name, marks=pytest.mark.slow if name in HEAVY else ()) for name in PRESETS]
CHANGES: list[dict[str, Any]] = [
    {"context": "global"},
    {"stem_widths": [64, 64, 128]},
    {"bins": [1, 2, 4, 8], "align_corners": True},
    {"contract_dilation": True, "dilate_second": False, "average_shortcut": True, "project_first": True},
    {"stages": 2, "aux_width": 0, "fuse_kernel": 1, "classifier_kernel": 3},
]


@pytest.mark.parametrize("preset", EVERY)
def test_forward_and_backward(preset: str) -> None:
    torch.manual_seed(0)
    model = PSPNet(preset, 5).train()
    logits, aux_logits = model.forward_with_aux(torch.randn(2, 3, 65, 96))
    stride = model.shape.decoder_strides[-1] if model.shape.decoder_widths else 8
    assert logits.shape == (2, 5, -(-65 // stride), 96 // stride)
    masks = torch.randint(5, (2, 65, 96))
    loss = sum(
        F.cross_entropy(F.interpolate(x, (65, 96), mode="bilinear"), masks) * weight
        for x, weight in ((logits, 1.0), (aux_logits, 0.4))
    )
    loss.backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without == []


@pytest.mark.parametrize("preset", EVERY)
def test_its_onnx_agrees_at_an_odd_size(preset: str, randomise_norms: Callable[[nn.Module], None]) -> None:
    assert_exports(PSPNet(preset, 5), (97, 129), randomise_norms)


@pytest.mark.parametrize("changes", CHANGES)
def test_the_onnx_of_a_changed_preset_agrees(
    changes: dict[str, Any], randomise_norms: Callable[[nn.Module], None]
) -> None:
    assert_exports(PSPNet("pspnet_r18", 5, changes), (97, 129), randomise_norms)


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("size_hw", [(473, 473), (512, 1024), (360, 480)])
def test_its_onnx_agrees_at_full_size(
    preset: str, size_hw: tuple[int, int], randomise_norms: Callable[[nn.Module], None]
) -> None:
    assert_exports(PSPNet(preset, 5), size_hw, randomise_norms)


def assert_exports(model: PSPNet, size_hw: tuple[int, int], randomise_norms: Callable[[nn.Module], None]) -> None:
    torch.manual_seed(0)
    randomise_norms(model.eval())
    x = torch.randn(1, 3, *size_hw)
    content = io.BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the tracer warns at every shape that becomes a Python integer
        torch.onnx.export(model, (x,), content, input_names=["x"], opset_version=17, dynamo=False)
        expected = model(x).numpy()
    graph = onnxslim.slim(onnx.load_model_from_string(content.getvalue()))
    assert not {"Shape", "Gather", "ScatterND", "Expand"} & {node.op_type for node in graph.graph.node}
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"x": x.numpy()})
    assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()


def test_at_a_size_multiple_every_bin_is_an_average_pool() -> None:
    model = PSPNet("pspnet_r18", 5).eval()
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        side = 2 * model.size_multiple
        torch.onnx.export(model, (torch.zeros(1, 3, side, side),), content, opset_version=17, dynamo=False)
    operators = [node.op_type for node in onnx.load_model_from_string(content.getvalue()).graph.node]
    assert "MatMul" not in operators
    assert sum(name in ("AveragePool", "GlobalAveragePool") for name in operators) == 4


@pytest.mark.parametrize("changes", [{}, *CHANGES])
def test_the_architecture_builds_the_same_network(changes: dict[str, Any]) -> None:
    model = PSPNet("pspnet_r18", 5, changes)
    assert model.architecture == changes
    again = PSPNet("pspnet_r18", 5, json.loads(json.dumps(model.architecture)))
    again.load_state_dict(model.state_dict())
    assert again.shape == model.shape


def test_without_an_aux_head_the_logits_come_twice() -> None:
    logits, aux_logits = PSPNet("pspnet_r18", 5, {"aux_width": 0}).eval().forward_with_aux(torch.zeros(1, 3, 48, 48))
    assert torch.equal(logits, aux_logits)


def test_the_model_says_how_to_use_it() -> None:
    lite, resnet = PSPNet("pspnet_lite0", 5), PSPNet("pspnet_r18", 5)
    assert (lite.mean, lite.std, lite.align_corners, lite.size_multiple) == ((127.0,) * 3, (128.0,) * 3, False, 96)
    assert resnet.mean == resnet.backbone.mean == (123.675, 116.28, 103.53)
    assert resnet.size_multiple == 48
    changed = PSPNet("pspnet_r18", 5, {"mean": [127.5] * 3, "std": [127.5] * 3, "context": "global"})
    assert (changed.mean, changed.std, changed.size_multiple) == ((127.5,) * 3, (127.5,) * 3, 8)


@pytest.mark.parametrize(
    ("preset", "changes", "message"),
    [
        ("pspnet_r19", {}, "choose one of pspnet_accurate"),
        ("pspnet_r18", {"depth": 3}, "upgrade pspnet-edge"),
        ("pspnet_r18", {"context": "local"}, "choose pyramid or global"),
        ("pspnet_r18", {"bins": []}, "whole numbers"),
    ],
)
def test_what_it_cannot_be(preset: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        PSPNet(preset, 5, changes)
