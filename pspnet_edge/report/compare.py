"""What changed between two reports beyond noise.

Each round of a benchmark is a fresh process, so its rounds are independent draws, with everything in their spread that
one run of the same thing has against another. What disturbs a round (a neighbour on the machine, an unlucky place in
memory) makes it slower, never faster, and often from its start to its end. So of each round the time that a tenth of
its frames stay below is taken, and of the rounds the faster half. Of two runs the shift is taken (Hodges and Lehmann,
of the faster halves). It counts when it is

- larger than the noise of the whole report explains, at 5 % over all its figures together (Bonferroni). The noise is
  the usual range of a faster half, or this engine's own where it has more: seven rounds tell neither well;
- sure by the exact precedence test, which asks nothing of any distribution and does not mind slow rounds: so many
  rounds of one run are faster than the fastest of the other;
- at least 5 %.

A machine may be slower as a whole in one run than in the other. Beside every engine a fixed reference workload was
timed, so each round has its time in milliseconds and its time in units of the reference. Units of the reference are
taken unless they are noisier than milliseconds (as for an engine on a GPU, which shares nothing with the reference) or
numpy, which computes it, is of another version. Milliseconds must have moved in the same direction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from ..records import counted
from .facts import Change, Comparison, Report, Row, Times

SIGNIFICANCE = 0.05
"""Of the whole report."""
PRECEDENCE_SIGNIFICANCE = 0.08
"""Of one figure by the precedence test: of seven rounds four have to be faster than all of the other run's."""
LEAST_CHANGE = 0.05
"""Of latency: a smaller change is not worth a failed build, however sure it is."""
LEAST_MIOU = 0.001
"""The mIoU of one engine does not vary from run to run; of two builds it may in the fourth place."""
_SAME_MACHINE = ("board", "module", "power_mode", "processor", "cores")


def compare(old: Report, new: Report, old_name: str) -> Comparison:
    """Compare a report with an older one, row by row.

    Returns:
        ``old``: its name; ``changes``: a list of facts, each with ``row``, ``what``, ``change`` and ``worse``;
        ``lines`` for people; ``regressed``: whether latency, mIoU or agreement became worse beyond noise.
    """
    pairs = _pairs(old, new)
    changes: list[Change] = []
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
        lines.append(f"- Nothing changed beyond noise in {counted(len(pairs), 'row')}.")
    return {
        "old": old_name,
        "rows": len(pairs),
        "changes": changes,
        "lines": lines,
        "regressed": any(change["worse"] for change in changes),
    }


def precedence(first: Sequence[float], second: Sequence[float]) -> float:
    """The exact two-sided probability that so many values of one sample lie below all of the other by chance.

    Source: L. S. Nelson, Tables for a Precedence Life Test, Technometrics 1963. A tie is not below.
    """
    return min(1.0, 2 * min(_first_by_chance(first, second), _first_by_chance(second, first)))


def shift(first: Sequence[float], second: Sequence[float]) -> float:
    """By what share ``second`` is larger: the median of all pairs' ratios (Hodges and Lehmann, 1963), less one."""
    ratios = np.asarray(second)[None, :] / np.asarray(first)[:, None]
    return float(np.median(ratios)) - 1


