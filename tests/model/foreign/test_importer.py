from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pspnet_edge.errors import ModelError, OptionError
from pspnet_edge.labels import CITYSCAPES, VOC
from pspnet_edge.model.checkpoint import load_checkpoint, save_checkpoint
from pspnet_edge.model.foreign import semseg
from pspnet_edge.model.foreign.importer import import_checkpoint
from pspnet_edge.model.foreign.reference import difference_from_reference
from pspnet_edge.model.foreign.settings import Settings
from pspnet_edge.model.foreign.weights import ForeignWeights

State = dict[str, Tensor]


def saved(state: State, folder: Path, meta: dict[str, Any] | None = None) -> Path:
    path = folder / "theirs.pth"
    torch.save({"state_dict": state, "meta": meta or {}}, path)
    return path


def test_the_format_is_recognised(mmseg_r18: State, tmp_path: Path) -> None:
    imported = import_checkpoint(saved(mmseg_r18, tmp_path))
    assert imported.format == "mmseg"
    assert imported.left_out == {"meta": "training state"}
    assert "contract_dilation=True" in imported.assumed


def test_the_wrong_format_is_told(mmseg_r18: State, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a checkpoint of mmseg, not of smp"):
        import_checkpoint(saved(mmseg_r18, tmp_path), "smp")


def test_a_detectors_checkpoint_is_no_pspnet(tmp_path: Path) -> None:
    import torchvision

    detector = torchvision.models.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
    with pytest.raises(ModelError, match=r"no pyramid pooling module .* give the checkpoint of a PSPNet"):
        import_checkpoint(saved(detector.state_dict(), tmp_path))


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("Unet", "a U-Net, Linknet or MAnet"),
        ("MAnet", "a U-Net, Linknet or MAnet"),
        ("FPN", "an FPN"),
        ("DeepLabV3Plus", "a DeepLabV3"),
        ("PAN", "a PAN"),
        ("Segformer", "a SegFormer"),
        ("UPerNet", "a UPerNet"),  # with a pyramid
    ],
)
def test_another_network_of_smp_is_named(name: str, called: str, tmp_path: Path) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    network = getattr(smp, name)("resnet18", encoder_weights=None)
    with pytest.raises(ModelError, match=f"is {called} of segmentation-models-pytorch, not a PSPNet: .* adapt"):
        import_checkpoint(saved(network.state_dict(), tmp_path))


@pytest.mark.parametrize(
    ("keys", "called"),
    [
        (["segformer.encoder.block.0.weight", "decode_head.linear_fuse.weight"], "a SegFormer of transformers"),
        (["beit.embeddings.cls_token", "decode_head.psp_modules.0.1.conv.weight"], "a BEiT of transformers"),
        (["decode_head.psp_modules.0.1.conv.weight", "decode_head.lateral_convs.0.conv.weight"], "a UPerNet"),
        (["backbone.0.0.weight", "classifier.cbr.0.weight"], "an LR-ASPP of torchvision"),
        (["backbone.conv1.weight", "decode_head.conv_seg.weight"], "another network of mmsegmentation"),
    ],
)  # fmt: skip
def test_another_network_is_named_by_its_keys(keys: list[str], called: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"is {called}, not a PSPNet: .* adapt"):
        import_checkpoint(saved({key: torch.zeros(4, 4, 1, 1) for key in keys}, tmp_path))


def test_a_missing_tensor_stops_with_its_key_and_shape(mmseg_r18: State, tmp_path: Path) -> None:
    state = dict(mmseg_r18)
    del state["backbone.layer3.1.bn2.running_var"]
    with pytest.raises(ModelError, match=r"no backbone\.layer3\.1\.bn2\.running_var, expected with shape \[256\]"):
        import_checkpoint(saved(state, tmp_path))


def test_a_misshapen_tensor_stops_with_both_shapes(mmseg_r18: State, tmp_path: Path) -> None:
    state = mmseg_r18 | {"decode_head.bottleneck.bn.weight": torch.zeros(64)}
    with pytest.raises(ModelError, match=r"decode_head\.bottleneck\.bn\.weight .* \[64\], expected \[128\]"):
        import_checkpoint(saved(state, tmp_path))


def test_a_flat_convolution_stops(mmseg_r18: State, tmp_path: Path) -> None:
    state = mmseg_r18 | {"decode_head.conv_seg.weight": torch.zeros(3)}
    with pytest.raises(ModelError, match=r"decode_head\.conv_seg\.weight .* \[3\], expected 4 dimensions"):
        import_checkpoint(saved(state, tmp_path))


def test_an_unknown_tensor_stops(mmseg_r18: State, tmp_path: Path) -> None:
    state = mmseg_r18 | {"decode_head.attention.weight": torch.zeros(3)}
    with pytest.raises(ModelError, match=r"holds 1 tensors .* decode_head\.attention\.weight with shape \[3\]"):
        import_checkpoint(saved(state, tmp_path))


