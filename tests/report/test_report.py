"""A real report: what is in it, and that a browser shows it without a network."""

from __future__ import annotations

import contextlib
import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from pspnet_edge.errors import ModelError, PspnetEdgeError
from pspnet_edge.report import charts, render
from pspnet_edge.report.published import comparable
from pspnet_edge.report.render import html, json_text, markdown, read_report
from pspnet_edge.report.tables import class_groups, findings, points

Small = tuple[Path, dict[str, Any]]


def test_rows_hold_what_was_promised(small_report: Small, few_scenes: Path) -> None:
    _, report = small_report
    assert [row["precision"] for row in report["rows"]] == ["fp32", "int8"]
    for row in report["rows"]:
        assert (row["size"], row["runtime"], row["images"]) == ("384x480", "openvino", 4)
        assert row["latency_ms"]["p50"] <= row["latency_ms"]["p95"] <= row["latency_ms"]["p99"]
        assert row["fps"] == pytest.approx(1000 / row["latency_ms"]["p50"], rel=1e-2)
        assert row["loop"]["latency_ms"]["p50"] > 0
        assert len(row["rounds_ms"]) == len(row["reference_ms"]) == 2
        assert 0.4 < row["miou"] < 1
        assert row["build_s"] > 0
        assert row["engine_bytes"] > 1e7
        assert row["peak_memory_bytes"] > 5e7
        assert row["power"] is None  # no Jetson
        assert re.fullmatch("[0-9a-f]{64}", row["engine_sha256"])
    exact, int8 = report["rows"]
    assert exact["miou_change"] == 0
    assert int8["miou_change"] == pytest.approx(int8["miou"] - exact["miou"])
    assert int8["int8_mac_fraction"] > 0.9
    assert report["options"]["images"] == {"dataset": "folder", "split": "test", "folder": few_scenes.name}
    assert report["environment"]["packages"]["openvino"]
    assert report["command"].startswith("pspnet-edge benchmark --precision fp32,int8")


def test_estimates_stand_apart_and_say_what_they_are(small_report: Small) -> None:
    folder, report = small_report
    assert len(report["estimates"]) == 2
    assert all(entry["estimate"] for entry in report["estimates"])
    assert not any("estimate" in row for row in report["rows"])
    assert "## Estimates, nothing of which was measured" in (folder / "report.md").read_text()


def test_nothing_unfinished_is_left(small_report: Small) -> None:
    folder, _ = small_report
    names = {"report.html", "report.json", "report.md", "report.png", "samples"}
    assert {path.name for path in folder.iterdir()} == names


