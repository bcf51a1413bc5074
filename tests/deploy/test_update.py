from __future__ import annotations

import functools
import http.server
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pspnet_edge.deploy.service import address_problem
from pspnet_edge.deploy.signature import sign
from pspnet_edge.deploy.store import Store
from pspnet_edge.deploy.update import Offer, find_offer, remember
from pspnet_edge.errors import DeployError, OptionError
from pspnet_edge.pack_file import manifest_bytes, write_pack

from .conftest import Board, Refusal, parts_of


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address at which a real server offers it."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}/road.pspnet"
        server.shutdown()


def test_a_new_pack_is_offered_once(served: tuple[Path, str], pack_path: Path, tmp_path: Path) -> None:
    folder, address = served
    shutil.copy(pack_path, folder / "road.pspnet")
    store = Store(tmp_path / "home")
    offer = find_offer(address, store)
    assert offer is not None
    assert offer.path.read_bytes() == pack_path.read_bytes()
    remember(store, offer, "too slow")
    assert find_offer(address, store) is None
    assert not offer.path.exists()


def test_the_newest_pack_of_a_folder_is_offered(pack_path: Path, next_pack_path: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "home")
    with pytest.raises(DeployError, match=r"no \.pspnet"):
        find_offer(str(tmp_path), store)
    shutil.copyfile(pack_path, tmp_path / "a.pspnet")
    first = find_offer(str(tmp_path), store)
    assert isinstance(first, Offer)
    remember(store, first, None)
    assert find_offer(str(tmp_path), store) is None
    shutil.copyfile(next_pack_path, tmp_path / "b.pspnet")
    second = find_offer(str(tmp_path), store)
    assert second is not None
    assert second.path.name == "b.pspnet"


@pytest.mark.parametrize(
    "address", ["http://example.org/a.pspnet", "ftp://example.org/a", "file:///etc/passwd", "https://["]
)
def test_only_https_is_fetched(address: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="https"):
        find_offer(address, Store(tmp_path / "home"))


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/a.pspnet", "http://127.0.0.1:9/a b"])
def test_a_server_that_is_not_there_is_said(address: str, tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="does not answer"):
        find_offer(address, Store(tmp_path / "home"))


def test_an_address_that_does_not_speak_http_is_not_healthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/"

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert "does not answer" in (address_problem(address) or "")
        thread.join()


@pytest.fixture
def https_address(tmp_path: Path, pack_path: Path) -> Iterator[tuple[str, Path]]:
    """A pack at an https:// address whose certificate was made here, and that certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: sudo apt-get install openssl")
    key, certificate, folder = tmp_path / "key.pem", tmp_path / "certificate.pem", tmp_path / "served"
    made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate]
    subprocess.run(["openssl", *made.split(), *names], check=True, capture_output=True)
    folder.mkdir()
    shutil.copy(pack_path, folder / "road.pspnet")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://localhost:{server.server_port}/road.pspnet", certificate
        server.shutdown()


def test_only_a_trusted_certificate_is_believed(
    https_address: tuple[str, Path], pack_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, certificate = https_address
    store = Store(tmp_path / "home")
    with pytest.raises(DeployError, match="does not trust") as caught:
        find_offer(address, store)
    assert "SSL_CERT_FILE" in str(caught.value)
    assert not store.home.exists()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    offer = find_offer(address, store)
    assert offer is not None
    assert offer.path.read_bytes() == pack_path.read_bytes()


def test_a_signed_pack_is_fetched_and_deployed(
    served: tuple[Path, str], pack_path: Path, board: Board, refusal: Refusal, tmp_path: Path
) -> None:
    folder, address = served
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    shutil.copy(pack_path, folder / "road.pspnet")
    without_key = board.deploy("--from", address)
    assert (without_key.returncode, "--key" in without_key.stderr) == (2, True)
    assert "is not signed" in refusal(board.deploy("--from", address, "--key", f"{key}.pub"))
    manifest, parts = parts_of(pack_path)
    write_pack(folder / "road.pspnet", manifest, parts, sign(manifest_bytes(manifest, parts), key))
    assert board.facts("--from", address, "--key", f"{key}.pub")["state"] == "active"
    assert "nothing new" in board.deploy("--from", address, "--key", f"{key}.pub").stderr


def test_an_older_signed_pack_that_is_offered_again_is_refused(
    pack_path: Path, board: Board, refusal: Refusal, tmp_path: Path
) -> None:
    key, offered = tmp_path / "key", tmp_path / "offered"
    offered.mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    manifest, parts = parts_of(pack_path)

    def offer(**release: int) -> None:
        facts = {**manifest, **release}
        write_pack(offered / "road.pspnet", facts, parts, sign(manifest_bytes(facts, parts), key))

    update = ("--from", offered, "--key", f"{key}.pub")
    offer(release=7)
    newest = board.facts(*update)
    assert newest["release"] == 7
    for older in ({"release": 6}, {}):
        offer(**older)
        sentence = refusal(board.deploy(*update))
        assert "release 7" in sentence
        assert "--allow-older" in sentence
        assert Store(board.home).active() == newest["version"]
    assert "nothing new" in board.deploy(*update).stderr, "and is not tried every hour"
    older_version = board.facts(offered / "road.pspnet", "--allow-older")
    assert (older_version["before"], older_version["release"]) == (newest["version"], 0)
