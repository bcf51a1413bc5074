from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

import pspnet_edge
from pspnet_edge import bundled
from pspnet_edge.camera.frames import as_frame
from pspnet_edge.camera.regions import regions_of
from pspnet_edge.camera.segmenter import Segmenter
from pspnet_edge.data.scenes import Drive
from pspnet_edge.engine.backends import open_engine
from pspnet_edge.engine.build import build_engine, prepare_model
from pspnet_edge.errors import EngineError, OptionError, SourceError
from pspnet_edge.graph.onnx_file import read_model
from pspnet_edge.graph.tail import without_tail
from pspnet_edge.labels import CAMVID


@pytest.fixture(scope="module")
def engine_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engine") / "fp32.engine"
    build_engine(prepare_model(None), "fp32", "openvino", path)
    return path


def test_the_package_gives_it() -> None:
    assert pspnet_edge.Segmenter is Segmenter
    with pytest.raises(AttributeError, match="no attribute 'Segmentor'"):
        _ = pspnet_edge.Segmentor


def test_one_frame(engine_path: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 255, (240, 320, 3)).astype(np.uint8)
    with Segmenter(engine_path) as segmenter:
        mask = segmenter(frame)
        again = segmenter(np.zeros_like(frame))
    assert mask.shape == (240, 320)
    assert mask.dtype == np.uint8
    assert (mask != again).any(), "a mask is the caller's own"


def test_a_mask_of_the_engines_size_is_the_callers_own(engine_path: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 255, (384, 480, 3)).astype(np.uint8)
    with Segmenter(engine_path) as segmenter:
        mask = segmenter(frame)
        kept = mask.copy()
        segmenter(255 - frame)
    np.testing.assert_array_equal(mask, kept)


def test_lists_arrays_paths_and_pil_images_are_segmented_alike(engine_path: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 255, (96, 120, 3)).astype(np.uint8) for _ in range(2))
    cv2.imwrite(str(tmp_path / "a.png"), first)
    with Segmenter(engine_path) as segmenter:
        wanted = [segmenter(first), segmenter(second)]
        for masks in (segmenter([first, second]), segmenter((first, second)), segmenter(np.stack([first, second]))):
            np.testing.assert_array_equal(masks, wanted)
        assert isinstance(segmenter(np.stack([first, second])), np.ndarray)
        assert segmenter([]) == []
        np.testing.assert_array_equal(segmenter(tmp_path / "a.png"), wanted[0])
        np.testing.assert_array_equal(segmenter(str(tmp_path / "a.png")), wanted[0])
        pil = pytest.importorskip("PIL.Image", reason="Pillow comes with the training extra")
        np.testing.assert_array_equal(segmenter(pil.fromarray(first[..., ::-1])), wanted[0])


@pytest.mark.parametrize(
    ("mode", "size", "sentence"),
    [
        ("RGB", (0, 10), "the picture has a size of 10x0: an empty picture has no pixels"),
        ("I;16", (80, 60), "mode I;16 has more than 8 bits: scale it to 0 to 255, .*, or give the path of the image"),
        ("F", (80, 60), "mode F has more than 8 bits"),
    ],
)
def test_a_picture_of_pillow_that_is_empty_or_deep_is_refused(mode: str, size: tuple[int, int], sentence: str) -> None:
    pil = pytest.importorskip("PIL.Image", reason="Pillow comes with the training extra")
    with pytest.raises(OptionError, match=sentence):
        as_frame(pil.new(mode, size))


def test_the_advice_for_sixteen_bits_keeps_what_is_dark_dark() -> None:
    frame = np.linspace(0, 4095, 300).astype(np.uint16).reshape(10, 10, 3)
    with pytest.raises(OptionError, match="scale it") as caught:
        as_frame(frame)
    advice = (caught.value.fix or "").partition("such as ")[2].partition(", or give")[0]
    scaled = eval(advice, {"frame": frame, "numpy": np})
    assert (scaled.dtype, int(scaled.min()), int(scaled.max())) == (np.uint8, 0, 255)
    assert (np.diff(scaled.ravel().astype(int)) >= 0).all()


def test_an_engines_own_precision_and_runtime_may_be_named(engine_path: Path) -> None:
    with Segmenter(engine_path, precision="fp32", runtime="openvino") as segmenter:
        Segmenter(segmenter.engine, precision="fp32").close()


