from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")

from pspnet_edge.errors import ModelError, OptionError, OutputError  # noqa: E402
from pspnet_edge.labels import LabelSet  # noqa: E402
from pspnet_edge.model.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from pspnet_edge.model.pspnet import PSPNet  # noqa: E402

LABELS = LabelSet("two", ("a", "b"), ((0, 0, 0), (9, 9, 9)))


def test_a_preset_as_it_is_stores_no_architecture(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    model = PSPNet("pspnet_lite0", 2).eval()
    save_checkpoint(path, model, LABELS, {"epochs": 1})
    assert "architecture" not in torch.load(path, weights_only=True)
    loaded = load_checkpoint(path)
    assert (loaded.label_set, loaded.facts) == (LABELS, {"epochs": 1})
    x = torch.randn(1, 3, 64, 96)
    assert torch.equal(loaded.model(x), model(x))


def test_a_name_without_a_suffix_is_a_name_and_the_file_does_not_depend_on_it(tmp_path: Path) -> None:
    model = PSPNet("pspnet_lite0", 2)
    for name in ("weights", "again.pt"):
        save_checkpoint(tmp_path / name, model, LABELS, {})
    assert (tmp_path / "weights").read_bytes() == (tmp_path / "again.pt").read_bytes()
    assert load_checkpoint(tmp_path / "weights").label_set == LABELS


@pytest.mark.parametrize(("name", "what"), [("a.engine", "an engine"), ("a.pspnet", "a pack")])
def test_what_a_checkpoint_was_made_into_is_named(tmp_path: Path, name: str, what: str) -> None:
    (tmp_path / name).write_bytes(b"\x08\x08\x12\x04made")
    with pytest.raises(ModelError, match=f"is {what}, not a checkpoint: give the .pt file it was made from"):
        load_checkpoint(tmp_path / name)


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_what_ends_the_writing_of_a_checkpoint_is_what_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    """Of a stream that fails torch says only that its archive is incomplete."""

    class Failing(io.FileIO):
        def write(self, content: Any) -> int:
            if self.tell() + len(content) > 1_000_000:
                raise failure
            return super().write(content)

    real = Path.open

    def opened(self: Path, *arguments: Any, **named: Any) -> Any:
        return Failing(self, "w") if arguments == ("wb",) else real(self, *arguments, **named)

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(KeyboardInterrupt if failure is KeyboardInterrupt else OutputError, match=r"No space|^$"):
        save_checkpoint(tmp_path / "a.pt", PSPNet("pspnet_lite0", 2), LABELS, {})
    assert list(tmp_path.iterdir()) == []


def test_a_changed_preset_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    model = PSPNet("pspnet_r18", 2, {"bins": (1, 3), "align_corners": True, "mean": (1.0, 2.0, 3.0)}).eval()
    save_checkpoint(path, model, LABELS, {})
    loaded = load_checkpoint(path).model
    assert loaded.shape == model.shape
    x = torch.randn(1, 3, 64, 96)
    assert torch.equal(loaded(x), model(x))


def test_an_architecture_of_a_later_version_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    save_checkpoint(path, PSPNet("pspnet_lite0", 2), LABELS, {})
    content = torch.load(path, weights_only=True) | {"architecture": {"attention": True}}
    torch.save(content, path)
    with pytest.raises(OptionError, match="knows no attention in a model: upgrade"):
        load_checkpoint(path)


def test_the_keys_of_lite0_are_those_of_released_checkpoints() -> None:
    """Published weights must load for ever: these counts and names were true when the first were trained."""
    state = PSPNet("pspnet_lite0", 2).state_dict()
    heads = sorted({key.split(".")[0] for key in state})
    assert heads == [
        "aux_head", "backbone", "classifier", "fuse", "fuse4", "fuse8", "lateral4", "lateral8", "pyramid",
    ]  # fmt: skip
    assert len(state) == 352
    assert state["fuse.0.weight"].shape == (128, 320 + 4 * 64, 1, 1)
    assert state["aux_head.2.weight"].shape == (2, 64, 1, 1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.onnx", b"\x08\x0a\x12\x07pytorch" * 9, "is an ONNX model, not a checkpoint"),
        ("a.pspnet", b"PK\x03\x04" * 9, "is a pack, not a checkpoint"),
        ("a.pt", b"\x80\x02pytorch" * 9, "damaged, or"),
        ("a.pt", b"version https://git-lfs.github.com/spec/v1", "is a Git LFS pointer"),
        ("a.pt", "module", "it holds Python objects beside or in place of weights: convert it with .*import"),
        ("a.pt", "script", "is a TorchScript archive"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_what_torch_cannot_load_is_refused_without_its_advice_to_load_it_unchecked(
    tmp_path: Path, name: str, content: bytes | str, message: str
) -> None:
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content == "module":
        torch.save({"model": {}, "net": torch.nn.Conv2d(1, 1, 1)}, tmp_path / name)
    else:
        torch.jit.save(torch.jit.trace(torch.nn.ReLU(), torch.ones(1)), tmp_path / name)
    with pytest.raises(ModelError, match=message) as caught:
        load_checkpoint(tmp_path / name)
    assert "weights_only" not in str(caught.value)
