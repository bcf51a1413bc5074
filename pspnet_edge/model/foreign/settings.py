"""The configuration of a training run, read as data: mmsegmentation's Python, PaddleSeg's YAML, smp's config.json.

Python is parsed and its literals are taken; nothing of it is run.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...document import parse_json
from ...errors import ModelError
from ...lazy import require

_LARGEST_BYTES = 4 << 20
_DEEPEST_BASE = 8
_LARGEST = 1e6
_LARGEST_COUNT = 10_000
_SUFFIXES = (".py", ".yml", ".yaml", ".json")
_MOST_BESIDE = 200


@dataclass(frozen=True)
class Settings:
    """What a configuration says."""

    source: str = ""
    """What people call it: ``its configuration`` or the name of a file; empty where there is none."""
    values: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    missing: tuple[str, ...] = ()
    """Files that it builds on and that are not there."""

    def __bool__(self) -> bool:
        return bool(self.source)

    def get(self, *path: str) -> Any:
        """The value at a path of keys, None where there is none."""
        value: Any = self.values
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def table(self, *path: str) -> Mapping[str, Any]:
        """The table at a path of keys; empty where there is none."""
        value = self.get(*path)
        return value if isinstance(value, Mapping) else {}


def numbers(values: Any, what: str) -> tuple[float, ...] | None:
    """A list of numbers as a configuration gives it; None where it is none, or where some are computed.

    Raises:
        ModelError: a number that no network has.
    """
    if not isinstance(values, (list, tuple)) or not values:
        return None
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return None
    if not all(abs(value) <= _LARGEST for value in values):  # false for NaN too
        raise ModelError(f"the configuration says that {what} is {values!r:.60}: correct it")
    return tuple(float(value) for value in values)


def whole_numbers(values: Any, what: str) -> tuple[int, ...] | None:
    """The same for counts and sizes, each at least 1.

    Raises:
        ModelError: a number that no network has.
    """
    found = numbers(values, what)
    if found is not None and not all(1 <= value <= _LARGEST_COUNT and value == int(value) for value in found):
        raise ModelError(f"the configuration says that {what} is {values!r:.60}: correct it")
    return None if found is None else tuple(int(value) for value in found)


def whole_number(value: Any, what: str) -> int | None:
    """The same for one of them."""
    found = whole_numbers([value], what)
    return None if found is None else found[0]


def find_settings(checkpoint: Path, meta: Mapping[str, Any], named: Path | None) -> Settings:
    """The configuration that belongs to a checkpoint: the one named, the one in the file, or the one beside it.

    Raises:
        ModelError: the one named cannot be read.
    """
    if named is not None:
        return read_settings(named)
    text = meta.get("cfg") or meta.get("config")
    if isinstance(text, str) and text.strip():
        return Settings("the configuration inside the file", _python(text), text)
    if isinstance(text, Mapping):
        return Settings("the configuration inside the file", text, "")
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    candidates = []
    for place in _beside(folder):
        try:
            settings = read_settings(place)
        except ModelError:
            continue
        if _is_of_a_pspnet(settings):
            candidates.append((place, settings))
    same = [settings for place, settings in candidates if place.stem == checkpoint.stem]
    if same:
        return same[0]
    return candidates[0][1] if len(candidates) == 1 else Settings()


def _beside(folder: Path) -> list[Path]:
    try:
        places = [place for place in sorted(folder.iterdir()) if place.suffix.lower() in _SUFFIXES and place.is_file()]
    except OSError:
        return []
    return places[:_MOST_BESIDE]


def _is_of_a_pspnet(settings: Settings) -> bool:
    if any(key in settings.values for key in ("encoder_name", "_model_class")):
        return settings.values.get("_model_class") in (None, "PSPNet")
    text = settings.text
    return "PSPHead" in text or "PSPNet" in text or "pspnet" in text.lower()


def read_settings(path: Path, depth: int = 0) -> Settings:
    """Read a configuration file with the files that it builds on.

    Raises:
        ModelError: missing, too large, or not what its name says.
    """
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST_BYTES:
            raise ModelError(f"{path} is not a configuration file: give a .py, .yml, .yaml or .json file")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} cannot be read ({error}): give a .py, .yml, .yaml or .json file") from error
    suffix = path.suffix.lower()
    if suffix == ".py":
        values = _python(text)
    elif suffix == ".json":
        values = _json(path, text)
    elif suffix in (".yml", ".yaml"):
        values = _yaml(path, text)
    else:
        raise ModelError(f"{path} is not a configuration file: give a .py, .yml, .yaml or .json file")
    bases = values.pop("_base_", None)
    texts, missing = [text], list[str]()
    for base in [bases] if isinstance(bases, str) else bases or []:
        place = path.parent / str(base)
        if depth < _DEEPEST_BASE and place.is_file():
            below = read_settings(place, depth + 1)
            values = merged(below.values, values)
            texts.insert(0, below.text)
            missing += below.missing
        else:
            missing.append(str(base))
    return Settings(str(path.name), values, "\n".join(texts), tuple(missing))


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration on the one that it builds on, table by table."""
    if above.get("_delete_") or above.get("_inherited_") is False:
        return {key: value for key, value in above.items() if key not in ("_delete_", "_inherited_")}
    both = dict(below)
    for key, value in above.items():
        inner = both.get(key)
        both[key] = merged(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return both


def _json(path: Path, text: str) -> dict[str, Any]:
    try:
        values = parse_json(text, strict=False)
    except ValueError as error:
        raise ModelError(f"{path} is not JSON ({error}): restore it") from error
    return dict(values) if isinstance(values, Mapping) else {}


def _yaml(path: Path, text: str) -> dict[str, Any]:
    yaml = require("yaml", "read a YAML configuration")
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ModelError(f"{path} is not YAML ({str(error).splitlines()[0]}): restore it") from error
    return dict(values) if isinstance(values, Mapping) else {}


class _Unknown(Exception):
    """A value that is computed rather than written down."""


_ARITHMETIC = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}


