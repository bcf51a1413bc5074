"""Small data sets on disk, and a web server that can break off."""

from __future__ import annotations

import http.server
import re
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pspnet_edge.labels import voc_palette

HEIGHT, WIDTH = 12, 17
WriteIndexed = Callable[..., None]


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def indexed_png(
    ids: NDArray[np.uint8], palette: Sequence[tuple[int, int, int]] = voc_palette(256), depth: int = 8
) -> bytes:
    """A palette PNG as the annotators of VOC wrote them."""
    bits = np.unpackbits(ids[..., None], axis=-1)[..., 8 - depth :].reshape(len(ids), -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in bits)
    header = struct.pack(">IIBBBBB", ids.shape[1], ids.shape[0], depth, 3, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"PLTE", bytes(np.ravel(palette).tolist())), (b"IDAT", zlib.compress(rows)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in (*chunks, (b"IEND", b"")))


def some_ids(seed: int, classes: int) -> NDArray[np.uint8]:
    ids = np.random.default_rng(seed).integers(0, classes, (HEIGHT, WIDTH)).astype(np.uint8)
    ids[0] = 255
    return ids


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_image(path: Path) -> None:
    """Noise that is another in each file, as a photograph would be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = (
        np.random.default_rng(zlib.crc32(f"{path.parent.name}/{path.name}".encode()))
        .integers(0, 256, (HEIGHT, WIDTH, 3))
        .astype(np.uint8)
    )
    assert cv2.imwrite(str(path), image)


def write_grey(path: Path, ids: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), ids)


@pytest.fixture
def voc_root(tmp_path: Path) -> Path:
    """VOC with two images to train and two to validate; returns the folder with VOCdevkit."""
    folder = tmp_path / "voc" / "VOCdevkit" / "VOC2012"
    for name in ("ImageSets/Segmentation", "SegmentationClass"):
        (folder / name).mkdir(parents=True)
    for split, names in (("train", ("t0", "t1")), ("val", ("v0", "v1"))):
        (folder / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(names) + "\n")
        for seed, name in enumerate(names):
            write_image(folder / "JPEGImages" / f"{name}.jpg")
            (folder / "SegmentationClass" / f"{name}.png").write_bytes(indexed_png(some_ids(seed, 21)))
    return tmp_path / "voc"


@pytest.fixture
def cityscapes_root(tmp_path: Path) -> Path:
    root = tmp_path / "cityscapes"
    for split, city in (("train", "aachen"), ("val", "frankfurt")):
        for frame in (f"{city}_000000_000019", f"{city}_000001_000019"):
            write_image(root / "leftImg8bit" / split / city / f"{frame}_leftImg8bit.png")
            write_grey(root / "gtFine" / split / city / f"{frame}_gtFine_labelIds.png", some_ids(3, 34))
    return root


@pytest.fixture
def folder_root(tmp_path: Path) -> Path:
    """Your own data set with subfolders for splits and three classes."""
    root = tmp_path / "own"
    for split in ("train", "val"):
        for name in ("a", "b"):
            write_image(root / "images" / split / f"{name}.jpg")
            write_grey(root / "masks" / split / f"{name}.png", some_ids(1, 3))
    (root / "classes.txt").write_text("road\ntraffic light\nsky\n")
    return root


@dataclass
class Server:
    """Serves ``files`` and remembers which ranges were asked for."""

    address: str
    files: dict[str, bytes] = field(default_factory=dict)
    break_after: list[int] = field(default_factory=list)
    """One entry a request, taken from the front: close the connection after so many bytes."""
    statuses: list[int] = field(default_factory=list)
    """One entry a request, taken from the front: answer with this error."""
    resumes: bool = True
    ranges: list[str | None] = field(default_factory=list)

    def url(self, name: str) -> str:
        return f"{self.address}/{name}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            served.ranges.append(asked)
            content = served.files.get(self.path.lstrip("/"))
            status = served.statuses.pop(0) if served.statuses else 200 if content is not None else 404
            if status != 200 or content is None:
                self.send_error(status)
                return
            first = int(re.fullmatch(r"bytes=(\d+)-", asked).group(1)) if asked and served.resumes else 0  # type: ignore[union-attr]
            if first >= len(content) > 0:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if first else 200)
            if first:
                self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - first))
            self.end_headers()
            stop = served.break_after.pop(0) if served.break_after else len(content)
            self.wfile.write(content[first : first + stop])

        def log_message(self, format: str, *args: object) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Server(f"http://127.0.0.1:{httpd.server_address[1]}")
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield served
    httpd.shutdown()
    thread.join()
    httpd.server_close()
