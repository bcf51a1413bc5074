from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from pspnet_edge.data.datasets import SceneSet
from pspnet_edge.errors import CalibrationError, OptionError
from pspnet_edge.graph import rounding
from pspnet_edge.graph.calibrate import table_from_dataset
from pspnet_edge.graph.calibration_table import CalibrationTable, read_table, write_table
from pspnet_edge.graph.onnx_file import ModelFile
from pspnet_edge.graph.quantize import int8_model, pixel_steps, weight_scales
from pspnet_edge.graph.rounding import Patches, Rounding, chosen_rounding, rounded

from ..pictures import Pictures


def conv(**attributes) -> onnx.NodeProto:
    return helper.make_node("Conv", ["x", "w", "b"], ["y"], "conv", **attributes)


@pytest.mark.parametrize(
    ("groups", "attributes"),
    [
        (1, {}),
        (1, {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
        (1, {"pads": [2, 2, 2, 2], "dilations": [2, 2]}),
        (3, {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
    ],
)
def test_patches_are_what_the_filters_see(groups: int, attributes: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every position taken, mean and variance of the outputs follow from those of the patches."""
    torch = pytest.importorskip("torch", reason="the train extra is not installed")
    monkeypatch.setattr(rounding, "POSITIONS", 10_000)
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(3, 3 // groups, 3, 3)).astype(np.float32)
    values = rng.normal(1, 2, (40, 3, 9, 11)).astype(np.float32)
    patches = Patches(conv(**attributes | ({"group": groups} if groups > 1 else {})), weights)
    for image in values:
        patches.add(image)
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    padded = torch.nn.functional.pad(torch.from_numpy(values), (left, right, top, bottom))
    outputs = torch.nn.functional.conv2d(
        padded,
        torch.from_numpy(weights),
        stride=attributes.get("strides", 1),
        dilation=attributes.get("dilations", 1),
        groups=groups,
    ).transpose(0, 1)
    filters = weights.reshape(patches.groups, -1, patches.size)
    covariance = patches.covariance()
    assert covariance is not None
    mean = (filters * patches.mean[:, None]).sum(2).ravel()
    variance = np.einsum("gok,gkl,gol->go", filters, covariance, filters).ravel()
    np.testing.assert_allclose(mean, outputs.flatten(1).mean(1), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(variance, outputs.flatten(1).var(1, correction=0), rtol=1e-3)


def seen(covariance: np.ndarray, count: int = 4000) -> Patches:
    """Patches of a 1×1 convolution whose inputs have the given covariance and a mean of one."""
    size = len(covariance)
    patches = Patches(conv(), np.zeros((1, size, 1, 1), np.float32))
    inputs = np.random.default_rng(0).multivariate_normal(np.ones(size), covariance, count)
    for start in range(0, count, rounding.POSITIONS):
        patches.add(inputs[start : start + rounding.POSITIONS].T[:, :, None].astype(np.float32))
    return patches


def output_error(weights: np.ndarray, used: np.ndarray, patches: Patches) -> float:
    error = (weights - used).reshape(len(weights), -1)
    return float(np.einsum("ok,kl,ol->", error, patches.covariance()[0], error))


def test_errors_cancel_where_inputs_go_together() -> None:
    size = 32
    together = 0.9 * np.ones((size, size)) + 0.1 * np.eye(size)
    patches = seen(together)
    weights = np.random.default_rng(2).normal(size=(20, size, 1, 1)).astype(np.float32)
    scales = weight_scales(weights)
    chosen = chosen_rounding(weights, scales, patches)
    ours, shift = rounded(weights, scales, chosen)
    steps = scales[:, None, None, None]
    nearest = np.rint(weights / steps) * steps
    assert output_error(weights, ours, patches) < 0.3 * output_error(weights, nearest, patches)
    # The bias takes what is left of the mean: 32 inputs, each of about one.
    left = (weights - ours).reshape(20, -1) @ patches.mean[0]
    np.testing.assert_allclose(shift, left, atol=1e-6)


def test_codes_are_whole_and_within_int8() -> None:
    patches = seen(np.full((16, 16), 0.95) + 0.05 * np.eye(16))
    weights = np.random.default_rng(3).normal(size=(8, 16, 1, 1)).astype(np.float32)
    scales = weight_scales(weights)
    ours, _ = rounded(weights, scales, chosen_rounding(weights, scales, patches))
    codes = ours / scales[:, None, None, None]
    np.testing.assert_allclose(codes, np.rint(codes), atol=1e-4)
    assert np.abs(codes).max() <= 127.001


@pytest.mark.parametrize("why", ["too few patches", "too large a filter"])
def test_without_a_covariance_weights_go_to_the_nearest(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if why == "too large a filter":
        monkeypatch.setattr(rounding, "MOST_INPUTS", 15)
    patches = seen(np.full((16, 16), 0.9) + 0.1 * np.eye(16), 20 if why == "too few patches" else 4000)
    assert patches.covariance() is None
    weights = np.random.default_rng(4).normal(size=(8, 16, 1, 1)).astype(np.float32)
    codes, shift = chosen_rounding(weights, weight_scales(weights), patches).unpack(8 * 16, 8)
    assert not codes.any()
    assert np.abs(shift).max() > 0


def test_packing_keeps_everything() -> None:
    codes = np.random.default_rng(0).integers(-3, 4, 100).astype(np.int8)
    bias = np.random.default_rng(1).normal(size=10).astype(np.float32)
    kept_codes, kept_bias = Rounding.pack(codes, bias).unpack(100, 10)
    np.testing.assert_array_equal(kept_codes, codes)
    np.testing.assert_array_equal(kept_bias, bias)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes": "not base64!"}, "damaged"),
        ({"codes": "AAAA"}, "damaged"),
        ({"bias": "AAA="}, "damaged"),
        ({"bias": ""}, "does not fit"),
        ({"codes": Rounding.pack(np.zeros(7, np.int8), np.zeros(1, np.float32)).codes}, "does not fit"),
        ({"codes": Rounding.pack(np.zeros(10**7, np.int8), np.zeros(1, np.float32)).codes}, "does not fit"),
        ({"bias": Rounding.pack(np.zeros(1, np.int8), np.full(10, np.nan, np.float32)).bias}, "does not fit"),
    ],
)
def test_damaged_rounding_is_refused(change: dict, message: str) -> None:
    good = Rounding.pack(np.zeros(100, np.int8), np.zeros(10, np.float32))
    with pytest.raises(CalibrationError, match=message):
        replace(good, **change).unpack(100, 10)


def test_the_graph_holds_the_codes_chosen(model: ModelFile, table: CalibrationTable) -> None:
    """Weights in the Q/DQ graph are multiples of their scales, and the scales are those of the model's own weights.

    A channel of almost no weights has a larger scale, so that its bias fits into int32.
    """
    graph = int8_model(model, replace(table, stretch={})).proto
    own = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.proto.graph.initializer}
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    changed = 0
    for name in table.rounding:
        scales, weights = tensors[f"{name}.weight.scale"], tensors[f"{name}.weight"]
        of_weights = weight_scales(own[f"{name}.weight"])
        usual = of_weights > 1e-6
        np.testing.assert_array_equal(scales[usual], of_weights[usual])
        assert (scales >= of_weights).all()
        codes = (weights / scales[:, None, None, None])[usual]
        np.testing.assert_allclose(codes, np.rint(codes), atol=1e-3)
        changed += int((np.rint(codes) != np.rint(own[f"{name}.weight"] / scales[:, None, None, None])[usual]).sum())
    assert changed > 10_000


def test_the_table_keeps_it(tmp_path, table: CalibrationTable) -> None:
    write_table(tmp_path / "t.json", table)
    assert read_table(tmp_path / "t.json") == table


def test_an_unknown_rounding_is_refused(model: ModelFile) -> None:
    with pytest.raises(OptionError, match="second-order, nearest"):
        table_from_dataset(model, Pictures([np.zeros((8, 8, 3), np.uint8)]), dataset="x", rounding="up")


def test_a_rounding_for_other_weights_is_refused(model: ModelFile, table: CalibrationTable) -> None:
    name = next(iter(table.rounding))
    wrong = replace(table, rounding={name: Rounding.pack(np.zeros(3, np.int8), np.zeros(1, np.float32))})
    with pytest.raises(CalibrationError, match="does not fit"):
        int8_model(model, wrong)


def test_frames_with_a_whole_mean_are_held_exactly(model: ModelFile, table: CalibrationTable) -> None:
    """One grey level is one code: the bundled model normalises with 127 and 128."""
    (name,) = steps = pixel_steps(model.proto)
    assert steps[name] == 1 / 128
    assert table.amax[name] == pytest.approx(127 / 128)


def test_frames_with_a_mean_a_channel_are_not(model: ModelFile) -> None:
    graph = onnx.ModelProto()
    graph.CopyFrom(model.proto)
    mean = next(tensor for tensor in graph.graph.initializer if tensor.name == "sub_0.1")
    mean.CopyFrom(numpy_helper.from_array(np.array([123.7, 116.3, 103.5], np.float32).reshape(1, 3, 1, 1), mean.name))
    assert pixel_steps(graph) == {}


@pytest.mark.slow
def test_masks_change_less(model: ModelFile) -> None:
    """On streets that calibration did not see, fewer pixels change than with the nearest rounding."""
    import onnxruntime

    from pspnet_edge.data.subset import evenly_spaced

    streets, unseen = evenly_spaced(SceneSet("train"), 48), evenly_spaced(SceneSet("val"), 8)

    def masks(graph: onnx.ModelProto) -> np.ndarray:
        session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        from pspnet_edge.data.geometry import frame_at

        frames = [frame_at(unseen.image(index), model.shape_nhw[1:])[None] for index in range(len(unseen))]
        return np.stack([session.run(None, {"frames": frame})[0] for frame in frames])

    exact = masks(model.proto)
    changed = {
        how: np.mean(
            exact != masks(int8_model(model, table_from_dataset(model, streets, dataset="x", rounding=how)[0]).proto)
        )
        for how in ("nearest", "second-order")
    }
    assert changed["second-order"] < 0.9 * changed["nearest"]
