from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import nn

from pspnet_edge.errors import OptionError
from pspnet_edge.model.imagenet import load_in_order
from pspnet_edge.model.resnet import ResNet


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize(
    ("name", "stem"), [("resnet18", ()), ("resnet50", ()), ("resnet50c", (32, 32, 64)), ("resnet50s", (64, 64, 128))]
)
def test_with_contracted_dilation_it_is_timms(
    name: str, stem: tuple[int, ...], output_stride: int, randomise_norms: Callable[[nn.Module], None]
) -> None:
    torch.manual_seed(0)
    whole = timm.create_model(name)
    randomise_norms(whole)
    theirs = timm.create_model(name, features_only=True, output_stride=output_stride, out_indices=(1, 2, 3, 4)).eval()
    theirs.load_state_dict(whole.state_dict(), strict=False)
    ours = ResNet(name[:8], output_stride, stem_widths=stem, contract_dilation=True).eval()
    load_in_order(ours, whole.state_dict(), name)
    x = torch.randn(1, 3, 97, 130)
    with torch.inference_mode():
        for mine, other in zip(ours(x), theirs(x)):
            torch.testing.assert_close(mine, other)


def test_the_average_shortcut_is_timms(randomise_norms: Callable[[nn.Module], None]) -> None:
    whole = timm.create_model("resnet18d")
    randomise_norms(whole)
    theirs = timm.create_model("resnet18d", features_only=True, out_indices=(1, 2, 3, 4)).eval()
    theirs.load_state_dict(whole.state_dict(), strict=False)
    ours = ResNet("resnet18", 32, stem_widths=(32, 32, 64), average_shortcut=True).eval()
    load_in_order(ours, whole.state_dict(), "resnet18d")
    x = torch.randn(1, 3, 97, 130)
    with torch.inference_mode():
        for mine, other in zip(ours(x), theirs(x)):
            torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("arguments", [{"variant": "resnet19"}, {"output_stride": 4}, {"stages": 1}])
def test_what_it_cannot_be(arguments: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="resnet18, resnet34, resnet50, resnet101"):
        ResNet(**({"variant": "resnet18"} | arguments))
