"""One board over the system's ssh: files copied once and resumed, commands run, their JSON read.

ssh joins its arguments and hands them to a shell on the board, so every word of a remote command is quoted. Host keys,
jump hosts and keys are as the user's ssh configuration says; nothing is asked and no host key is accepted silently.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..artifact import sha256_of
from ..document import Anything as AnyShape
from ..document import Unfit, check_value, parse_json
from ..errors import DeployError, OptionError

_TARGET = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]{0,63})@)?"
    r"(?P<host>[A-Za-z0-9][A-Za-z0-9._-]{0,252}|\[[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9._-]{1,16})?\])"
    r"(?::(?P<port>\d{1,5}))?"
)
INCOMING = ".cache/pspnet-edge/incoming"
"""Below the home of the user on the board."""
_QUICK_S = 120.0
_CHUNK_BYTES = 1 << 20
_MOST_JSON_BYTES = 4 << 20
_RECEIVED = 'if [ -f "$1" ]; then sha256sum < "$1"; fi; if [ -f "$1.part" ]; then wc -c < "$1.part"; fi'
_RECEIVE = 'umask 077; mkdir -p "$(dirname "$1")" && cat >> "$1.part"'
_FINISH = (
    'sum=$(sha256sum < "$1.part") && '
    'if [ "${sum%% *}" = "$2" ]; then mv -f "$1.part" "$1" && echo whole; else rm -f "$1.part"; fi'
)
_KEEP_ONLY = 'for place in "$(dirname "$1")"/*.pspnet*; do [ "$place" = "$1" ] || rm -f "$place"; done'
_FIND = (
    'for place in pspnet-edge "$HOME/pspnet-edge/bin/pspnet-edge" /opt/pspnet-edge/bin/pspnet-edge; do '
    'if command -v "$place" >/dev/null 2>&1; then exec "$place" "$@"; fi; done; '
    "echo 'pspnet-edge: it is not installed here' >&2; exit 127"
)
_PIP = 'exec "$(dirname "$1")/python" -m pip install --quiet --no-index --find-links "$2" --upgrade "$3"'


@dataclass(frozen=True)
class Target:
    """Where a board is and what is called there."""

    host: str
    """Without user, as ssh takes it; an alias of the ssh configuration too."""
    user: str | None = None
    port: int | None = None
    name: str = ""
    command: str | None = None
    """Of pspnet-edge on the board, relative to the user's home; None looks in the usual places."""
    home: str | None = None
    """``--home`` on the board."""
    pack: Path | None = None
    """Another pack than the others get."""
    identity: Path | None = None

    @property
    def title(self) -> str:
        """What tables and errors call it."""
        return self.name or (f"{self.user}@" if self.user else "") + self.host + (f":{self.port}" if self.port else "")


def parse_target(text: str) -> Target:
    """``user@host:port``, where user and port may be left out.

    Raises:
        OptionError: it is not of that form.
    """
    match = _TARGET.fullmatch(text)
    port = int(match["port"]) if match and match["port"] else None
    if match is None or (port is not None and not 1 <= port <= 65535):
        raise OptionError(f"{text[:100]!r} is not a board", "give user@host or user@host:port")
    return Target(match["host"].strip("[]"), match["user"], port)