def faster_half(rounds: Sequence[float]) -> list[float]:
    """The faster half of the rounds, the middle one included."""
    return sorted(rounds)[: (len(rounds) + 1) // 2]


def _first_by_chance(leading: Sequence[float], following: Sequence[float]) -> float:
    """The probability that as many of ``leading`` as here, or more, come before all of ``following``."""
    count = sum(value < min(following) for value in leading)
    among = len(leading) + len(following)
    return math.comb(len(leading), count) / math.comb(among, count)


def _latency_changes(pairs: Sequence[tuple[Row, Row]], same_reference: bool, lines: list[str]) -> list[Change]:
    figures = [
        _Figure(after["id"], scope, old, new)
        for before, after in pairs
        for scope, old, new in (("engine", before, after), ("loop", before["loop"], after["loop"]))
        if old and new
    ]
    if not figures:
        return []
    drift = float(np.median([shift(*figure.references) for figure in figures]))
    if abs(drift) >= 0.02:
        lines.append(
            f"- The machine itself: its reference workload took {abs(drift):.1%} {'more' if drift > 0 else 'less'} "
            "time; times are compared in units of it where that is less noisy."
        )
    if any(figure.least_p > PRECEDENCE_SIGNIFICANCE for figure in figures):
        lines.append("- So few rounds cannot show a change of latency: give --rounds 7.")
    limit = NormalDist().inv_cdf(1 - SIGNIFICANCE / (2 * len(figures)))
    noises = [usual_range([run for figure in figures for run in figure.sides[unit]]) for unit in (_PLAIN, _BESIDE)]
    unit = _BESIDE if same_reference and noises[_BESIDE] <= 1.1 * noises[_PLAIN] else _PLAIN
    return [figure.facts(unit) for figure in figures if figure.changed(unit, noises[unit], limit)]


_PLAIN, _BESIDE = 0, 1
"""Rounds in milliseconds, and in units of the reference."""


class _Figure:
    """The latency of one engine in one scope, in both runs."""

    def __init__(self, row: str, scope: str, old: Times, new: Times) -> None:
        self.row, self.scope, self.old, self.new = row, scope, old, new
        # Older reports have only medians.
        if "undisturbed_rounds_ms" in old and "undisturbed_rounds_ms" in new:
            times = [side["undisturbed_rounds_ms"] for side in (old, new)]
            self.references = [side["undisturbed_reference_ms"] for side in (old, new)]
        else:
            times = [side["rounds_ms"] for side in (old, new)]
            self.references = [side["reference_ms"] for side in (old, new)]
        beside = [[time / unit for time, unit in zip(*rounds)] for rounds in zip(times, self.references)]
        self.sides = [times, beside]
        """Rounds of both runs, by unit."""
        m, n = map(len, times)
        self.least_p = precedence([0.0] * m, [1.0] * n)
        self._scale = _ERROR_OF_SHIFT * math.sqrt(1 / m + 1 / n)

    def change(self, unit: int) -> float:
        """By what share the faster half of the rounds takes longer."""
        return shift(*map(faster_half, self.sides[unit]))

    def changed(self, unit: int, noise: float, limit: float) -> bool:
        """Whether the shift is large, beyond the noise, and of one direction in both units."""
        change = self.change(unit)
        if abs(change) < LEAST_CHANGE or change * self.change(1 - unit) <= 0:
            return False
        error = self._scale * max(noise, usual_range(self.sides[unit]))
        return abs(math.log1p(change)) >= limit * error and precedence(*self.sides[unit]) <= PRECEDENCE_SIGNIFICANCE

    def facts(self, unit: int) -> Change:
        change = self.change(unit)
        return {
            "row": self.row,
            "what": f"{self.scope} p50",
            "change": round(change, 4),
            "worse": change > 0,
            "old": self.old["latency_ms"]["p50"],
            "new": self.new["latency_ms"]["p50"],
            "p": round(precedence(*self.sides[unit]), 6),
        }


_ERROR_OF_SHIFT = 1.0
"""The standard error of the shift in usual ranges, for Gaussian rounds: by simulation 0.9 for 7 rounds, 0.7 for 15."""


def usual_range(runs: Sequence[Sequence[float]]) -> float:
    """The median over runs of how far the logarithms of the faster half of their rounds reach; never zero."""
    ranges = [math.log(max(half) / min(half)) for half in map(faster_half, runs)]
    return max(float(np.median(ranges)), 1e-4)


def _quality_changes(pairs: Sequence[tuple[Row, Row]]) -> list[Change]:
    found: list[Change] = []
    for before, after in pairs:
        for what, old, new in (
            ("miou", before["miou"], after["miou"]),
            ("agreement", before["agreement"], after["agreement"]),
        ):
            if old is not None and new is not None and abs(new - old) >= LEAST_MIOU:
                moved = round(new - old, 5)
                found.append(
                    {"row": after["id"], "what": what, "change": moved, "worse": new < old, "old": old, "new": new}
                )
    return found


def _size_lines(pairs: Sequence[tuple[Row, Row]]) -> list[str]:
    """What is worth a word and no failed build."""
    lines = []
    for before, after in pairs:
        for old, new, words, least in (
            (before["engine_bytes"], after["engine_bytes"], "engine size", 0.05),
            (before["peak_memory_bytes"], after["peak_memory_bytes"], "peak memory", 0.15),
        ):
            change = new / old - 1 if old else 0.0
            if abs(change) >= least:
                lines.append(f"- {after['id']}: {words} {change:+.1%}.")
    return lines


def _line(change: Change) -> str:
    if change["what"] in ("miou", "agreement"):
        words = f"{change['what']} {change['old']:.4f} → {change['new']:.4f} ({change['change']:+.4f})"
        return f"- {change['row']}: {words}, {'WORSE' if change['worse'] else 'better'}."
    words = f"{change['what']} {change['old']:.2f} → {change['new']:.2f} ms, by the test {change['change']:+.1%}"
    return f"- {change['row']}: {words}, {'SLOWER' if change['worse'] else 'faster'}."


def _pairs(old: Report, new: Report) -> list[tuple[Row, Row]]:
    before = {_key(row): row for row in old["rows"]}
    return [(before[_key(row)], row) for row in new["rows"] if _key(row) in before]


def _key(row: Row) -> tuple[str, ...]:
    return row["model"], row["size"], row["precision"], row["runtime"]
