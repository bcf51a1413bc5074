"""The notebook in docs/ is run cell by cell, as a reader would."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "python.ipynb"


def test_the_notebook_runs_and_keeps_no_output() -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="matplotlib comes with the report extra")
    pytest.importorskip("supervision", reason="supervision is not installed: pip install supervision")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    names: dict[str, object] = {}
    codes = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(codes) >= 8
    try:
        for number, cell in enumerate(codes):
            assert cell["outputs"] == []
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
        assert pyplot.get_fignums(), "it draws something"
    finally:
        pyplot.close("all")
    assert len(names["shares"]) == 30
