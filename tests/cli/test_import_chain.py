"""From another project's checkpoint to segmented frames: every step through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")
smp = pytest.importorskip("segmentation_models_pytorch", reason="the dev extra is not installed")

from pspnet_edge.data.datasets import SceneSet  # noqa: E402
from pspnet_edge.data.geometry import frame_at  # noqa: E402
from pspnet_edge.engine.backends import open_engine  # noqa: E402
from pspnet_edge.train.batches import normalised  # noqa: E402

IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


@pytest.fixture(scope="module")
def theirs():
    """A ResNet-50 PSPNet of segmentation-models-pytorch, random, whose classes all occur."""
    torch.manual_seed(0)
    network = smp.PSPNet("resnet50", encoder_weights=None, classes=11).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    with torch.inference_mode():
        logits = network(normalised(torch.from_numpy(frame(512, 1024)), *IMAGENET))
        network.segmentation_head[0].bias -= logits.mean((0, 2, 3))
    return network


def frame(height: int, width: int) -> np.ndarray:
    return frame_at(SceneSet("test")[0][0], (height, width))[None]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("size_hw", [(473, 473), (512, 1024)])
def test_import_export_build_run(command_line, theirs, tmp_path: Path, size_hw: tuple[int, int]) -> None:
    checkpoint, ours, model = (tmp_path / name for name in ("theirs.pth", "ours.pt", "model.onnx"))
    torch.save(theirs.state_dict(), checkpoint)

    def pspnet_edge(*arguments: object) -> dict[str, object]:
        done = command_line(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    imported = pspnet_edge("import", checkpoint, "--format", "smp", "--label-set", "camvid", "-o", ours)
    assert imported["network"] == "pspnet_r50"
    pspnet_edge("export", ours, "-o", model, "--size", f"{size_hw[0]}x{size_hw[1]}")
    pspnet_edge("calibrate", model, "--dataset", "scenes", "--images", 3, "-o", tmp_path / "model.calib.json")
    exact, rounded = tmp_path / "fp32.engine", tmp_path / "int8.engine"
    pspnet_edge("build", model, "--precision", "fp32", "--runtime", "onnxruntime", "-o", exact)
    built = pspnet_edge("build", model, "--precision", "int8", "-o", rounded)
    assert built["int8_mac_fraction"] > 0.9
    ran = pspnet_edge("run", rounded, "--input", "demo", "--frames", 2, "--view", "none")
    assert ran["frames"] == 2

    with open_engine(exact) as engine:
        mask = engine.infer(frame(*size_hw)).copy()
    assert len(np.unique(mask)) > 3
    if size_hw == (512, 1024):  # the other project takes no size that is not divisible by 8
        with torch.inference_mode():
            expected = theirs(normalised(torch.from_numpy(frame(*size_hw)), *IMAGENET)).argmax(1).numpy()
        assert (mask == expected).mean() > 0.999
    with open_engine(rounded) as engine:
        assert (engine.infer(frame(*size_hw)) == mask).mean() > 0.6, (
            "random logits lie close together, so more flips than in a trained network"
        )

    pytest.importorskip("tensorrt_rtx", reason="the tensorrt-rtx extra is not installed")
    plan = pspnet_edge(
        "build", model, "--precision", "int8", "--runtime", "tensorrt-rtx", "-o", tmp_path / "rtx.engine"
    )
    assert plan["runtime"] == "tensorrt-rtx"
