"""Which tensors of a file are the network, whatever a training program wrapped around them."""

from __future__ import annotations

import argparse
import collections
import datetime
import pathlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

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
        "defaults": collections.defaultdict(list),
        "random": np.random.get_state(),
        "optimizer": optimizer.state_dict(),
        "state_dict": NETWORK,
    }
    path = tmp_path / "a.pth"
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    stored = read_stored(path)
    assert set(stored.tensors) == set(NETWORK)
    assert set(stored.beside) == set(content) - {"state_dict"}


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


def test_safetensors_are_read(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(NETWORK, str(tmp_path / "m.safetensors"))
    assert set(read_stored(tmp_path / "m.safetensors").tensors) == set(NETWORK)
