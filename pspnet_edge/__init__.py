"""PSPNet segmentation for embedded GPUs: train, export, calibrate, build INT8/FP16 engines, run a camera loop.

>>> import pspnet_edge
>>> with pspnet_edge.Segmenter() as segmenter:
...     for frame, mask in segmenter.stream("demo"):
...         break
>>> mask.shape == frame.shape[:2]
True

Everything in ``__all__`` is loaded when it is first used, so that importing the package loads no heavy one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from .api.planning import plan
    from .api.results import (
        BenchmarkReport,
        BenchmarkRow,
        BuiltEngine,
        Calibration,
        Evaluation,
        ExportedModel,
        ImportedModel,
    )
    from .api.steps import benchmark, build_engine, calibrate, evaluate, export, import_checkpoint, open_engine
    from .camera.loop import RunSummary
    from .camera.segmenter import Segmenter
    from .data.geometry import Geometry
    from .deploy.calls import deploy, pack
    from .deploy.install import Deployed
    from .deploy.pack import Packed
    from .engine.engine import Engine, EngineInfo
    from .errors import (
        BuildError,
        CalibrationError,
        DataError,
        DeployError,
        EngineError,
        MissingPackage,
        ModelError,
        OptionError,
        OutputError,
        PackError,
        PspnetEdgeError,
        SourceError,
    )
    from .estimate.plan import Candidate, Plan
    from .graph.adapt import Adapted, adapt
    from .graph.described import Preprocessing
    from .labels import LabelSet
    from .train.api import train
    from .train.recipe import Recipe
    from .train.training import TrainingResult

__all__ = [
    "Adapted",
    "BenchmarkReport",
    "BenchmarkRow",
    "BuildError",
    "BuiltEngine",
    "Calibration",
    "CalibrationError",
    "Candidate",
    "DataError",
    "DeployError",
    "Deployed",
    "Engine",
    "EngineError",
    "EngineInfo",
    "Evaluation",
    "ExportedModel",
    "Geometry",
    "ImportedModel",
    "LabelSet",
    "MissingPackage",
    "ModelError",
    "OptionError",
    "OutputError",
    "PackError",
    "Packed",
    "Plan",
    "Preprocessing",
    "PspnetEdgeError",
    "Recipe",
    "RunSummary",
    "Segmenter",
    "SourceError",
    "TrainingResult",
    "__version__",
    "adapt",
    "benchmark",
    "build_engine",
    "calibrate",
    "deploy",
    "evaluate",
    "export",
    "import_checkpoint",
    "open_engine",
    "pack",
    "plan",
    "train",
]

_RESULTS = (
    "BenchmarkReport",
    "BenchmarkRow",
    "BuiltEngine",
    "Calibration",
    "Evaluation",
    "ExportedModel",
    "ImportedModel",
)
_STEPS = ("benchmark", "build_engine", "calibrate", "evaluate", "export", "import_checkpoint", "open_engine")
_PLACES = {
    "RunSummary": ".camera.loop",
    "Segmenter": ".camera.segmenter",
    "Geometry": ".data.geometry",
    "Deployed": ".deploy.install",
    "Packed": ".deploy.pack",
    "pack": ".deploy.calls",
    "Candidate": ".estimate.plan",
    "Plan": ".estimate.plan",
    "plan": ".api.planning",
    "Engine": ".engine.engine",
    "EngineInfo": ".engine.engine",
    "Adapted": ".graph.adapt",
    "LabelSet": ".labels",
    "Preprocessing": ".graph.described",
    "adapt": ".graph.adapt",
    "Recipe": ".train.recipe",
    "TrainingResult": ".train.training",
    **dict.fromkeys(_RESULTS, ".api.results"),
    **dict.fromkeys(_STEPS, ".api.steps"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in ("train", "deploy"):  # the package is its function too, because both have this name
        return import_module(f".{name}", __name__)
    value = getattr(import_module(_PLACES.get(name, ".errors"), __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
