from __future__ import annotations

import inspect
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")

from click.testing import Result  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from pspnet_edge import bundled, processor  # noqa: E402
from pspnet_edge.artifact import sha256_of, write_json  # noqa: E402
from pspnet_edge.cli.ending import Ended  # noqa: E402
from pspnet_edge.cli.main import app, main  # noqa: E402
from pspnet_edge.cli.training_progress import TrainingProgress  # noqa: E402
from pspnet_edge.data.scenes import Drive  # noqa: E402
from pspnet_edge.errors import OptionError  # noqa: E402
from pspnet_edge.graph.calibration_table import read_table  # noqa: E402
from pspnet_edge.labels import CAMVID, LabelSet  # noqa: E402
from pspnet_edge.model.checkpoint import save_checkpoint  # noqa: E402
from pspnet_edge.model.pspnet import PSPNet  # noqa: E402
from pspnet_edge.train import api  # noqa: E402
from pspnet_edge.train.recipe import Recipe  # noqa: E402
from pspnet_edge.train.training import TrainingResult  # noqa: E402

SHORT = (
    "--crop", "64x64", "--size", "64x64", "--batch", "4", "--backbone-weights", "none", "--scenes-share", "0",
    "--workers", "0",
)  # fmt: skip


@pytest.fixture
def small(tmp_path: Path) -> Path:
    root = tmp_path / "small"
    for split, count in (("train", 12), ("val", 1)):
        for index in range(count):
            frame = Drive(index, (120, 160)).frame(index)
            for folder, content in (("images", frame.image), ("masks", frame.mask)):
                path = root / folder / split / f"{index:02d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), content)
    (root / "classes.txt").write_text("\n".join(CAMVID.classes))
    return root


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """What the command line asks of the trainer, which does nothing here."""
    seen: dict[str, object] = {}

    def instead(*arguments: object, **options: object) -> TrainingResult:
        names = inspect.signature(real).bind(*arguments, **options).arguments
        seen.update(names)
        write_json(names["folder"] / "recipe.json", names["facts"])  # as it does before its first step
        return TrainingResult(tmp_path / "final.pt", 1, None, {}, tmp_path)

    real = api.run_training
    monkeypatch.setattr(api, "run_training", instead)

    def run(*arguments: object) -> dict[str, object]:
        done = CliRunner().invoke(app, ["train", *map(str, arguments), "-o", str(tmp_path / "out")])
        assert done.exit_code == 0, done.output
        return seen

    return run


def test_the_command_lines_defaults_are_the_recipes(asked, small: Path) -> None:
    numbers = "bf16" if processor.has_bfloat16() else "none"
    expected = replace(Recipe(), model="pspnet_lite0", scenes_share=0.0, autocast=numbers)
    assert asked("--dataset", "scenes")["recipe"] == expected
    (small / "classes.txt").write_text("\n".join(f"class {index}" for index in range(11)))
    assert asked("--root", small)["recipe"] == expected


def test_every_field_of_the_recipe_can_be_given(asked, small: Path) -> None:
    wanted = asked(
        "--dataset", "folder", "--root", small, "--split", "trainval", "--model", "pspnet_r18", "--epochs", 44,
        "--batch", 4, "--crop", "96x128", "--scales", 0.5, 2, "--rotate", 10, "--optimizer", "sgd",
        "--learning-rate", 8e-4, "--backbone-factor", 0.1, "--weight-decay", 1e-4, "--warmup-epochs", 2,
        "--average-decay", 0.99, "--dropout", 0, "--freeze", "batchnorm,backbone", "--patience", 0,
        "--no-class-weights", "--ohem",
        "--ohem-threshold", 0.8, "--ohem-kept", 0.2, "--distil", bundled.DEFAULT, "--distil-weight", 2,
        "--distil-scale", 1.5, "--lovasz-weight", 0.5, "--autocast", "none", "--seed", 3, "--accumulate", 2,
        "--workers", 0, "--samples", 7, "--validate-every", 3, "--log", "tensorboard,mlflow", "--init", bundled.DEFAULT,
    )  # fmt: skip
    assert wanted["recipe"] == Recipe(
        model="pspnet_r18", epochs=44, batch=4, crop_hw=(96, 128), scales=(0.5, 2.0), rotate=10.0, optimizer="sgd",
        learning_rate=8e-4, backbone_factor=0.1, weight_decay=1e-4, warmup_epochs=2.0, average_decay=0.99,
        dropout=0.0, freeze=("batchnorm", "backbone"), scenes_share=0.0, class_weights=False, ohem=True,
        ohem_threshold=0.8,
        ohem_kept=0.2, distil_weight=2.0, distil_scale=1.5, lovasz_weight=0.5, autocast="none", seed=3,
    )  # fmt: skip
    assert wanted["teacher"] == wanted["init"] == bundled.checkpoint_path(bundled.DEFAULT)
    chosen = ("accumulate", "workers", "samples", "validate_every", "loggers", "validation_set")
    assert [wanted[name] for name in chosen] == [2, 0, 7, 3, ["tensorboard", "mlflow"], None]


