"""Damaged checkpoints for ``fuzz.py``: ours and those of other projects, by their entries, their pickles and their zips."""

from __future__ import annotations

import copy
import io
import json
import pickle
import pickletools
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

from fuzz_edits import NASTY, Edits, edit_bytes, edit_value, edited_bytes, edited_json, edited_text, json_bytes

_CONFIGURATION = b"""norm_cfg = dict(type='SyncBN', requires_grad=True)
crop_size = (64, 64)
data_preprocessor = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)
model = dict(type='EncoderDecoder', backbone=dict(type='ResNetV1c', depth=18, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),
    decode_head=dict(type='PSPHead', in_channels=512, channels=128, pool_scales=(1, 2, 3, 6), num_classes=19,
    align_corners=False, loss_decode=dict(type='CrossEntropyLoss', loss_weight=1.0)))
"""


def make_foreign(folder: Path) -> None:
    """The state dict of mmsegmentation's PSPNet-R18, its tensors a single stored zero each, in a file of 100 KB."""
    import torch

    from pspnet_edge.model.foreign import mmseg
    from pspnet_edge.model.foreign.settings import Settings
    from pspnet_edge.model.foreign.weights import ForeignWeights
    from pspnet_edge.model.pspnet import PSPNet

    markers = ("backbone.conv1.weight", "backbone.layer1.0.conv1.weight")
    layout = mmseg.layout(ForeignWeights(dict.fromkeys(markers, torch.zeros(1)), Path("x")), {}, Settings())
    state = {}
    for key, value in PSPNet("pspnet_r18", 19).state_dict().items():
        module, _, kind = key.rpartition(".")
        state[f"{layout.theirs(module)}.{kind}"] = torch.zeros((), dtype=value.dtype).expand(value.shape)
    torch.save({"state_dict": state, "meta": {"CLASSES": None, "epoch": 1}}, folder / "foreign.pth")


def checkpoint_case(edits: Edits, rng: random.Random, folder: Path, seeds: Path) -> list[str]:
    """A checkpoint of ours for ``export`` and ``build``, or of another project for ``import``."""
    form = rng.choice(("pt", "pth", "pdparams", "safetensors", "foreign", "foreign"))
    if form == "foreign":
        return _foreign_case(edits, rng, folder, seeds)
    (folder / f"x.{form}").write_bytes(_checkpoint_bytes(edits, form))
    if form == "pt":
        return rng.choice((["export", "x.pt", "-o", "x.onnx"], ["build", "x.pt", "-o", "x.engine"]))
    return ["import", f"x.{form}", "-o", "y.pt"]


def _foreign_case(edits: Edits, rng: random.Random, folder: Path, seeds: Path) -> list[str]:
    import torch

    where, options = rng.randrange(3), []
    content = torch.load(seeds / "foreign.pth", weights_only=True)
    if where == 0:
        suffix = rng.choice((".py", ".json", ".yml"))
        text = (
            _CONFIGURATION if suffix == ".py" else json_bytes({"model": {"type": "PSPHead", "backbone": {"depth": 18}}})
        )
        changed = edited_json(text, edits) if suffix != ".py" and rng.random() < 0.5 else edited_text(text, edits)
        (folder / f"x{suffix}").write_bytes(changed)
        options = ["--config", f"x{suffix}"]
    elif where == 1:
        for edit in edits:
            _edit_state(content["state_dict"], random.Random(edit))
    else:
        _edit_tree(content["meta"], edits)
        content["meta"] |= {"cfg": edited_text(_CONFIGURATION, edits).decode("utf-8", "replace")}
    made = io.BytesIO()
    torch.save(content, made)
    (folder / "x.pth").write_bytes(
        _damaged(made.getvalue(), edits) if where == 1 and rng.random() < 0.3 else made.getvalue()
    )
    return ["import", "x.pth", *options, "-o", "y.pt"]


