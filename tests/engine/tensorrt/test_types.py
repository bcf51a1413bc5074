"""mypy on ``engine/tensorrt/`` with the types of TensorRT's own bindings, from the package ``tensorrt-stubs``.

No release of that package can be used as it is: each gives parameters without a default behind ones that have one,
names some ``in``, and means by ``bool`` a data type of TensorRT. A copy of the newest is repaired in these three ways
alone. What mypy still says of the stubs themselves is left out.
"""

from __future__ import annotations

import ast
import keyword
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
STUBS = "tensorrt-stubs==10.13.0.35.1"
CONFIG = """
[mypy]
strict = True
python_version = 3.10
[mypy-tensorrt.*,tensorrt_bindings.*]
ignore_errors = True
[mypy-onnx.*,google.protobuf.*,onnxruntime.*,openvino.*,onnxslim.*,tensorrt_libs.*]
ignore_missing_imports = True
follow_imports = skip
"""


def repaired(stub: str) -> tuple[str, list[str]]:
    """A stub that parses, and the methods that were changed for it."""
    lines, changed = stub.split("\n"), []
    while (number := first_wrong(lines)) is not None:
        line = lines[number]
        lines[number] = with_defaults(without_keywords(line))
        assert lines[number] != line, f"no repair for {line}"
        changed.append(line.split("def ")[1].split("(")[0])
    # Else a function seems to return what is always true, and what stands behind `if not` is not checked.
    text = re.sub(r"(?<=: |> )bool\b", "builtins.bool", "\n".join(lines))
    return text.replace(
        "from __future__ import annotations\n", "from __future__ import annotations\nimport builtins\n", 1
    ), changed


def first_wrong(lines: list[str]) -> int | None:
    """Index of the first line that does not parse."""
    try:
        ast.parse("\n".join(lines))
    except SyntaxError as error:
        return (error.lineno or 1) - 1
    return None


def without_keywords(line: str) -> str:
    return re.sub(rf"(?<=[(, ])({'|'.join(keyword.kwlist)})(?=: )", r"\1_", line)


def with_defaults(line: str) -> str:
    """Every parameter behind one with a default gets one too."""
    head, parameters, tail = re.fullmatch(r"(\s*def \w+\()(.*)(\) -> .*)", line).groups()  # type: ignore[union-attr]
    behind, whole = False, []
    for parameter in re.split(r", (?=\w+: )", parameters):
        whole.append(f"{parameter} = ..." if behind and "=" not in parameter else parameter)
        behind |= "=" in parameter
    return f"{head}{', '.join(whole)}{tail}"


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stubs")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(folder), STUBS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder)
    path = folder / "tensorrt_bindings/tensorrt.pyi"
    text, changed = repaired(path.read_text(encoding="utf-8"))
    assert set(changed) == {"add_scale_nd", "get_workspace_size", "configure_plugin", "on_shape_change"}
    path.write_text(text, encoding="utf-8")
    (folder / "mypy.ini").write_text(CONFIG)
    return folder


def mypy(stubs: Path, source: Path) -> list[str]:
    """What mypy finds in ``pspnet_edge/engine/tensorrt`` below ``source``."""
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--config-file",
        str(stubs / "mypy.ini"),
        "--cache-dir",
        str(stubs / "cache"),
    ]
    done = subprocess.run(
        [*command, "pspnet_edge/engine/tensorrt"],
        cwd=source,
        env=os.environ | {"MYPYPATH": str(stubs)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    lines = done.stdout.splitlines()
    assert done.returncode in (0, 1), done.stderr
    assert lines
    return [line for line in lines if ": error: " in line]


MISUSES = {
    "versions.py": ("builder.create_network(flags)", "builder.build_cuda_engine(flags)", "build_cuda_engine"),
    "session.py": (".execute_async_v3(stream)", ".execute_async_v2([stream], stream)", "execute_async_v2"),
    "builder.py": (".set_memory_pool_limit(", ".max_workspace_size(", "max_workspace_size"),
    "parser.py": (".num_errors", ".error_count", "error_count"),
}
"""Of each file a call that is right, one that TensorRT 10 no longer has or never had, and what mypy must name."""


@pytest.mark.slow
def test_the_package_fits_tensorrts_types_and_a_misuse_is_found(stubs: Path, tmp_path: Path) -> None:
    assert mypy(stubs, ROOT) == []
    shutil.copytree(ROOT / "pspnet_edge", tmp_path / "pspnet_edge", ignore=shutil.ignore_patterns("__pycache__", "zoo"))
    for name, (right, wrong, _) in MISUSES.items():
        path = tmp_path / "pspnet_edge/engine/tensorrt" / name
        text = path.read_text(encoding="utf-8")
        assert right in text, name
        path.write_text(text.replace(right, wrong, 1), encoding="utf-8")
    found = mypy(stubs, tmp_path)
    for name, (_, _, member) in MISUSES.items():
        assert any(f"tensorrt/{name}:" in line and member in line and "[attr-defined]" in line for line in found), found


def test_the_repair_changes_what_does_not_parse_and_nothing_else() -> None:
    right = "class C:\n    def f(self, a: int = 1, b: str = ...) -> int:\n        ...\nbool: DataType\n"
    assert repaired(right) == (right, [])
    assert "def f(a: builtins.bool) -> builtins.bool" in repaired("def f(a: bool) -> bool:\n    ...\n")[0]
    wrong = "class C:\n    def f(self: C, in: list[A, B], out: int = 1, axis: int) -> int:\n        ...\n"
    text, changed = repaired(wrong)
    assert changed == ["f"]
    assert "def f(self: C, in_: list[A, B], out: int = 1, axis: int = ...) -> int:" in text
