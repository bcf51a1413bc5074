"""Which tensors of a file are the network, whatever a training program wrapped around them."""

from __future__ import annotations

import argparse
import collections
import datetime
import pathlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils import prune

from pspnet_edge.errors import ModelError, OptionError
from pspnet_edge.model.foreign.files import read_stored

State = dict[str, Tensor]
NETWORK = {"encoder.conv1.weight": torch.ones(2), "decoder.psp.blocks.0.pool.1.0.weight": torch.ones(3)}
AVERAGED = {key: value + 1 for key, value in NETWORK.items()}


def under(prefix: str, state: State = NETWORK) -> State:
    return {prefix + key: value for key, value in state.items()}


def written(content: Any, folder: Path) -> Path:
    torch.save(content, folder / "a.pth")
    return folder / "a.pth"


@pytest.mark.parametrize(
    "content",
    [
        under("_orig_mod."),
        under("net."),
        under("module.model."),
        {"model": under("module.")},
        {"net": NETWORK},
        {"ema": NETWORK},
        {"ema": {"module": NETWORK, "decay": 0.9}},
        {**under("module."), "n_averaged": torch.tensor(5)},
        {**NETWORK, "criterion.weight": torch.ones(3)},
        {"state_dict": {**under("model."), "loss_fn.weight": torch.ones(3), "val_iou.confmat": torch.ones(9)}},
        {key.replace("encoder.", "encoder._orig_mod."): value for key, value in NETWORK.items()},
        {key.replace(".", ".module.", 1): value for key, value in NETWORK.items()},
        {key.replace("encoder.", "encoder._fsdp_wrapped_module."): value for key, value in NETWORK.items()},
        {key.replace("conv1", "conv1._checkpoint_wrapped_module"): value for key, value in NETWORK.items()},
        {**NETWORK, "total_ops": torch.ones(1), "encoder.conv1.total_params": torch.ones(1)},
        {"best_model": NETWORK, "epoch": 3},
        {"result": {"state": under("module."), "score": 0.3}},
        (NETWORK, {"epoch": 3}),
        [NETWORK],
    ],
)
def test_wrappers_come_off_and_the_rest_is_left_out(content: dict[str, Any], tmp_path: Path) -> None:
    stored = read_stored(written(content, tmp_path))
    assert {key: value.tolist() for key, value in stored.tensors.items()} == {
        key: value.tolist() for key, value in NETWORK.items()
    }


@pytest.mark.parametrize(("model", "ema"), [("model", "ema"), ("model", "model_ema"), ("state_dict", "state_dict_ema")])
def test_of_two_state_dicts_the_chosen_one_is_taken_and_said(model: str, ema: str, tmp_path: Path) -> None:
    path = written({model: NETWORK, ema: AVERAGED, "epoch": 3}, tmp_path)
    for choice, key, value in ((None, model, 1.0), ("model", model, 1.0), ("ema", ema, 2.0)):
        stored = read_stored(path, choice)  # type: ignore[arg-type]
        assert stored.tensors["encoder.conv1.weight"].tolist() == [value, value]
        assert f"the weights under {key!r}" in stored.remarks[0]
    assert stored.beside == {model: "another copy of the weights", "epoch": "training state"}