def _edit_state(state: dict[Any, Any], rng: random.Random) -> None:
    """One tensor gone, renamed, of another shape or type, or claiming to be enormous."""
    import torch

    key = rng.choice(sorted(state, key=str))
    kind = rng.randrange(6)
    if kind == 0:
        del state[key]
    elif kind == 1:
        state[rng.choice(("", "x", f"module.{key}", f"{key}.x", "\ud800", key.replace("layer1", "layer9")))] = (
            state.pop(key)
        )
    elif kind == 2:
        shape = list(state[key].shape) or [1]
        shape[rng.randrange(len(shape))] = rng.choice((0, 1, 2, 7, 4096, 10**6, 10**9))
        state[key] = torch.zeros((), dtype=rng.choice((torch.float32, torch.float16, torch.int64))).expand(shape)
    elif kind == 3:
        dtype = rng.choice((torch.float64, torch.bool, torch.complex64, torch.int8, torch.bfloat16, torch.uint8))
        state[key] = torch.zeros((), dtype=dtype).expand(state[key].shape)
    elif kind == 4:
        state[key] = torch.full((), rng.choice((float("nan"), float("inf"), -1e38, 3e38))).expand(state[key].shape)
    else:
        state[key] = copy.deepcopy(rng.choice(NASTY[:-1]))


def _edit_tree(content: dict[Any, Any], edits: Edits) -> None:
    """The entries of nested dictionaries, where some values are tensors."""
    import torch

    for edit in edits:
        rng = random.Random(edit)
        holder: Any = content
        while True:
            place = rng.choice(sorted(holder, key=str)) if holder else "x"
            if not isinstance(holder.get(place), dict) or rng.random() < 0.4:
                break
            holder = holder[place]
        kind = rng.randrange(5)
        if kind == 0:
            holder.pop(place, None)
        elif kind == 1:
            holder[rng.choice(("", "state_dict", "model", "module.x", 5, None, "architecture"))] = holder.get(place)
        elif kind == 2:
            shape = rng.choice(((), (0,), (1,), (4, 3, 3, 3), (2,) * 8))
            kinds = (torch.float32, torch.int64, torch.bool, torch.complex64, torch.float16)
            holder[place] = torch.zeros(shape, dtype=rng.choice(kinds))
        elif kind == 3 and isinstance(holder.get(place), (list, str, int)):
            holder[place] = edit_value([holder[place]], rng)
        else:
            holder[place] = copy.deepcopy(rng.choice(NASTY[:-1]))


def _state(edits: Edits, ours: bool, whole: bool) -> Any:
    """The content of a checkpoint, ours or one of another project, as dictionaries of tensors."""
    import torch

    from pspnet_edge import bundled

    content: dict[str, Any] = {f"layer.{i}.weight": torch.zeros(4, 3, 3, 3) for i in range(4)}
    if ours and whole:
        content = torch.load(Path(bundled.__file__).parent / "zoo/pspnet_lite0_camvid.pt", weights_only=True)
    elif ours:
        facts = {"name": "four", "classes": list("abcd"), "palette": [[i, i, i] for i in range(4)]}
        content = {"format": "pspnet-edge checkpoint", "version": 1, "preset": "pspnet_lite0", "label_set": facts}
        content |= {"weights": {"decoder.weight": torch.zeros(4, 3)}, "facts": {}, "architecture": {"bins": [1, 2]}}
    _edit_tree(content, edits)
    return content


