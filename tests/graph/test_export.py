from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")

from pspnet_edge import bundled  # noqa: E402
from pspnet_edge.data.datasets import Dataset, SceneSet, open_dataset  # noqa: E402
from pspnet_edge.data.geometry import frame_at  # noqa: E402
from pspnet_edge.data.subset import evenly_spaced  # noqa: E402
from pspnet_edge.errors import ModelError, OptionError  # noqa: E402
from pspnet_edge.graph import export  # noqa: E402
from pspnet_edge.graph.calibration_table import read_table  # noqa: E402
from pspnet_edge.graph.export import OPSET, learned_table, model_from_network  # noqa: E402
from pspnet_edge.graph.onnx_file import ModelFile, read_model  # noqa: E402
from pspnet_edge.graph.quantize import int8_model, quantised_convolutions  # noqa: E402
from pspnet_edge.graph.reference import ReferenceSession  # noqa: E402
from pspnet_edge.graph.tail import without_tail  # noqa: E402
from pspnet_edge.labels import CAMVID  # noqa: E402
from pspnet_edge.model.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from pspnet_edge.model.pspnet import PRESETS, PSPNet  # noqa: E402
from pspnet_edge.model.quantiser import Pairs, Quantiser  # noqa: E402
from pspnet_edge.train.batches import normalised  # noqa: E402
from pspnet_edge.train.qat import quantise  # noqa: E402


def agreement(network: PSPNet, model: ModelFile, dataset: Dataset) -> float:
    """Share of mask pixels on which PyTorch and ONNX Runtime agree, from the same BGR frames."""
    session = onnxruntime.InferenceSession(model.proto.SerializeToString())
    _, height, width = model.shape_nhw
    same = total = 0
    for index in range(len(dataset)):
        frame = frame_at(dataset[index][0], (height, width))[None]
        with torch.inference_mode():
            logits = network(normalised(torch.from_numpy(frame), network.mean, network.std))
            expected = torch.nn.functional.interpolate(
                logits, (height, width), mode="bilinear", align_corners=False
            ).argmax(1)
        masks = session.run(None, {"frames": frame})[0]
        same += int((masks == expected.numpy()).sum())
        total += masks.size
    return same / total


@pytest.fixture(scope="module")
def network() -> PSPNet:
    return load_checkpoint(bundled.checkpoint_path(bundled.DEFAULT)).model


@pytest.fixture(scope="module")
def bundled_model() -> ModelFile:
    return read_model(bundled.onnx_path(bundled.DEFAULT))


def test_the_bundled_model_is_the_bundled_checkpoint_on_camvid(
    network: PSPNet, bundled_model: ModelFile, camvid_root: Path
) -> None:
    twenty = evenly_spaced(open_dataset("camvid", camvid_root, "test"), 20)
    assert agreement(network, bundled_model, twenty) >= 0.999


def test_the_bundled_model_is_the_bundled_checkpoint_on_scenes(network: PSPNet, bundled_model: ModelFile) -> None:
    assert agreement(network, bundled_model, evenly_spaced(SceneSet("test"), 3)) >= 0.999


@pytest.mark.parametrize("size_hw", [(192, 288), (201, 303)])
def test_other_sizes_agree_too(network: PSPNet, size_hw: tuple[int, int]) -> None:
    model = model_from_network(network, CAMVID, {}, size_hw=size_hw)
    assert agreement(network, model, evenly_spaced(SceneSet("test"), 2)) >= 0.999


def test_the_graph_is_what_the_builder_of_every_runtime_takes(bundled_model: ModelFile) -> None:
    graph = bundled_model.proto
    assert [entry.version for entry in graph.opset_import if entry.domain == ""] == [OPSET] == [17]
    kinds = Counter(node.op_type for node in graph.graph.node)
    assert kinds["AveragePool"] == 4, "the pyramid must be exact pooling"
    assert set(kinds) <= {
        "Cast", "Transpose", "Sub", "Div", "Conv", "Clip", "Relu", "Add", "AveragePool", "Resize", "Concat", "ArgMax",
    }  # fmt: skip
    assert graph.graph.node[0].op_type == graph.graph.node[-1].op_type == "Cast"


def test_a_batch_gives_each_frame_its_own_mask(network: PSPNet) -> None:
    model = model_from_network(network, CAMVID, {}, size_hw=(192, 192), batch=2)
    session = onnxruntime.InferenceSession(model.proto.SerializeToString())
    frames = np.stack([frame_at(SceneSet("test")[index][0], (192, 192)) for index in (0, 50)])
    both = session.run(None, {"frames": frames})[0]
    swapped = session.run(None, {"frames": frames[::-1].copy()})[0]
    np.testing.assert_array_equal(both, swapped[::-1])
    assert (both[0] != both[1]).any()