def test_classes_are_hidden_by_name_or_by_id(engine_path: Path) -> None:
    frame = np.zeros((96, 120, 3), np.uint8)
    mask = np.full((96, 120), 2, np.uint8)
    with Segmenter(engine_path) as segmenter:
        by_id = segmenter.overlay(frame, mask, hide=[2], legend=False)
        by_name = segmenter.overlay(frame, mask, hide=[segmenter.classes[2]], legend=False)
        shown = segmenter.overlay(frame, mask, legend=False)
    np.testing.assert_array_equal(by_id, by_name)
    assert (by_id != shown).any()


def test_threads_and_streams_take_turns_and_each_gets_its_own_masks(engine_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (96, 120, 3)).astype(np.uint8) for _ in range(6)]
    with Segmenter(engine_path) as segmenter:
        wanted = [segmenter(frame) for frame in frames]
        right: list[bool] = []

        def work(offset: int) -> None:
            for index in range(10):
                place = (index + offset) % len(frames)
                right.append(bool((segmenter(frames[place]) == wanted[place]).all()))

        threads = [threading.Thread(target=work, args=(offset,)) for offset in range(3)]
        for thread in threads:
            thread.start()
        backwards = segmenter.stream(frames[::-1])
        for index, ((frame, mask), (_, other)) in enumerate(zip(segmenter.stream(frames), backwards)):
            np.testing.assert_array_equal(frame, frames[index])
            # Two in flight run the same kernels on fewer threads; a pixel on an edge may differ.
            assert (mask == wanted[index]).mean() > 0.999
            assert (other == wanted[-1 - index]).mean() > 0.999
        for thread in threads:
            thread.join()
        assert len(right) == 30
        assert all(right)


def test_a_segmenter_without_an_engine_is_the_bundled_model_and_says_what_it_is() -> None:
    with Segmenter() as segmenter, Segmenter("pspnet_lite0_camvid", precision="int8") as named:
        assert segmenter.classes == CAMVID.classes
        assert segmenter.engine.info.precision == "int8"
        assert named.engine.info.path == segmenter.engine.info.path
        assert "int8" in repr(segmenter)
        assert "11 classes" in repr(segmenter)
    assert "closed" in repr(segmenter)


def test_overlay_palette_and_regions_are_what_drawing_libraries_take(engine_path: Path) -> None:
    frame = Drive().frame(30).image
    with Segmenter(engine_path) as segmenter:
        mask = segmenter(frame)
        picture = segmenter.overlay(frame, mask, hide=["sky"], legend=False)
        assert picture.shape == frame.shape
        np.testing.assert_array_equal(picture[mask == 0], frame[mask == 0])
        assert segmenter.palette[mask].shape == frame.shape
        assert tuple(segmenter.palette[3]) == CAMVID.palette[3]
        regions = segmenter.regions(mask)
    assert regions.class_name == tuple(CAMVID.classes[index] for index in np.unique(mask))
    np.testing.assert_array_equal(regions.mask.sum(axis=0), np.ones_like(mask))
    left, top, right, bottom = regions.xyxy[0].astype(int)
    assert regions.mask[0][top:bottom, left:right].sum() == regions.mask[0].sum()
    supervision = pytest.importorskip("supervision", reason="supervision is not installed: pip install supervision")
    detections = supervision.Detections(**regions.to_dict())
    assert len(detections) == len(regions)
    assert list(detections["class_name"]) == list(regions.class_name)
    annotated = supervision.MaskAnnotator().annotate(frame.copy(), detections)
    assert (annotated != frame).any()


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_scores_say_how_sure_the_network_is_and_leave_the_mask_as_it_is(runtime: str) -> None:
    scene = Drive().frame(30)
    with Segmenter(precision="int8", runtime=runtime) as segmenter:
        mask, scores = segmenter(scene.image, scores=True)
        np.testing.assert_array_equal(mask, segmenter(scene.image))
        assert scores.shape == mask.shape
        assert scores.dtype == np.float32
        assert scores.min() > 0
        assert scores.max() <= 1
        right = mask == scene.mask
        assert scores[right].mean() > scores[~right].mean() + 0.1
        masks, both = segmenter([scene.image, scene.image], scores=True)
        np.testing.assert_array_equal(masks[1], mask)
        np.testing.assert_allclose(both[1], scores, atol=1e-5)
        stacked, together = segmenter(np.stack([scene.image] * 2), scores=True)
        assert together.shape == stacked.shape
        regions = segmenter.regions(mask, scores)
        assert regions.confidence == pytest.approx([scores[mask == index].mean() for index in regions.class_id])


