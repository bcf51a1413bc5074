from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pspnet_edge import bundled
from pspnet_edge.api.planning import plan
from pspnet_edge.errors import OptionError
from pspnet_edge.estimate.boards import BOARDS
from pspnet_edge.estimate.figures import Quality, bundled_qualities
from pspnet_edge.estimate.kernels import fused_kernels, read_graph, scaled_kernels
from pspnet_edge.estimate.plan import Candidate, choose, estimated_candidates, front, with_measured

REPORT = Path(__file__).parents[2] / "benchmarks" / "results" / "report.json"


def candidate(name: str, fps: float, miou: float | None, data: str = "camvid test") -> Candidate:
    return Candidate(name, (384, 480), "int8", fps, fps / 1.5, fps * 1.5, 1000 / fps, miou, data, measured=False)


def test_every_bundled_model_has_a_measured_miou_in_every_precision() -> None:
    found = bundled_qualities()
    for name in bundled.names():
        assert {quality.precision for quality in found if quality.model == name} == {"fp32", "fp16", "int8"}
    assert all(0.3 < quality.miou < 1 for quality in found)


def test_int8_has_the_figure_of_the_symmetric_graph_that_tensorrt_gets() -> None:
    zoo = json.loads((REPORT.parent / "zoo.json").read_text())
    assert set(zoo) == set(bundled.names())
    for name, facts in zoo.items():
        symmetric = [row["camvid"]["miou"] for row in facts["rows"] if row["flavour"] == "symmetric"]
        (found,) = (
            q for q in bundled_qualities() if q.size_hw == (384, 480) and q.precision == "int8" and q.model == name
        )
        assert found.miou == pytest.approx(min(symmetric), abs=1e-5)