def test_missing_and_unknown_tensors_are_named_with_their_neighbours(mmseg_r18: State, tmp_path: Path) -> None:
    state = {key: value for key, value in mmseg_r18.items() if not key.startswith("decode_head.conv_seg")}
    with pytest.raises(ModelError, match=r"no decode_head\.conv_seg\.\w+.*it has decode_head\.c?\w*.* and \d+ more"):
        import_checkpoint(saved(state, tmp_path))
    more = {f"mine.{index}.weight": torch.zeros(3) for index in range(5)}
    with pytest.raises(
        ModelError, match=r"5 tensors .*mine\.0\.weight with shape \[3\], mine\.1.*mine\.2.* and 2 more"
    ):
        import_checkpoint(saved(mmseg_r18 | more, tmp_path))


def test_a_backbone_alone_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="classifies whole images"):
        import_checkpoint(saved({"conv1.weight": torch.zeros(64, 3, 7, 7), "fc.weight": torch.zeros(9, 9)}, tmp_path))


def test_another_backbone_stops(mmseg_r18: State, tmp_path: Path) -> None:
    state = {key: value for key, value in mmseg_r18.items() if not key.startswith("backbone.layer4.1")}
    with pytest.raises(ModelError, match=r"backbone of \[2, 2, 2, 1\] basic blocks"):
        import_checkpoint(saved(state, tmp_path))


def test_another_number_of_bins_asks_for_their_sizes(mmseg_r18: State, tmp_path: Path) -> None:
    state = {key: value for key, value in mmseg_r18.items() if "psp_modules.3" not in key}
    state["decode_head.bottleneck.conv.weight"] = torch.zeros(128, 512 + 3 * 128, 3, 3)
    path = saved(state, tmp_path)
    with pytest.raises(ModelError, match=r"a pyramid of 3 bins .* --bins"):
        import_checkpoint(path)
    assert import_checkpoint(path, bins=(1, 2, 4)).model.shape.bins == (1, 2, 4)


def test_the_configuration_in_the_file_is_believed(mmseg_r18: State, tmp_path: Path) -> None:
    text = "contract_dilation=False, align_corners=True, pool_scales=(1, 2, 4, 8), mean=[\n 0.0, 1.0, 2.0]"
    imported = import_checkpoint(saved(mmseg_r18, tmp_path, {"cfg": text}))
    shape = imported.model.shape
    assert (shape.contract_dilation, shape.align_corners, shape.bins) == (False, True, (1, 2, 4, 8))
    assert imported.model.mean == (0.0, 1.0, 2.0)
    assert imported.assumed == ("output stride 8",)


@pytest.mark.parametrize("text", ["data_preprocessor = dict(bgr_to_rgb=False)", "img_norm_cfg = dict(to_rgb=False)"])
def test_a_network_for_bgr_becomes_the_same_network_for_rgb(text: str, mmseg_r18: State, tmp_path: Path) -> None:
    plain = import_checkpoint(saved(mmseg_r18, tmp_path))
    cfg = text.replace("False", "False, mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0]") + "\ncontract_dilation=True"
    imported = import_checkpoint(saved(mmseg_r18, tmp_path, {"config": cfg}))
    assert imported.preprocessing.colour == "bgr"
    assert (imported.preprocessing.mean, imported.model.mean) == ((1.0, 2.0, 3.0), (3.0, 2.0, 1.0))
    assert imported.model.std == (6.0, 5.0, 4.0)
    bgr = torch.randn(1, 3, 64, 64)
    imported.model.aux_head = plain.model.aux_head = None
    with torch.inference_mode():
        torch.testing.assert_close(imported.model(bgr.flip(1)), plain.model(bgr))


OWN = "model = dict(decode_head=dict(num_classes=19))"
OLD_BASE = "_base_ = ['../_base_/models/pspnet_{}.py', '../_base_/default_runtime.py']\n" + OWN
NEW_BASE = (
    "with read_base():\n    from .._base_.models.pspnet_{} import *\n" + OWN.replace(" = dict", ".update(dict") + ")"
)


