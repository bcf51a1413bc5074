from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pspnet_edge.artifact import sidecar_path
from pspnet_edge.engine.backends import open_engine
from pspnet_edge.engine.tensorrt import session
from pspnet_edge.engine.tensorrt.gpu import Gpu
from pspnet_edge.engine.tensorrt.plan_file import check_plan, read_header
from pspnet_edge.errors import EngineError
from pspnet_edge.labels import CAMVID
from pspnet_edge.sidecar import write_sidecar

ORIN = Gpu("Orin", "8.7", True)
MAGIC = {"tensorrt": b"ftrt", "tensorrt-rtx": b"vtrt"}


def plan_bytes(runtime: str, version: tuple[int, ...], size: int = 4096, seed: int = 0) -> bytes:
    body = random.Random(seed).randbytes(size - 28)
    length = size if runtime == "tensorrt-rtx" else 7
    return MAGIC[runtime] + bytes(4) + bytes(8) + length.to_bytes(8, "little") + bytes(version) + body


def facts_of(runtime: str, **target: object) -> dict[str, object]:
    return {
        "model": "m",
        "runtime": runtime,
        "precision": "int8",
        "shape_nhw": (1, 96, 96),
        "label_set": CAMVID.facts(),
        "tensorrt": {"compute_capability": "8.7", "device": "Orin"} | target,
    }


def written(path: Path, runtime: str = "tensorrt", version: tuple[int, ...] = (10, 3, 0, 26), **target: object) -> Path:
    path.write_bytes(plan_bytes(runtime, version))
    write_sidecar(path, "engine", facts_of(runtime, **target))
    return path


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with TensorRT 10.3.0, TensorRT-RTX 1.7.1.116 and an Orin, on which nothing is ever loaded."""
    for name, version in (("tensorrt", "10.3.0"), ("tensorrt_rtx", "1.7.1.116")):
        module = ModuleType(name)
        module.__version__ = version  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(session, "find_gpu", lambda: ORIN)

    def never(*_: object) -> None:
        raise AssertionError("a damaged plan came through to CUDA")

    monkeypatch.setattr(session, "CudaMemory", never)


def refusal(path: Path) -> str:
    with pytest.raises(EngineError) as caught:
        open_engine(path)
    text = str(caught.value)
    assert "\n" not in text
    assert "pspnet-edge build" in text
    return text


def test_a_header_is_read(tmp_path: Path) -> None:
    header = read_header(written(tmp_path / "e.engine", "tensorrt-rtx", (1, 7, 1, 116)))
    assert header is not None
    assert (header.runtime, header.version, header.length) == ("tensorrt-rtx", (1, 7, 1, 116), 4096)
    (tmp_path / "x").write_bytes(b"ftrt")
    assert read_header(tmp_path / "x") is None


@pytest.mark.usefixtures("board")
def test_what_fits_comes_through(tmp_path: Path) -> None:
    for path in (
        written(tmp_path / "same"),
        written(tmp_path / "compatible", version=(10, 13, 3, 9), version_compatible=True),
        written(tmp_path / "any gpu", compute_capability="8.6", hardware_compatible=True),
        written(tmp_path / "rtx", "tensorrt-rtx", (1, 7, 1, 116), compute_capability=None),
    ):
        with pytest.raises(AssertionError, match="came through"):
            open_engine(path)


@pytest.mark.usefixtures("board")
@pytest.mark.parametrize(
    ("version", "target", "message"),
    [
        ((8, 6, 2, 3), {}, "was built by TensorRT 8.6.2.3 and 10.3.0 is installed"),
        ((11, 4, 0, 106), {"version_compatible": True}, "was built by TensorRT 11.4.0.106 and 10.3.0 is installed"),
        ((10, 3, 0, 26), {"compute_capability": "7.2"}, "compute capability 7.2 .Orin. and Orin here has 8.7"),
    ],
)
def test_a_stale_engine_says_what_changed(tmp_path: Path, version, target, message: str) -> None:
    path = written(tmp_path / "e.engine", version=version, **target)
    with pytest.raises(EngineError, match=message) as caught:
        open_engine(path)
    assert f"pspnet-edge build m --runtime tensorrt --precision int8 -o {path}" in str(caught.value)


def test_foreign_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "e.engine"
    plan = plan_bytes("tensorrt-rtx", (1, 7, 1, 116))
    path.write_bytes(plan)
    assert "has no sidecar" in refusal(path)
    path.write_bytes(plan[:1000])
    assert "truncated TensorRT plan of 1000 bytes" in refusal(path)
    path.write_bytes(plan[:10])
    assert "truncated" in refusal(path)
    metadata = json.dumps({"description": "Ultralytics YOLO"}).encode()
    path.write_bytes(len(metadata).to_bytes(4, "little") + metadata + plan)
    assert "as Ultralytics writes it" in refusal(path)


@pytest.mark.usefixtures("board")
def test_two_hundred_damaged_engines_and_sidecars(tmp_path: Path) -> None:
    choose = random.Random(5)
    for number in range(200):
        runtime, version = choose.choice([("tensorrt", (10, 3, 0, 26)), ("tensorrt-rtx", (1, 7, 1, 116))])
        path = written(tmp_path / f"{number}.engine", runtime, version)
        damage = (flip, truncate, swap, other_version, damage_sidecar)[number % 5]
        damage(path, choose)
        assert refusal(path)


def flip(path: Path, choose: random.Random) -> None:
    target = choose.choice([path, path, sidecar_path(path)])
    content = bytearray(target.read_bytes())
    position = choose.randrange(len(content)) if target == path else content.index(b'"sha256"') + choose.randrange(70)
    content[position] ^= 1 << choose.randrange(7)
    target.write_bytes(content)


def truncate(path: Path, choose: random.Random) -> None:
    target = choose.choice([path, sidecar_path(path)])
    content = target.read_bytes()
    target.write_bytes(content[: choose.randrange(len(content) - 2)])


def swap(path: Path, choose: random.Random) -> None:
    runtime = choose.choice(list(MAGIC))
    path.write_bytes(plan_bytes(runtime, (10, 3, 0, 26), choose.randrange(64, 9000), seed=9))
    if choose.random() < 0.5:  # the sidecar belongs to the file, but not to its kind
        other = next(name for name in MAGIC if name != runtime)
        write_sidecar(path, "engine", facts_of(other))


def other_version(path: Path, choose: random.Random) -> None:
    facts = json.loads(sidecar_path(path).read_text())
    path.write_bytes(plan_bytes(facts["runtime"], (choose.choice([8, 9, 11]), choose.randrange(20), 0, 1)))
    write_sidecar(path, "engine", facts_of(facts["runtime"]))


def damage_sidecar(path: Path, choose: random.Random) -> None:
    facts = json.loads(sidecar_path(path).read_text())
    key = choose.choice(
        ["format_version", "kind", "sha256", "runtime", "precision", "shape_nhw", "label_set", "tensorrt"]
    )
    junk = choose.choice([None, 3, -1.5, "", "junk", [], [1], {}, {"a": 1}, True, [[]], ["a", "b", "c"]])
    facts[key] = junk
    if key == "precision":
        del facts[key]
    sidecar_path(path).write_text(choose.choice([json.dumps(facts), "[" * 100_000]))


def test_the_check_alone_needs_no_gpu(tmp_path: Path) -> None:
    path = written(tmp_path / "e.engine")
    check_plan(path, facts_of("tensorrt"), (10, 3, 0), None)
