"""A planted slow-down is found and noise is not: on made-up rounds whose noise is that of small shared machines."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from pspnet_edge.report.compare import compare, faster_half, precedence, shift, usual_range

ROWS, ROUNDS = 18, 7
Rounds = tuple[np.ndarray, np.ndarray]


def drifting(rng: np.random.Generator) -> Callable[[], Rounds]:
    """A machine a few percent faster or slower from run to run and from round to round; the reference sees most of it.

    Each engine has its own noise, and now and then a round that something else disturbed.
    """
    machine = rng.normal(0, 0.03) + rng.normal(0, 0.02, ROUNDS)

    def rounds() -> Rounds:
        own = rng.normal(0, 0.02, ROUNDS) + (rng.random(ROUNDS) < 0.05) * rng.uniform(0.1, 0.4, ROUNDS)
        return np.exp(machine + own), np.exp(0.8 * machine + rng.normal(0, 0.01, ROUNDS))

    return rounds


def crowded(rng: np.random.Generator) -> Callable[[], Rounds]:
    """A machine on which every fifth round is a quarter to two thirds slower, for reasons that no reference sees.

    So two cores of a shared server were, with convolutions in AVX-512 and a reference without.
    """
    drift = rng.normal(0, 0.007)

    def rounds() -> Rounds:
        slow = (rng.random(ROUNDS) < 0.2) * rng.uniform(0.22, 0.5, ROUNDS)
        return np.exp(drift + slow + np.abs(rng.normal(0, 0.012, ROUNDS))), np.exp(rng.normal(0, 0.04, ROUNDS))

    return rounds


def run_of_benchmark(
    rng: np.random.Generator,
    *,
    slow: dict[int, float] | None = None,
    machine: Callable[[np.random.Generator], Callable[[], Rounds]] = drifting,
) -> dict[str, Any]:
    """A report of one run on a noisy machine; ``slow``: row → by what share it is slower."""
    rows = []
    draw = machine(rng)
    for index in range(ROWS):
        row: dict[str, Any] = {"id": f"row{index}", "model": "m", "size": "1x1", "precision": str(index)}
        row |= {"runtime": "openvino", "miou": 0.66, "agreement": None, "engine_bytes": 1, "peak_memory_bytes": 1}
        scopes = {}
        for scope, base in (("engine", 8.0 + 3 * index), ("loop", 10.0 + 3 * index)):
            own, reference = draw()
            times = base * (1 + (slow or {}).get(index, 0.0)) * own
            scopes[scope] = {
                "rounds_ms": (1.03 * times).tolist(),
                "reference_ms": (1.6 * reference).tolist(),
                "undisturbed_rounds_ms": times.tolist(),
                "undisturbed_reference_ms": (1.5 * reference).tolist(),
                "latency_ms": {"p50": float(np.median(times))},
            }
        rows.append({**row, **scopes["engine"], "loop": scopes["loop"]})
    return {"rows": rows, "environment": {"processor": "p", "cores": 2}}


@pytest.mark.parametrize("machine", [drifting, crowded])
def test_two_runs_of_the_same_thing_are_silent_nine_times_of_ten(machine) -> None:
    rng = np.random.default_rng(0)
    pairs = [(run_of_benchmark(rng, machine=machine), run_of_benchmark(rng, machine=machine)) for _ in range(100)]
    assert sum(bool(compare(*pair, "old")["changes"]) for pair in pairs) <= 10


@pytest.mark.parametrize("machine", [drifting, crowded])
@pytest.mark.parametrize("slow", [{4: 0.10}, dict.fromkeys(range(ROWS), 0.10)], ids=["one engine", "every engine"])
def test_a_slow_down_of_a_tenth_is_found_nine_times_of_ten(slow: dict[int, float], machine) -> None:
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(60):
        before, after = run_of_benchmark(rng, machine=machine), run_of_benchmark(rng, slow=slow, machine=machine)
        result = compare(before, after, "old")
        worse = {change["row"] for change in result["changes"] if change["worse"]}
        found += result["regressed"] and bool(worse & {f"row{index}" for index in slow})
    assert found >= 54


def test_a_report_with_medians_alone_is_compared_by_them() -> None:
    rng = np.random.default_rng(8)
    old, new = run_of_benchmark(rng), run_of_benchmark(rng, slow={3: 0.25})
    for row in old["rows"]:
        for scope in (row, row["loop"]):
            del scope["undisturbed_rounds_ms"], scope["undisturbed_reference_ms"]
    result = compare(old, new, "old")
    assert {change["row"] for change in result["changes"]} == {"row3"}
    assert result["regressed"]


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
            for name in ("rounds_ms", "reference_ms"):
                scope[f"undisturbed_{name}"] = [1.3 * value for value in scope[f"undisturbed_{name}"]]
    result = compare(old, new, "old")
    assert result["changes"] == []
    assert "The machine itself: its reference workload took 30.0% more time" in result["lines"][0]


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
            for name in ("undisturbed_rounds_ms", "undisturbed_reference_ms"):
                scope[name] = scope[name][:3]
    assert "give --rounds 7" in "\n".join(compare(old, copy.deepcopy(old), "old")["lines"])


def test_the_precedence_test_is_exact() -> None:
    """Against counting every order of two small samples."""
    orders = {tuple(sorted(order[:4])) for order in permutations(range(7))}

    def leading(chosen: tuple[int, ...]) -> int:
        return min(value for value in range(8) if value not in chosen)

    for count in (1, 2, 3, 4):
        first = [*range(count), *(10 + value for value in range(4 - count))]
        second = [5.0, 6.0, 7.0]
        expected = sum(leading(order) >= count for order in orders) / len(orders)
        assert precedence(first, second) == pytest.approx(min(1, 2 * expected))
        assert precedence(second, first) == precedence(first, second)
    assert precedence([1, 1], [1, 1]) == 1.0


def test_slow_rounds_are_left_out() -> None:
    assert faster_half([3, 1, 9, 2, 8]) == [1, 2, 3]
    assert usual_range([[10, 11, 99], [10, 11, 12], [10, 20, 20]]) == pytest.approx(np.log(1.1))


def test_shift_ignores_one_bad_round() -> None:
    assert shift([10, 10, 10], [11, 11, 99]) == pytest.approx(0.1)
