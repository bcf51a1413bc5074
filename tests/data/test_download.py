from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pspnet_edge.data.download import download, part_of
from pspnet_edge.data.progress import Advance
from pspnet_edge.errors import DataError, OptionError, OutputError

from .conftest import Server

CONTENT = bytes(range(256)) * 4000


def test_a_file_arrives_whole_and_leaves_no_part(server: Server, tmp_path: Path) -> None:
    server.files["a"] = CONTENT
    shown: list[tuple[str, int | None, int]] = []

    @contextmanager
    def progress(what: str, total: int | None) -> Iterator[Advance]:
        yield lambda done, note: shown.append((what, total, done))

    download(server.url("a"), tmp_path / "a.tar", progress)

    assert (tmp_path / "a.tar").read_bytes() == CONTENT
    assert not part_of(tmp_path / "a.tar").exists()
    assert shown[-1] == ("Fetching a.tar (MB)", 2, 1)


def test_a_broken_connection_is_taken_up_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.files["a"], server.break_after = CONTENT, [300_000, 300_000]
    download(server.url("a"), tmp_path / "a", pause_s=0)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-", "bytes=600000-"]


def test_a_later_run_goes_on_from_the_part(server: Server, tmp_path: Path) -> None:
    server.files["a"], server.break_after = CONTENT, [500_000]
    with pytest.raises(DataError, match=r"0\.5 MB are kept: .* give the same command again") as caught:
        download(server.url("a"), tmp_path / "a", tries=1)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a").exists()

    download(server.url("a"), tmp_path / "a")

    assert server.ranges[-1] == "bytes=500000-"
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_server_that_cannot_resume_sends_all_again(server: Server, tmp_path: Path) -> None:
    server.files["a"], server.resumes = CONTENT, False
    part_of(tmp_path / "a").write_bytes(b"other bytes")
    download(server.url("a"), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_part_that_is_whole_is_taken(server: Server, tmp_path: Path) -> None:
    server.files["a"] = CONTENT
    part_of(tmp_path / "a").write_bytes(CONTENT)
    download(server.url("a"), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert len(server.ranges) == 1


def test_a_part_that_is_too_long_is_begun_anew(server: Server, tmp_path: Path) -> None:
    server.files["a"] = CONTENT
    part_of(tmp_path / "a").write_bytes(CONTENT + b"more")
    download(server.url("a"), tmp_path / "a", pause_s=0)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_busy_server_is_asked_again_and_a_refusing_one_is_not(server: Server, tmp_path: Path) -> None:
    server.files["a"], server.statuses = CONTENT, [503, 429]
    download(server.url("a"), tmp_path / "a", pause_s=0)
    assert (tmp_path / "a").read_bytes() == CONTENT

    with pytest.raises(DataError, match=r"answered 404 Not Found .* --url"):
        download(server.url("nowhere"), tmp_path / "b", pause_s=0)
    assert server.ranges == [None] * 4


def test_a_server_that_stays_silent_times_out(tmp_path: Path, server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/a"
        with pytest.raises(DataError, match="timed out"):
            download(address, tmp_path / "a", timeout_s=0.05, tries=2, pause_s=0)


def test_nobody_listening_is_one_sentence(tmp_path: Path, server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/a"
    with pytest.raises(DataError, match=r"Connection refused.*check the network"):
        download(address, tmp_path / "a", tries=1)


def test_only_web_addresses_are_fetched(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="is not a web address"):
        download("file:///etc/passwd", tmp_path / "a")


def test_a_full_disk_is_told_and_not_tried_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_device: Path
) -> None:
    server.files["a"] = CONTENT
    part_of(tmp_path / "a").symlink_to(full_device)
    monkeypatch.setattr("pspnet_edge.data.download.find_target", lambda path: path)
    with pytest.raises(OutputError, match="No space left on device"):
        download(server.url("a"), tmp_path / "a")
    assert len(server.ranges) == 1


def test_a_file_larger_than_the_disk_is_not_begun(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["a"] = CONTENT

    class Usage:
        free = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage())
    with pytest.raises(OutputError, match=r"0\.0 GB free"):
        download(server.url("a"), tmp_path / "a")
    assert not part_of(tmp_path / "a").exists()


def test_a_server_whose_ranges_never_fit_is_given_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pspnet_edge.data import download as module

    monkeypatch.setattr(module, "_starts_at", lambda content_range, first_byte: False)
    server.files["a"] = bytes(1000)
    server.break_after = [10] * 100
    with pytest.raises(DataError, match="never completes"):
        download(server.url("a"), tmp_path / "a", pause_s=0)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nx", None),
        (b"HTTP/1.1 302 Found\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n", "invalid address"),
    ],
)
def test_a_header_that_is_no_number_or_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes, said: str | None
) -> None:
    class Liar(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(4096)
            self.request.sendall(answer)

    monkeypatch.setenv("no_proxy", "*")
    with socketserver.TCPServer(("127.0.0.1", 0), Liar) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/a"
        if said is None:  # a size without meaning is none, and the file ends where the connection does
            download(url, tmp_path / "a", pause_s=0, timeout_s=2)
            assert (tmp_path / "a").read_bytes() == b"x"
        else:
            with pytest.raises(DataError, match=said):
                download(url, tmp_path / "a", pause_s=0, timeout_s=2)
        server.shutdown()


def test_an_address_with_other_letters_is_fetched_and_passwords_are_not_shown(server: Server, tmp_path: Path) -> None:
    server.files["%C3%BCber%20uns"] = b"x"
    download(server.url("über uns"), tmp_path / "a", pause_s=0)
    assert (tmp_path / "a").read_bytes() == b"x"
    with pytest.raises(DataError) as caught:
        download("http://me:secret@127.0.0.1:9/x", tmp_path / "b", pause_s=0, tries=1)
    assert "secret" not in str(caught.value)
