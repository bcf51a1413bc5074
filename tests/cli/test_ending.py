"""A signal ends a command with a sentence and 128 plus its number, whenever it comes."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pspnet_edge.cli.ending import Ended, end_on_signals

WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "ended by SIGTERM", signal.SIGHUP: "ended by SIGHUP"}
# The signal comes when a package that the command line needs is imported, or when the command has begun.
WHILE_LOADING = """
import os, signal, sys
signal.signal({number}, signal.SIG_DFL)  # which nohup and `&` ignore
def look(event, arguments):
    if event == "import" and arguments[0] == {module!r}:
        os.kill(os.getpid(), {number})
sys.addaudithook(look)
sys.argv = ["pspnet-edge", "models", "--json"]
from pspnet_edge.__main__ import main
main()
"""


@pytest.mark.parametrize("number", WORDS)
@pytest.mark.parametrize("module", ["typer", "pspnet_edge.bundled"])
def test_a_signal_while_it_is_loaded(number: signal.Signals, module: str) -> None:
    code = WHILE_LOADING.format(module=module, number=int(number))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (128 + number, f"pspnet-edge: {WORDS[number]}\n")


def test_a_second_signal_does_not_disturb_the_cleaning_up() -> None:
    before = signal.getsignal(signal.SIGTERM)
    cleaned = False

    def work() -> None:
        nonlocal cleaned
        with end_on_signals():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                os.kill(os.getpid(), signal.SIGINT)
                cleaned = True

    with pytest.raises(Ended) as ended:
        work()
    assert cleaned
    assert (ended.value.status, ended.value.words) == (143, "ended by SIGTERM")
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with end_on_signals():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_result_that_cannot_be_printed_is_one_sentence(tmp_path: Path, options: list[str]) -> None:
    device = tmp_path / "full"
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 7))
    except PermissionError:
        pytest.skip("this user may not make device nodes")
    with device.open("w") as full:
        command = [sys.executable, "-m", "pspnet_edge", "models", *options]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        "pspnet-edge: the result cannot be printed (No space left on device): send stdout elsewhere\n"
    )


def test_a_working_folder_that_is_gone_is_one_sentence(tmp_path: Path) -> None:
    code = "import os; os.rmdir(os.getcwd()); from pspnet_edge.__main__ import main; main()"
    command = [sys.executable, "-c", code, "data", "split", "folder", "--root", "flat"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "pspnet-edge: the working folder is gone: change to another one\n"