def test_settings_of_matplotlib_in_the_working_folder_do_not_change_a_chart(monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    report = json.loads((Path(__file__).parents[2] / "benchmarks/results/report.json").read_text())
    plain = charts.svg(charts.tradeoff, report, narrow=True)
    for name, value in (("text.usetex", True), ("axes.linewidth", 9.0), ("savefig.bbox", "tight")):
        monkeypatch.setitem(matplotlib.rcParams, name, value)
    assert charts.svg(charts.tradeoff, report, narrow=True) == plain
    assert matplotlib.rcParams["axes.linewidth"] == 9.0


def test_a_class_that_only_one_precision_names_has_no_iou_in_the_others() -> None:
    report = json.loads((Path(__file__).parents[2] / "benchmarks/results/report.json").read_text())
    group = next(group for group in class_groups(report) if len(group["names"]) > 1)
    label, other = group["classes"][0]["class"], group["names"][1].lower()
    for row in report["rows"]:
        if row["precision"] == other:
            row["per_class_iou"].pop(label, None)
    assert class_groups(report)[0]["classes"][0]["iou"][other.upper()] is None
    assert f"| {label} |" in markdown(report)


def test_the_page_opens_without_a_network(small_report: Small, chromium: Any) -> None:
    """Chart, tables and overlays are there, nothing is asked for, and a phone need not scroll sideways."""
    folder, _ = small_report
    for width, shown in ((1200, "wide"), (360, "narrow")):
        context = chromium.new_context(viewport={"width": width, "height": 800}, offline=True)
        page = context.new_page()
        asked: list[str] = []
        said: list[str] = []
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.on("console", lambda message, said=said: said.append(message.text))
        page.goto((folder / "report.html").as_uri())
        assert [url for url in asked if not url.startswith("data:")] == [(folder / "report.html").as_uri()]
        assert said == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator(f"#tradeoff .{shown} svg").is_visible()
        assert page.locator(f"#tradeoff .{shown} svg").bounding_box()["width"] > 0.8 * min(width, 1200) - 40
        assert "Pareto front" in page.locator(f"#tradeoff .{shown} svg").text_content()
        assert "Cityscapes" not in page.locator(f"#tradeoff .{shown} svg").text_content()
        assert page.locator("#results tbody tr").count() == 2
        assert page.locator("#published").count() == 0  # nothing was published for a folder
        assert page.locator("#confusions tbody tr").first.is_visible()
        pictures = page.locator("#samples img")
        assert pictures.count() == 3 * 5  # image, label, FP32, INT8, where they differ
        sizes = pictures.evaluate_all("images => images.map(image => image.complete && image.naturalWidth)")
        assert all(size >= 200 for size in sizes)
        context.close()


def test_the_worst_class_comes_first(small_report: Small, chromium: Any) -> None:
    folder, report = small_report
    page = chromium.new_page()
    page.goto((folder / "report.html").as_uri())
    names = page.locator("#classes .class > span").all_text_contents()
    iou = {name: value for name, value in report["rows"][0]["per_class_iou"].items() if value is not None}
    assert names[: len(iou)] == sorted(iou, key=lambda name: iou[name])


def test_names_cannot_break_out_of_the_page(small_report: Small) -> None:
    folder, report = small_report
    text = (folder / "report.html").read_text()
    assert "<b>0&" not in text
    assert "&lt;b&gt;0&amp;" in text
    planted = {**report, "command": "<script>alert(1)</script>", "made_at": "<img src=x>"}
    assert "<script" not in html(planted, folder / "samples")
    assert "<img src=x>" not in html(planted, folder / "samples")
    row = {**report["rows"][0], "model": "a|b<i>"}
    assert "a\\|b\\<i\\>" in markdown({**report, "rows": [row, report["rows"][1]]})


def test_json_is_read_back_and_numbers_stand_on_one_line(small_report: Small) -> None:
    folder, report = small_report
    stored = read_report(folder / "report.json")
    assert stored == {name: value for name, value in report.items() if name != "files"}
    assert json.loads(json_text(stored)) == stored
    assert max(line.count(",") for line in json_text(stored).splitlines()) >= 100


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "there is no report"), ("{", "cannot be read"), ("[]", "is not a report"), ("{}", "is not a report")],
)
def test_other_files_are_no_reports(tmp_path: Path, content: str | None, sentence: str) -> None:
    path = tmp_path / "old.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ModelError, match=sentence):
        read_report(path)


