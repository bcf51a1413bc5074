"""Command-line options made from the fields of a recipe, and the recipe that they, a file and the defaults give."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, replace
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from ..train.recipe import Panel, Recipe, RecipeOption, option_name, qat_defaults
from .options import parse_size

_SIZES = {"crop_hw": "--crop", "size_hw": "--size"}
_PANELS = (None, *get_args(Panel))


def with_recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add one option per field of ``Recipe`` to a command, which gets those that were given as ``recipe_values``."""
    signature = inspect.signature(command, eval_str=True)
    own = [
        entry.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, entry in signature.parameters.items()
        if name != "recipe_values"
    ]
    names = {one.name for one in fields(Recipe)}

    def run(**values: Any) -> Any:
        given = {name: values.pop(name) for name in names}
        chosen = {name: _from_text(name, value) for name, value in given.items() if value is not None}
        return command(recipe_values=chosen, **values)

    hints = get_type_hints(Recipe)
    options = [_parameter(one, hints[one.name]) for one in fields(Recipe)]
    # Typer shows panels in the order in which they first occur.
    first = [entry for entry in options if _panel(entry) is None]
    rest = own + [entry for entry in options if _panel(entry) is not None]
    ordered = first + sorted(rest, key=lambda entry: _PANELS.index(_panel(entry)))
    run.__signature__ = signature.replace(parameters=ordered)  # type: ignore[attr-defined]
    run.__annotations__ = {entry.name: entry.annotation for entry in ordered}
    run.__doc__ = command.__doc__
    return run


def build_recipe(file_values: Mapping[str, Any], given: Mapping[str, Any], base: Recipe | None = None) -> Recipe:
    """The recipe of a command line: options over the file's values over the defaults, or over ``base``."""
    values = dict(file_values) | dict(given)
    if base is None:
        base = qat_defaults(Recipe()) if values.get("qat") else Recipe()
    return replace(base, **values)


def _parameter(one: Field[Any], hint: Any) -> inspect.Parameter:
    option: RecipeOption = one.metadata["option"]
    kind: Any = hint
    metavar = option.metavar or {int: "N", float: "X", str: "NAME"}.get(hint)
    flag = f"--{option_name(one)}"
    if one.name in (*_SIZES, "freeze"):
        kind = str
    elif get_origin(hint) is not tuple and get_args(hint):  # Literal
        metavar, kind = "|".join(get_args(hint)), str
    declaration = f"{flag}/--no-{flag[2:]}" if kind is bool else flag
    limits = {} if kind not in (int, float) else {"min": _as(kind, option.minimum), "max": _as(kind, option.maximum)}
    typed = typer.Option(
        declaration,
        help=_help(one, option),
        metavar=metavar,
        rich_help_panel=option.panel,
        show_default=False,
        **limits,
    )
    return inspect.Parameter(
        one.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, typed]
    )


def _help(one: Field[Any], option: RecipeOption) -> str:
    assert one.default is not MISSING
    if one.default is False or one.default == ():
        return option.help
    if one.default is True:
        return f"{option.help} \\[default: on; turn off with --no-{option_name(one)}]"
    special = "; {} with --qat".format(f"{option.qat:f}".rstrip("0").rstrip(".")) if option.qat is not None else ""
    return f"{option.help} [default: {_shown(one.default)}{special}]".replace("[", "\\[")


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ("x" if isinstance(value[0], int) else " ").join(map(str, value))
    return str(value)


def _from_text(name: str, value: Any) -> Any:
    if name in _SIZES:
        return parse_size(value, _SIZES[name])
    if name == "freeze":
        return tuple(part for part in (entry.strip() for entry in value.split(",")) if part and part != "none")
    return value


def _panel(entry: inspect.Parameter) -> Any:
    panel = getattr(get_args(entry.annotation)[-1], "rich_help_panel", None)
    return panel if panel in _PANELS else None


def _as(kind: type, value: float | None) -> Any:
    return None if value is None else kind(value)
