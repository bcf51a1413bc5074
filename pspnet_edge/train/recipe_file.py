"""Recipes as files: TOML that a person writes, and ``recipe.json`` that every run leaves."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import Any

from ..document import Anything, List, Map, Number, Optional, Record, Shape, Text, parse_json, read_document
from ..errors import OptionError
from ..inputs import read_text, size_of_text
from .recipe import Recipe, expected_like, fits, option_name

NAME = "recipe.json"
START = ("init", "backbone_weights")
"""What a run starts from, which resuming it needs no more."""

_NAMES = dict.fromkeys(("dataset", "root", "split", *START, "distil"), Optional(Text(4096)))
_RUN: Mapping[str, Shape] = {
    **_NAMES,
    **dict.fromkeys(("accumulate", "validate_every"), Number(1, 1e9, whole=True)),
    "samples": Number(0, 1e9, whole=True),
    "loggers": List(Text(100), most=10),
}
"""Arguments of ``train`` beside its recipe that change what a run leaves; older runs stored fewer."""


@dataclass(frozen=True)
class RecipeFile:
    """What a recipe file says."""

    values: dict[str, Any] = field(default_factory=dict)
    """Fields of ``Recipe``."""
    run: dict[str, Any] = field(default_factory=dict)
    """Arguments of ``train`` beside the recipe; only a run's ``recipe.json`` has them."""


def read_run(path: Path) -> RecipeFile:
    """The ``recipe.json`` of a run.

    Raises:
        OptionError: it cannot be read or is damaged.
    """
    content = read_document(
        path,
        what="recipe of the run",
        shape=Record({"recipe": Map(Anything(), 1000)}, _RUN),
        remake=f"pspnet-edge train … -o {shlex.quote(str(path.parent))}",
        error=OptionError,
    )
    saved = Recipe.from_facts(content["recipe"]).to_dict()
    return RecipeFile(
        {key: _value(path, key, key, value) for key, value in saved.items()},
        {key: content[key] for key in _RUN if content.get(key) not in (None, "")},
    )


def read_recipe_file(path: Path) -> RecipeFile:
    """What a recipe file gives.

    A TOML file holds the options of ``train`` by their names, with ``-`` or ``_``: ``learning-rate = 0.001``,
    ``crop = "288x384"``, ``freeze = ["batchnorm"]``. A ``recipe.json`` of an earlier run serves too.

    Raises:
        OptionError: the file cannot be read, names an unknown option, or a value has the wrong type.
    """
    fix = "give a TOML file or a run's recipe.json"
    text = read_text(path, "recipe", OptionError, fix)
    try:
        content = parse_json(text) if path.suffix.lower() == ".json" else _parse_toml(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise OptionError(f"the recipe {path} cannot be read ({reason})", fix) from error
    if isinstance(content, dict) and isinstance(content.get("recipe"), dict):
        return read_run(path)
    if not isinstance(content, dict):
        raise OptionError(f"the recipe {path} is not a table of options", "write one option per line: epochs = 40")
    names = field_names()
    values = {}
    for key, value in content.items():
        name = names.get(key.replace("-", "_"))
        if name is None:
            known_names = ", ".join(sorted({one.replace("_", "-") for one in names}))
            raise OptionError(f"the recipe {path} has an unknown option {_shown(key)}", f"choose from {known_names}")
        values[name] = _value(path, name, key, value)
    return RecipeFile(values)


def _parse_toml(text: str) -> Mapping[str, Any]:
    try:
        parser = import_module("tomllib")
    except ModuleNotFoundError:  # Python 3.10
        parser = import_module("tomli")
    parsed: dict[str, Any] = parser.loads(text)
    return parsed


def field_names() -> dict[str, str]:
    """Option name or field name → field name."""
    names = {}
    for one in fields(Recipe):
        names[one.name] = names[option_name(one).replace("-", "_")] = one.name
    return names


def _value(path: Path, name: str, key: str, given: Any) -> Any:
    """The value of a key as the field has it, or ``OptionError``."""
    default, value = getattr(Recipe(), name), given
    is_size = name.endswith("_hw")
    if is_size and isinstance(value, str):
        value = size_of_text(value) or value
    if name == "freeze" and isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    value = tuple(value) if isinstance(value, list) else value
    if not fits(value, default):
        expected = f'HEIGHTxWIDTH, such as "{default[0]}x{default[1]}"' if is_size else expected_like(default)
        raise OptionError(f"{key} in the recipe {path} is {_shown(given)}", f"give {expected}")
    return tuple(map(type(default[0]), value)) if isinstance(default, tuple) and default else type(default)(value)


def _shown(value: Any) -> str:
    try:
        return f"{value!r:.60}"
    except (ValueError, RecursionError):  # a number of thousands of digits, or lists in lists
        return "too long to show"
