"""The arrows between rooms, and what an import may load."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "pspnet_edge"

# Imports go only from a later room to an earlier one, or stay within one.
ROOMS = [
    "",
    "data",
    "model",
    "train",
    "graph",
    "engine",
    "camera",
    "doctor",
    "selftest",
    "measure",
    "estimate",
    "report",
    "deploy",
    "api",
    "cli",
]

# What a room may import from outside, beside the standard library and numpy.
OUTSIDE = {
    "": {"cv2"},
    "data": {"cv2"},
    "model": {"torch", "timm"},
    "train": {"torch", "cv2"},
    "graph": {"onnx", "google", "cv2", "onnxslim"},
    "engine": {"onnx"},
    "camera": {"av", "cv2"},
    "doctor": set(),
    "selftest": {"cv2"},
    "measure": {"cv2"},
    "estimate": {"onnx", "google"},
    "report": {"cv2"},
    "deploy": {"cv2"},
    "api": set(),
    "cli": {"typer", "rich"},
}


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


def imports_of(path: Path, source: str) -> list[tuple[int, str]]:
    """(line, absolute module) of every import in the file, wherever it stands."""
    package = ["pspnet_edge", *path.relative_to(PACKAGE).parts[:-1]]
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module == "pspnet_edge":
                found += [(node.lineno, f"{module}.{alias.name}") for alias in node.names]
            else:
                found.append((node.lineno, module))
    return found


def violations(path: Path, source: str) -> list[str]:
    room = room_of(path)
    wrong = []
    for line, module in imports_of(path, source):
        top, *rest = module.split(".")
        place = f"{path.name}:{line} imports {module}"
        if top == "pspnet_edge":
            target = rest[0] if rest and rest[0] in ROOMS else ""
            if ROOMS.index(target) > ROOMS.index(room):
                wrong.append(place)
            continue
        allowed = OUTSIDE[room] | ({"torch"} if place.startswith("export.py") and room == "graph" else set())
        allowed = allowed | ({"aiohttp"} if path.parent == PACKAGE / "camera" / "web" else set())
        if top not in sys.stdlib_module_names and top not in allowed | {"numpy"}:
            wrong.append(place)
    return wrong


def test_imports_follow_the_house() -> None:
    # The package's own namespace names what it loads later, for type checkers; that it loads none is tested below.
    skipped = {PACKAGE / "__init__.py", PACKAGE / "__main__.py"}
    files = sorted(path for path in PACKAGE.rglob("*.py") if path not in skipped)
    assert len(files) > 30
    assert [text for path in files for text in violations(path, path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("data", "from ..engine.backends import open_engine"),
        ("graph", "import torch"),
        ("engine", "from .. import cli"),
        ("camera", "import aiohttp"),
        ("", "import onnx"),
    ],
)
def test_an_arrow_that_runs_back_is_found(room: str, source: str) -> None:
    assert len(violations(PACKAGE / room / "planted.py", source)) == 1


def files_imported(path: Path, source: str) -> set[Path]:
    """The files of the same room that a file imports while it runs, at its top or inside a function."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    package = ["pspnet_edge", *path.relative_to(PACKAGE).parts[:-1]]
    found = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom):
            continue
        base = package[: len(package) - node.level + 1] if node.level else []
        module = [*base, *(node.module.split(".") if node.module else [])]
        for parts in (module, *([*module, alias.name] for alias in node.names)):
            target = PACKAGE.joinpath(*parts[1:])
            if parts[:1] == ["pspnet_edge"] and target.with_suffix(".py").is_file():
                found.add(target.with_suffix(".py"))
    return {target for target in found if room_of(target) == room_of(path)} - {path}


def circle(sources: dict[Path, str]) -> list[Path]:
    """Files that import each other in a ring; empty where there is none."""
    try:
        graphlib.TopologicalSorter({path: files_imported(path, text) for path, text in sources.items()}).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def sources_of_package() -> dict[Path, str]:
    return {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


def test_no_circle_within_a_package() -> None:
    assert [str(path.relative_to(PACKAGE)) for path in circle(sources_of_package())] == []


@pytest.mark.parametrize(
    ("file", "planted"),
    [
        ("engine/session.py", "def late() -> None:\n    from .backends import BACKENDS\n"),
        ("graph/view.py", "from .quantize import int8_model\n"),
        ("engine/openvino/tail.py", "from ..backends import open_engine\n"),
    ],
)
def test_a_planted_circle_is_found(file: str, planted: str) -> None:
    sources = sources_of_package()
    sources[PACKAGE / file] += planted
    assert PACKAGE / file in circle(sources)


HEAVY = ("torch", "timm", "onnx", "onnxruntime", "openvino", "tensorrt", "cv2", "numpy")


@pytest.mark.parametrize(
    "code",
    [
        "import pspnet_edge",
        "import sys; sys.argv = ['pspnet-edge', '--help']; import pspnet_edge.cli.main as m\n"
        "try: m.main()\nexcept SystemExit as e: assert e.code == 0",
        "import sys; sys.argv = ['pspnet-edge', 'run', '--help']; import pspnet_edge.cli.main as m\n"
        "try: m.main()\nexcept SystemExit as e: assert e.code == 0",
    ],
)
def test_import_and_help_load_nothing_heavy(code: str) -> None:
    tail = f"\nimport sys\nloaded = [name for name in {HEAVY!r} if name in sys.modules]\nassert not loaded, loaded"
    done = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_table_of_runtimes_loads_none_of_them() -> None:
    code = "import sys, pspnet_edge.engine.backends\nprint(*[name for name in {heavy!r} if name in sys.modules])"
    heavy = [name for name in HEAVY if name != "numpy"]
    done = subprocess.run([sys.executable, "-c", code.format(heavy=heavy)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_building_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"  # any import of it fails
        f"sys.argv = ['pspnet-edge', 'build', '--precision', 'int8', '-o', {str(tmp_path / 'e.engine')!r}]\n"
        "from pspnet_edge.cli.main import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "e.engine").is_file()
