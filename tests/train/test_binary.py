"""Binary networks: one logit with a sigmoid, from training to a mask, and a threshold in the graph."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from torch.nn import functional as F

from pspnet_edge.errors import DataError, OptionError
from pspnet_edge.graph.export import export_checkpoint
from pspnet_edge.labels import LabelSet
from pspnet_edge.model.checkpoint import load_checkpoint, save_checkpoint
from pspnet_edge.model.pspnet import PSPNet
from pspnet_edge.train import Recipe, train
from pspnet_edge.train.loss import cross_entropy
from pspnet_edge.train.start import starting_network

LABELS = LabelSet("folder", ("background", "thing"), ((0, 0, 0), (255, 255, 255)))
SMALL = Recipe(epochs=1, batch=2, crop_hw=(64, 64), size_hw=(96, 96), binary=True, autocast="none")


def random_network(binary: bool, seed: int = 0) -> PSPNet:
    torch.manual_seed(seed)
    return PSPNet("pspnet_lite0", 2, {"binary": True} if binary else None).eval()


@pytest.fixture
def black_and_white(tmp_path: Path) -> Path:
    """Four images with masks of 0 and 255, whose colours the list of classes names."""
    root = tmp_path / "set"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for index in range(4):
        mask = np.zeros((96, 96), np.uint8)
        cv2.circle(mask, (30 + 10 * index, 50), 20, (255,), -1)
        image = np.where(mask[..., None] > 0, (40, 60, 200), (90, 80, 70)).astype(np.uint8)
        image += np.random.default_rng(index).integers(0, 20, image.shape, np.uint8)
        cv2.imwrite(str(root / "images" / f"{index}.png"), image)
        cv2.imwrite(str(root / "masks" / f"{index}.png"), mask)
    (root / "classes.txt").write_text("background, 0, 0, 0\nthing, 255, 255, 255\n")
    return root


def test_the_loss_is_the_binary_cross_entropy_and_leaves_the_first_logit_alone() -> None:
    network = random_network(binary=True)
    logits, aux = network.forward_with_aux(torch.randn(2, 3, 96, 96))
    masks = torch.randint(0, 2, (2, *logits.shape[2:]))
    loss = cross_entropy(logits, masks, torch.ones(2))
    expected = F.binary_cross_entropy_with_logits(logits[:, 1], masks.float())
    torch.testing.assert_close(loss, expected)
    (loss + aux.square().sum()).backward()
    assert network.aux_head is not None
    for head in (network.classifier, network.aux_head[-1]):
        for value in head.parameters():
            assert not value[0].any()
            assert value.grad is not None
            assert not value.grad[0].any()
            assert value.grad[1].any()


def test_two_logits_become_one_with_the_same_masks(tmp_path: Path) -> None:
    two = random_network(binary=False)
    save_checkpoint(tmp_path / "two.pt", two, LABELS, {})
    one = starting_network(Recipe("pspnet_lite0", binary=True), LABELS, tmp_path / "two.pt").model.eval()
    x = torch.randn(1, 3, 96, 96)
    with torch.inference_mode():
        before, after = two(x), one(x)
    assert not after[:, 0].any()
    torch.testing.assert_close(after[:, 1], before[:, 1] - before[:, 0], atol=1e-4, rtol=1e-4)


def test_a_pixel_is_the_object_exactly_above_the_threshold(tmp_path: Path) -> None:
    network = random_network(binary=True)
    save_checkpoint(tmp_path / "one.pt", network, LABELS, {})
    frame = np.random.default_rng(1).integers(0, 256, (1, 96, 128, 3), np.uint8)
    x = torch.from_numpy(frame[..., ::-1].copy()).permute(0, 3, 1, 2).float()
    x = (x - torch.tensor(network.mean).reshape(1, 3, 1, 1)) / torch.tensor(network.std).reshape(1, 3, 1, 1)
    with torch.inference_mode():
        probability = F.interpolate(network(x), (96, 128), mode="bilinear")[0, 1].sigmoid().numpy()
    threshold = float(np.quantile(probability, 0.8))
    facts, _ = export_checkpoint(tmp_path / "one.pt", tmp_path / "one.onnx", size_hw=(96, 128), threshold=threshold)
    assert facts["threshold"] == pytest.approx(threshold, abs=1e-5)
    (mask,) = onnxruntime.InferenceSession(str(tmp_path / "one.onnx")).run(None, {"frames": frame})
    assert float((mask[0] == (probability > threshold)).mean()) >= 0.999
    assert 0.1 < float(mask.mean()) < 0.3


@pytest.mark.slow
def test_training_on_masks_of_0_and_255_keeps_one_logit(black_and_white: Path, tmp_path: Path) -> None:
    done = train("folder", black_and_white, recipe=SMALL, split="all", backbone_weights="none", output=tmp_path / "run")
    trained = load_checkpoint(done.checkpoint).model
    assert trained.shape.binary
    assert trained.threshold == 0.5
    assert not trained.classifier.weight[0].any()
    assert trained.classifier.weight[1].any()


def test_what_would_train_a_constant_mask_is_refused(black_and_white: Path, tmp_path: Path) -> None:
    (black_and_white / "classes.txt").write_text("background\nthing\n")
    with pytest.raises(DataError, match=f"255, which means ignore.*{black_and_white}.*--map 255=thing"):
        train("folder", black_and_white, recipe=SMALL, split="all", output=tmp_path / "run")
    (black_and_white / "classes.txt").write_text("a, 0, 0, 0\nb, 255, 255, 255\nc, 9, 9, 9\n")
    with pytest.raises((OptionError, DataError), match=r"2 classes|never occurs"):
        train("folder", black_and_white, recipe=SMALL, split="all", output=tmp_path / "run")


def test_a_threshold_is_for_binary_networks_and_a_probability(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "two.pt", random_network(binary=False), LABELS, {})
    save_checkpoint(tmp_path / "one.pt", random_network(binary=True), LABELS, {})
    with pytest.raises(OptionError, match="for a binary network"):
        export_checkpoint(tmp_path / "two.pt", tmp_path / "a.onnx", threshold=0.3)
    with pytest.raises(OptionError, match="not a probability"):
        export_checkpoint(tmp_path / "one.pt", tmp_path / "a.onnx", threshold=1.0)
    with pytest.raises(OptionError, match="does not go with a threshold"):
        export_checkpoint(tmp_path / "one.pt", tmp_path / "a.onnx", threshold=0.3, min_confidence=0.6)
