"""What the documentation site takes from elsewhere: README as its first page, and a page of every command's help.

MkDocs calls these functions; see https://www.mkdocs.org/user-guide/configuration/#hooks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made while building."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    home = readme.replace("](docs/", "](")
    for outside in ("CONTRIBUTING.md", "CHANGELOG.md"):
        home = home.replace(f"[{outside.split('.')[0].title()}]({outside})", f"`{outside}`")
    files.append(File.generated(config, "index.md", content=home))
    files.append(File.generated(config, "commands.md", content=command_reference()))
    return files


def command_reference() -> str:
    """Every command with its options, as Markdown, from the commands themselves."""
    from pspnet_edge.cli.main import app

    root = typer.main.get_command(app)
    lines = ["# Every command", "", "Made from the commands' own `--help`.", ""]
    lines += [text for name, command in commands_below(root, "pspnet-edge") for text in described(name, command)]
    return "\n".join(lines)


def commands_below(command: Any, name: str) -> list[tuple[str, Any]]:
    """The commands of a group and of its groups, with their whole names."""
    if not hasattr(command, "commands"):
        return [(name, command)]
    return [found for key, child in command.commands.items() for found in commands_below(child, f"{name} {key}")]


def described(name: str, command: Any) -> list[str]:
    """The section of one command."""
    lines = [f"## {name.removeprefix('pspnet-edge ')}", "", (command.help or "").replace("\b", "").strip(), ""]
    lines += ["| argument or option | meaning | default |", "|---|---|---|"]
    for parameter in command.params:
        if parameter.name == "help" or getattr(parameter, "hidden", False):
            continue
        spelled = ", ".join(parameter.opts) if parameter.param_type_name == "option" else ""
        metavar = parameter.metavar or ""
        if not metavar and not getattr(parameter, "is_flag", False):
            metavar = parameter.name.upper()
        meaning = " ".join((getattr(parameter, "help", None) or "").split())
        default = parameter.default
        shown = "" if default is None or default is False or callable(default) else f"`{default}`"
        cells = [f"`{' '.join(part for part in (spelled, metavar) if part)}`", meaning, shown]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return [*lines, ""]
