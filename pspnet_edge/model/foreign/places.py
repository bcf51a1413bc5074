"""What a given path means: a file, a folder of ``save_pretrained``, or CSAIL's pair of files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...errors import ModelError

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_SHARDS = "model.safetensors.index.json"


@dataclass(frozen=True)
class Given:
    """The file or files that hold a network."""

    checkpoint: Path
    decoder: Path | None = None
    """The second of CSAIL's files."""


def find_given(path: Path, decoder: Path | None) -> Given:
    """The files that a path means.

    Raises:
        ModelError: a folder without weights, or with several.
    """
    if not path.is_dir():
        if decoder is not None:
            return Given(path, decoder)
        return _with_partner(path)
    for name in _WEIGHTS:
        if (path / name).is_file():
            return Given(path / name)
    if (path / _SHARDS).is_file():
        raise ModelError(f"{path} holds weights in several files: save them in one, with `max_shard_size` raised")
    encoders, decoders = (sorted(path.glob(f"{part}_*.pth")) for part in ("encoder", "decoder"))
    pairs = [(one, other) for one in encoders for other in decoders if one.name[7:] == other.name[7:]]
    if len(pairs) == 1:
        return Given(*pairs[0])
    if pairs:
        raise ModelError(f"{path} holds {len(pairs)} pairs of encoder and decoder: give the encoder's file")
    files = [entry for entry in sorted(path.iterdir()) if entry.suffix in (".pth", ".pt", ".ckpt", ".pdparams")]
    if len(files) == 1:
        return Given(files[0])
    raise ModelError(f"{path} is a folder of {len(files)} checkpoints: give the file that is to be imported")


def _with_partner(path: Path) -> Given:
    """A file called ``encoder_….pth`` or ``decoder_….pth`` with the one that belongs to it beside."""
    for own, other in (("encoder", "decoder"), ("decoder", "encoder")):
        if path.name.startswith(f"{own}_") and path.is_file():
            partner = path.with_name(other + path.name[len(own) :])
            if not partner.is_file():
                raise ModelError(
                    f"{path} is one of two files of a network and {partner.name} is not beside it: put it there"
                    + (", or name it with --decoder" if own == "encoder" else "")
                )
            return Given(path, partner) if own == "encoder" else Given(partner, path)
    return Given(path)
