"""Reads old files, pickles of numpy arrays (``.pdparams`` among them) and PyTorch's before 1.6, in a child.

A damaged one can crash or fill the process that builds its arrays, so the child has limits on time and memory. Nothing
that a file asks for is run. For pickles the child loads numpy and nothing heavier.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...artifact import scratch_folder
from ...child import child_command
from ...errors import ModelError
from ...records import first_line
from .allowed import ArraysOnly, Refused
from .kinds import SAVE_PLAINLY

LONGEST_S = 300
_SPARE_BYTES = 3 << 30
# Its libraries alone map tens of gigabytes.
_SPARE_BYTES_OF_TORCH = 64 << 30
_DEEPEST = 4
_REFUSED = 3
_SYSTEM = ("os.", "posix.", "nt.", "subprocess.", "builtins.", "sys.", "shutil.", "socket.", "__builtin__.")


def read_in_child(path: Path, kind: Literal["pickle", "old torch"]) -> Any:
    """The content of an old file: dictionaries, numpy arrays, numbers and texts.

    Raises:
        ModelError: damaged, asking for more than arrays, or beyond the limits.
    """
    with scratch_folder() as folder:
        command = child_command(__name__, path.resolve(), folder, kind)
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        try:
            done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=LONGEST_S)
        except subprocess.TimeoutExpired as error:
            raise ModelError(f"{path} could not be read within {LONGEST_S} s: it is damaged, copy it again") from error
        if done.returncode != 0:
            raise _told(path, kind, done)
        with np.load(folder / "arrays.npz", allow_pickle=False) as arrays:
            held = {name: arrays[name] for name in arrays.files}
        return _restored(json.loads((folder / "tree.json").read_text(encoding="utf-8")), held)


def _told(path: Path, kind: str, done: subprocess.CompletedProcess[str]) -> ModelError:
    said = done.stdout.strip().split("\n")[0]
    if done.returncode == _REFUSED:
        return refusal(path, said)
    if done.returncode == -signal.SIGKILL:
        return ModelError(f"the process that reads {path} was killed, probably for lack of memory: free memory")
    reason = said or (done.stderr.strip().splitlines() or [""])[-1] or f"reading it ended with {done.returncode}"
    what = "is damaged" if kind == "old torch" else "is neither a PyTorch file nor a pickle of arrays, or it is damaged"
    return ModelError(f"{path} {what} ({reason}): copy it again")


def refusal(path: Path, asked: str) -> ModelError:
    """A file that asks for a name which weights do not need."""
    network = asked.startswith("torch.nn.") or not asked.startswith(_SYSTEM)
    whole = "it probably holds a whole pickled network, which is a program; " if network else ""
    return ModelError(f"{path} asks to load {asked}, which weights do not need, and was refused: {whole}{SAVE_PLAINLY}")


def _restored(tree: Any, arrays: Mapping[str, Any]) -> Any:
    if isinstance(tree, dict):
        if set(tree) == {"array"}:
            return arrays[tree["array"]]
        return {key: _restored(value, arrays) for key, value in tree["items"]}
    if isinstance(tree, list):
        return tuple(_restored(value, arrays) for value in tree)
    return tree


def _described(value: Any, arrays: dict[str, Any], depth: int = 0) -> Any:
    """JSON values for a tree, its arrays put aside; what is neither is left out."""
    if hasattr(value, "detach"):  # a tensor; torch is not imported for it
        value = value.detach()
        value = (value.float() if value.is_floating_point() else value).numpy()
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        name = f"a{len(arrays)}"
        arrays[name] = np.ascontiguousarray(value).reshape(value.shape)
        return {"array": name}
    if isinstance(value, np.generic) and value.dtype.kind in "fiub":
        return value.item()
    if isinstance(value, (str, bool, int, float)) or value is None:
        return value
    if depth < _DEEPEST and isinstance(value, Mapping):
        return {"items": [[str(key), _described(inner, arrays, depth + 1)] for key, inner in value.items()]}
    if depth < _DEEPEST and isinstance(value, (list, tuple)) and len(value) <= 1000:
        return [_described(inner, arrays, depth + 1) for inner in value]
    return None


def child(file: str, folder: str, kind: str) -> int:
    """What the child process does; the exit status, with a reason on stdout."""
    path, target = Path(file), Path(folder)
    _limit(8 * path.stat().st_size + (_SPARE_BYTES if kind == "pickle" else _SPARE_BYTES_OF_TORCH))
    try:
        if kind == "pickle":
            with path.open("rb") as stream:
                content = ArraysOnly(stream).load()
        else:
            from .torch_file import load_torch

            content = load_torch(path)
        arrays: dict[str, Any] = {}
        tree = _described(content, arrays)
        np.savez(target / "arrays.npz", **arrays)
        (target / "tree.json").write_text(json.dumps(tree), encoding="utf-8")
    except Refused as error:
        print(error)
        return _REFUSED
    except Exception as error:  # a damaged pickle can raise anything
        print(first_line(error))
        return 1
    return 0


def _limit(memory: int) -> None:
    if sys.platform == "win32":
        return
    import resource

    for what, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, LONGEST_S), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(what, (most, most))


if __name__ == "__main__":
    sys.exit(child(*sys.argv[1:]))
