"""Training steps as CUDA graphs."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pspnet_edge.data.datasets import SceneSet
from pspnet_edge.data.subset import Subset
from pspnet_edge.labels import CAMVID
from pspnet_edge.model.pspnet import PRESETS, PSPNet
from pspnet_edge.train.batches import normalised
from pspnet_edge.train.distributed import joined
from pspnet_edge.train.objective import Objective
from pspnet_edge.train.recipe import Recipe
from pspnet_edge.train.step import Run


class Transfers(TorchDispatchMode):
    """Notes operations that read from the processor's memory what is computed elsewhere, or the other way."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor) and leaf.ndim]
        if len({tensor.device.type for tensor in tensors}) > 1:
            self.found.append(str(function))
        return result


@pytest.mark.parametrize("preset", ["pspnet_lite0", "pspnet_fast", "pspnet_accurate"])
def test_a_step_reads_nothing_back_and_copies_nothing_from_the_processor(preset: str) -> None:
    assert preset in PRESETS
    # On the meta device a size that depends on the data, or a value that is read, is an error of PyTorch's.
    with torch.device("meta"):
        model = PSPNet(preset, len(CAMVID)).train()
        objective = Objective(Recipe(lovasz_weight=0.5), model, torch.ones(len(CAMVID)))
        frames = torch.empty(2, 288, 384, 3, dtype=torch.uint8)
        masks = torch.empty(2, 288, 384, dtype=torch.int64)
        soft = torch.empty(2, 72, 96, len(CAMVID), dtype=torch.uint8)
        mean, std = torch.empty(3), torch.empty(3)

    def step() -> None:
        totals = objective.totals([(frames, masks, soft)])
        logits, aux = model.forward_with_aux(normalised(frames, mean, std))
        objective.loss(logits, aux, (frames, masks, soft), totals, 1.0).backward()

    step()  # what is kept from the first step on may be copied in it
    with Transfers() as transfers:
        step()
    assert transfers.found == []


def test_a_copy_in_a_step_is_noticed() -> None:
    with Transfers() as transfers:
        torch.ones(3).to("meta")
    assert transfers.found


def losses_of(captures: bool) -> tuple[list[float], torch.Tensor]:
    """Losses of twelve steps, and a weight afterwards."""
    recipe = Recipe(epochs=3, batch=2, crop_hw=(96, 128), dropout=0.0, lovasz_weight=0.5, autocast="none")
    torch.manual_seed(0)
    model = PSPNet("pspnet_lite0", len(CAMVID))
    with joined("cuda") as world:
        run = Run(recipe, model, Subset(SceneSet("train"), range(8)), None, None, world, 1, 0, captures)
        samples = run.micro_batches(range(3))
        losses: list[float] = []
        for epoch in range(3):
            run.epoch(epoch, samples, lambda step, steps, loss: losses.append(loss))
        return losses, run.average.model.classifier.weight.cpu()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_captured_step_computes_what_single_launches_do() -> None:
    plain, plain_weight = losses_of(captures=False)
    losses, weight = losses_of(captures=True)
    assert losses == pytest.approx(plain, rel=0.02)  # convolutions may add up in another order
    assert torch.allclose(weight, plain_weight, atol=2e-3)
