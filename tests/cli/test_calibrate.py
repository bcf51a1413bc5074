from __future__ import annotations

import json
from pathlib import Path

from pspnet_edge.cli.calibrate import _chosen, _shipped_list
from pspnet_edge.data.datasets import SceneSet
from pspnet_edge.graph.calibration_table import read_table


def test_only_training_splits_have_a_list_of_their_own() -> None:
    assert _shipped_list("camvid", "train") is not None
    assert _shipped_list("camvid", "test") is None
    assert _shipped_list("scenes", "train") is None


def test_how_many_images_are_taken(tmp_path: Path) -> None:
    scenes = SceneSet("train")
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"{scenes.name(index)}\n" for index in range(10)))
    assert len(_chosen(scenes, None, None)) == 128
    assert len(_chosen(scenes, None, 5)) == 5
    assert len(_chosen(scenes, listed, None)) == 10
    assert [_chosen(scenes, listed, 2).name(index) for index in range(2)] == [scenes.name(0), scenes.name(5)]


def test_a_list_of_your_own(command_line, tmp_path: Path) -> None:
    listed, table = tmp_path / "list.txt", tmp_path / "t.json"
    listed.write_text(f"# two streets\n{SceneSet('train').name(3)}\n{SceneSet('train').name(8)}\n")
    done = command_line("calibrate", "--dataset", "scenes", "--images-from", listed, "-o", table, "--json")
    facts = json.loads(done.stdout)
    assert facts["images"] == read_table(table).images == 2
    assert facts["images_from"] == str(listed)
    assert facts["skipped"] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["list.txt", "t.json", "work"]


def test_a_list_of_another_data_set_is_refused_in_one_sentence(command_line, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("2007_000032\n")
    done = command_line("calibrate", "--dataset", "scenes", "--images-from", tmp_path / "list.txt")
    assert done.returncode == 1
    assert "are not in this split of the data set, such as 2007_000032" in done.stderr
    assert list((tmp_path / "work").iterdir()) == []
