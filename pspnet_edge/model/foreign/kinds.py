"""What a file is, told by its first bytes: people hold out many things as a checkpoint."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import Literal

from ...built import ensure_not_built
from ...errors import ModelError
from ...inputs import check_file

Kind = Literal["torch zip", "old torch", "safetensors", "pickle"]

_ZIP = b"PK\x03\x04"
# The first thing in PyTorch's files from before 1.6: the pickle of a magic number.
_OLD_TORCH = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.")
_LARGEST_HEADER = 100 << 20
SAVE_PLAINLY = "where it was trained, save the weights alone with `torch.save(model.state_dict(), FILE)`"

# Beginnings of files that are no checkpoint: (bytes, what it is, what to do).
_OTHERS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the weights themselves", "fetch them with `git lfs pull`"),
    (b"\x1f\x8b", "a gzip archive", "unpack it and give the checkpoint inside"),
    (b"\xfd7zXZ", "an xz archive", "unpack it and give the checkpoint inside"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it and give the checkpoint inside"),
    (b"Rar!", "a RAR archive", "unpack it and give the checkpoint inside"),
    (b"\x89HDF", "an HDF5 file of Keras", "give a PyTorch or PaddlePaddle checkpoint"),
    (b"\x93NUMPY", "a single numpy array", "give a PyTorch or PaddlePaddle checkpoint"),
    (b"\x7fELF", "a program", "give a PyTorch or PaddlePaddle checkpoint"),
    (b"ftrt", "an engine of TensorRT", "give the checkpoint that it was made from; an engine gives no weights back"),
    (b"GGUF", "a GGUF file", "give a PyTorch or PaddlePaddle checkpoint"),
)


def kind_of(path: Path) -> Kind:
    """How a checkpoint file is to be read.

    Raises:
        ModelError: missing, empty, or a file that is no checkpoint; the sentence says what it is.
    """
    if path.is_symlink() and not path.exists():
        raise ModelError(f"{path} is a link to a file that is not there: fetch what it links to")
    check_file(path, "checkpoint", ModelError, "give the path of the file that the other project saved")
    try:
        with path.open("rb") as stream:
            start = stream.read(512)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
    if not start:
        raise ModelError(f"{path} is empty: copy or download it again")
    ensure_not_built(path)
    for beginning, what, fix in _OTHERS:
        if start.startswith(beginning):
            raise ModelError(f"{path} is {what}: {fix}")
    if start[4:8] == b"TFL3":
        raise ModelError(f"{path} is a TensorFlow Lite model: give a PyTorch or PaddlePaddle checkpoint")
    if _SHARD.search(path.name):
        raise ModelError(
            f"{path} is one of several parts of a checkpoint: save it as one, with `max_shard_size` raised"
        )
    if start.startswith(_ZIP):
        return _kind_of_zip(path)
    if start.startswith(_OLD_TORCH):
        return "old torch"
    if _is_safetensors(start, path.stat().st_size):
        return "safetensors"
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise ModelError(
            f"{path} is a web page, not the weights themselves: download the file behind it, e.g. the address with raw"
        )
    if text.startswith((b'{"', b"{\n", b"{ ", b"{\r")) and b"\x00" not in start:
        if path.name.endswith(".index.json"):
            raise ModelError(
                f"{path} lists the parts of a checkpoint: save it as one file, with `max_shard_size` raised"
            )
        raise ModelError(f"{path} is a JSON text, not the weights themselves: give the checkpoint file")
    if path.suffix == ".caffemodel":
        raise ModelError(
            f"{path} is a Caffe model: convert it to ONNX and use `pspnet-edge adapt`, or give a checkpoint of semseg"
        )
    if start[257:262] == b"ustar":
        raise ModelError(f"{path} is a tar archive: unpack it and give the checkpoint inside")
    return "pickle"


def _kind_of_zip(path: Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ModelError(f"{path} is damaged or cut short ({error}): copy it again") from error
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        raise ModelError(
            f"{path} is a TorchScript archive, which holds a program: {SAVE_PLAINLY}; from the archive alone, "
            "`torch.save(torch.jit.load(FILE).state_dict(), OTHER)` gives them too"
        )
    if "data.pkl" in inner:
        return "torch zip"
    if any(name.endswith(".npy") for name in names):
        raise ModelError(f"{path} is an archive of numpy arrays: give a PyTorch or PaddlePaddle checkpoint")
    if "archive_format" in inner or any(name.endswith((".pt2", "/weights_config.json")) for name in names):
        raise ModelError(f"{path} is a torch.export archive, which holds a program: {SAVE_PLAINLY}")
    if "model.weights.h5" in names:
        raise ModelError(f"{path} is a Keras model: give a PyTorch or PaddlePaddle checkpoint")
    first = next((name for name in names if not name.endswith("/")), "nothing")
    raise ModelError(
        f"{path} is a zip archive of {len(names)} files (the first is {first}): "
        "unpack it and give the checkpoint inside"
    )


def _is_safetensors(start: bytes, size: int) -> bool:
    length = int.from_bytes(start[:8], "little")
    return len(start) > 9 and start[8:9] == b"{" and 2 <= length <= min(size - 8, _LARGEST_HEADER)
