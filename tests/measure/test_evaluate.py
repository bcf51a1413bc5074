from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pspnet_edge.data.datasets import SceneSet
from pspnet_edge.data.geometry import Geometry, frame_at
from pspnet_edge.engine.engine import Engine, EngineInfo
from pspnet_edge.errors import DataError
from pspnet_edge.labels import CAMVID, IGNORE, LabelSet
from pspnet_edge.measure import evaluate as module
from pspnet_edge.measure.evaluate import evaluate_engine
from pspnet_edge.measure.processes import ALONE, Processes, started_processes
from pspnet_edge.metrics import ConfusionMatrix

SIZE_HW = (24, 32)


class Blue:
    """A runtime whose mask is the frame's blue channel modulo the classes."""

    output_is_reused = True

    def infer(self, frames: np.ndarray) -> np.ndarray:
        return frames[..., 0] % len(CAMVID)

    def close(self) -> None:
        pass


def engine(batch: int = 1, labels: LabelSet = CAMVID) -> Engine:
    return Engine(EngineInfo(Path("blue.engine"), "fake", "fp32", (batch, *SIZE_HW), labels, {}), Blue())


class Noise:
    """Images of the engine's size with masks that agree with ``Blue`` in about half of the pixels."""

    label_set = CAMVID

    def __init__(self, images: int, broken: int = -1) -> None:
        self.images, self.broken, self.loaded = images, broken, 0

    def __len__(self) -> int:
        return self.images

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if index == self.broken:
            raise DataError(f"image {index} is broken: replace it")
        self.loaded += 1
        rng = np.random.default_rng(index)
        image = rng.integers(0, 256, (*SIZE_HW, 3), np.uint8)
        label = np.where(rng.random(SIZE_HW) < 0.5, image[..., 0] % len(CAMVID), rng.integers(0, 11, SIZE_HW))
        label[rng.random(SIZE_HW) < 0.1] = IGNORE
        return image, label.astype(np.uint8)

    def image(self, index: int) -> np.ndarray:
        return self[index][0]

    def name(self, index: int) -> str:
        return str(index)


def quality(facts: dict[str, Any]) -> dict[str, Any]:
    return {key: facts[key] for key in ("miou", "per_class_iou", "pixel_accuracy", "images")}


def test_is_what_a_plain_loop_gives() -> None:
    dataset, matrix = Noise(7), ConfusionMatrix(11)
    for index in range(7):
        image, label = dataset[index]
        matrix.add(label, Blue().infer(frame_at(image, SIZE_HW)[None])[0])
    facts = evaluate_engine(engine(), dataset)
    assert facts["miou"] == matrix.miou()
    assert list(facts["per_class_iou"].values()) == matrix.iou().tolist()
    assert facts["pixel_accuracy"] == matrix.pixel_accuracy()
    assert facts["images"] == 7


def test_the_batch_does_not_matter_and_its_empty_places_are_not_counted() -> None:
    expected = quality(evaluate_engine(engine(), Noise(7)))
    done: list[int] = []
    assert quality(evaluate_engine(engine(3), Noise(7), on_image=done.append)) == expected
    assert done == [3, 6, 7]


def test_the_parts_of_the_time_make_up_the_whole() -> None:
    times = evaluate_engine(engine(), Noise(40))["times_ms"]
    assert set(times) == {"total", "load", "infer", "confusion"}
    assert times["load"] + times["infer"] + times["confusion"] == pytest.approx(times["total"], rel=0.2)


def test_images_are_loaded_ahead_but_not_all_at_once() -> None:
    dataset = Noise(100)
    seen: list[int] = []
    evaluate_engine(engine(), dataset, on_image=lambda done: seen.append(dataset.loaded - done))
    assert dataset.loaded == 100
    assert 0 < max(seen) <= module._AHEAD + 1


def test_a_broken_image_ends_it_with_its_sentence_and_its_threads() -> None:
    with pytest.raises(DataError, match="image 5 is broken"):
        evaluate_engine(engine(), Noise(40, broken=5))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("load")]


def test_other_classes_are_refused() -> None:
    with pytest.raises(DataError, match=r"are not those of .* give --root the data set that it was trained for"):
        evaluate_engine(engine(labels=LabelSet("two", ("a", "b"), ((0, 0, 0), (1, 1, 1)))), Noise(1))