def test_of_several_state_dicts_under_unusual_names_none_is_taken(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no tensors"):
        read_stored(written({"best": NETWORK, "newest": AVERAGED}, tmp_path))


@pytest.mark.filterwarnings("ignore:.*weight_norm")
@pytest.mark.parametrize("kind", ["pruned", "weight norm", "parametrized"])
def test_weights_in_two_factors_are_multiplied_out(kind: str, tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
    if kind == "pruned":
        prune.random_unstructured(network[0], "weight", 0.5)
    elif kind == "weight norm":
        torch.nn.utils.weight_norm(network[0])
    else:
        torch.nn.utils.parametrizations.weight_norm(network[0])
    network(torch.ones(1, 3, 8, 8))
    stored = read_stored(written({**network.state_dict(), **NETWORK}, tmp_path))
    assert set(stored.tensors) == {"0.weight", "0.bias", *NETWORK}
    assert torch.allclose(stored.tensors["0.weight"], network[0].weight.detach(), atol=1e-6)
    assert "multiplied out" in stored.remarks[0]


@pytest.mark.parametrize("shape", [(4, 3, 3, 1), (9, 1, 1, 1), (4,)])
def test_factors_that_do_not_fit_stay_as_they_are(shape: tuple[int, ...], tmp_path: Path) -> None:
    content = {**NETWORK, "0.weight_g": torch.ones(shape), "0.weight_v": torch.ones(4, 1, 1, 1)}
    assert "0.weight_g" in read_stored(written(content, tmp_path)).tensors


def test_averages_that_are_a_list_or_were_made_by_lightning_are_said(tmp_path: Path) -> None:
    listed = {"model": NETWORK, "ema": {"decay": 0.9, "shadow_params": list(AVERAGED.values())}}
    assert "averages without names" in read_stored(written(listed, tmp_path)).remarks[0]
    averaged = {
        "state_dict": AVERAGED,
        "current_model_state": NETWORK,
        "averaging_state": {"n_averaged": torch.ones(1)},
    }
    stored = read_stored(written(averaged, tmp_path))
    assert stored.tensors["encoder.conv1.weight"][0] == 2
    assert "Lightning averaged" in stored.remarks[0]


def test_weights_prepared_for_quantization_are_named(tmp_path: Path) -> None:
    content = {**NETWORK, "encoder.conv1.weight_fake_quant.scale": torch.ones(1)}
    with pytest.raises(ModelError, match=r"prepared for quantization .* train --qat"):
        read_stored(written(content, tmp_path))


def test_averages_that_are_not_there_are_not_taken(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="holds no averaged weights"):
        read_stored(written(NETWORK, tmp_path), "ema")
    with pytest.raises(OptionError, match="averaged weights alone"):
        read_stored(written({"ema": NETWORK}, tmp_path), "model")


def test_averages_under_a_prefix_and_mmcvs_buffers_can_be_taken(tmp_path: Path) -> None:
    both = {**under("model."), **under("ema_model.", AVERAGED)}
    assert read_stored(written(both, tmp_path)).tensors["encoder.conv1.weight"][0] == 1
    assert read_stored(written(both, tmp_path), "ema").tensors["encoder.conv1.weight"][0] == 2
    mmcv = NETWORK | {f"ema_{key.replace('.', '_')}": value for key, value in AVERAGED.items()}
    assert read_stored(written(mmcv, tmp_path)).tensors["encoder.conv1.weight"][0] == 1
    assert read_stored(written(mmcv, tmp_path), "ema").tensors["encoder.conv1.weight"][0] == 2


def test_buffers_beside_the_network_are_kept_for_preprocessing(tmp_path: Path) -> None:
    content = {"state_dict": {**under("model."), "mean": torch.ones(1, 3, 1, 1), "std": torch.ones(3)}}
    assert set(read_stored(written(content, tmp_path)).buffers) == {"mean", "std"}


@pytest.mark.parametrize("new_format", [True, False])
def test_harmless_objects_beside_weights_are_passed_over(new_format: bool, tmp_path: Path) -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([parameter])
    parameter.sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    content = {
        "best_miou": np.float64(0.7),
        "curve": np.arange(3.0),
        "args": argparse.Namespace(lr=0.1, output=pathlib.Path("runs")),
        "when": datetime.datetime(2026, 1, 1),
        "counts": collections.Counter({3: 1}),
        "history": collections.defaultdict(list, {"loss": [0.5]}),
        "last": collections.deque([0.5, 0.4], maxlen=3),
        "random": np.random.get_state(),
        "optimizer": optimizer.state_dict(),
        "state_dict": NETWORK,
    }
    path = tmp_path / "a.pth"
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    stored = read_stored(path)
    assert set(stored.tensors) == set(NETWORK)
    assert set(stored.beside) == set(content) - {"state_dict"}


def test_a_file_of_other_objects_is_not_called_damaged(tmp_path: Path) -> None:
    torch.save({"state_dict": NETWORK, "rows": np.array([None, {}], dtype=object)}, tmp_path / "a.pth")
    with pytest.raises(ModelError, match="holds objects beside the weights that are not read") as caught:
        read_stored(tmp_path / "a.pth")
    assert "add_safe_globals" not in str(caught.value)
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"\n<!DOCTYPE html><html></html>", "web page"),
        (b"", "is empty"),
        (b'{"message": "Not Found"}', "JSON text"),
        (b"\x1f\x8b\x08\x00", "gzip archive"),
        (b"\x89HDF\r\n", "HDF5"),
        (b"\x08\x08\x12\x07pytorch", "ONNX model"),
        (b"\x1c\0\0\0TFL3", "TensorFlow Lite"),
        (b"ftrt\0\0", "engine of TensorRT"),
    ],
)
def test_what_is_no_checkpoint_is_named(content: bytes, what: str, tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(ModelError, match=what):
        read_stored(tmp_path / "a.pth")


@pytest.mark.parametrize("name", ["model-00001-of-00002.safetensors", "model.safetensors.index.json"])
def test_parts_of_a_checkpoint_are_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text('{"weight_map": {}}')
    with pytest.raises(ModelError, match=r"parts of a checkpoint.*max_shard_size"):
        read_stored(tmp_path / name)


@pytest.mark.filterwarnings("ignore")
def test_an_optimizer_and_quantized_weights_are_named(tmp_path: Path) -> None:
    state = torch.optim.Adam([torch.zeros(2, requires_grad=True)]).state_dict()
    for content in (state, {"optimizer": state, "epoch": 3}):
        with pytest.raises(ModelError, match="state of an optimizer and no weights"):
            read_stored(written(content, tmp_path))
    quantized = torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
    with pytest.raises(ModelError, match=r"quantized weights \(encoder\.conv1\.weight\)"):
        read_stored(written(NETWORK | {"encoder.conv1.weight": quantized}, tmp_path))


def test_programs_are_named(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(1, 1), tmp_path / "whole.pth")
    with pytest.raises(ModelError, match="whole pickled network"):
        read_stored(tmp_path / "whole.pth")


@pytest.mark.filterwarnings("ignore")
def test_torchscript_is_named(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(torch.nn.Linear(1, 1), torch.zeros(1, 1)), str(tmp_path / "a.pt"))  # type: ignore[no-untyped-call]
    with pytest.raises(ModelError, match="TorchScript archive"):
        read_stored(tmp_path / "a.pt")


def test_exported_programs_keras_and_caffe_models_are_named(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(torch.nn.Linear(1, 1), (torch.zeros(1, 1),)), str(tmp_path / "m.pt2"))
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("model.weights.h5", "")
    (tmp_path / "m.caffemodel").write_bytes(b"\n\x06PSPNet" + b"\x01" * 99)
    for name, said in (
        ("m.pt2", "a torch.export archive"),
        ("m.keras", "a Keras model"),
        ("m.caffemodel", "a Caffe model"),
    ):
        with pytest.raises(ModelError, match=said):
            read_stored(tmp_path / name)


def test_safetensors_are_read(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(NETWORK, str(tmp_path / "m.safetensors"))
    assert set(read_stored(tmp_path / "m.safetensors").tensors) == set(NETWORK)