class Remote:
    """A board that is reached by ssh.

    Args:
        target: where it is.
        config: an ssh configuration file; None is the user's.
    """

    def __init__(self, target: Target, config: Path | None = None) -> None:
        found = shutil.which("ssh")
        if found is None:
            raise DeployError("ssh is not installed", "install it", "sudo apt-get install openssh-client")
        self.target = target
        self._ssh = [found, "-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15"]
        self._ssh += ["-F", str(config)] if config is not None else []
        self._ssh += ["-p", str(target.port)] if target.port is not None else []
        self._ssh += ["-l", target.user] if target.user is not None else []
        self._ssh += ["-i", str(target.identity)] if target.identity is not None else []

    def send(self, path: Path, sha256: str, on_bytes: Callable[[int], None] = lambda done: None) -> str:
        """Copy a file unless the board has it; what a broken connection left there is continued.

        Args:
            path: the file.
            sha256: of it.
            on_bytes: called with the number of bytes that are there.

        Returns:
            Its path on the board, relative to the user's home.

        Raises:
            DeployError: the board cannot be reached or has no room.
        """
        place = f"{INCOMING}/{sha256}{path.suffix}"
        for _ in range(2):
            lines = self._run(_RECEIVED, place).split("\n")
            if any(line.startswith(sha256) for line in lines):
                return place
            size = next((int(line) for line in map(str.strip, lines) if line.isdecimal()), 0)
            self._append(path, place, size if size <= path.stat().st_size else 0, on_bytes)
            if self._run(_FINISH, place, sha256).strip() == "whole":
                return place
        raise DeployError(f"{self.target.title}: {path.name} arrived damaged", "check the board's disk and network")

    def keep_only(self, place: str) -> None:
        """Remove the packs that were copied before; the versions made of them hold their own copies.

        Args:
            place: of the pack that stays, from ``send``.
        """
        self._run(_KEEP_ONLY, place)

    def call(self, arguments: Sequence[str], on_line: Callable[[str], None]) -> dict[str, Any]:
        """Run pspnet-edge on the board.

        Args:
            arguments: its command line, with ``--json``.
            on_line: called with each line that it prints on stderr.

        Returns:
            The JSON object on its stdout; ``{"error": {...}}`` where it failed.

        Raises:
            DeployError: the board cannot be reached, or what it answers is not such an object.
        """
        own = self.target.command
        words = [*shlex.split(own), *arguments] if own else ["sh", "-c", _FIND, "pspnet-edge", *arguments]
        process = self._popen(words)
        lines: list[str] = []

        def relay() -> None:
            assert process.stderr is not None
            for raw in process.stderr:
                lines.append(raw.decode(errors="replace").rstrip())
                on_line(lines[-1])

        reader = threading.Thread(target=relay, name=self.target.title, daemon=True)
        reader.start()
        assert process.stdin is not None
        assert process.stdout is not None
        with process:
            process.stdin.close()
            content = process.stdout.read(_MOST_JSON_BYTES)
            process.stdout.close()
            status = process.wait()
            reader.join()
        try:
            facts = parse_json(content)
            check_value(facts, AnyShape(), "it")
        except (ValueError, Unfit):
            facts = None
        if not isinstance(facts, dict):
            raise self._unreachable(status, lines)
        return facts

    def install(self, wheels: Sequence[tuple[Path, str]], requirement: str) -> None:
        """Copy wheels and install the toolkit from them into the venv of its command, with no network.

        Raises:
            DeployError: pip on the board refuses.
        """
        folder = f"{INCOMING}/wheels"
        for path, sha256 in wheels:
            place = self.send(path, sha256)
            self._run('mkdir -p "$2" && ln -f "$1" "$2/$3"', place, folder, path.name)
        own = self.target.command or "pspnet-edge/bin/pspnet-edge"
        process = self._start(_PIP, shlex.split(own)[0], folder, requirement)
        _, errors = process.communicate(timeout=1800)
        if process.returncode != 0:
            said = (errors.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
            raise DeployError(
                f"{self.target.title}: pip could not install pspnet-edge ({said[:300]})", "check the wheels"
            )

    def _append(self, path: Path, place: str, begin: int, on_bytes: Callable[[int], None]) -> None:
        if begin == 0:
            self._run('rm -f "$1.part"', place)
        process = self._start(_RECEIVE, place)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), path.open("rb") as stream:
            stream.seek(begin)
            while chunk := stream.read(_CHUNK_BYTES):
                process.stdin.write(chunk)
                on_bytes(stream.tell())
        _, errors = process.communicate()
        if process.returncode != 0:
            raise self._unreachable(process.returncode, errors.decode(errors="replace").splitlines())

    def _run(self, script: str, *arguments: str) -> str:
        process = self._start(script, *arguments)
        try:
            output, errors = process.communicate(timeout=_QUICK_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise DeployError(f"{self.target.title} does not answer", "see whether ssh reaches it") from None
        if process.returncode != 0:
            raise self._unreachable(process.returncode, errors.decode(errors="replace").splitlines())
        return output.decode(errors="replace")

    def _start(self, script: str, *arguments: str) -> subprocess.Popen[bytes]:
        """A fixed script on the board; what differs comes as its arguments."""
        return self._popen(["sh", "-c", script, "sh", *arguments])

    def _popen(self, words: Sequence[str]) -> subprocess.Popen[bytes]:
        command = [*self._ssh, "--", self.target.host, shlex.join(words)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)

    def _unreachable(self, status: int, lines: Sequence[str]) -> DeployError:
        said = next((line.strip() for line in reversed(lines) if line.strip()), f"status {status}").rstrip(".")
        fix = "see whether ssh reaches it without a question" if status == 255 else "see what it says above"
        if any("IDENTIFICATION HAS CHANGED" in line for line in lines):
            said = "its host key is not the one that this machine knows: another machine may answer in its place"
            fix = "find out why it changed; after a new installation, remove the old key with ssh-keygen -R"
        elif status == 255 and "ermission denied" in said:
            fix = "install your key there with ssh-copy-id; passwords are never asked for"
        return DeployError(f"{self.target.title}: {said[:300]}", fix)


def wheels_in(folder: Path) -> tuple[list[tuple[Path, str]], str]:
    """The wheels of a folder with their SHA-256, and the requirement that installs the toolkit from them.

    Raises:
        DeployError: it holds no wheel of this package.
    """
    found = sorted(folder.glob("*.whl")) if folder.is_dir() else []
    own = [path for path in found if path.name.startswith("pspnet_edge-")]
    if not own:
        raise DeployError(
            f"{folder} holds no wheel of pspnet-edge",
            "make them",
            f"pip wheel --no-deps -w {shlex.quote(str(folder))} .",
        )
    version = own[-1].name.split("-")[1]
    return [(path, sha256_of(path)) for path in found], f"pspnet-edge=={version}"
