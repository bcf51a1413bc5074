"""What transformers and Ultralytics write beside and into their files; the values are those of transformers 5.23 and
Ultralytics 8.4."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from pspnet_edge.errors import OptionError
from pspnet_edge.graph.adapt import adapt
from pspnet_edge.graph.described import Preprocessing, described

from .test_adapt import SIZE, foreign, frame, masks_of, scores_of

pytest.importorskip("onnxslim")
NAMES = {"0": "road", "1": "car", "2": "sky", "3": "tree"}
SEGFORMER = {
    "do_normalize": True, "do_reduce_labels": False, "do_rescale": True, "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406], "image_processor_type": "SegformerImageProcessor",
    "image_std": [0.229, 0.224, 0.225], "resample": 2, "rescale_factor": 0.00392156862745098,
    "size": {"height": SIZE[0], "width": SIZE[1]},
}  # fmt: skip
MOBILEVIT = {
    "crop_size": {"height": 256, "width": 256}, "do_center_crop": True, "do_flip_channel_order": True,
    "do_reduce_labels": False, "do_rescale": True, "do_resize": True, "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "MobileViTImageProcessor", "image_std": [0.5, 0.5, 0.5], "resample": 3,
    "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 224},
}  # fmt: skip
OLD = {
    "do_normalize": True,
    "do_resize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.5, 0.5, 0.4],
    "size": 512,
}


def beside(folder: Path, processor: dict[str, object], config: object = None) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps({"id2label": NAMES} if config is None else config), encoding="utf-8")


@pytest.mark.parametrize(
    ("processor", "wanted"),
    [
        (SEGFORMER, Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))),
        (MOBILEVIT, Preprocessing(colour="bgr")),  # it has a mean and does not use it
        (OLD, Preprocessing((0.5, 0.4, 0.3), (0.5, 0.5, 0.4))),
        (SEGFORMER | {"do_rescale": False}, Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 1.0)),
        (SEGFORMER | {"do_normalize": False}, Preprocessing()),
    ],
    ids=["SegFormer", "MobileViT", "before do_rescale", "grey levels", "not normalized"],
)
@pytest.mark.parametrize("folder", ["", "onnx"])
def test_a_network_of_transformers_needs_no_options(
    processor: dict[str, object], wanted: Preprocessing, folder: str, tmp_path: Path
) -> None:
    beside(tmp_path, processor)
    (tmp_path / folder).mkdir(exist_ok=True)
    model = foreign(tmp_path / folder / "model.onnx")
    adapted = adapt(model, tmp_path / "a.onnx", size_hw=None if "height" in str(processor.get("size")) else SIZE)
    assert adapted.shape_nhw == (1, *SIZE)
    assert adapted.label_set.classes == tuple(NAMES.values())
    assert (masks_of(tmp_path / "a.onnx", frame()) == scores_of(frame(), wanted).argmax(1)).mean() > 0.9999
    assert any("preprocessor_config.json" in remark for remark in adapted.remarks)


def test_what_is_given_goes_before_what_is_beside_the_network(command_line, tmp_path: Path) -> None:
    beside(tmp_path, SEGFORMER)
    foreign(tmp_path / "model.onnx")
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\n")
    arguments = ["adapt", str(tmp_path / "model.onnx"), "-o", str(tmp_path / "a.onnx"), "--classes"]
    ran = command_line(
        *arguments, str(tmp_path / "names.txt"), "--scale", "1", "--mean", "120", "--std", "58", "--json"
    )
    told = json.loads(ran.stdout)
    assert told["label_set"]["classes"] == ["a", "b", "c", "d"]
    assert (told["mean"], told["std"], told["scale"]) == ([120.0] * 3, [58.0] * 3, 1.0)
    wanted = Preprocessing((120.0,) * 3, (58.0,) * 3, 1.0)
    assert (masks_of(tmp_path / "a.onnx", frame()) == scores_of(frame(), wanted).argmax(1)).mean() > 0.9999
    told = json.loads(command_line(*arguments[:-1], "--colour", "bgr", "--json").stdout)
    assert (told["mean"], told["colour"]) == ([0.406, 0.456, 0.485], "bgr")


def test_the_metadata_of_ultralytics_name_classes_and_size(tmp_path: Path) -> None:
    model = onnx.load(foreign(tmp_path / "model.onnx"))
    stored = {"names": "{0: 'road', 1: 'car', 2: 'sky', 3: 'car'}", "imgsz": f"[{SIZE[0]}, {SIZE[1]}]"}
    onnx.helper.set_model_props(model, stored)
    onnx.save(model, tmp_path / "model.onnx")
    adapted = adapt(tmp_path / "model.onnx", tmp_path / "a.onnx")
    assert adapted.label_set.classes == ("road", "car", "sky", "car 3")
    assert adapted.shape_nhw == (1, *SIZE)


@pytest.mark.parametrize(
    ("kind", "number", "scale"), [("Sub", 117.0, 1.0), ("Sub", 0.485, 1 / 255), ("Div", 255.0, 1.0)]
)
def test_a_network_that_normalizes_by_itself_is_not_normalized_twice(
    kind: str, number: float, scale: float, tmp_path: Path
) -> None:
    beside(tmp_path, SEGFORMER)
    (tmp_path / "plain").mkdir()
    plain = onnx.load(foreign(tmp_path / "plain" / "model.onnx"))
    plain.graph.initializer.append(onnx.numpy_helper.from_array(np.full((1, 3, 1, 1), number, np.float32), "own"))
    plain.graph.node.insert(0, onnx.helper.make_node(kind, ["x", "own"], ["centred"]))
    plain.graph.node[1].input[0] = "centred"
    onnx.save(plain, tmp_path / "model.onnx")
    adapted = adapt(tmp_path / "model.onnx", tmp_path / "a.onnx")
    assert (adapted.mean, adapted.std, adapted.scale) == ((0.0,) * 3, (1.0,) * 3, scale)
    assert any("preprocessor_config.json are left out" in remark for remark in adapted.remarks)


@pytest.mark.parametrize(
    "config", [[], {"id2label": {"1": "a", "2": "b"}}, {"id2label": {"0": 1, "1": "b"}}, {"id2label": "x"}, {}]
)
def test_classes_that_are_not_named_have_to_be_given(config: object, tmp_path: Path) -> None:
    model = foreign(tmp_path / "model.onnx")
    beside(tmp_path, SEGFORMER, config)
    with pytest.raises(OptionError, match="names the classes"):
        adapt(model, tmp_path / "a.onnx")


@pytest.mark.parametrize(
    "changed", [{"image_mean": "x"}, {"image_std": [0, 1, 1]}, {"rescale_factor": -1}, {"image_mean": [1e9] * 3}]
)
def test_a_processor_without_sense_counts_as_not_there(changed: dict[str, object], tmp_path: Path) -> None:
    beside(tmp_path, SEGFORMER | changed)
    assert described(tmp_path / "model.onnx").preprocessing is None
    (tmp_path / "preprocessor_config.json").write_text("{" * 100_000)
    assert described(tmp_path / "model.onnx").preprocessing is None
