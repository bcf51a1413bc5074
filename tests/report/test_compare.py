"""A planted slow-down is found and noise is not: on made-up rounds whose noise is that of a small shared machine."""

from __future__ import annotations

import copy
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from pspnet_edge.report.compare import compare, mann_whitney, shift

ROWS, ROUNDS = 18, 7


def run_of_benchmark(rng: np.random.Generator, *, slow: dict[int, float] | None = None) -> dict[str, Any]:
    """A report of one run on a noisy machine.

    The whole machine is a few percent faster or slower from run to run, and again from round to round; the reference
    sees most of that. Each engine has noise of its own, and now and then a round that something else disturbed.
    """
    rows = []
    run_drift = rng.normal(0, 0.03)
    common = rng.normal(0, 0.02, ROUNDS)
    for index in range(ROWS):
        row: dict[str, Any] = {"id": f"row{index}", "model": "m", "size": "1x1", "precision": str(index)}
        row |= {"runtime": "openvino", "miou": 0.66, "agreement": None, "engine_bytes": 1, "peak_memory_bytes": 1}
        scopes = {}
        for scope, base in (("engine", 8.0 + 3 * index), ("loop", 10.0 + 3 * index)):
            machine = run_drift + common
            own = rng.normal(0, 0.02, ROUNDS) + (rng.random(ROUNDS) < 0.05) * rng.uniform(0.1, 0.4, ROUNDS)
            factor = 1 + (slow or {}).get(index, 0.0)
            times = base * factor * np.exp(machine + own)
            reference = 1.5 * np.exp(0.8 * machine + rng.normal(0, 0.01, ROUNDS))
            scopes[scope] = {
                "rounds_ms": times.tolist(),
                "reference_ms": reference.tolist(),
                "latency_ms": {"p50": float(np.median(times))},
            }
        rows.append({**row, **scopes["engine"], "loop": scopes["loop"]})
    return {"rows": rows, "environment": {"processor": "p", "cores": 2}}


def test_two_runs_of_the_same_thing_are_silent_nine_times_of_ten() -> None:
    rng = np.random.default_rng(0)
    alarms = sum(bool(compare(run_of_benchmark(rng), run_of_benchmark(rng), "old")["changes"]) for _ in range(100))
    assert alarms <= 10


@pytest.mark.parametrize("slow", [{4: 0.10}, dict.fromkeys(range(ROWS), 0.10)], ids=["one engine", "every engine"])
def test_a_slow_down_of_a_tenth_is_found_nine_times_of_ten(slow: dict[int, float]) -> None:
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(60):
        result = compare(run_of_benchmark(rng), run_of_benchmark(rng, slow=slow), "old")
        worse = {change["row"] for change in result["changes"] if change["worse"]}
        found += result["regressed"] and bool(worse & {f"row{index}" for index in slow})
    assert found >= 54


def test_a_speed_up_is_told_and_fails_nothing() -> None:
    rng = np.random.default_rng(2)
    result = compare(run_of_benchmark(rng), run_of_benchmark(rng, slow={3: -0.25}), "old")
    assert [(change["row"], change["worse"]) for change in result["changes"]] == [("row3", False)] * 2
    assert not result["regressed"]
    assert "faster" in "\n".join(result["lines"])


def test_a_machine_that_is_slower_as_a_whole_is_not_the_engines_doing() -> None:
    rng = np.random.default_rng(3)
    old = run_of_benchmark(rng)
    new = copy.deepcopy(old)
    for row in new["rows"]:
        for scope in (row, row["loop"]):
            scope["rounds_ms"] = [1.3 * value for value in scope["rounds_ms"]]
            scope["reference_ms"] = [1.3 * value for value in scope["reference_ms"]]
    result = compare(old, new, "old")
    assert result["changes"] == []
    assert "The machine itself: its reference workload took +30.0% time" in result["lines"][0]


def test_a_lost_point_of_miou_is_a_regression() -> None:
    old = run_of_benchmark(np.random.default_rng(4))
    new = copy.deepcopy(old)
    new["rows"][0]["miou"] -= 0.002
    new["rows"][1]["miou"] += 0.0005
    result = compare(old, new, "old")
    assert [change["row"] for change in result["changes"]] == ["row0"]
    assert result["regressed"]
    assert "miou 0.6600 → 0.6580 (-0.0020), WORSE" in "\n".join(result["lines"])


def test_another_machine_is_not_compared_in_time() -> None:
    rng = np.random.default_rng(5)
    old, new = run_of_benchmark(rng), run_of_benchmark(rng, slow=dict.fromkeys(range(ROWS), 1.0))
    new["environment"]["processor"] = "q"
    result = compare(old, new, "old")
    assert not result["regressed"]
    assert "another machine or setting (processor differ)" in result["lines"][0]


def test_rows_that_have_no_partner_are_named() -> None:
    old = run_of_benchmark(np.random.default_rng(6))
    new = copy.deepcopy(old)
    old["rows"].pop(0)
    new["rows"].pop()
    lines = "\n".join(compare(old, new, "old")["lines"])
    assert "Only in the old report: row17" in lines
    assert "Only in this one: row0" in lines


def test_too_few_rounds_are_said_to_be_too_few() -> None:
    old = run_of_benchmark(np.random.default_rng(7))
    for row in old["rows"]:
        for scope in (row, row["loop"]):
            scope["rounds_ms"], scope["reference_ms"] = scope["rounds_ms"][:3], scope["reference_ms"][:3]
    assert "give --rounds 7" in "\n".join(compare(old, copy.deepcopy(old), "old")["lines"])


def test_mann_whitney_is_exact() -> None:
    """Against counting every order of two small samples."""
    values = list(range(6))
    first = [0, 1, 3]
    second = [2, 4, 5]

    def u_of(chosen: tuple[int, ...]) -> int:
        rest = [value for value in values if value not in chosen]
        return sum(a > b for a in chosen for b in rest)

    orders = {tuple(sorted(order[:3])) for order in permutations(values)}
    seen = min(u_of(tuple(first)), 9 - u_of(tuple(first)))
    expected = sum(min(u_of(order), 9 - u_of(order)) <= seen for order in orders) / len(orders)
    assert mann_whitney(first, second) == pytest.approx(expected)
    assert mann_whitney([1, 1], [1, 1]) == 1.0


def test_shift_ignores_one_bad_round() -> None:
    assert shift([10, 10, 10], [11, 11, 99]) == pytest.approx(0.1)
