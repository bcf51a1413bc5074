"""From a model on a laptop to a version that runs on boards: packs, golden frames, versions, fleets.

The package itself can be called: ``pspnet_edge.deploy(...)`` is ``pspnet_edge.deploy.calls.deploy(...)``, because a
package and a function of the same name share one attribute. ``help(pspnet_edge.deploy.deploy)`` lists the arguments.
"""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .calls import deploy
    from .install import Deployed
    from .pack import Packed

__all__ = ["Deployed", "Packed", "deploy"]

_HOMES = {"Deployed": "install", "Packed": "pack", "deploy": "calls"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _CallablePackage(ModuleType):
    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.deploy)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return import_module(".calls", __name__).deploy(*arguments, **options)


sys.modules[__name__].__class__ = _CallablePackage
