from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest

from pspnet_edge.camera.overlay import Overlay
from pspnet_edge.camera.picture_folder import PictureFolder, mask_folder, overlay_folder, stems_of
from pspnet_edge.camera.shot import Shot
from pspnet_edge.camera.sources import DemoSource, ImageSource
from pspnet_edge.data.png import has_palette, indexed_image, indexed_png
from pspnet_edge.errors import OutputError
from pspnet_edge.labels import CAMVID

OVERLAY = Overlay(CAMVID)


def shot(index: int = 12, camera: int = 0, banner: str = "") -> Shot:
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4) % 11
    return Shot(camera, index, np.zeros((6, 8, 3), np.uint8), mask, 0.0, OVERLAY, "", banner)


def fail(sentence: str) -> None:
    raise AssertionError(sentence)


def video_masks(folder: Path, cameras: int = 1, warn=fail) -> PictureFolder:
    return mask_folder(folder, CAMVID, [DemoSource()] * cameras, warn)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("street.jpg", "yard.png"):
        cv2.imwrite(str(folder / name), np.zeros((6, 8, 3), np.uint8))
    return folder


def test_ids_are_palette_indices_at_the_frames_size(tmp_path: Path) -> None:
    folder = video_masks(tmp_path / "masks")
    assert folder.show(shot())
    (path,) = (tmp_path / "masks").glob("[!.]*")
    assert path.name == "00000012.png"
    image = indexed_image(path.read_bytes())
    np.testing.assert_array_equal(image.indices, np.kron(shot().mask, np.ones((2, 2), np.uint8)))
    np.testing.assert_array_equal(image.palette[: len(CAMVID)], CAMVID.palette)


def test_other_readers_see_the_colours() -> None:
    pil = pytest.importorskip("PIL.Image", reason="Pillow comes with the training extra")
    mask = np.random.default_rng(1).integers(0, 11, (33, 47)).astype(np.uint8)
    encoded = indexed_png(mask, np.ascontiguousarray(CAMVID.bgr_table()[:, ::-1]))
    assert has_palette(encoded)
    image = pil.open(io.BytesIO(encoded))
    np.testing.assert_array_equal(np.asarray(image), mask)
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), np.asarray(CAMVID.palette)[mask])


def test_masks_and_overlays_carry_the_names_of_their_images(images: Path, tmp_path: Path) -> None:
    sources = [ImageSource(images)]
    for make, suffix in ((mask_folder, ".png"), (overlay_folder, ".jpg")):
        folder = tmp_path / suffix[1:]
        arguments = (CAMVID, sources) if make is mask_folder else (sources,)
        pictures = make(folder, *arguments, fail)
        for index in (0, 1):
            pictures.show(shot(index))
        assert sorted(path.name for path in folder.glob("[!.]*")) == [f"street{suffix}", f"yard{suffix}"]
        assert pictures.written == 2


def test_images_that_differ_only_in_suffix_or_folder_get_different_names(tmp_path: Path) -> None:
    source = ImageSource([tmp_path / name for name in ("a.jpg", "a.png", "x/a.png", "b.png")])
    assert stems_of(source) == ["a-jpg", "a-png", "a-png-2", "b"]


def test_several_sources_do_not_overwrite_each_other(tmp_path: Path) -> None:
    folder = video_masks(tmp_path, 2)
    folder.show(shot(3, camera=0))
    folder.show(shot(3, camera=1))
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == ["0-00000003.png", "1-00000003.png"]


def test_a_second_run_takes_a_folder_beside_the_first_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    for _ in range(3):
        video_masks(tmp_path / "masks", warn=said.append).show(shot(1))
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == ["masks", "masks-2", "masks-3"]
    assert len(said) == 2
    assert "masks-3" in said[1]


def test_the_folder_beside_is_named_as_the_first_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for given, beside in (("masks", "masks-2"), (".", f"{tmp_path}-2")):
        with video_masks(Path(given)) as masks:
            masks.show(shot())
        said: list[str] = []
        with video_masks(Path(given), warn=said.append) as masks:
            masks.show(shot())
        assert said == [f"{given} holds files that masks would replace: these go to {beside}"]
        assert list(Path(beside).glob("*.png"))


def test_images_are_never_replaced_by_their_overlays(images: Path) -> None:
    before = (images / "street.jpg").read_bytes()
    said: list[str] = []
    overlays = overlay_folder(images, [ImageSource(images)], said.append)
    overlays.show(shot(0))
    assert (images / "street.jpg").read_bytes() == before
    assert overlays.folder == images.with_name("images-2")
    assert said


def test_a_folder_with_other_things_in_it_is_taken(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    assert video_masks(tmp_path).folder == tmp_path


def test_an_old_frame_shown_again_is_not_saved(tmp_path: Path) -> None:
    video_masks(tmp_path).show(shot(banner="STALE 2 s"))
    assert list(tmp_path.glob("[!.]*")) == []


def test_a_full_disk_ends_saving_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    folder = video_masks(tmp_path, warn=said.append)

    def full(path: Path, content: bytes) -> int:
        with path.open("wb") as stream:
            stream.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert folder.show(shot(1))
    assert folder.show(shot(2))
    assert len(said) == 1
    assert "No space left" in said[0]
    assert list(tmp_path.glob("[!.]*")) == [], "no half file stays"


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "masks").write_text("")
    with pytest.raises(OutputError, match="is not a folder"):
        video_masks(tmp_path / "masks")