def test_quantisation_aware_training_is_short_and_careful_unless_told_otherwise(asked, small: Path) -> None:
    recipe = asked("--dataset", "folder", "--root", small, "--qat", "--init", bundled.DEFAULT)["recipe"]
    assert (recipe.qat, recipe.epochs, recipe.learning_rate) == (True, 10, 3e-5)
    given = ("--qat", "--init", bundled.DEFAULT, "--epochs", 3, "--learning-rate", 0.01)
    recipe = asked("--dataset", "folder", "--root", small, *given)["recipe"]
    assert (recipe.epochs, recipe.learning_rate) == (3, 0.01)


def test_quantisation_aware_training_starts_from_the_bundled_model_where_that_fits(asked, tmp_path: Path) -> None:
    wanted = asked("--dataset", "scenes", "--qat")
    assert wanted["init"] == bundled.checkpoint_path(bundled.DEFAULT)
    assert asked("--dataset", "scenes", "--qat", "--resume")["init"] is None
    done = CliRunner().invoke(
        app, ["train", "--dataset", "scenes", "--qat", "--model", "pspnet_r18", "-o", str(tmp_path)]
    )
    assert "no bundled model is a pspnet_r18 with the classes of" in str(done.exception)
    assert "give --init CHECKPOINT" in str(done.exception)


@pytest.mark.slow
def test_from_qat_to_an_engine_with_its_ranges(command_line, small: Path, tmp_path: Path) -> None:
    def pspnet_edge(*arguments: object) -> dict[str, object]:
        done = command_line(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    trained = pspnet_edge(
        "train", "--qat", "--init", bundled.DEFAULT, "--dataset", "folder", "--root", small, "--epochs", 1,
        "--crop", "96x96", "--batch", 4, "--samples", 0, "-o", tmp_path / "run",
    )  # fmt: skip
    checkpoint = Path(str(trained["checkpoint"]))
    exported = pspnet_edge("export", checkpoint, "-o", tmp_path / "model.onnx")
    assert exported["calibration"] == str(tmp_path / "model.calib.json")
    assert read_table(tmp_path / "model.calib.json").method == "learned"
    from_model = pspnet_edge("build", tmp_path / "model.onnx", "--precision", "int8", "-o", tmp_path / "a.engine")
    assert from_model["int8_mac_fraction"] > 0.99
    assert from_model["calibration_sha256"] == sha256_of(tmp_path / "model.calib.json")
    # A checkpoint can be named wherever a model can.
    from_checkpoint = pspnet_edge("build", checkpoint, "--precision", "int8", "-o", tmp_path / "b.engine")
    assert from_checkpoint["calibration_sha256"] == from_model["calibration_sha256"]
    assert (tmp_path / "a.engine").read_bytes() == (tmp_path / "b.engine").read_bytes()
    measured = pspnet_edge("evaluate", tmp_path / "b.engine", "--dataset", "folder", "--root", small, "--split", "val")
    assert measured["images"] == 1
    rtx = ("--precision", "int8", "--runtime", "tensorrt-rtx", "-o", tmp_path / "c.engine")
    plan = pspnet_edge("build", checkpoint, *rtx)
    assert plan["int8_convolutions"] == {"placed": 57, "built": 57, "not_named": 0}, (
        "what TensorRT's builder makes of it"
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--optimizer", "lion"), "--optimizer: unknown value 'lion': choose adamw or sgd"),
        (("--crop", "0x4"), "'0x4' is not a size: give --crop as HEIGHTxWIDTH in pixels, such as 384x480"),
        (
            ("--autocast", "fp16", "--device", "cpu"),
            "fp16 training requires a GPU: give --autocast bf16 or none on a CPU",
        ),
        (("--scales", "2", "0.5"), "--scales: 2 to 0.5 is not a range: give two numbers above 0, the smaller first"),
        (("--device", "tpu"), "unknown device 'tpu': choose auto, cpu or cuda"),
        (("--batch", "13"), "12 training images are fewer than one batch of 13: lower --batch"),
        (
            ("--accumulate", "3"),
            "a batch of 8 cannot be divided evenly by 1 processes and 3 accumulation steps: give --batch",
        ),
        (("--log", "neptune"), "--log: unknown logger 'neptune': choose tensorboard, wandb or mlflow"),
        (
            ("--backbone-weights", "no.pth"),
            "there is no backbone file no.pth: give --backbone-weights FILE, imagenet or none",
        ),
        (("--init", "no.pt"), "there is no checkpoint no.pt"),
        (("--distil", "no.pt"), "there is no checkpoint no.pt"),
        (("--resume",), "there is no run to resume in"),
        (("--size", "1x1"), "--size: 1x1 is too small for pspnet_lite0: give sides of at least 32"),
    ],
)
def test_options_that_do_not_fit_are_one_sentence(command_line, small: Path, tmp_path: Path, options, sentence) -> None:
    done = command_line("train", "--root", small, "-o", tmp_path / "out", *options)
    assert done.returncode == (1 if sentence.startswith(("there is no checkpoint", "there is no backbone")) else 2)
    assert sentence in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "recipe.json").exists(), "the next attempt can have the folder"


