"""Against real sshd processes on loopback ports, each a board with its own home."""

from __future__ import annotations

import getpass
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pspnet_edge.deploy.fleet import Orders, read_fleet, run_fleet
from pspnet_edge.deploy.remote import INCOMING, Remote, Target, parse_target
from pspnet_edge.deploy.store import Store
from pspnet_edge.errors import DeployError, OptionError
from pspnet_edge.pack_file import read_pack

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class SshBoard:
    name: str
    port: int
    home: Path
    process: subprocess.Popen[bytes]

    @property
    def target(self) -> Target:
        return Target("127.0.0.1", getpass.getuser(), self.port, self.name)

    @property
    def store(self) -> Store:
        return Store(self.home / ".local/share/pspnet-edge")

    def incoming(self) -> list[Path]:
        return sorted((self.home / INCOMING).glob("*"))


@dataclass
class Boards:
    """Some boards, and the files that reach them."""

    boards: list[SshBoard]
    ssh_config: Path
    fleet_file: Path

    def write_fleet(self, **packs: Path) -> None:
        """The fleet file, with other packs for some boards by name."""
        tables = []
        for board in self.boards:
            own = f'pack = "{packs[board.name]}"\n' if board.name in packs else ""
            tables.append(
                f'[[board]]\nhost = "{getpass.getuser()}@127.0.0.1:{board.port}"\nname = "{board.name}"\n{own}'
            )
        self.fleet_file.write_text("\n".join(tables))

    def deploy(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        options = ["--fleet", self.fleet_file, "--ssh-config", self.ssh_config, "--measure", "0.1", "--json"]
        command = [sys.executable, "-m", "pspnet_edge", "deploy", *map(str, arguments), *map(str, options)]
        return subprocess.run(command, capture_output=True, text=True, timeout=600)


@pytest.fixture
def boards(tmp_path: Path) -> Iterator[Boards]:
    """Three boards, each with its own sshd, home and host key."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if sshd is None or shutil.which("ssh") is None:
        pytest.skip("sshd is not installed: sudo apt-get install openssh-server")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd's own, made by its service elsewhere
    folder = tmp_path / "ssh"
    folder.mkdir(mode=0o700)
    make_key(folder / "client")
    (folder / "authorized").write_text((folder / "client.pub").read_text())
    started, known = [], []
    for name in ("a", "b", "c"):
        home = tmp_path / f"home-{name}"
        home.mkdir()
        make_key(folder / f"host-{name}")
        port = free_port()
        known.append(f"[127.0.0.1]:{port} {(folder / f'host-{name}.pub').read_text()}")
        # The board's shell: its own home, and pspnet-edge on its PATH.
        bin_folder = home / "bin"
        bin_folder.mkdir()
        program = bin_folder / "pspnet-edge"
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m pspnet_edge "$@"\n')
        program.chmod(0o755)
        shell = folder / f"shell-{name}"
        shell.write_text(
            "#!/bin/sh\n"
            f"export HOME={shlex.quote(str(home))} PYTHONPATH={shlex.quote(str(ROOT))} "
            f"PATH={shlex.quote(str(bin_folder))}:/usr/bin:/bin XDG_CACHE_HOME={shlex.quote(str(home / '.cache'))}\n"
            'cd "$HOME"\n'
            'exec sh -c "$SSH_ORIGINAL_COMMAND"\n'
        )
        shell.chmod(0o755)
        config = folder / f"sshd-{name}"
        config.write_text(
            f"ListenAddress 127.0.0.1:{port}\nHostKey {folder / f'host-{name}'}\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {folder / 'authorized'}\nStrictModes no\nPermitRootLogin prohibit-password\n"
            f"PasswordAuthentication no\nForceCommand {shell}\n"
        )
        config.chmod(0o600)
        with (folder / f"log-{name}").open("wb") as log:
            process = subprocess.Popen([sshd, "-D", "-e", "-f", str(config)], stdout=log, stderr=log)
        started.append(SshBoard(name, port, home, process))
    (folder / "known").write_text("".join(known))
    ssh_config = folder / "config"
    ssh_config.write_text(
        f"Host 127.0.0.1\n  IdentityFile {folder / 'client'}\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {folder / 'known'}\n  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n"
    )
    found = Boards(started, ssh_config, tmp_path / "fleet.toml")
    found.write_fleet()
    try:
        for board in started:
            await_port(board.port)
        yield found
    finally:
        for board in started:
            board.process.terminate()
            board.process.wait()


def make_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def await_port(port: int) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"sshd does not listen on {port}")


def test_canary_roll_out_one_failure_and_rollback_of_all(
    boards: Boards, pack_path: Path, next_pack_path: Path, ruined_pack_path: Path
) -> None:
    first = boards.deploy(pack_path, "--canary", 1)
    assert first.returncode == 0, first.stderr
    facts = json.loads(first.stdout)
    old = facts["version"]
    assert [(board["board"], board["state"]) for board in facts["boards"]] == [(n, "active") for n in "abc"]
    assert first.stderr.index("a: golden frames") < first.stderr.index("b: road.pspnet is there")

    boards.write_fleet(b=ruined_pack_path)
    second = boards.deploy(next_pack_path, "--canary", 1, "--continue-on-error")
    assert second.returncode == 1
    facts = json.loads(second.stdout)
    assert facts["state"] == "partial"
    assert [board["state"] for board in facts["boards"]] == ["active", "failed", "active"]
    assert "of the golden frames' pixels" in facts["boards"][1]["problem"]
    assert boards.boards[1].store.active() == facts["boards"][1]["version"] == old
    # The pack before is not kept twice; the one that failed is there for another try.
    assert [len(board.incoming()) for board in boards.boards] == [1, 2, 1]
    assert INCOMING not in second.stderr + second.stdout
    new = boards.boards[0].store.active()
    assert new is not None
    assert new.startswith("next-")
    assert boards.boards[2].store.active() == new

    # The board that failed has something before the old version too, and must not go back to it with the others.
    boards.write_fleet()
    add_older_version(boards.boards[1].store, old)
    back = boards.deploy(next_pack_path, "--rollback")
    assert back.returncode == 0, back.stderr
    facts = json.loads(back.stdout)
    assert (facts["state"], facts["version"]) == ("rolled_back", old)
    assert [board["state"] for board in facts["boards"]] == ["rolled_back", "active", "rolled_back"]
    assert {board.store.active() for board in boards.boards} == {old}
    listed = json.loads(boards.deploy("--list").stdout)
    assert [board["version"] for board in listed["boards"]] == [old, old, old]
    assert (listed["state"], listed["agreement"]) == ("active", facts["agreement"])
    every = boards.deploy("--rollback")
    assert [board["version"] for board in json.loads(every.stdout)["boards"]] == [old, "older", old]
    assert boards.boards[1].store.active() == "older"


def add_older_version(store: Store, version: str) -> None:
    """As if ``older`` had been active before ``version``."""
    shutil.copytree(store.versions_folder / version, store.versions_folder / "older")
    with store.locked():
        store.activate("older", watched=False)
        store.activate(version, watched=False)


def test_boards_without_a_version_are_listed_as_empty(boards: Boards) -> None:
    done = boards.deploy("--list")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["state"], facts["version"]) == ("empty", None)
    assert [(board["board"], board["state"], board["problem"]) for board in facts["boards"]] == [
        (name, "empty", None) for name in "abc"
    ]


def test_a_canary_that_fails_stops_the_roll_out(boards: Boards, pack_path: Path, ruined_pack_path: Path) -> None:
    boards.write_fleet(a=ruined_pack_path)
    done = boards.deploy(pack_path, "--canary", 1)
    assert done.returncode == 1
    facts = json.loads(done.stdout)
    assert [board["state"] for board in facts["boards"]] == ["failed", "skipped", "skipped"]
    assert [board.store.active() for board in boards.boards] == [None, None, None]
    assert [board.incoming() == [] for board in boards.boards] == [False, True, True]


def test_a_file_is_copied_once_and_what_a_broken_connection_left_is_continued(boards: Boards, pack_path: Path) -> None:
    board = boards.boards[0]
    remote, pack = Remote(board.target, boards.ssh_config), read_pack(pack_path)
    begun: list[int] = []
    part = board.home / INCOMING / f"{pack.sha256}.pspnet.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(pack_path.read_bytes()[:9_000_000])
    place = remote.send(pack_path, pack.sha256, begun.append)
    assert begun[0] > 9_000_000
    assert (board.home / place).read_bytes() == pack_path.read_bytes()
    assert not part.exists()
    again: list[int] = []
    assert remote.send(pack_path, pack.sha256, again.append) == place
    assert again == []


def test_a_part_of_another_file_is_replaced(boards: Boards, pack_path: Path) -> None:
    board = boards.boards[0]
    pack = read_pack(pack_path)
    part = board.home / INCOMING / f"{pack.sha256}.pspnet.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"rubbish")
    place = Remote(board.target, boards.ssh_config).send(pack_path, pack.sha256)
    assert (board.home / place).read_bytes() == pack_path.read_bytes()


@pytest.mark.parametrize(
    ("known_key", "sentence"), [("host-b", "another machine may answer"), (None, "verification failed")]
)
def test_another_host_key_or_an_unknown_one_is_refused(
    boards: Boards, pack_path: Path, known_key: str | None, sentence: str
) -> None:
    board, folder = boards.boards[0], boards.ssh_config.parent
    key = f"[127.0.0.1]:{board.port} {(folder / f'{known_key}.pub').read_text()}" if known_key else ""
    (folder / "known").write_text(key)
    results = run_fleet([board.target], Orders((), pack_path, ssh_config=boards.ssh_config), print_nothing)
    assert [result.state for result in results] == ["failed"]
    assert sentence in str(results[0].problem)
    assert board.incoming() == []


def test_a_board_that_asks_for_a_password_is_refused_with_what_to_do(boards: Boards) -> None:
    boards.ssh_config.with_name("authorized").write_text("")
    results = run_fleet(
        [boards.boards[0].target], Orders((), None, "list", ssh_config=boards.ssh_config), print_nothing
    )
    assert results[0].state == "failed"
    assert "ssh-copy-id" in str(results[0].problem)


def test_a_word_that_a_shell_would_run_reaches_the_board_as_it_is(boards: Boards) -> None:
    board = boards.boards[0]
    facts = Remote(board.target, boards.ssh_config).call(["deploy", "$(touch hit); `touch hit` 'x", "--json"], print)
    assert "$(touch hit)" in facts["error"]["problem"]
    assert not list(board.home.rglob("hit"))


@pytest.mark.slow
def test_the_toolkit_is_installed_from_wheels_without_a_network(
    boards: Boards, pack_path: Path, tmp_path: Path
) -> None:
    board = boards.boards[0]
    wheels, venv = tmp_path / "wheels", board.home / "pspnet-edge"
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(wheels), str(ROOT)], check=True)
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    # What the toolkit needs is there already, as on a board that is updated; the toolkit itself is not.
    site = next(venv.glob("lib/python*/site-packages"))
    needs = tmp_path / "needs"
    needs.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "pspnet" not in path.name:
            (needs / path.name).symlink_to(path)
    (site / "needs.pth").write_text(str(needs))
    target = replace(board.target, command="pspnet-edge/bin/pspnet-edge")
    orders = Orders((), None, "list", wheelhouse=wheels, ssh_config=boards.ssh_config)
    run_fleet([target], orders, print_nothing)
    assert (venv / "bin/pspnet-edge").is_file()
    assert (site / "pspnet_edge/deploy/remote.py").is_file()
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DeployError, match="holds no wheel"):
        run_fleet([target], replace(orders, wheelhouse=empty), print_nothing)


def print_nothing(board: str, line: str) -> None:
    """Ignore what boards say."""


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("board", Target("board")),
        ("me@10.0.0.5:2222", Target("10.0.0.5", "me", 2222)),
        ("me@[fe80::1%eth0]:22", Target("fe80::1%eth0", "me", 22)),
    ],
)
def test_a_board_is_user_host_and_port(text: str, target: Target) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize("text", ["", "-oProxyCommand=x", "a b", "me@", "a:0", "a:99999", "a;b", "me@-x", "a\n"])
def test_what_is_not_a_board_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="is not a board"):
        parse_target(text)


def test_a_fleet_file_is_read_with_its_defaults(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(
        '[defaults]\nhome = "/data"\n[[board]]\nhost = "a"\n[[board]]\nhost = "me@b:22"\npack = "p.pspnet"\n'
    )
    first, second = read_fleet(path)
    assert (first.host, first.home, first.pack) == ("a", "/data", None)
    assert (second.user, second.port, second.pack) == ("me", 22, tmp_path / "p.pspnet")


NOT_FLEETS = ["", "x", "[[board]]\n", '[[board]]\nhost = "a"\nshell = "x"\n', "board = 1\n", f"board = {'9' * 5000}\n"]


@pytest.mark.parametrize("text", NOT_FLEETS, ids=range(len(NOT_FLEETS)))
def test_a_fleet_file_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(text)
    with pytest.raises(DeployError, match="fleet file"):
        read_fleet(path)
