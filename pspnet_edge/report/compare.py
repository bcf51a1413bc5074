"""What changed between two reports beyond noise.

Each round of a benchmark is a fresh process, so the medians of its rounds are independent draws, with everything in
their spread that one run of the same thing has against another. Of two sets of them the shift is taken (Hodges and
Lehmann), which one bad round does not move. It counts when it is

- larger than the noise of the whole report explains, at 5 % over all its figures together (Bonferroni). The noise is
  that of all engines, or of this one where it has more: from seven rounds alone no engine's is known well;
- sure by the exact rank test (Mann and Whitney), which asks nothing of any distribution;
- at least 5 %.

A machine may be slower as a whole in one run than in the other. Beside every engine a fixed reference workload was
timed, so each round has its time in milliseconds and its time in units of the reference. Units of the reference are
taken unless they are noisier than milliseconds (as for an engine on a GPU, which shares nothing with the reference) or
numpy, which computes it, is of another version. Milliseconds must have moved in the same direction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import product
from statistics import NormalDist
from typing import Any

import numpy as np

SIGNIFICANCE = 0.05
"""Of the whole report."""
RANK_SIGNIFICANCE = 0.01
"""Of one figure by the rank test."""
LEAST_CHANGE = 0.05
"""Of latency: a smaller change is not worth a failed build, however sure it is."""
LEAST_MIOU = 0.001
"""The mIoU of one engine does not vary from run to run; of two builds it may in the fourth place."""
_SAME_MACHINE = ("board", "module", "power_mode", "processor", "cores")
_IDENTITY = ("model", "size", "precision", "runtime")


def compare(old: dict[str, Any], new: dict[str, Any], old_name: str) -> dict[str, Any]:
    """Hold a report against an older one, row by row.

    Returns:
        ``old``: its name; ``changes``: a list of facts, each with ``row``, ``what``, ``change`` and ``worse``;
        ``lines`` for people; ``regressed``: whether latency, mIoU or agreement became worse beyond noise.
    """
    pairs = _pairs(old, new)
    changes: list[dict[str, Any]] = []
    lines: list[str] = []
    moved = [name for name in _SAME_MACHINE if old["environment"].get(name) != new["environment"].get(name)]
    if moved:
        lines.append(f"- Made on another machine or setting ({', '.join(moved)} differ), so times are not compared.")
    else:
        numpy = [side["environment"].get("packages", {}).get("numpy") for side in (old, new)]
        changes += _latency_changes(pairs, numpy[0] == numpy[1], lines)
    changes += _quality_changes(pairs)
    lines += [_line(change) for change in changes]
    lines += _size_lines(pairs)
    known = {_key(row) for row in old["rows"]}
    missing = [row["id"] for row in old["rows"] if _key(row) not in {_key(row) for row in new["rows"]}]
    fresh = [row["id"] for row in new["rows"] if _key(row) not in known]
    for names, what in ((missing, "Only in the old report"), (fresh, "Only in this one")):
        if names:
            lines.append(f"- {what}: {', '.join(names)}.")
    if not changes:
        lines.append(f"- Nothing changed beyond noise in {len(pairs)} rows.")
    return {
        "old": old_name,
        "rows": len(pairs),
        "changes": changes,
        "lines": lines,
        "regressed": any(change["worse"] for change in changes),
    }


def mann_whitney(first: Sequence[float], second: Sequence[float]) -> float:
    """The exact two-sided probability that two samples of one distribution differ so much in rank.

    Ties count half. The distribution of U is counted by its recurrence (Mann and Whitney, 1947).
    """
    larger = sum((a > b) + 0.5 * (a == b) for a, b in product(first, second))
    m, n = len(first), len(second)
    extreme = int(min(larger, m * n - larger))
    counts = [_ways(m, n, u) for u in range(m * n + 1)]
    return min(1.0, 2 * sum(counts[: extreme + 1]) / sum(counts))


def shift(first: Sequence[float], second: Sequence[float]) -> float:
    """By what share ``second`` is larger: the median of all pairs' ratios (Hodges and Lehmann, 1963), less one."""
    ratios = np.asarray(second)[None, :] / np.asarray(first)[:, None]
    return float(np.median(ratios)) - 1


@cache
def _ways(m: int, n: int, u: int) -> int:
    """In how many orders of ``m`` and ``n`` things U is ``u``."""
    if u < 0:
        return 0
    if m == 0 or n == 0:
        return int(u == 0)
    return _ways(m - 1, n, u - n) + _ways(m, n - 1, u)


