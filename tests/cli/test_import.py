from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")

import numpy as np  # noqa: E402
import typer  # noqa: E402
from typer.testing import CliRunner, Result  # noqa: E402

from pspnet_edge.cli import import_  # noqa: E402
from pspnet_edge.errors import OptionError  # noqa: E402
from pspnet_edge.labels import CITYSCAPES  # noqa: E402
from pspnet_edge.model.checkpoint import load_checkpoint  # noqa: E402
from pspnet_edge.model.foreign import mmseg  # noqa: E402
from pspnet_edge.model.foreign.settings import Settings  # noqa: E402
from pspnet_edge.model.foreign.weights import ForeignWeights  # noqa: E402
from pspnet_edge.model.pspnet import PSPNet  # noqa: E402


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.callback()(lambda: None)
    import_.register(app)
    return CliRunner().invoke(app, ["import", *map(str, arguments)])


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    changes = {"contract_dilation": True, "dilate_second": False}
    model = PSPNet("pspnet_r18", 19, changes).eval()
    keys = ("backbone.conv1.weight", "backbone.layer1.0.conv1.weight")
    layout = mmseg.layout(ForeignWeights(dict.fromkeys(keys, torch.zeros(1)), Path("x")), {}, Settings())
    state = {}
    for key, value in model.state_dict().items():
        module, _, kind = key.rpartition(".")
        state[f"{layout.theirs(module)}.{kind}"] = value
    torch.save({"state_dict": state, "meta": {"CLASSES": CITYSCAPES.classes}}, tmp_path / "theirs.pth")
    x = torch.randn(1, 3, 65, 65)
    with torch.inference_mode():
        np.savez(tmp_path / "reference.npz", input=x.numpy(), logits=model(x).numpy())
    return tmp_path / "theirs.pth"


@pytest.mark.parametrize("how", [("--format", "mmseg"), (), ("mmseg",), ("--auto",)])
def test_it_writes_a_checkpoint_and_tells_what_it_took(how: tuple[str, ...], theirs: Path) -> None:
    output = theirs.parent / "ours.pt"
    done = run(*how, theirs, "-o", output, "--reference", theirs.parent / "reference.npz", "--json")
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["checkpoint"] == str(output)
    assert facts["max_abs_diff"] < 1e-5
    assert facts["format"] == "mmseg"
    assert facts["architecture"] == {"contract_dilation": True, "dilate_second": False}
    assert facts["label_set"]["name"] == "cityscapes"
    assert facts["left_out"] == {"meta": "training state"}
    assert "taken as mmseg's default" in done.stderr
    loaded = load_checkpoint(output)
    assert loaded.label_set == CITYSCAPES
    assert loaded.facts["imported"]["source"] == "theirs.pth"


def test_without_a_reference_there_is_no_difference(theirs: Path) -> None:
    facts = json.loads(run("mmseg", theirs, "--json").stdout)
    assert "max_abs_diff" not in facts
    assert facts["checkpoint"] == str(theirs.with_suffix(".imported.pt"))


def test_names_from_a_file(theirs: Path) -> None:
    names = theirs.parent / "names.txt"
    names.write_text("\n".join(f"thing {index}" for index in range(19)))
    facts = json.loads(run("mmseg", theirs, "--classes", names, "--json").stdout)
    assert facts["label_set"]["classes"][:2] == ["thing 0", "thing 1"]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("mmseg",),
        ("keras", "a.pth"),
        ("a.pth", "--format", "keras"),
        ("--auto",),
        ("--auto", "mmseg", "a.pth"),
        ("mmseg", "a", "b"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize("bins", ["1,two", "0,1", ""])
def test_wrong_bins(bins: str, theirs: Path) -> None:
    assert run("mmseg", theirs, "--bins", bins).exit_code == 2


def test_an_unknown_label_set(theirs: Path) -> None:
    done = run("mmseg", theirs, "--label-set", "kitti")
    assert isinstance(done.exception, OptionError)
    assert not theirs.with_suffix(".imported.pt").exists()
