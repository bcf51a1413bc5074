from __future__ import annotations

import argparse
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")

import timm  # noqa: E402
import torchvision  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from pspnet_edge.errors import ModelError  # noqa: E402
from pspnet_edge.model import imagenet  # noqa: E402
from pspnet_edge.model.backbone_weights import load_backbone_file  # noqa: E402
from pspnet_edge.model.pspnet import PSPNet  # noqa: E402
from pspnet_edge.model.resnet import ResNet  # noqa: E402


def test_a_file_of_torchvision_loads_into_a_resnet(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = torchvision.models.resnet18().eval()
    for module in source.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    torch.save(source.state_dict(), tmp_path / "resnet18.pth")
    backbone = ResNet("resnet18", 32).eval()
    load_backbone_file(backbone, tmp_path / "resnet18.pth")
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = source.layer4(source.layer3(source.layer2(source.layer1(
            source.maxpool(source.relu(source.bn1(source.conv1(x))))
        ))))  # fmt: skip
        torch.testing.assert_close(backbone(x)[-1], expected)


def test_an_old_file_without_batch_counters_in_a_wrapper_loads(tmp_path: Path) -> None:
    state = torchvision.models.resnet18().state_dict()
    old = {f"module.{key}": value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    torch.save({"state_dict": old, "epoch": 3}, tmp_path / "old.pth")
    backbone = ResNet("resnet18")
    load_backbone_file(backbone, tmp_path / "old.pth")
    assert torch.equal(backbone.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])


@pytest.mark.parametrize(
    ("preset", "name"),
    [
        ("pspnet_lite0", "tf_efficientnet_lite0"),
        ("pspnet_mobilenetv3", "mobilenetv3_large_100"),
        ("pspnet_r18", "resnet18"),
        ("pspnet_vgg16", "vgg16_bn"),
    ],
)
def test_a_safetensors_file_of_timm_loads_though_it_is_sorted_by_name(preset: str, name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = timm.create_model(name)
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    torch.manual_seed(1)
    model = PSPNet(preset, 2)
    load_backbone_file(model.backbone, tmp_path / "model.safetensors")
    kept = [value for key, value in source.state_dict().items() if value.ndim == 4]
    loaded = [value for value in model.backbone.state_dict().values() if value.ndim == 4]
    assert len(loaded) > 10
    assert all(torch.equal(one, other) for one, other in zip(loaded, kept))


@pytest.mark.parametrize("form", ["safetensors", "zip", "before 1.6"])
def test_the_encoder_of_a_whole_network_is_found_in_what_training_saved(tmp_path: Path, form: str) -> None:
    state = torchvision.models.resnet18().state_dict()
    whole = {"n_averaged": torch.tensor(1), "std": torch.ones(3, 1, 1)}
    whole |= {f"model.encoder.{key}": value.clone() for key, value in state.items()}
    whole |= {"model.decoder.conv1.weight": torch.ones(2, 2, 1, 1)}
    path = tmp_path / "encoder.file"
    if form == "safetensors":
        save_file(whole, path)
    else:
        saved = {"state_dict": whole, "args": argparse.Namespace(epochs=3)}
        torch.save(saved, path, _use_new_zipfile_serialization=form == "zip")
    backbone = ResNet("resnet18")
    load_backbone_file(backbone, path)
    assert torch.equal(backbone.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])
    assert torch.equal(backbone.layer1[0].conv1.weight, state["layer1.0.conv1.weight"])


@pytest.mark.parametrize(
    ("preset", "name"), [("resnet18", "resnet34"), ("resnet18", "seresnet18"), ("resnet50", "ecaresnet50t")]
)
def test_a_larger_network_with_the_same_names_is_refused(preset: str, name: str, tmp_path: Path) -> None:
    save_file(timm.create_model(name).state_dict(), tmp_path / "model.safetensors")
    torch.save(timm.create_model(name).state_dict(), tmp_path / "model.pth")
    for path in ("model.safetensors", "model.pth"):
        with pytest.raises(ModelError, match="are of another network"):
            load_backbone_file(ResNet(preset), tmp_path / path)


def test_tensors_sorted_by_unknown_names_do_not_change_places(tmp_path: Path) -> None:
    state = torchvision.models.resnet18().state_dict()
    places = {key.rpartition(".")[0]: f"part{place:03}" for place, key in enumerate(state)}
    renamed = {f"{places[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": value for key, value in state.items()}
    save_file(renamed, tmp_path / "model.safetensors")  # as transformers' ResNetModel does
    with pytest.raises(ModelError, match=r"another order: part\d+\.bias is where stem\.1\.weight is expected"):
        load_backbone_file(ResNet("resnet18"), tmp_path / "model.safetensors")


def test_what_is_not_this_backbone_is_one_sentence(tmp_path: Path) -> None:
    backbone = ResNet("resnet18")
    with pytest.raises(ModelError, match=r"there is no backbone file .*none\.pth"):
        load_backbone_file(backbone, tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ModelError, match="is a Git LFS pointer"):
        load_backbone_file(backbone, tmp_path / "text.pth")
    torch.save(torchvision.models.mobilenet_v3_small().state_dict(), tmp_path / "other.pth")
    with pytest.raises(ModelError, match=r"are of another network: its .* does not fit"):
        load_backbone_file(backbone, tmp_path / "other.pth")


def test_a_machine_without_a_network_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet, "getproxies", dict)
    monkeypatch.setattr(imagenet, "_cached_file", lambda name: None)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(imagenet.timm, "create_model", lambda *_, **__: pytest.fail("the download was tried"))
    with pytest.raises(ModelError, match=r"could not be downloaded \(127\.0\.0\.1: .*--backbone-weights FILE"):
        imagenet.timm_weights("resnet18")
