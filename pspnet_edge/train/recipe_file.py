"""Recipes as files: TOML that a person writes, and ``recipe.json`` that every run leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

from ..data.reading import is_whole_number
from ..document import parse_json
from ..errors import OptionError
from ..inputs import read_text
from .recipe import Recipe, RecipeOption, expected_like, fits

NAME = "recipe.json"


def read_recipe_file(path: Path) -> dict[str, Any]:
    """The fields that a recipe file gives, as values of ``Recipe``.

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
        saved = Recipe.from_facts(content["recipe"]).to_dict()
        return {key: _value(path, key, value) for key, value in saved.items()}
    if not isinstance(content, dict):
        raise OptionError(f"the recipe {path} is not a table of options", "write one option per line: epochs = 40")
    names = _field_names()
    values = {}
    for key, value in content.items():
        name = names.get(key.replace("-", "_"))
        if name is None:
            known_names = ", ".join(sorted({one.replace("_", "-") for one in names}))
            raise OptionError(f"the recipe {path} has an unknown option {_shown(key)}", f"choose from {known_names}")
        values[name] = _value(path, name, value)
    return values


def _parse_toml(text: str) -> Mapping[str, Any]:
    try:
        parser = import_module("tomllib")
    except ModuleNotFoundError:  # Python 3.10
        parser = import_module("tomli")
    parsed: dict[str, Any] = parser.loads(text)
    return parsed


def _field_names() -> dict[str, str]:
    """Option name or field name → field name."""
    names = {}
    for one in fields(Recipe):
        option: RecipeOption = one.metadata["option"]
        names[one.name] = names[option.name.replace("-", "_") or one.name] = one.name
    return names


def _value(path: Path, name: str, given: Any) -> Any:
    """The value as the field has it, or ``OptionError``."""
    default, value = getattr(Recipe(), name), given
    if name == "crop_hw" and isinstance(value, str):
        sides = value.lower().split("x")
        value = (
            [int(side) for side in sides] if len(sides) == 2 and all(is_whole_number(side) for side in sides) else value
        )
    if name == "freeze" and isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    value = tuple(value) if isinstance(value, list) else value
    if not fits(value, default):
        raise OptionError(f"{name} in the recipe {path} is {_shown(given)}", f"give {expected_like(default)}")
    return tuple(map(type(default[0]), value)) if isinstance(default, tuple) and default else type(default)(value)


def _shown(value: Any) -> str:
    try:
        return f"{value!r:.60}"
    except (ValueError, RecursionError):  # a number of thousands of digits, or lists in lists
        return "too long to show"