@pytest.mark.parametrize(
    "text",
    [
        OLD_BASE.format("r50-d8"),
        OLD_BASE.format("r50-d32"),
        NEW_BASE.format("r50_d8"),
        "_base_ = './my_own_base.py'\n" + OWN,
    ],
)
def test_a_configuration_without_its_bases_stands_on_the_released_ones(
    text: str, mmseg_r18: State, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(text)
    imported = import_checkpoint(saved(mmseg_r18, tmp_path), config=tmp_path / "mine.py")
    shape, d32 = imported.model.shape, "d32" in text
    assert shape.contract_dilation
    assert shape.strides == ((1, 2, 2, 2) if d32 else ())
    assert (imported.preprocessing.mean[0], imported.preprocessing.colour) == (123.675, "rgb")
    assert "taken as the released models have them" in imported.remarks[0]


@pytest.mark.parametrize("text", [OLD_BASE, NEW_BASE])
def test_bases_of_both_kinds_are_read(text: str, mmseg_r18: State, tmp_path: Path) -> None:
    base = tmp_path / "_base_" / "models"
    (tmp_path / "configs").mkdir()
    base.mkdir(parents=True)
    backbone = "dict(dilations=(1, 1, 1, 2), strides=(1, 2, 2, 1), contract_dilation=True)"
    for name in ("pspnet_r50-d8.py", "pspnet_r50_d8.py"):
        (base / name).write_text(
            f"model = dict(backbone={backbone}, decode_head=dict(align_corners=True, num_classes=3))"
        )
    (tmp_path / "_base_" / "default_runtime.py").write_text("")
    config = tmp_path / "configs" / "mine.py"
    config.write_text(text.format("r50-d8" if text is OLD_BASE else "r50_d8"))
    imported = import_checkpoint(saved(mmseg_r18, tmp_path), config=config)
    assert imported.model.shape.strides == (1, 2, 2, 1)
    assert imported.model.shape.align_corners
    assert imported.remarks == ("read mine.py",)


@pytest.mark.parametrize(
    ("fields", "mean", "colour"),
    [
        ("mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0]", (1.0, 2.0, 3.0), "bgr"),
        ("mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0], bgr_to_rgb=True", (1.0, 2.0, 3.0), "rgb"),
        ("size_divisor=32", (0.0, 0.0, 0.0), "bgr"),
    ],
)
def test_what_a_preprocessor_does_not_state_is_its_classs_default(
    fields: str, mean: tuple[float, ...], colour: str, mmseg_r18: State, tmp_path: Path
) -> None:
    cfg = f"model = dict(data_preprocessor=dict(type='SegDataPreProcessor', {fields}))\ncontract_dilation=True"
    taken = import_checkpoint(saved(mmseg_r18, tmp_path, {"cfg": cfg})).preprocessing
    assert (taken.mean, taken.colour) == (mean, colour)


def test_classes_come_from_the_file(mmseg_r18: State, tmp_path: Path) -> None:
    for meta in ({"CLASSES": CITYSCAPES.classes}, {"dataset_meta": {"classes": CITYSCAPES.classes}}):
        assert import_checkpoint(saved(mmseg_r18, tmp_path, meta)).label_set == CITYSCAPES


def test_a_label_set_of_another_size_stops(mmseg_r18: State, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="has 19 classes and label set voc has 21"):
        import_checkpoint(saved(mmseg_r18, tmp_path), label_set=VOC)


def test_semseg_trains_camvid_in_another_order() -> None:
    order = semseg.layout(ForeignWeights({}, Path("x")), {}, Settings()).orders["camvid"]
    assert order[:3] == ("building", "tree", "sky")
    assert len(order) == 11


def test_classes_are_put_into_the_label_sets_order(mmseg_r18: State, tmp_path: Path) -> None:
    names = list(reversed(CITYSCAPES.classes))
    path = saved(mmseg_r18, tmp_path)
    plain = import_checkpoint(path)
    ordered = import_checkpoint(path, label_set=CITYSCAPES, class_names=names)
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        for ours, theirs in zip(ordered.model.forward_with_aux(x), plain.model.forward_with_aux(x)):
            torch.testing.assert_close(ours, theirs.flip(1))
        np.savez(tmp_path / "reference.npz", input=x.numpy(), logits=plain.model(x).numpy())
    assert ordered.class_order == tuple(range(18, -1, -1))
    assert difference_from_reference(ordered, tmp_path / "reference.npz") < 1e-5


def test_a_reference_is_compared(mmseg_r18: State, tmp_path: Path) -> None:
    imported = import_checkpoint(saved(mmseg_r18, tmp_path))
    x = torch.randn(1, 3, 64, 96)
    path = tmp_path / "reference.npz"
    with torch.inference_mode():
        logits = imported.model(x)
    full = torch.nn.functional.interpolate(logits, (64, 96), mode="bilinear")
    for expected in (logits, full):
        np.savez(path, input=x.numpy(), logits=expected.numpy())
        assert difference_from_reference(imported, path) < 1e-5
    np.savez(path, input=x.numpy(), logits=logits.numpy() + 1)
    with pytest.raises(ModelError, match="the logits differ"):
        difference_from_reference(imported, path)
    np.savez(path, input=x.numpy(), logits=logits.numpy()[:, :3])
    with pytest.raises(ModelError, match=r"shape \[1, 3, 8, 12\], expected \[1, 19, 8, 12\]"):
        difference_from_reference(imported, path)
    np.savez(path, input=x.numpy())
    with pytest.raises(ModelError, match="is not a reference"):
        difference_from_reference(imported, path)
    path.write_bytes(b"junk")
    with pytest.raises(ModelError, match="is not a reference"):
        difference_from_reference(imported, path)


def test_an_imported_network_survives_our_checkpoint(mmseg_r18: State, tmp_path: Path) -> None:
    imported = import_checkpoint(saved(mmseg_r18, tmp_path))
    save_checkpoint(tmp_path / "ours.pt", imported.model, imported.label_set, {})
    again = load_checkpoint(tmp_path / "ours.pt").model
    assert again.architecture == imported.model.architecture != {}
    x = torch.randn(1, 3, 65, 97)
    with torch.inference_mode():
        assert torch.equal(again(x), imported.model(x))
