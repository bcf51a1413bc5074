"""The base install for a board out of wheels alone.

pip's own ``--platform`` chooses files for another machine and evaluates markers for the one it runs on. So the
requirements are followed here with their markers evaluated for the board, and pip only fetches.
"""

from __future__ import annotations

import email
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PLATFORMS = ["manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in (17, 26, 27, 28))]
BOARDS = {"JetPack 6": ("3.10.12", "1.21.5"), "JetPack 7": ("3.12.3", "1.26.4")}
"""Python and the NumPy of its Ubuntu, which setup.sh holds pip to."""
SYSTEMS = {
    "Ubuntu 22.04": ("3.10.12", "1.21.5"),
    "Debian 12": ("3.11.2", "1.24.2"),
    "Ubuntu 24.04": ("3.12.3", "1.26.4"),
}
"""Python and NumPy of Arm systems whose OpenCV was compiled against NumPy 1."""


def board_environment(python: str) -> dict[str, str]:
    return {
        "implementation_name": "cpython",
        "implementation_version": python,
        "os_name": "posix",
        "platform_machine": "aarch64",
        "platform_python_implementation": "CPython",
        "platform_release": "5.15.148-tegra",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": python,
        "python_version": python.rpartition(".")[0],
        "sys_platform": "linux",
    }


class Wheels:
    """Wheels for a board, and what each of them needs there."""

    def __init__(self, folder: Path, python: str, held: dict[str, str]) -> None:
        self._folder, self._environment, self._held = folder, board_environment(python), held
        self.wanted: dict[str, SpecifierSet] = {}
        self.found: dict[str, Path] = {}

    def need(self, requirements: list[str], extras: set[str]) -> None:
        """Add requirements whose markers hold on the board, and what they need in turn."""
        for requirement in map(Requirement, requirements):
            environments = [self._environment | {"extra": extra} for extra in (extras or {""})]
            if requirement.marker and not any(map(requirement.marker.evaluate, environments)):
                continue
            name = canonicalize_name(requirement.name)
            before = self.wanted.get(name)
            if before is None:
                self.wanted[name] = requirement.specifier
            else:
                self.wanted[name] = before & requirement.specifier
            if self.wanted[name] != before or requirement.extras:
                self._take(name, requirement.extras)

    def _take(self, name: str, extras: set[str]) -> None:
        if name in self._held:
            assert self.wanted[name].contains(self._held[name]), (name, self.wanted[name])
            return
        while name not in self.found or version_of(self.found[name]) not in self.wanted[name]:
            self.found[name] = download(f"{name}{self.wanted[name]}", self._folder / name, self._environment)
            if not self._fits_what_is_held(self.found[name]):
                # As pip does, given the same constraints: try the release before.
                self.wanted[name] &= SpecifierSet(f"!={version_of(self.found[name])}")
        self.need(requires(self.found[name]), extras)

    def _fits_what_is_held(self, wheel: Path) -> bool:
        return all(
            self._held[name] in requirement.specifier
            for requirement in map(Requirement, requires(wheel))
            if (name := canonicalize_name(requirement.name)) in self._held
            and (not requirement.marker or requirement.marker.evaluate(self._environment | {"extra": ""}))
        )


def download(requirement: str, folder: Path, environment: dict[str, str]) -> Path:
    """Fetch one wheel for the board. Its file's name must say that it is one for aarch64, or for any machine."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "-d",
        str(folder),
    ]
    command += ["--python-version", environment["python_full_version"], "--implementation", "cp"]
    command += [word for platform in PLATFORMS for word in ("--platform", platform)] + [requirement]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{requirement}: {done.stderr}"
    wheel = max(folder.glob("*.whl"), key=lambda path: path.stat().st_mtime_ns)
    platforms = {tag.platform for tag in parse_wheel_filename(wheel.name)[3]}
    assert platforms == {"any"} or all(platform.endswith("_aarch64") for platform in platforms)
    return wheel


def version_of(wheel: Path) -> Version:
    return parse_wheel_filename(wheel.name)[1]


def requires(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name)).get_all("Requires-Dist", [])


@pytest.fixture(scope="module")
def our_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.mark.slow
@pytest.mark.parametrize("name", BOARDS)
def test_a_board_needs_nothing_but_wheels(our_wheel: Path, tmp_path: Path, name: str) -> None:
    python, numpy = BOARDS[name]
    wheels = Wheels(tmp_path, python, {"numpy": numpy})
    wheels.need(requires(our_wheel), {"", "web", "report"})
    assert {"onnx", "protobuf", "rich", "typer", "aiohttp", "jinja2", "matplotlib"} <= wheels.found.keys()
    # JetPack's own must stay.
    assert not any("opencv" in found or found == "numpy" for found in wheels.found)
    for found, specifier in wheels.wanted.items():
        version = numpy if found == "numpy" else version_of(wheels.found[found])
        assert specifier.contains(version), (found, specifier, version)


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_pip_brings_no_numpy_that_breaks_the_systems_opencv(our_wheel: Path, name: str) -> None:
    python, numpy = SYSTEMS[name]
    environment = board_environment(python) | {"extra": ""}
    allowed = [
        requirement.specifier
        for requirement in map(Requirement, requires(our_wheel))
        if requirement.name == "numpy" and (not requirement.marker or requirement.marker.evaluate(environment))
    ]
    assert len(allowed) == 1
    assert allowed[0].contains(numpy)
    assert allowed[0].contains("1.26.4")
    assert not allowed[0].contains("2.0.0")


@pytest.mark.slow
def test_what_has_no_wheel_is_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="pycuda"):
        Wheels(tmp_path, "3.10.12", {}).need(["pycuda>=2025.1.2"], set())


def test_what_does_not_fit_jetpacks_numpy_is_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="numpy"):
        Wheels(tmp_path, "3.10.12", {"numpy": "1.21.5"}).need(["numpy>=1.23.2"], set())


def test_markers_are_those_of_the_board(tmp_path: Path) -> None:
    wheels = Wheels(tmp_path, "3.10.12", {"numpy": "1.21.5"})
    wheels.need(["opencv-python; platform_machine != 'aarch64'", "numpy; python_version < '3.11'"], set())
    assert wheels.wanted.keys() == {"numpy"}
