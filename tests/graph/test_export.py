from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")

from pspnet_edge import bundled  # noqa: E402
from pspnet_edge.data.calibration_set import evenly_spaced  # noqa: E402
from pspnet_edge.data.datasets import Dataset, SceneSet, open_dataset  # noqa: E402
from pspnet_edge.data.geometry import frame_at  # noqa: E402
from pspnet_edge.errors import OptionError  # noqa: E402
from pspnet_edge.graph.export import OPSET, model_from_network  # noqa: E402
from pspnet_edge.graph.onnx_file import ModelFile, read_model  # noqa: E402
from pspnet_edge.labels import CAMVID  # noqa: E402
from pspnet_edge.model.checkpoint import load_checkpoint  # noqa: E402
from pspnet_edge.model.pspnet import PSPNet  # noqa: E402
from pspnet_edge.train.batches import normalised  # noqa: E402


def agreement(network: PSPNet, model: ModelFile, dataset: Dataset) -> float:
    """Share of mask pixels on which PyTorch and ONNX Runtime agree, from the same BGR frames."""
    session = onnxruntime.InferenceSession(model.graph.SerializeToString())
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
    graph = bundled_model.graph
    assert [entry.version for entry in graph.opset_import if entry.domain == ""] == [OPSET] == [17]
    kinds = Counter(node.op_type for node in graph.graph.node)
    assert kinds["AveragePool"] == 4, "the pyramid must be exact pooling"
    assert set(kinds) <= {
        "Cast", "Transpose", "Sub", "Div", "Conv", "Clip", "Relu", "Add", "AveragePool", "Resize", "Concat", "ArgMax",
    }  # fmt: skip
    assert graph.graph.node[0].op_type == graph.graph.node[-1].op_type == "Cast"


def test_a_batch_gives_each_frame_its_own_mask(network: PSPNet) -> None:
    model = model_from_network(network, CAMVID, {}, size_hw=(192, 192), batch=2)
    session = onnxruntime.InferenceSession(model.graph.SerializeToString())
    frames = np.stack([frame_at(SceneSet("test")[index][0], (192, 192)) for index in (0, 50)])
    both = session.run(None, {"frames": frames})[0]
    swapped = session.run(None, {"frames": frames[::-1].copy()})[0]
    np.testing.assert_array_equal(both, swapped[::-1])
    assert (both[0] != both[1]).any()


def test_a_size_that_is_too_small_is_refused(network: PSPNet) -> None:
    with pytest.raises(OptionError, match="sides of at least"):
        model_from_network(network, CAMVID, {}, size_hw=(8, 480))
