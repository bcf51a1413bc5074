"""Makes ``tensorrt_api.json``: which classes and members each supported version of TensorRT has.

    python make.py FOLDER

FOLDER holds one ``VERSION.json`` a version, each a map from class to the public names in it, made from that version's
Python bindings by

    {name: [m for m in dir(c) if m[0] != "_"] for name, c in vars(tensorrt).items() if isinstance(c, type)}

Bindings load without a GPU. Where the libraries behind them are not at hand (8.6.1), empty ones that define the same
symbols are enough, because nothing is called. Kept are the classes that this package uses, and for each member the
versions that have it; ``*`` stands for all.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

USED = (
    "Builder",
    "BuilderFlag",
    "ComputeCapability",
    "DataType",
    "DeviceType",
    "HardwareCompatibilityLevel",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "ILayer",
    "ILogger",
    "INetworkDefinition",
    "IProgressMonitor",
    "ITensor",
    "ITimingCache",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "ParserError",
    "ProfilingVerbosity",
    "Runtime",
    "TensorFormat",
    "TensorIOMode",
)


def combined(versions: dict[str, dict[str, list[str]]]) -> dict[str, object]:
    """Class → member → versions, over the classes of ``USED``."""
    classes = {}
    for name in USED:
        members = sorted({member for api in versions.values() for member in api.get(name) or []})
        classes[name] = {
            member: "*" if len(having) == len(versions) else " ".join(having)
            for member in members
            if (having := [version for version, api in versions.items() if member in (api.get(name) or [])])
        }
    return {"versions": list(versions), "classes": classes}


def main() -> None:
    folder = Path(sys.argv[1])
    paths = sorted(folder.glob("*.json"), key=lambda path: [int(part) for part in path.stem.split("-")[-1].split(".")])
    versions = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    target = Path(__file__).with_name("tensorrt_api.json")
    target.write_text(json.dumps(combined(versions), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