def test_a_size_that_is_too_small_is_refused(network: PSPNet) -> None:
    with pytest.raises(OptionError, match="sides of at least"):
        model_from_network(network, CAMVID, {}, size_hw=(8, 480))


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_learned_ranges_find_their_tensors(preset: str, randomise_norms: Callable[[torch.nn.Module], None]) -> None:
    """Each is the largest value of its tensor, so that one which is given to another tensor shows."""
    torch.manual_seed(0)
    network = PSPNet(preset, 5).eval()
    randomise_norms(network)
    exactly: dict[int, float] = {}

    def see(index: int, x: torch.Tensor) -> torch.Tensor:
        exactly.setdefault(index, float(x.abs().max()))
        return x

    with torch.inference_mode(), Pairs(network.never_quantised(), see, lambda index, weights: weights):
        network(normalised(torch.full((1, 96, 192, 3), 200, dtype=torch.uint8), network.mean, network.std))
    network.quantiser = Quantiser(list(exactly.values()))
    model = model_from_network(network, CAMVID, {}, size_hw=(96, 192))
    table = learned_table(model, network)
    assert table is not None
    assert set(table.amax) == {node.input[0] for node in quantised_convolutions(model.proto)}
    watched = onnx.ModelProto()
    watched.CopyFrom(model.proto)
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in table.amax)
    session = onnxruntime.InferenceSession(watched.SerializeToString())
    values = session.run(list(table.amax), {"frames": np.full((1, 96, 192, 3), 200, np.uint8)})
    largest = {name: float(np.abs(value).max()) for name, value in zip(table.amax, values)}
    assert table.amax == pytest.approx(largest, rel=1e-3)
    assert len(set(exactly.values())) > 0.9 * len(exactly), "ranges tell tensors apart"


def test_learned_ranges_make_the_graph_that_training_computed() -> None:
    checkpoint = load_checkpoint(bundled.checkpoint_path(bundled.DEFAULT))
    network, street = checkpoint.model, evenly_spaced(SceneSet("test"), 1)
    exact = model_from_network(network, checkpoint.label_set, {}, size_hw=(192, 288))
    assert learned_table(exact, network) is None
    quantise(network, street)
    model = model_from_network(network, checkpoint.label_set, {}, size_hw=(192, 288))
    table = learned_table(model, network)
    assert table is not None
    assert table.amax["div_0"] == 127 / 128, "a step is one grey level"
    graph = int8_model(model, table)
    frame = frame_at(street.image(0), (192, 288))[None]
    logits = [ReferenceSession(without_tail(one)[0].proto, "compare").run(frame)[0] for one in (model, graph)]
    with torch.inference_mode():
        trained = network(normalised(torch.from_numpy(frame), network.mean, network.std)).numpy()
    cost = np.square(logits[1] - logits[0]).mean()
    # What is left are ties that another order of additions rounds the other way.
    assert np.square(trained - logits[1]).mean() < 0.1 * cost


def test_an_export_that_is_broken_off_leaves_no_model_without_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = load_checkpoint(bundled.checkpoint_path(bundled.DEFAULT))
    quantise(source.model, evenly_spaced(SceneSet("test"), 1))
    save_checkpoint(tmp_path / "qat.pt", source.model, source.label_set, {})

    def broken_off(path: Path, model: ModelFile) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "write_model", broken_off)
    with pytest.raises(KeyboardInterrupt):
        export.export_checkpoint(tmp_path / "qat.pt", tmp_path / "qat.onnx", size_hw=(192, 288))
    assert not (tmp_path / "qat.onnx").exists()
    assert read_table(tmp_path / "qat.calib.json").method == "learned"


def test_ranges_that_do_not_fit_the_graph_are_refused(network: PSPNet) -> None:
    model = model_from_network(network, CAMVID, {}, size_hw=(192, 192))
    other = PSPNet("pspnet_lite0", 11)
    other.quantiser = Quantiser([1.0, 2.0])
    with pytest.raises(ModelError, match="learned no range for what conv_"):
        learned_table(model, other)


def test_the_size_is_that_of_the_training(tmp_path: Path) -> None:
    source = load_checkpoint(bundled.checkpoint_path(bundled.DEFAULT))
    save_checkpoint(tmp_path / "own.pt", source.model, source.label_set, {"recipe": {"size_hw": [192, 288]}})
    exported, _ = export.export_checkpoint(tmp_path / "own.pt", tmp_path / "own.onnx")
    assert exported["input_hw"] == [192, 288]
    assert read_model(tmp_path / "own.onnx").shape_nhw[1:] == (192, 288)


@pytest.mark.parametrize("recipe", [None, {}, {"size_hw": [192]}, {"size_hw": [0, 288]}, {"size_hw": "192x288"}])
def test_without_a_usable_size_the_checkpoint_names_none(recipe: object, tmp_path: Path) -> None:
    source = load_checkpoint(bundled.checkpoint_path(bundled.DEFAULT))
    save_checkpoint(tmp_path / "own.pt", source.model, source.label_set, {"recipe": recipe})
    assert load_checkpoint(tmp_path / "own.pt").size_hw is None
