from __future__ import annotations

import os
import pickle
import sys
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pspnet_edge.errors import ModelError
from pspnet_edge.model.foreign.files import read_stored


class Malicious:
    """Pickled, it asks for a command to be run where it is loaded."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self._trace}",)


@pytest.mark.parametrize("suffix", [".pdparams", ".pkl", ".pth"])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_malicious_pickle_is_refused_without_running(suffix: str, protocol: int, tmp_path: Path) -> None:
    trace, path = tmp_path / "ran", tmp_path / f"a{suffix}"
    path.write_bytes(pickle.dumps({"a": np.zeros(3), "b": Malicious(trace)}, protocol=protocol))
    with pytest.raises(ModelError, match=r"asks to load \w+\.system, .* was refused") as caught:
        read_stored(path)
    assert not trace.exists()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("new_format", [True, False])
def test_a_malicious_torch_file_is_refused_without_running(new_format: bool, tmp_path: Path) -> None:
    trace, path = tmp_path / "ran", tmp_path / "a.pth"
    torch.save(
        {"state_dict": {"a": torch.zeros(3)}, "b": Malicious(trace)}, path, _use_new_zipfile_serialization=new_format
    )
    with pytest.raises(ModelError, match=r"asks to load \w+\.system, .* was refused"):
        read_stored(path)
    assert not trace.exists()


@pytest.mark.parametrize("name", ["builtins.eval", "builtins.exec", "numpy.load", "torch.load", "os.execv"])
def test_whatever_is_no_array_is_refused(name: str, tmp_path: Path) -> None:
    module, function = name.split(".")
    path = tmp_path / "a.pdparams"
    path.write_bytes(f"c{module}\n{function}\n.".encode())
    with pytest.raises(ModelError, match=f"asks to load {name}"):
        read_stored(path)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_of_every_protocol_are_read(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "a.pdparams"
    arrays = {
        "plain": np.arange(6, dtype=np.float32).reshape(2, 3),
        "named": ("parameter_0", np.ones(2, np.float16)),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "count": np.array(3),
        "StructuredToParameterName@@": {"plain": "linear_0.w_0"},
    }
    path.write_bytes(pickle.dumps(OrderedDict(arrays), protocol=protocol))
    tensors = read_stored(path).tensors
    assert list(tensors) == ["plain", "named", "fortran", "count"]
    assert [tensors[key].dtype for key in tensors] == [torch.float32, torch.float32, torch.float32, torch.int64]
    assert tensors["fortran"].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("wrapping", ["plain", "state_dict", "module", "lightning"])
def test_the_usual_wrappings_come_off(wrapping: str, new_format: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    content: dict[str, Any] = {
        "plain": {"a.b": torch.zeros(2)},
        "state_dict": {"state_dict": {"a.b": torch.zeros(2)}, "epoch": 3},
        "module": {"state_dict": {"module.a.b": torch.zeros(2)}},
        "lightning": {"state_dict": {"model.module.a.b": torch.zeros(2).half()}, "hyper_parameters": {}},
    }[wrapping]
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    stored = read_stored(path)
    assert {key: value.dtype for key, value in stored.tensors.items()} == {"a.b": torch.float32}


class HistoryBuffer:
    """Like mmengine's: pickled, it asks for numpy, for itself, and for getattr to find its method again."""

    def __init__(self) -> None:
        self.values = np.arange(3.0)
        self.methods = [HistoryBuffer.mean]

    def mean(self) -> float:
        return 0.0


def test_mmengines_loss_curves_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("mmengine.logging.history_buffer")
    for named in (HistoryBuffer, HistoryBuffer.mean):
        monkeypatch.setattr(named, "__module__", module.__name__)
    module.HistoryBuffer = HistoryBuffer  # type: ignore[attr-defined]
    for name in ("mmengine", "mmengine.logging"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    path = tmp_path / "a.pth"
    meta = {"dataset_meta": {"classes": ("road", "sky")}}
    torch.save({"message_hub": {"loss": HistoryBuffer()}, "meta": meta, "state_dict": {"a": torch.zeros(1)}}, path)
    for name in ("mmengine", "mmengine.logging", module.__name__):
        monkeypatch.delitem(sys.modules, name)
    stored = read_stored(path)
    assert stored.meta == meta
    assert stored.beside == {"message_hub": "training state", "meta": "training state"}


def test_a_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"a": torch.zeros(999)}, path)
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(ModelError, match="damaged or cut short"):
        read_stored(path)
    path = tmp_path / "a.pdparams"
    path.write_bytes(pickle.dumps({"a": np.zeros(99)})[:-70])
    with pytest.raises(ModelError, match="damaged"):
        read_stored(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"format": "pspnet-edge checkpoint", "weights": {}}, "already"),
        ([torch.zeros(1)], "holds a list"),
        ({"epoch": 3}, "no tensors"),
    ],
)
def test_files_without_a_foreign_state_dict(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save(content, path)
    with pytest.raises(ModelError, match=message):
        read_stored(path)


@pytest.mark.parametrize("content", [b"hello", b"\x80\x04.", b"PK\x03\x04junk"])
def test_junk(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="copy it again"):
        read_stored(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no checkpoint"):
        read_stored(tmp_path / "absent.pth")