def test_without_matplotlib_there_are_the_tables(
    small_report: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, report = small_report
    monkeypatch.setattr(render, "available", lambda module: module != "matplotlib")
    files = render.write_report(report, tmp_path, folder / "samples")
    assert [path.name for path in files] == ["report.json", "report.md"]


def test_published_figures_name_a_source_and_never_mix_crop_with_input() -> None:
    entries = render.published()
    assert [entry["number"] for entry in entries] == list(range(1, len(entries) + 1))
    assert all(entry["source"] for entry in entries)
    assert all("device" in entry for entry in entries if "fps" in entry)
    assert all("dataset" in entry for entry in entries if "miou" in entry)
    assert all(0 < entry["miou"] < 1 for entry in entries if "miou" in entry)


def test_the_header_names_model_data_and_classes(small_report: Small, few_scenes: Path) -> None:
    folder, report = small_report
    head = (folder / "report.html").read_text().partition("</header>")[0]
    assert report["rows"][0]["model"] in head
    assert f"{few_scenes.name} (folder test)" in head
    assert "11 classes" in head


def test_a_confusion_matrix_agrees_with_the_iou_of_its_row(small_report: Small) -> None:
    _, report = small_report
    for row in report["rows"]:
        counts = row["confusion_matrix"]
        for place, iou in enumerate(row["per_class_iou"].values()):
            union = sum(counts[place]) + sum(line[place] for line in counts) - counts[place][place]
            assert iou is None if union == 0 else counts[place][place] / union == pytest.approx(iou)


def test_a_change_is_in_percentage_points(small_report: Small) -> None:
    assert points(-0.0001) == "−0.01 pp"
    assert points(0.0) == "+0.00 pp"
    folder, _ = small_report
    assert "change, pp" in (folder / "report.md").read_text()


def test_published_figures_of_other_data_are_left_out(small_report: Small) -> None:
    _, report = small_report
    assert comparable(report) == []
    images = {"dataset": "camvid", "split": "test"}
    camvid = {**report, "options": {**report["options"], "images": images}, "estimates": []}
    found = comparable(camvid)
    assert found
    assert all((entry["dataset"], entry["split"]) == ("camvid", "test") for entry in found)
    board = {**camvid, "environment": {**report["environment"], "board": "NVIDIA Jetson Orin Nano Developer Kit"}}
    assert {entry["device"] for entry in comparable(board) if not entry.get("miou")} <= {"Jetson Orin Nano 8GB"}
    estimated = {**camvid, "estimates": report["estimates"]}
    assert any(entry.get("device") == "Jetson Orin Nano 8GB" for entry in comparable(estimated))


@pytest.mark.parametrize("width", [1280, 1440])
def test_no_column_of_the_results_is_cut_on_a_desktop(small_report: Small, chromium: Any, width: int) -> None:
    folder, _ = small_report
    page = chromium.new_page(viewport={"width": width, "height": 800})
    page.goto((folder / "report.html").as_uri())
    for section in ("results", "estimates"):
        box = page.locator(f"#{section} .scroll")
        assert box.evaluate("box => box.scrollWidth <= box.clientWidth"), section
    page.close()


@pytest.mark.parametrize("narrow", [False, True])
def test_no_panel_of_the_chart_is_empty(small_report: Small, narrow: bool) -> None:
    """A data set of one's own has no published figures to fill the panel of other networks."""
    report = {**small_report[1], "published": []}
    figure = charts.tradeoff(report, narrow)
    assert figure.axes
    assert all(axes.collections for axes in figure.axes)


def test_the_range_over_rounds_is_within_the_chart(small_report: Small) -> None:
    rows = [{**row, "spread_ms": {**row["spread_ms"], "q25": 100 / row["fps"]}} for row in small_report[1]["rows"]]
    axes = charts.tradeoff({**small_report[1], "rows": rows, "published": []}, narrow=True).axes[0]
    assert axes.get_xlim()[1] > 10 * max(row["fps"] * row["batch"] for row in rows)


@pytest.mark.parametrize(("fps", "shown"), [(5.54, "5.5 FPS"), (39.6, "40 FPS")])
def test_a_slow_engine_keeps_its_decimal(small_report: Small, fps: float, shown: str) -> None:
    rows = [{**row, "fps": fps} for row in small_report[1]["rows"]]
    assert findings({**small_report[1], "rows": rows})[0]["figure"] == shown


def test_what_a_report_may_lack_is_missed_by_no_page(tmp_path: Path) -> None:
    """Reports of older versions, and edited ones: what the shape does not demand, nothing that is drawn may need."""
    published = Path(__file__).resolve().parents[2] / "benchmarks/results/report.json"
    told = json.loads(published.read_text()) | {"samples": []}
    parts: tuple[Any, ...] = (told["rows"], told["estimates"], [told["environment"]], [told["options"]], [told])
    spared = []
    for name in sorted({name for part in parts for entry in part for name in entry}):
        (tmp_path / "report.json").write_text(json.dumps(_without(told, [name])))
        with contextlib.suppress(PspnetEdgeError):
            read_report(tmp_path / "report.json")
            spared.append(name)
    assert {"runtime_version", "engine_sha256", "model_sha256", "flavour", "against"} <= set(spared)
    (tmp_path / "report.json").write_text(json.dumps(_without(told, spared)))
    report = read_report(tmp_path / "report.json")
    markdown(report)
    html(report, tmp_path)


def _without(told: dict[str, Any], names: list[str]) -> dict[str, Any]:
    changed = copy.deepcopy(told)
    for entry in (*changed["rows"], *changed["estimates"], changed["environment"], changed["options"], changed):
        for name in names:
            entry.pop(name, None)
    return changed


@pytest.mark.parametrize(
    ("spread", "says"),
    [({"q75": 1.0, "least": 1.0, "most": 1.0}, "lacks q25"), ({"q25": 0, "q75": 1, "least": 0, "most": 1}, "q25")],
)
def test_a_report_without_its_spread_is_refused(
    small_report: Small, spread: dict[str, float], says: str, tmp_path: Path
) -> None:
    facts = copy.deepcopy(small_report[1])
    facts["rows"][0]["spread_ms"] = spread
    (tmp_path / "report.json").write_text(json.dumps(facts), encoding="utf-8")
    with pytest.raises(ModelError, match=says):
        read_report(tmp_path / "report.json")
