"""The network that a run starts from: ImageNet's backbone, or a checkpoint fine-tuned to other classes."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..errors import ModelError, OptionError
from ..labels import LabelSet
from ..model.backbone_weights import load_backbone_file
from ..model.checkpoint import Checkpoint, load_checkpoint
from ..model.imagenet import for_channels
from ..model.pspnet import PSPNet
from ..records import counted
from .recipe import AUTO, DEFAULT_MODEL, Recipe

IMAGENET, NONE = "imagenet", "none"


@dataclass(frozen=True)
class Start:
    """A network before its first step, and where its weights come from."""

    model: PSPNet
    notes: tuple[str, ...] = ()
    """Lines for the user: what was kept, what starts from random weights, whose terms apply."""
    trained_on: tuple[str, ...] = ()
    """Names of the data sets that the starting weights were trained on."""


def resumable_checkpoint(path: Path, recipe: Recipe, teacher_sha256: str | None, label_set: LabelSet) -> Checkpoint:
    """Load ``last.pt`` of a run with this recipe.

    Raises:
        ModelError: not one to resume from.
        OptionError: there is none, it was made with another recipe, teacher or list of classes, or it is beyond the
            recipe's last epoch.
    """
    if not path.exists():
        raise OptionError(
            f"the run in {path.parent} has saved no epoch yet", "start it again without resume", parameter="resume"
        )
    saved = load_checkpoint(path)
    if saved.training is None:
        raise ModelError(f"{path} holds no training state", "resume from the last.pt of a run")
    unlike = recipe.differences(Recipe.from_facts(saved.training["recipe"]))
    if unlike:
        raise OptionError(
            f"{path} was made with another recipe ({'; '.join(unlike)})",
            "leave these options out to resume, or start a new run with --init",
        )
    if saved.label_set.classes != label_set.classes:
        raise OptionError(
            f"{path} was trained on the classes {_listed(saved.label_set)}, and the data has {_listed(label_set)}",
            f"resume with the data of that run, or start a new run with --init {shlex.quote(str(path))}",
        )
    done, before = len(saved.training["rows"]), Recipe.from_facts(saved.training["recipe"])
    if recipe.epochs < done or recipe.epochs == done < before.epochs:
        raise OptionError(
            f"the run in {path.parent} has {counted(done, 'epoch')} already",
            f"give more than {done}",
            parameter="epochs",
        )
    if saved.training["teacher_sha256"] != teacher_sha256:
        raise OptionError(f"{path} was made with another teacher or none", "give the same --distil to resume")
    return saved


def with_network(recipe: Recipe, start: Path | None) -> Recipe:
    """The recipe with a network in place of ``auto``: that of the checkpoint it starts from, else the default."""
    if recipe.model != AUTO:
        return recipe
    return replace(recipe, model=DEFAULT_MODEL if start is None else load_checkpoint(start).model.preset)


def _listed(label_set: LabelSet, most: int = 8) -> str:
    rest = len(label_set) - most
    return ", ".join(label_set.classes[:most]) + (f" and {rest} more" if rest > 0 else "")


def starting_network(
    recipe: Recipe, label_set: LabelSet, init: Path | None, backbone_weights: str | Path = IMAGENET
) -> Start:
    """The network of a recipe with its first weights.

    Args:
        recipe: which network, and whether it is refined for INT8.
        label_set: the classes of the training data.
        init: a checkpoint: every weight that fits is taken; a classifier for other classes starts from random weights.
        backbone_weights: without ``init``: ``imagenet``, ``none``, or a file of torchvision or timm. A preset whose
            backbone has no ImageNet weights starts from random ones instead.

    Raises:
        OptionError: nothing to refine, or a checkpoint of another network.
        ModelError: weights that cannot be read or downloaded, or do not fit.
    """
    if init is not None:
        return _from_checkpoint(recipe, label_set, init)
    if recipe.qat:
        raise OptionError("--qat refines a trained network", "give --init CHECKPOINT or a bundled name")
    model = PSPNet(recipe.model, len(label_set), _changes(recipe))
    if str(backbone_weights) == NONE or (str(backbone_weights) == IMAGENET and model.shape.scratch):
        reason = f"{recipe.model} is made for that" if model.shape.scratch else "it takes far longer than from ImageNet"
        note = f"starting from random weights: {reason}"
        if recipe.backbone_factor < 1:
            note += "; with --backbone-factor 1 the backbone learns as fast as the rest"
        return Start(model, (note,))
    if str(backbone_weights) == IMAGENET:
        model.backbone.load_imagenet()
        return Start(model, ("starting from ImageNet weights in the backbone",))
    load_backbone_file(model.backbone, Path(backbone_weights))
    return Start(model, (f"starting from {backbone_weights} in the backbone",))


def _from_checkpoint(recipe: Recipe, label_set: LabelSet, init: Path) -> Start:
    loaded = load_checkpoint(init)
    source = loaded.model
    if source.preset != recipe.model:
        raise OptionError(f"{init} holds a {source.preset}, not a {recipe.model}", f"give --model {source.preset}")
    binary = recipe.binary or (source.shape.binary and len(label_set) == 2)
    model = PSPNet(
        recipe.model, len(label_set), source.architecture | {"in_channels": recipe.channels, "binary": binary}
    )
    if recipe.qat:
        model.quantiser = source.quantiser
    if binary and not source.shape.binary and source.classes == 2:
        _as_one_logit(source)
    own = model.state_dict()
    for stem in source.input_convolutions():
        stem.weight = torch.nn.Parameter(for_channels(stem.weight.detach(), recipe.channels))
    fitting = {key: value for key, value in source.state_dict().items() if key in own and value.shape == own[key].shape}
    model.load_state_dict(own | fitting)
    dropped = [key for key in own if key not in fitting and not key.startswith("quantiser.")]
    note = f"starting from {init}: {len(fitting)} of {len(own)} tensors kept"
    if dropped:
        note += (
            f"; {', '.join(sorted({key.rpartition('.')[0] for key in dropped}))} start from random weights, because it "
            f"has {len(loaded.label_set)} classes and this data has {len(label_set)}"
        )
    elif loaded.label_set.classes != label_set.classes:
        note += (
            f"; its {len(label_set)} classifier outputs are reused for {', '.join(label_set.classes)} in place of "
            f"{', '.join(loaded.label_set.classes)}"
        )
    trained_on = _trained_on(loaded)
    return Start(model, (note, *_terms(trained_on)), trained_on)


def _changes(recipe: Recipe) -> dict[str, object]:
    """What the network of a recipe has that its preset has not."""
    changes: dict[str, object] = {"in_channels": recipe.channels} if recipe.channels != 3 else {}
    return changes | ({"binary": True} if recipe.binary else {})


def _as_one_logit(network: PSPNet) -> None:
    """Replace two logits by 0 and their difference, which gives the same masks."""
    last = network.aux_head[-1] if network.aux_head is not None else None
    with torch.no_grad():
        for head in (network.classifier, last):
            for value in head.parameters() if isinstance(head, torch.nn.Conv2d) else ():
                value[1] -= value[0]
                value[0] = 0


def _trained_on(loaded: Checkpoint) -> tuple[str, ...]:
    named = loaded.facts.get("trained_on")
    if isinstance(named, (list, tuple)):
        return tuple(str(name) for name in named)
    return (loaded.label_set.name,) if loaded.label_set.name in _TERMS else ()


_TERMS = {
    "camvid": "CamVid, which is for non-commercial research",
    "cityscapes": "Cityscapes, which is for non-commercial research",
    "voc": "PASCAL VOC, whose photographs are under Flickr's terms of use",
}


def _terms(trained_on: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(
        f"these weights were trained on {_TERMS[name]}: the same applies to what is fine-tuned from them"
        for name in trained_on
        if name in _TERMS
    )