def test_scores_are_the_softmax_of_the_logits(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = read_model(bundled.onnx_path(bundled.DEFAULT))
    frames = np.zeros((*model.shape_nhw, 3), np.uint8)
    frames[0] = cv2.resize(Drive().frame(30).image, model.shape_nhw[:0:-1])
    path = tmp_path / "scored.engine"
    build_engine(prepare_model(None), "fp32", "onnxruntime", path, scores=True)
    session = onnxruntime.InferenceSession(without_tail(model)[0].proto.SerializeToString())
    logits = session.run(None, {session.get_inputs()[0].name: frames})[0].astype(np.float64)
    likely = np.exp(logits - logits.max(axis=1, keepdims=True))
    likely /= likely.sum(axis=1, keepdims=True)
    with open_engine(path) as engine:
        masks, scores = engine.infer_scores(frames)
        assert engine.info.scores_hw == logits.shape[2:]
        np.testing.assert_array_equal(masks, engine.infer(frames))
    np.testing.assert_allclose(scores, likely.max(axis=1), atol=1e-5)


def test_an_engine_without_scores_says_how_to_get_one(engine_path: Path, tmp_path: Path) -> None:
    with Segmenter(engine_path) as segmenter, pytest.raises(EngineError, match="gives masks and no scores") as caught:
        segmenter(np.zeros((8, 8, 3), np.uint8), scores=True)
    assert caught.value.command == "pspnet-edge build MODEL --scores -o ENGINE"
    with pytest.raises(OptionError, match="masks and no scores"):
        build_engine(prepare_model(None), "fp32", "tensorrt-rtx", tmp_path / "x.engine", scores=True)


def test_an_engine_with_scores_streams_as_any_other(tmp_path: Path) -> None:
    path = tmp_path / "scored.engine"
    build_engine(prepare_model(None), "int8", "openvino", path, scores=True)
    frames = [Drive().frame(index).image for index in range(0, 60, 20)]
    with Segmenter(path) as segmenter:
        for frame, mask in segmenter.stream(frames):
            other, scores = segmenter(frame, scores=True)
            assert (mask == other).mean() > 0.999
            assert scores.shape == mask.shape


def test_regions_are_cut_apart_where_asked_and_small_ones_left_out() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[2:5, 2:8], mask[10:18, 10:20], mask[19, 29] = 1, 1, 1
    names = ("background", "blob")
    assert regions_of(mask, names).class_id.tolist() == [0, 1]
    parts = regions_of(mask, names, split=True, smallest=2)
    assert parts.class_name == ("background", "blob", "blob")
    assert parts.xyxy.tolist()[1:] == [[2, 2, 8, 5], [10, 10, 20, 18]]
    nothing = regions_of(np.full((4, 5), 255, np.uint8), names)
    assert nothing.mask.shape == (0, 4, 5)
    assert nothing.xyxy.shape == (0, 4)


@pytest.mark.slow
@pytest.mark.parametrize(("runtime", "times"), [("onnxruntime", 200), ("openvino", 60)])
def test_opening_and_closing_leaves_nothing_behind(runtime: str, times: int) -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "openings.py"
    command = [sys.executable, script, "--runtime", runtime, "--times", str(times)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_stream_gives_every_frame_with_its_mask(engine_path: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(4):
        cv2.imwrite(str(tmp_path / f"{number}.png"), rng.integers(0, 255, (96, 120, 3)).astype(np.uint8))
    with open_engine(engine_path) as engine:
        segmenter = Segmenter(engine)
        pairs = list(segmenter.stream(tmp_path))
        for number, (frame, mask) in enumerate(pairs):
            np.testing.assert_array_equal(frame, cv2.imread(str(tmp_path / f"{number}.png")))
            # In flight two at a time the same kernels run on fewer threads; a pixel on an edge may differ.
            assert (mask == segmenter(frame)).mean() > 0.999
        assert len(pairs) == 4
        given = [frame for frame, _ in segmenter.stream(frame for frame, _ in pairs)]
        assert len(given) == 4


def test_a_stream_may_be_left_early(engine_path: Path) -> None:
    with Segmenter(engine_path) as segmenter:
        for number, (frame, mask) in enumerate(segmenter.stream("demo")):
            assert mask.shape == frame.shape[:2]
            if number == 2:
                break
        assert segmenter(frame).shape == mask.shape


def test_what_cannot_be_opened_is_said(engine_path: Path) -> None:
    with Segmenter(engine_path) as segmenter, pytest.raises(SourceError, match="there is no camera"):
        next(iter(segmenter.stream(63)))
