"""``pspnet-edge models``: what ships with the package."""

from __future__ import annotations

import typer

from ..records import counted
from .output import JsonFlag, result


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("models")(models)


def models(as_json: JsonFlag = False) -> None:
    """List the bundled models."""
    from .. import bundled
    from ..artifact import sha256_of
    from ..graph.onnx_file import read_model

    rows: list[dict[str, object]] = []
    lines = []
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
        lines.append(
            f"{name}{' (default)' if name == bundled.DEFAULT else ''}: {model.preset} for {model.label_set.name}, "
            f"{model.shape_nhw[1]}×{model.shape_nhw[2]}, {counted(len(model.label_set), 'class', 'classes')}, "
            f"card in {bundled.card_path(name)}"
        )
    result({"models": rows}, as_json, "\n".join(lines))
