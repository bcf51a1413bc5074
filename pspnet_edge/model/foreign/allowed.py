"""What a checkpoint may name beside tensors, and what is made of it: nothing that could do anything."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from typing import Any

import numpy as np

# Objects that training programs keep beside weights. None of them is imported or called: each becomes an ``Inert``.
_PACKAGES = (
    "argparse", "pathlib", "datetime", "decimal", "fractions", "uuid", "enum", "typing", "collections", "types",
    "omegaconf", "yacs", "addict", "easydict", "box", "ml_collections", "mmengine", "mmcv", "mmseg",
    "lightning", "pytorch_lightning", "lightning_fabric", "lightning_utilities", "torchmetrics", "ignite", "fastcore",
    "torch.optim", "torch.cuda.amp.grad_scaler", "torch.amp", "numpy.random", "random",
)  # fmt: skip
_BUILTINS = frozenset(
    ("getattr", "set", "frozenset", "slice", "range", "complex", "bytearray", "int", "float", "str", "bool", "list",
     "dict", "tuple", "object", "bytes")
)  # fmt: skip
_CONFIG_NAMES = ("config", "cfg", "opt", "args", "hparams", "options", "namespace")


def is_harmless(module: str, name: str) -> bool:
    """Whether an object of this name may stay behind as an ``Inert``; anything else ends the reading."""
    if module in ("builtins", "__builtin__"):
        return name in _BUILTINS
    if module == "copy_reg" or module == "copyreg":
        return name in ("_reconstructor", "__newobj__")
    if any(module == package or module.startswith(f"{package}.") for package in _PACKAGES):
        return True
    # An options object of the training script itself.
    return module == "__main__" and name.lower().endswith(_CONFIG_NAMES)


class Inert:
    """Takes the place of an object that an import has no use for; whatever is done to it does nothing."""

    def __new__(cls, *arguments: object, **named: object) -> Inert:
        """Whatever the arguments."""
        return super().__new__(cls)

    def __init__(self, *arguments: object, **named: object) -> None:
        pass

    def __call__(self, *arguments: object, **named: object) -> Inert:
        return self

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def __hash__(self) -> int:
        return id(self)

    def append(self, value: object) -> None:
        """Nothing is kept."""

    def extend(self, values: object) -> None:
        """Nothing is kept."""

    def add(self, value: object) -> None:
        """Nothing is kept."""


def plain_dict(*arguments: object) -> dict[Any, Any]:
    """A defaultdict, such as the history of a training, is filled as a dict."""
    return {}


def plain_list(*arguments: object) -> list[Any]:
    """A deque is filled as a list."""
    return []


CONTAINERS: dict[str, Any] = {"defaultdict": plain_dict, "deque": plain_list}
"""Of the module collections: readers insist on plain containers where they put something in."""


def named_inert(module: str, name: str) -> Any:
    """A separate class for each name, as PyTorch's reader tells them apart by it."""
    return type(f"{module}.{name}", (Inert,), {})


class Refused(Exception):
    """The name of what a pickle asked for."""


class ArraysOnly(pickle.Unpickler):
    """An unpickler that knows numpy arrays and plain containers; anything else ends it before it is imported."""

    def find_class(self, module: str, name: str) -> Any:
        """Look a name up in the admitted ones, never in a module."""
        if (module, name) in _ADMITTED:
            return _ADMITTED[module, name]
        if is_harmless(module, name):
            return named_inert(module, name)
        raise Refused(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        """Refuse what is kept outside of the pickle."""
        raise Refused("storage outside of the file")


def _latin1(text: str, encoding: str) -> bytes:
    """The one call of ``_codecs.encode`` that pickles of arrays make."""
    if encoding != "latin1":
        raise Refused(f"_codecs.encode to {encoding}")
    return text.encode("latin1")


# The private functions that rebuild arrays moved between versions of numpy; an array itself says where they are.
RECONSTRUCT: Any = np.zeros(0).__reduce__()[0]
_FROM_BUFFER: Any = np.zeros(1).__reduce_ex__(5)[0]
SCALAR: Any = np.float32(0).__reduce__()[0]

_ADMITTED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "tuple"): tuple,
    ("__builtin__", "tuple"): tuple,
    ("builtins", "dict"): dict,
    ("builtins", "list"): list,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _latin1,
}
_ADMITTED |= {("collections", name): make for name, make in CONTAINERS.items()}
for _package in ("numpy.core", "numpy._core"):
    _ADMITTED[f"{_package}.multiarray", "_reconstruct"] = RECONSTRUCT
    _ADMITTED[f"{_package}.multiarray", "scalar"] = SCALAR
    _ADMITTED[f"{_package}.numeric", "_frombuffer"] = _FROM_BUFFER