def _latency_changes(
    pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]], same_reference: bool, lines: list[str]
) -> list[dict[str, Any]]:
    figures = [
        _Figure(after["id"], scope, old, new)
        for before, after in pairs
        for scope, old, new in (("engine", before, after), ("loop", before["loop"], after["loop"]))
        if old and new
    ]
    if not figures:
        return []
    drift = float(np.median([shift(figure.old["reference_ms"], figure.new["reference_ms"]) for figure in figures]))
    if abs(drift) >= 0.02:
        lines.append(
            f"- The machine itself: its reference workload took {drift:+.1%} time; "
            "times are compared in units of it where that is less noisy."
        )
    if any(figure.least_p > RANK_SIGNIFICANCE for figure in figures):
        lines.append("- So few rounds cannot show a change of latency: give --rounds 7.")
    limit = NormalDist().inv_cdf(1 - SIGNIFICANCE / (2 * len(figures)))
    noises = [pooled_noise([figure.sides[unit] for figure in figures]) for unit in (_PLAIN, _BESIDE)]
    unit = _BESIDE if same_reference and noises[_BESIDE] <= 1.1 * noises[_PLAIN] else _PLAIN
    return [figure.facts(unit) for figure in figures if figure.changed(unit, noises[unit], limit)]


_PLAIN, _BESIDE = 0, 1
"""Rounds in milliseconds, and in units of the reference."""


class _Figure:
    """The latency of one engine in one scope, in both runs."""

    def __init__(self, row: str, scope: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        self.row, self.scope, self.old, self.new = row, scope, old, new
        self.sides = [
            (old["rounds_ms"], new["rounds_ms"]),
            (_beside_reference(old), _beside_reference(new)),
        ]
        """Rounds of both runs, by unit."""
        m, n = len(old["rounds_ms"]), len(new["rounds_ms"])
        self.least_p = 2 / math.comb(m + n, m)
        self._scale = _SPREAD_OF_SHIFT * math.sqrt(1 / m + 1 / n)

    def changed(self, unit: int, noise: float, limit: float) -> bool:
        """Whether the shift is large, beyond the noise, and of one direction in both units."""
        side = self.sides[unit]
        change = shift(*side)
        if abs(change) < LEAST_CHANGE or change * shift(*self.sides[1 - unit]) <= 0:
            return False
        error = self._scale * max(noise, pooled_noise([side]))
        return abs(math.log1p(change)) >= limit * error and mann_whitney(*side) <= RANK_SIGNIFICANCE

    def facts(self, unit: int) -> dict[str, Any]:
        change = shift(*self.sides[unit])
        return {
            "row": self.row,
            "what": f"{self.scope} p50",
            "change": round(change, 4),
            "worse": change > 0,
            "old": self.old["latency_ms"]["p50"],
            "new": self.new["latency_ms"]["p50"],
            "p": round(mann_whitney(*self.sides[unit]), 6),
        }


_SPREAD_OF_SHIFT = 1.1
"""The standard error of the shift, in those of a difference of means of Gaussian samples."""
_CENTRED = 1.2
"""The spread of about seven values around their own median is so much smaller than around the true one."""


def pooled_noise(sides: Sequence[tuple[Sequence[float], Sequence[float]]]) -> float:
    """The standard deviation of the logarithms of rounds within runs, by the median absolute deviation; never zero."""
    deviations = [
        np.abs(np.log(rounds) - np.median(np.log(rounds))) for side in sides for rounds in map(np.asarray, side)
    ]
    return max(1.4826 * _CENTRED * float(np.median(np.concatenate(deviations))), 1e-4)


def _beside_reference(side: dict[str, Any]) -> list[float]:
    return [time / reference for time, reference in zip(side["rounds_ms"], side["reference_ms"])]


def _quality_changes(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> list[dict[str, Any]]:
    found = []
    for before, after in pairs:
        for what in ("miou", "agreement"):
            old, new = before[what], after[what]
            if old is not None and new is not None and abs(new - old) >= LEAST_MIOU:
                change = {"row": after["id"], "what": what, "change": round(new - old, 5), "worse": new < old}
                found.append({**change, "old": old, "new": new})
    return found


def _size_lines(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> list[str]:
    """What is worth a word and no failed build."""
    lines = []
    for before, after in pairs:
        for what, words, least in (("engine_bytes", "engine size", 0.05), ("peak_memory_bytes", "peak memory", 0.15)):
            change = after[what] / before[what] - 1 if before[what] else 0.0
            if abs(change) >= least:
                lines.append(f"- {after['id']}: {words} {change:+.1%}.")
    return lines


def _line(change: dict[str, Any]) -> str:
    if change["what"] in ("miou", "agreement"):
        words = f"{change['what']} {change['old']:.4f} → {change['new']:.4f} ({change['change']:+.4f})"
        return f"- {change['row']}: {words}, {'WORSE' if change['worse'] else 'better'}."
    words = f"{change['what']} {change['old']:.2f} → {change['new']:.2f} ms, by the test {change['change']:+.1%}"
    return f"- {change['row']}: {words}, {'SLOWER' if change['worse'] else 'faster'}."


def _pairs(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    before = {_key(row): row for row in old["rows"]}
    return [(before[_key(row)], row) for row in new["rows"] if _key(row) in before]


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in _IDENTITY)
