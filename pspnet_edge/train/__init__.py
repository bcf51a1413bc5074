"""Training: data set → checkpoint. ``train`` is the function, ``Recipe`` what it computes.

The package itself can be called: ``pspnet_edge.train(...)`` is ``pspnet_edge.train.train(...)``, because a package and
a function of the same name share one attribute. ``help(pspnet_edge.train.train)`` lists the arguments.
"""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import train
    from .history import EpochResult
    from .listener import Listener, RunHeader
    from .recipe import Recipe
    from .training import TrainingResult

__all__ = ["EpochResult", "Listener", "Recipe", "RunHeader", "TrainingResult", "train"]

_HOMES = {
    "EpochResult": "history",
    "Listener": "listener",
    "Recipe": "recipe",
    "RunHeader": "listener",
    "TrainingResult": "training",
    "train": "api",
}


def __getattr__(name: str) -> Any:
    # Loaded when first asked for, because the command line reads the recipe's options without torch.
    if name in _HOMES:
        if _HOMES[name] in ("api", "training"):
            import_module("..lazy", __name__).require("torch", "train")
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _CallablePackage(ModuleType):
    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.train)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self.train(*arguments, **options)


sys.modules[__name__].__class__ = _CallablePackage