def _checkpoint_bytes(edits: Edits, form: str) -> bytes:
    import torch

    made = io.BytesIO()
    state = _state(edits, form == "pt", bool(edits) and edits[-1] % 12 == 0)
    if form == "pdparams":
        state = {key: value.numpy() if hasattr(value, "numpy") else value for key, value in state.items()}
        pickle.dump(state, made, protocol=random.Random(edits[-1]).choice((0, 2, 4)) if edits else 2)
    elif form == "safetensors":
        header = {"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}, "__metadata__": {"a": "b"}}
        stored = edited_json(json.dumps(header).encode(), edits)
        made.write(struct.pack("<Q", len(stored)) + stored + bytes(16))
    else:
        torch.save(state, made, _use_new_zipfile_serialization=not edits or edits[-1] % 3 > 0)
    content = made.getvalue()
    return _damaged(content, edits[:2]) if edits and edits[0] % 2 == 0 else content


def _damaged(content: bytes, edits: Edits) -> bytes:
    """The zip's entries, the pickle's opcodes, or plain bytes."""
    rng = random.Random(edits[0] + 1)
    if content[:2] == b"PK" and rng.random() < 0.8:
        return _edited_zip(content, rng)
    if content[:1] == b"\x80" and rng.random() < 0.7:
        return _edited_pickle(content, rng)
    return edited_bytes(content, edits)


def _edited_zip(content: bytes, rng: random.Random) -> bytes:
    """Entries gone, renamed, doubled, compressed, of other content, or with a pickle that asks for other things."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = [(name, archive.read(name)) for name in archive.namelist()]
    place = rng.randrange(len(parts))
    name, body = parts[place]
    kind = rng.randrange(7)
    if kind == 0:
        del parts[place]
    elif kind == 1:
        parts[place] = (
            rng.choice(("", "../x", "/x", f"{name}x", "x" * 70_000 if rng.random() < 0.1 else "x" * 300)),
            body,
        )
    elif kind == 2:
        parts.append(parts[place])
    elif kind == 3:
        parts[place] = (name, edit_bytes(body, rng))
    else:
        place = next((i for i, (entry, _) in enumerate(parts) if entry.endswith("data.pkl")), place)
        parts[place] = (parts[place][0], _edited_pickle(parts[place][1], rng))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", rng.choice((0, 0, 0, 8))) as archive:
        for name, body in parts:
            archive.writestr(name or "x", body)
    return made.getvalue()


_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "int": (b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x01\0\0\0"),
    "global": (
        b"os\nsystem\n",
        b"builtins\neval\n",
        b"torch\nTensor\n",
        b"numpy\nndarray\n",
        b"collections\nOrderedDict\n",
    ),
}


def _edited_pickle(content: bytes, rng: random.Random) -> bytes:
    """Opcodes removed, doubled, moved or exchanged; numbers made extreme; what it asks for renamed."""
    try:
        found = [(code, place) for code, _, place in pickletools.genops(content)]
    except Exception:  # already damaged
        return edit_bytes(content, rng)
    ends = [place for _, place in found[1:]] + [found[-1][1] + 1]
    codes = [content[place:end] for (_, place), end in zip(found, ends)]
    rest = content[ends[-1] :]
    for _ in range(rng.choice((1, 1, 3))):
        at = rng.randrange(len(codes))
        kind = rng.randrange(7)
        if kind == 0 and len(codes) > 1:
            del codes[at]
        elif kind == 1:
            codes.insert(at, codes[at])
        elif kind == 2:
            other = rng.randrange(len(codes))
            codes[at], codes[other] = codes[other], codes[at]
        elif kind == 3:
            numbers = [i for i, code in enumerate(codes) if code[:1] in b"JM" and len(code) > 1]
            if numbers:
                codes[rng.choice(numbers)] = b"J" + rng.choice(_ARGUMENTS["int"])
        elif kind == 4:
            globals_ = [i for i, code in enumerate(codes) if code[:1] == b"c"]
            if globals_:
                codes[rng.choice(globals_)] = b"c" + rng.choice(_ARGUMENTS["global"])
        elif kind == 5:
            codes[at] = rng.choice(
                (b"N", b"}", b"]", b")", b"(", b"R", b"b", b"o", b"\x81", b"Q", b"t", b"s", b"u", b"0", b"2", b".")
            )
        else:
            codes.insert(at, b"(" * rng.choice((1, 3000)))
    return b"".join(codes) + rest