def _python(text: str) -> dict[str, Any]:
    """The literals that a Python configuration assigns; what it computes otherwise is left out."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    names: dict[str, Any] = {}
    for statement in tree.body:
        if isinstance(statement, ast.With):  # mmengine's `with read_base():`
            names.setdefault("_base_", []).extend(_imported(statement))
        elif (update := _update(statement)) is not None and isinstance(names.get(update[0], {}), dict):
            with suppress(_Unknown, RecursionError):
                names[update[0]] = merged(names.get(update[0], {}), _literal(update[1], names))
        elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            try:
                names[statement.targets[0].id] = _literal(statement.value, names)
            except (_Unknown, RecursionError):
                continue
    return names


def _imported(statement: ast.With) -> list[str]:
    """The files from which configurations are imported."""
    inner = [entry for entry in statement.body if isinstance(entry, ast.ImportFrom)]
    return ["../" * (entry.level - 1) + f"{entry.module.replace('.', '/')}.py" for entry in inner if entry.module]


def _update(statement: ast.stmt) -> tuple[str, ast.expr] | None:
    """The name and the values of ``name.update(values)``."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute) or call.func.attr != "update":
        return None
    return (call.func.value.id, call.args[0]) if isinstance(call.func.value, ast.Name) and call.args else None


def _literal(node: ast.expr, names: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, (ast.Tuple, ast.List)):
        return [_literal_or_none(entry, names) for entry in node.elts]
    if isinstance(node, ast.Dict):
        keys = [_literal(key, names) if key is not None else None for key in node.keys]
        return {str(key): _literal_or_none(value, names) for key, value in zip(keys, node.values) if key is not None}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        return {str(word.arg): _literal_or_none(word.value, names) for word in node.keywords if word.arg}
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _literal(node.operand, names)
        if isinstance(value, (int, float)):
            return -value
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        left, right = _literal(node.left, names), _literal(node.right, names)
        if isinstance(left, (int, float)) and isinstance(right, (int, float)) and max(abs(left), abs(right)) < 1e12:
            try:
                return _ARITHMETIC[type(node.op)](left, right)
            except ZeroDivisionError as error:
                raise _Unknown from error
    raise _Unknown


def _literal_or_none(node: ast.expr, names: Mapping[str, Any]) -> Any:
    try:
        return _literal(node, names)
    except _Unknown:
        return None
