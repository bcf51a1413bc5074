from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pspnet_edge.camera.mask_folder import MaskFolder, indexed_png
from pspnet_edge.camera.overlay import Overlay
from pspnet_edge.camera.shot import Shot
from pspnet_edge.data.png import has_palette, indexed_image
from pspnet_edge.errors import OutputError
from pspnet_edge.labels import CAMVID

OVERLAY = Overlay(CAMVID)


def shot(index: int = 12, camera: int = 0, banner: str = "") -> Shot:
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4) % 11
    return Shot(camera, index, np.zeros((6, 8, 3), np.uint8), mask, 0.0, OVERLAY, "", banner)


def fail(sentence: str) -> None:
    raise AssertionError(sentence)


def test_ids_are_palette_indices_at_the_frames_size(tmp_path: Path) -> None:
    folder = MaskFolder(tmp_path / "masks", CAMVID, 1, fail)
    assert folder.show(shot())
    (path,) = (tmp_path / "masks").iterdir()
    assert path.name == "00000012.png"
    image = indexed_image(path.read_bytes())
    np.testing.assert_array_equal(image.indices, np.kron(shot().mask, np.ones((2, 2), np.uint8)))
    np.testing.assert_array_equal(image.palette[: len(CAMVID)], CAMVID.palette)


def test_other_readers_see_the_colours() -> None:
    pil = pytest.importorskip("PIL.Image", reason="Pillow comes with the training extra")
    import io

    mask = np.random.default_rng(1).integers(0, 11, (33, 47)).astype(np.uint8)
    encoded = indexed_png(mask, np.ascontiguousarray(CAMVID.bgr_table()[:, ::-1]))
    assert has_palette(encoded)
    image = pil.open(io.BytesIO(encoded))
    np.testing.assert_array_equal(np.asarray(image), mask)
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), np.asarray(CAMVID.palette)[mask])


def test_several_sources_do_not_overwrite_each_other(tmp_path: Path) -> None:
    folder = MaskFolder(tmp_path, CAMVID, 2, fail)
    folder.show(shot(3, camera=0))
    folder.show(shot(3, camera=1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0-00000003.png", "1-00000003.png"]


def test_an_old_frame_shown_again_is_not_saved(tmp_path: Path) -> None:
    MaskFolder(tmp_path, CAMVID, 1, fail).show(shot(banner="STALE 2 s"))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_ends_saving_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    folder = MaskFolder(tmp_path, CAMVID, 1, said.append)

    def full(path: Path, content: bytes) -> int:
        with path.open("wb") as stream:
            stream.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert folder.show(shot(1))
    assert folder.show(shot(2))
    assert len(said) == 1
    assert "No space left" in said[0]
    assert list(tmp_path.iterdir()) == [], "no half file stays"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "masks").write_text("")
    with pytest.raises(OutputError, match="is not a folder"):
        MaskFolder(tmp_path / "masks", CAMVID, 1, fail)
