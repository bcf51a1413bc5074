"""What several processes do; ``torchrun`` is started for real, with gloo on the CPU."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")

from pspnet_edge.errors import OptionError, PspnetEdgeError  # noqa: E402
from pspnet_edge.model.batchnorm import synchronised  # noqa: E402
from pspnet_edge.model.pspnet import PRESETS, PSPNet  # noqa: E402
from pspnet_edge.train.distributed import ALONE, joined  # noqa: E402

LIGHT = [name for name in PRESETS if "lite" in name or "mobile" in name] + ["pspnet_r18"]


def train(*options: object, processes: int = 1) -> subprocess.CompletedProcess[str]:
    command = [sys.executable]
    if processes > 1:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command += ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", str(port)]
    command += ["-m", "pspnet_edge", "train", *map(str, options)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def losses(folder: Path) -> list[float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [event.value for event in events.Scalars("loss/step")]


@pytest.mark.slow
def test_two_processes_and_one_give_the_same_losses(small_scenes: Path, tmp_path: Path) -> None:
    options = (
        "--dataset", "folder", "--root", small_scenes, "--epochs", 7, "--crop", "64x64", "--batch", 8,
        "--dropout", 0, "--freeze", "batchnorm", "--autocast", "none", "--scenes-share", 0, "--validate-every", 7,
        "--workers", 0, "--samples", 1, "--logger", "tensorboard", "--warmup-epochs", 1, "--json",
        "--optimizer", "sgd", "--learning-rate", 0.0005,
    )  # fmt: skip
    # SGD and small steps: AdamW would hide a gradient that is twice too large, and on windows this small either makes
    # more than 1e-4 of 1e-7 of rounding within twenty large steps. docs/training.md has figures at a usual size.
    answers = {}
    for processes in (1, 2):
        done = train(*options, "-o", tmp_path / str(processes), processes=processes)
        assert done.returncode == 0, done.stderr
        answers[processes] = json.loads(done.stdout)  # one object, because only the first process prints
        assert done.stderr.count("epoch 7/7") == 1, done.stderr
    alone, together = losses(tmp_path / "1"), losses(tmp_path / "2")
    assert len(alone) == 21
    assert together[:20] == pytest.approx(alone[:20], abs=1e-4)
    assert alone[20] < alone[0]
    assert answers[2]["miou"] == pytest.approx(answers[1]["miou"], abs=0.01)
    assert len(list((tmp_path / "2" / "samples").iterdir())) == 1

    resumed = train(*options, "-o", tmp_path / "2", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["epochs"] == 7


@pytest.mark.slow
def test_two_processes_with_one_crop_each_train(small_scenes: Path, tmp_path: Path) -> None:
    done = train(
        "--dataset", "folder", "--root", small_scenes, "--epochs", 1, "--crop", "64x64", "--batch", 2,
        "--scenes-share", 0, "--workers", 0, "--samples", 0, "-o", tmp_path / "run", "--json", processes=2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["epochs"] == 1
    assert "BatchNorm sees only 1 crop at a time" in done.stderr
    again = train(
        "--dataset", "folder", "--root", small_scenes, "--epochs", 1, "--crop", "64x64", "--batch", 30,
        "--workers", 0, "--samples", 0, "-o", tmp_path / "run", "--json", processes=2,
    )  # fmt: skip
    assert json.loads(again.stdout)["folder"] == str(tmp_path / "run-2"), "both processes agree on the new folder"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run-2"]


@pytest.mark.slow
def test_a_process_that_fails_ends_the_others(small_scenes: Path, tmp_path: Path) -> None:
    """The second process finds a mask cut short that the first never opens before it would wait for it forever."""
    script = tmp_path / "fail.py"
    script.write_text(
        "import sys\n"
        "import pspnet_edge.train.step as run\n"
        "from pspnet_edge.cli.main import main\n"
        "from pspnet_edge.errors import DataError\n"
        "step = run.Run.step\n"
        "def failing(self, parts, number):\n"
        "    if number == 2 and self._world.rank == 1:\n"
        "        raise DataError('mask7.png is cut short: restore it')\n"
        "    return step(self, parts, number)\n"
        "run.Run.step = failing\n"
        f"sys.argv = ['pspnet-edge', 'train', '--dataset', 'folder', '--root', {str(small_scenes)!r}, '--crop',"
        f" '64x64', '--batch', '4', '--workers', '0', '--scenes-share', '0', '-o', {str(tmp_path / 'run')!r}]\n"
        "main()\n"
    )
    start = time.monotonic()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert time.monotonic() - start < 200
    assert "pspnet-edge: mask7.png is cut short: restore it\n" in done.stderr
    assert "SyncBatchNorm has no CPU implementation" in done.stderr
    own_words = done.stderr.partition("torch/distributed")[0]
    assert "Traceback" not in own_words


@pytest.mark.parametrize("preset", LIGHT)
def test_synchronised_batchnorm_computes_the_same(preset: str) -> None:
    """Its training needs GPUs; that the conversion keeps weights and activations is seen without."""
    torch.manual_seed(0)
    model = PSPNet(preset, 3).eval()
    x = torch.randn(1, 3, 96, 96)
    with torch.inference_mode():
        before = model(x)
        keys = list(model.state_dict())
        parameters = [id(parameter) for parameter in model.parameters()]
        converted = synchronised(model)
        assert torch.equal(converted(x), before)
    assert list(converted.state_dict()) == keys
    assert [id(parameter) for parameter in converted.parameters()] == parameters
    kinds = {type(module).__name__ for module in converted.modules()}
    assert not {"BatchNorm2d", "BatchNormAct2d"} & kinds
    assert {"SyncBatchNorm", "SyncBatchNormAct"} & kinds


def test_a_single_process_exchanges_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with joined("cpu") as world:
        assert world == ALONE
        assert world.first
        values = torch.ones(2)
        assert world.agree("runs/mine") == "runs/mine"
        assert world.total(values) is values


def test_devices_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match="choose auto, cpu or cuda"), joined("gpu"):
        pass
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(PspnetEdgeError, match="or give --device cpu"), joined("cuda"):
        pass
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(PspnetEdgeError, match="lower torchrun's --nproc-per-node"), joined("auto"):
        pass
