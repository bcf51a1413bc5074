"""The result as one page that can be sent: no script, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .4rem .6rem; vertical-align: top }
tr { border-bottom: 1px solid #ddd } .pass { color: #137333 } .fail { color: #b3261e; font-weight: bold }
.skip { color: #5f6368 } small { color: #5f6368 }
"""


def page(facts: Mapping[str, Any]) -> str:
    """HTML of what ``checks.report`` gave."""
    rows = "\n".join(_row(check) for check in facts["checks"])
    counts = f"{facts['pass']} passed, {facts['fail']} failed, {facts['skip']} were not tried"
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>pspnet-edge selftest</title><style>{_STYLE}</style>"
        f"<h1>pspnet-edge {escape(facts['pspnet_edge'])} selftest</h1><p>{counts}</p>"
        f"<table><tr><th>check<th>state<th>seen<th>seconds</tr>\n{rows}\n</table></html>\n"
    )


def _row(check: Mapping[str, Any]) -> str:
    figures = ", ".join(f"{name} {value}" for name, value in check["figures"].items())
    return (
        f"<tr><td>{escape(check['name'])}<td class={escape(check['state'])}>{escape(check['state'])}"
        f"<td>{escape(check['reason'])}<br><small>{escape(figures)}</small><td>{check['elapsed_s']:.1f}</tr>"
    )
