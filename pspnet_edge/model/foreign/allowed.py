"""What a checkpoint may name beside tensors, and what is made of it: nothing that could do anything."""

from __future__ import annotations

from typing import Any

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


def named_inert(module: str, name: str) -> Any:
    """A class of its own for each name, as PyTorch's reader tells them apart by it."""
    return type(f"{module}.{name}", (Inert,), {})