def test_a_model_without_figures_of_its_weights_has_those_of_its_card(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    empty = tmp_path / "measured.json"
    empty.write_text('{"entries": []}')
    monkeypatch.setattr("pspnet_edge.estimate.figures._FIGURES", empty)
    found = {q.precision: q for q in bundled_qualities() if q.model == bundled.DEFAULT}
    assert found["int8"].miou == pytest.approx(0.6713, abs=0.01)
    assert found["int8"].data == "camvid test"


@pytest.mark.parametrize("int8", [False, True])
def test_scaled_kernels_are_those_of_the_model_exported_at_that_size(int8: bool) -> None:
    """The published table of estimates was made from exported models."""
    report = json.loads(REPORT.read_text())
    precision = "int8" if int8 else "fp16"
    for entry in report["estimates"]:
        if entry["precision"] != precision or entry["model"] != bundled.DEFAULT:
            continue
        size_hw = tuple(int(side) for side in entry["size"].split("x"))
        (found,) = (
            c
            for c in estimated_candidates(entry["board"])
            if (c.model, c.size_hw, c.precision) == (bundled.DEFAULT, size_hw, precision)
        )
        assert found.fps == pytest.approx(entry["fps"], rel=0.01)


def test_pooled_maps_keep_their_size() -> None:
    kernels = fused_kernels(read_graph(bundled.onnx_path(bundled.DEFAULT)), int8=False)
    doubled = scaled_kernels(kernels, (384, 480), (768, 960))
    pooled = [(a, b) for a, b in zip(kernels, doubled) if a.operation == "averagepool"]
    assert all(a.writes == b.writes for a, b in pooled)
    assert sum(k.macs for k in doubled) == pytest.approx(4 * sum(k.macs for k in kernels), rel=0.01)


@pytest.mark.parametrize("board", ["orin-nano", "orin-nx", "agx-orin", "thor"])
def test_the_choice_is_on_the_front_and_reaches_the_rate(board: str) -> None:
    start = time.process_time()
    found = plan(board, 30)
    assert time.process_time() - start < 5
    every = estimated_candidates(board)
    assert found.choice.fps_low >= 30
    assert not any(
        c.fps > found.choice.fps and c.miou > found.choice.miou + 1e-4 for c in every if c.miou and found.choice.miou
    )


def test_a_higher_rate_gives_a_faster_choice_and_cameras_share_the_board() -> None:
    slow, fast = plan("orin-nano", 30).choice, plan("orin-nano", 200).choice
    assert fast.fps > slow.fps
    assert (fast.miou or 0) < (slow.miou or 0)
    one, two = plan("orin-nano", 30), plan("orin-nano", 30, cameras=2)
    assert two.choice.fps == pytest.approx(one.choice.fps / 2)
    assert two.choice.load == pytest.approx(2 * one.choice.load)
    assert "--camera 0 --camera 1" in two.commands[1]


def test_a_camera_frame_costs_time() -> None:
    without, with_it = plan("orin-nano", 30), plan("orin-nano", 30, camera_hw=(2160, 3840))
    assert with_it.choice.latency_ms > without.choice.latency_ms


def test_an_estimate_that_only_may_reach_the_rate_is_said_to_need_measuring() -> None:
    unsure = choose([candidate("pspnet_lite0_camvid", 40, 0.7)], "orin-nano", 35)
    assert any("lower end of its error bar" in note for note in unsure.notes)


def test_of_two_that_hardly_differ_in_miou_the_faster_is_taken() -> None:
    found = choose([candidate("a", 100, 0.7003), candidate("b", 300, 0.7)], "orin-nano", 30)
    assert found.choice.model == "b"
    assert [other.model for other in found.alternatives] == ["a"]


def test_the_front_leaves_out_what_another_beats_in_both() -> None:
    found = front([candidate("slow", 10, 0.6), candidate("fast", 100, 0.65), candidate("good", 50, 0.7)])
    assert [one.model for one in found] == ["good", "fast"]


def test_measured_figures_replace_estimates_and_take_their_miou_where_the_report_has_none() -> None:
    measured = replace(candidate("a", 20, None, ""), measured=True)
    found = with_measured([candidate("a", 100, 0.7), candidate("b", 50, 0.8)], [measured])
    assert [(one.model, one.fps, one.miou, one.measured) for one in found] == [
        ("a", 20, 0.7, True),
        ("b", 50, 0.8, False),
    ]


def test_models_of_other_data_are_left_out_and_named() -> None:
    found = choose(
        [candidate("pspnet_lite0_camvid", 100, 0.7), candidate("city", 100, 0.9, "cityscapes val")], "orin-nano", 30
    )
    assert found.choice.model == "pspnet_lite0_camvid"
    assert any("cityscapes val" in note for note in found.notes)


def test_an_impossible_rate_names_the_nearest_possible_and_a_board_that_reaches_it() -> None:
    with pytest.raises(OptionError, match=r"does not reach 500 FPS.*lower it to \d+, or use orin-nano-super") as caught:
        plan("orin-nano", 500)
    assert caught.value.parameter == "fps"
    possible = int(str(caught.value).rpartition("lower it to ")[2].partition(",")[0])
    assert plan("orin-nano", possible).choice.fps >= possible


@pytest.mark.parametrize(("wrong", "near"), [("orin nano", "orin-nano"), ("nx", "orin-nx"), ("jetson-thor", "thor")])
def test_a_wrong_board_names_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(OptionError, match=f"did you mean {near}"):
        plan(wrong, 30)
    assert near in BOARDS


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(fps: float) -> None:
    with pytest.raises(OptionError, match=r"fps: .* is not a (rate|number)"):
        plan("orin-nano", fps)


def test_a_report_of_another_machine_is_refused_for_a_board_and_taken_without_one() -> None:
    with pytest.raises(OptionError, match="not on Jetson Orin Nano"):
        plan("orin-nano", 30, report=REPORT)
    found = plan(fps=60, report=REPORT)
    rows = json.loads(REPORT.read_text())["rows"]
    fps = [row["fps"] for row in rows if row["size"] == "384x480" and row["precision"] == found.choice.precision]
    assert found.choice.measured
    assert found.choice.fps in fps


def test_a_report_of_the_board_replaces_estimates(tmp_path: Path) -> None:
    facts = json.loads(REPORT.read_text())
    facts["environment"]["board"] = "NVIDIA Jetson Orin Nano Developer Kit"
    path = tmp_path / "report.json"
    path.write_text(json.dumps(facts))
    assert plan("orin-nano", 60, report=path).choice.measured
    with pytest.raises(OptionError, match="not on Jetson Orin NX"):
        plan("orin-nx", 60, report=path)


def test_measuring_for_a_board_needs_that_board() -> None:
    with pytest.raises(OptionError, match="not on Jetson Thor T5000"):
        plan("thor", 30, measure=True)


def test_a_plan_is_json() -> None:
    facts = json.loads(json.dumps(plan("agx-orin", 30, camera_hw=(720, 1280)).to_dict()))
    assert {"model", "size", "precision", "fps", "miou"} <= set(facts["choice"])
    assert facts["commands"][0].startswith("pspnet-edge build ")
    assert facts["camera"] == "720x1280"
    assert facts["alternatives"]


def test_qualities_can_be_given() -> None:
    given = [Quality(bundled.DEFAULT, (192, 256), "fp16", 0.5, "mine")]
    assert [c.size_hw for c in estimated_candidates("orin-nano", qualities=given)] == [(192, 256)]
