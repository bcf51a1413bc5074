from __future__ import annotations

import json
import subprocess
import sys


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pspnet_edge", "plan", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_plan_prints_one_json_object_and_the_swapped_camera_size_is_said() -> None:
    done = run("--board", "orin-nano", "--fps", "30", "--camera", "1280x720", "--cameras", "2", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["camera"] == "720x1280"
    assert facts["choice"]["fps"] >= 30
    assert "taking 1280x720 as 720x1280" in done.stderr


def test_plan_says_in_words_what_to_run() -> None:
    done = run("--board", "thor", "--fps", "60")
    assert done.returncode == 0, done.stderr
    assert "pspnet-edge build pspnet_" in done.stdout
    assert "error bar" in done.stdout


def test_a_wrong_board_is_one_sentence_that_names_the_option() -> None:
    done = run("--board", "orin-nan")
    assert done.returncode == 2
    assert done.stderr.startswith("pspnet-edge: --board: unknown board 'orin-nan': did you mean orin-nano")
    assert done.stderr.count("\n") == 1