def test_options_win_over_the_recipe_file_and_the_file_over_the_defaults(asked, small: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('epochs = 7\nbatch = 4\nohem = true\ncrop = "96x128"\n')
    recipe = asked("--root", small, "--recipe", tmp_path / "mine.toml", "--batch", 6, "--no-ohem")["recipe"]
    assert (recipe.epochs, recipe.batch, recipe.ohem, recipe.crop_hw) == (7, 6, False, (96, 128))
    (tmp_path / "qat.toml").write_text("qat = true\nepochs = 3\n")
    recipe = asked("--root", small, "--recipe", tmp_path / "qat.toml", "--init", bundled.DEFAULT)["recipe"]
    assert (recipe.epochs, recipe.learning_rate) == (3, 3e-5)


def test_a_run_leaves_its_recipe_and_resuming_needs_no_option_again(asked, small: Path, tmp_path: Path) -> None:
    first = asked("--root", small, "--epochs", 3, "--lovasz-weight", 0.5, "--distil", bundled.DEFAULT)
    saved = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert saved["recipe"] == first["recipe"].to_dict()
    assert (saved["dataset"], saved["root"], saved["split"]) == ("folder", str(small), "train")
    again = asked("--resume", "--epochs", 5)
    assert again["recipe"] == replace(first["recipe"], epochs=5)
    assert again["teacher"] == first["teacher"]
    assert again["resume"] is True
    assert again["folder"] == first["folder"]


LASTING = ("accumulate", "validate_every", "samples", "loggers")


def test_resuming_keeps_what_changes_the_figures_unless_it_is_given_again(asked, small: Path, tmp_path: Path) -> None:
    defaults = {name: asked("--root", small, "--overwrite")[name] for name in LASTING}
    given = ("--accumulate", 2, "--validate-every", 3, "--samples", 1, "--log", "tensorboard")
    first = {name: asked("--root", small, "--overwrite", *given)[name] for name in LASTING}
    assert first == {"accumulate": 2, "validate_every": 3, "samples": 1, "loggers": ["tensorboard"]}
    assert {name: asked("--resume")[name] for name in LASTING} == first
    assert asked("--resume", "--samples", 0)["validate_every"] == 3
    assert {name: asked("--resume")[name] for name in LASTING} == {**first, "samples": 0}
    path = tmp_path / "out" / "recipe.json"
    older = {name: value for name, value in json.loads(path.read_text()).items() if name not in LASTING}
    write_json(path, older)
    assert {name: asked("--resume")[name] for name in LASTING} == defaults


def test_the_recipe_of_a_run_repeats_it(asked, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(bundled.checkpoint_path(bundled.DEFAULT), "mine.pt")
    given = ("--split", "trainval", "--init", "mine.pt", "--distil", bundled.DEFAULT, "--epochs", 3, "--crop", "96x128")
    more = ("--accumulate", 2, "--validate-every", 3, "--samples", 1, "--log", "tensorboard")

    def compared(seen: dict[str, object]) -> dict[str, object]:
        facts = {name: seen["facts"][name] for name in ("dataset", "root", "split", "classes")}
        names = ("recipe", "init", "teacher", "backbone_weights", "trained_split", "validation_set", *LASTING)
        return {name: seen[name] for name in names} | facts

    first = compared(asked("--root", "small", *given, *more))
    assert first["init"] == Path("mine.pt")
    recipe = tmp_path / "out" / "recipe.json"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert compared(asked("--recipe", recipe)) == {**first, "init": tmp_path / "mine.pt"}


def test_options_win_over_the_recipe_of_a_run(asked, small: Path, tmp_path: Path) -> None:
    asked("--dataset", "scenes", "--init", bundled.DEFAULT, "--epochs", 3)
    recipe = tmp_path / "out" / "recipe.json"
    other = asked("--recipe", recipe, "--root", small, "--backbone-weights", "none", "--samples", 0, "--epochs", 2)
    assert (other["facts"]["dataset"], other["facts"]["root"]) == ("folder", str(small)), "the folder is looked at"
    assert (other["init"], other["backbone_weights"], other["samples"], other["recipe"].epochs) == (None, "none", 0, 2)
    save_checkpoint(tmp_path / "r18.pt", PSPNet("pspnet_r18", 2), LabelSet("a", ("a", "b"), ((0, 0, 0), (1, 1, 1))), {})
    assert asked("--recipe", recipe, "--init", tmp_path / "r18.pt")["recipe"].model == "pspnet_r18"


def test_an_earlier_run_is_left_alone_unless_overwriting_is_asked_for(asked, small: Path, tmp_path: Path) -> None:
    assert asked("--root", small)["folder"] == tmp_path / "out"
    assert asked("--root", small)["folder"] == tmp_path / "out-2"
    assert asked("--root", small)["folder"] == tmp_path / "out-3"
    (tmp_path / "out" / "best.pt").write_text("old")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert asked("--root", small, "--overwrite")["folder"] == tmp_path / "out"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["notes.txt", "recipe.json"]


def test_the_network_of_a_checkpoint_need_not_be_named(asked, small: Path, tmp_path: Path) -> None:
    label_set = LabelSet("mine", ("a", "b"), ((0, 0, 0), (1, 1, 1)))
    save_checkpoint(tmp_path / "r18.pt", PSPNet("pspnet_r18", 2), label_set, {})
    assert asked("--root", small, "--init", tmp_path / "r18.pt")["recipe"].model == "pspnet_r18"


def test_old_spellings_still_work_and_name_the_new_ones(asked, small: Path, capfd) -> None:
    wanted = asked("--root", small, "--freeze-batchnorm", "--tensorboard")
    assert wanted["recipe"].freeze == ("batchnorm",)
    assert wanted["loggers"] == ["tensorboard"]


def test_a_run_that_is_interrupted_says_how_it_is_continued(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def ended_in_second_epoch(self: TrainingProgress, step: int, steps: int, loss: float) -> None:
        if step > steps // 2:
            raise Ended(signal.SIGINT)

    monkeypatch.setattr(TrainingProgress, "step", ended_in_second_epoch)
    options = ("--root", str(small), "--epochs", "2", "--crop", "64x64", "--batch", "4", "--backbone-weights", "none")
    arguments = ("train", *options, "--scenes-share", "0", "--workers", "0", "-o", str(tmp_path / "my run"))
    monkeypatch.setattr(sys, "argv", ["pspnet-edge", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    again = f"pspnet-edge train --resume -o '{tmp_path / 'my run'}'"
    assert f"pspnet-edge: interrupted: continue it with `{again}`" in capfd.readouterr().err


def test_a_run_that_ends_before_its_first_epoch_says_that_nothing_was_saved(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def ended(self: TrainingProgress, step: int, steps: int, loss: float) -> None:
        raise Ended(signal.SIGINT)

    monkeypatch.setattr(TrainingProgress, "step", ended)
    arguments = ("train", "--root", str(small), *SHORT, "-o", str(tmp_path / "run"))
    monkeypatch.setattr(sys, "argv", ["pspnet-edge", *arguments])
    with pytest.raises(SystemExit) as exit:
        main()
    assert exit.value.code == 130
    last = capfd.readouterr().err.splitlines()[-1]
    assert last == "pspnet-edge: interrupted before the end of the first epoch, so nothing was saved"
    assert not (tmp_path / "run").exists()


def test_an_extended_run_goes_to_its_new_end_and_says_that_it_is_finished(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"

    def train(*arguments: object) -> Result:
        return CliRunner().invoke(app, ["train", "-o", str(folder), *map(str, arguments)])

    def epochs() -> tuple[int, int]:
        """Those of the recipe, and those that are done."""
        recipe = json.loads((folder / "recipe.json").read_text())["recipe"]
        return recipe["epochs"], len((folder / "metrics.csv").read_text().splitlines()) - 1

    assert train("--root", small, *SHORT, "--epochs", 1, "--samples", 0).exit_code == 0
    with monkeypatch.context() as interrupted:

        def ended_in_third_epoch(self: TrainingProgress, step: int, steps: int, loss: float) -> None:
            if step > 6:
                raise Ended(signal.SIGINT)

        interrupted.setattr(TrainingProgress, "step", ended_in_third_epoch)
        assert train("--resume", "--epochs", 3).exit_code == 130
    assert epochs() == (3, 2)
    for too_few in (1, 2):
        refused = train("--resume", "--epochs", too_few)
        assert isinstance(refused.exception, OptionError)
        assert str(refused.exception) == f"epochs: the run in {folder} has 2 epochs already: give more than 2"
    assert epochs() == (3, 2)
    assert train("--resume").exit_code == 0
    assert epochs() == (3, 3)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    again = train("--resume", "--json")
    assert again.exit_code == 0
    assert "finished after 3 epochs: give a larger --epochs to train on" in again.stderr
    assert json.loads(again.stdout)["epochs"] == 3
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    refused = train("--resume", "--crop", "96x96")
    assert "(--crop was 64x64, not 96x96)" in str(refused.exception)


def test_a_run_that_stopped_early_is_finished_too(small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    frozen = ("--learning-rate", "1e-12", "--average-decay", "1", "--patience", "1", "--validate-every", "1")
    options = ("--root", str(small), *SHORT, "--epochs", "5", "--samples", "0", *frozen)
    first, again = (CliRunner().invoke(app, ["train", "-o", str(folder), *more]) for more in (options, ("--resume",)))
    assert "stopped early" in first.stdout
    assert (again.exit_code, again.stdout) == (0, first.stdout)
    assert "stopped early: give a larger --patience, or 0, to train on" in again.stderr


def test_masks_that_would_stop_a_run_are_refused_before_its_first_step(small: Path, tmp_path: Path) -> None:
    (small / "classes.txt").write_text("\n".join(CAMVID.classes[:4]))
    done = CliRunner().invoke(app, ["train", "--root", str(small), *SHORT, "-o", str(tmp_path / "run")])
    assert (done.exit_code, "epoch" in done.stderr) == (1, False)
    assert str(done.exception).startswith(f"13 masks cannot be used, first {small / 'masks'}")
    listed = CliRunner().invoke(app, shlex.split(done.exception.command)[1:])
    assert sum(finding["kind"] == "bad-mask" for finding in json.loads(listed.stdout)["defects"]) == 13


@pytest.mark.slow
def test_a_run_killed_at_any_step_ends_like_one_that_was_not(small: Path, tmp_path: Path) -> None:
    """SIGKILL to a run of the real command, at a random step; then it is resumed."""
    options = [
        "--dataset", "folder", "--root", str(small), "--epochs", "4", "--crop", "64x64", "--batch", "4",
        "--scenes-share", "0", "--validate-every", "2", "--samples", "1", "--distil", bundled.DEFAULT,
        "--lovasz-weight", "0.5", "--rotate", "10", "--log", "tensorboard",
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def train(folder: str, *given: str) -> None:
        arguments = [sys.executable, "-m", "pspnet_edge", "train", *given, "-o", str(tmp_path / folder)]
        subprocess.run(arguments, env=environment, check=True, capture_output=True, timeout=300)

    seed = random.randrange(10_000)
    step = random.Random(seed).randrange(4, 12)  # after the first of four epochs of three steps
    script = tmp_path / "killed.py"
    script.write_text(
        "import os, signal, sys\n"
        "from pspnet_edge.train.step import Run\n"
        "whole_step = Run.step\n"
        "def step(self, samples, number):\n"
        f"    if number == {step}:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return whole_step(self, samples, number)\n"
        "Run.step = step\n"
        "from pspnet_edge.cli.main import main\n"
        "main()\n"
    )
    train("whole", *options)
    killed = [sys.executable, str(script), "train", *options, "-o", str(tmp_path / "killed")]
    done = subprocess.run(killed, env=environment, capture_output=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr
    train("killed", "--resume")
    files = [(tmp_path / name / "metrics.csv").read_bytes() for name in ("whole", "killed")]
    assert files[0] == files[1], f"killed before step {step} (seed {seed})"
    assert len(files[0].splitlines()) == 5
    for name in ("whole", "killed"):
        assert sorted(path.name for path in (tmp_path / name / "samples").iterdir()) == [
            "epoch002_00.jpg",
            "epoch004_00.jpg",
        ]