def together(count: int, work: Callable[[Processes], Any]) -> list[Any]:
    """What the work returns or raises in each of several processes, which are threads here."""
    given: list[Any] = [None] * count
    barrier = threading.Barrier(count)
    results: list[Any] = [None] * count

    def one(rank: int) -> None:
        def exchange(value: Any) -> list[Any]:
            given[rank] = value
            barrier.wait(20)
            everyone = list(given)
            barrier.wait(20)
            return everyone

        try:
            results[rank] = work(Processes(rank, count, rank, exchange))
        except (Exception, SystemExit) as error:
            results[rank] = error

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


@pytest.mark.parametrize("images", [1, 7, 12])
def test_processes_give_the_result_of_one_to_the_last_digit(images: int) -> None:
    expected = quality(evaluate_engine(engine(2), Noise(images)))
    found = together(3, lambda processes: evaluate_engine(engine(2), Noise(images), processes=processes))
    assert [quality(facts) for facts in found] == [expected] * 3
    assert found[0]["processes"] == 3


def test_when_one_process_fails_the_first_says_why_and_the_others_are_silent() -> None:
    first, *others = together(3, lambda p: evaluate_engine(engine(), Noise(9, broken=5), processes=p))
    assert isinstance(first, DataError)
    assert "image 5" in str(first)
    assert [error.code for error in others] == [0, 0]


def test_one_process_of_a_machine_makes_the_files_that_the_others_use() -> None:
    order: list[int] = []

    def make(processes: Processes) -> int:
        return processes.in_turn(lambda: order.append(processes.rank) or len(order))

    together(3, make)
    assert order[0] == 0
    assert sorted(order) == [0, 1, 2]


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with started_processes() as processes:
        assert processes is ALONE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five scenes as files."""
    root = tmp_path / "own"
    for index in range(5):
        image, mask = SceneSet("test")[index * 20]
        for kind, content in (("images", image), ("masks", mask)):
            path = root / kind / "test" / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), content)
    (root / "classes.txt").write_text("\n".join(CAMVID.classes))
    return root


def test_a_board_without_torch_evaluates(command_line: Any, folder: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"  # any import of it fails
        f"sys.argv = ['pspnet-edge', 'evaluate', '--dataset', 'folder', '--root', {str(folder)!r}, '--json']\n"
        "from pspnet_edge.cli.main import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"] == 5


def torchrun(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command += ["-m", "pspnet_edge", "evaluate", *map(str, arguments), "--json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ)


@pytest.mark.slow
def test_torchrun_gives_the_result_of_one_process_to_the_last_digit(command_line: Any, folder: Path) -> None:
    data = ("--dataset", "folder", "--root", folder)
    done = torchrun(*data)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)  # exactly one object
    assert facts["processes"] == 2
    assert quality(facts) == quality(json.loads(command_line("evaluate", *data, "--json").stdout))


@pytest.mark.slow
def test_under_torchrun_one_process_says_what_is_wrong(folder: Path) -> None:
    (folder / "images" / "test" / "3.png").write_bytes(b"no image")  # the share of the second process
    done = torchrun("--dataset", "folder", "--root", folder)
    assert done.returncode == 1
    assert "3.png" in json.loads(done.stdout)["error"]["problem"]
    assert done.stderr.count("pspnet-edge: ") == 1


class Wide:
    """Pictures of another shape than the engine, in blocks whose blue is their class, each block far from a seam."""

    label_set = CAMVID

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows, columns = np.indices((71, 163)) // 20
        label = ((rows + columns + index) % 2).astype(np.uint8)
        return np.repeat(label[..., None], 3, axis=2), label

    def image(self, index: int) -> np.ndarray:
        return self[index][0]

    def name(self, index: int) -> str:
        return str(index)


@pytest.mark.parametrize("geometry", [Geometry(tiles=True), Geometry("letterbox"), Geometry("crop"), Geometry()])
@pytest.mark.parametrize("batch", [1, 2])
def test_every_geometry_is_compared_at_the_labels_own_pixels(geometry: Geometry, batch: int) -> None:
    facts = evaluate_engine(engine(batch), Wide(), geometry=geometry)
    assert facts["images"] == 2
    if geometry.tiles:
        assert facts["miou"] == 1.0, "tiles see every pixel at its own scale"
    else:
        assert 0.5 < facts["miou"] < 1.0, "a smaller picture mixes classes along the blocks' edges, and no more"
