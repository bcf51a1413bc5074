"""``pspnet-edge models``: what ships with the package."""

from __future__ import annotations

from typing import Any

import typer

from .output import JsonFlag, result


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("models")(models)


def models(as_json: JsonFlag = False) -> None:
    """List the bundled models."""
    from .. import bundled
    from ..artifact import sha256_of
    from ..graph.onnx_file import read_model

    rows: list[dict[str, Any]] = []
    for name in bundled.names():
        path = bundled.onnx_path(name)
        model = read_model(path)
        rows.append(
            {
                "name": name,
                "default": name == bundled.DEFAULT,
                "network": model.preset,
                "label_set": model.label_set.name,
                "classes": list(model.label_set.classes),
                "input_hw": list(model.shape_nhw[1:]),
                "file": str(path),
                "file_bytes": path.stat().st_size,
                "sha256": sha256_of(path),
                "card": str(bundled.card_path(name)),
            }
        )
    lines = [
        f"{row['name']}{' (default)' if row['default'] else ''}: {row['network']} for {row['label_set']}, "
        f"{row['input_hw'][0]}×{row['input_hw'][1]}, {len(row['classes'])} classes, card in {row['card']}"
        for row in rows
    ]
    result({"models": rows}, as_json, "\n".join(lines))
