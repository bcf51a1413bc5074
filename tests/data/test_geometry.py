from __future__ import annotations

import numpy as np
import pytest

from pspnet_edge.data.geometry import FLIPS, UNKNOWN, Box, Geometry, frame_at, mask_at, roi_from_text, turned
from pspnet_edge.errors import OptionError


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_every_pixel_counts_when_a_frame_shrinks(factor: int) -> None:
    """One bright column anywhere is seen in the small frame: no column is left out."""
    for column in range(6 * factor):
        frame = np.zeros((4 * factor, 6 * factor, 3), np.uint8)
        frame[:, column] = 255
        small = frame_at(frame, (4, 6))
        assert small[0, column // factor, 0] >= 255 // factor - 1


def test_a_frame_of_the_right_size_is_not_touched() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    assert frame_at(frame, (4, 6)) is frame


SIZES = [(480, 640), (241, 321), (97, 1001), (1001, 97), (37, 53), (384, 480), (385, 481), (1, 1), (3, 700)]
ENGINES = [(384, 480), (97, 131)]
GEOMETRIES = [Geometry(), Geometry("letterbox"), Geometry("crop"), Geometry(tiles=True)]


def scene(size_hw: tuple[int, int]) -> np.ndarray:
    """A frame whose blocks of 16 pixels are of one class each, told by its blue; only the margin has any green."""
    rows, columns = np.indices(size_hw) // 16
    ids = ((rows * 3 + columns * 5) % 7).astype(np.uint8)
    return np.stack([ids * 30, np.zeros_like(ids), ids], axis=2)


def segment(frame: np.ndarray) -> np.ndarray:
    """A perfect network: the class of each pixel by its blue; the margin is class 100."""
    ids = np.clip((frame[..., 0].astype(int) + 15) // 30, 0, 6)
    return np.where(frame[..., 1] > 0, 100, ids).astype(np.uint8)


def put_back(frame: np.ndarray, geometry: Geometry, engine_hw: tuple[int, int]) -> np.ndarray:
    size_hw = (frame.shape[0], frame.shape[1])
    layout = geometry.layout(size_hw, engine_hw)
    inputs = list(layout.inputs(frame))
    assert {each.shape for each in inputs} == {(*engine_hw, 3)}
    return mask_at(layout.mask([segment(each) for each in inputs]), size_hw)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("engine_hw", ENGINES)
@pytest.mark.parametrize("size_hw", SIZES)
def test_the_margin_never_comes_back_and_every_pixel_that_was_seen_does(
    size_hw: tuple[int, int], engine_hw: tuple[int, int], geometry: Geometry
) -> None:
    mask = put_back(scene(size_hw), geometry, engine_hw)
    assert mask.shape == size_hw
    assert not (mask == 100).any(), "the margin is in the mask"
    assert (mask == UNKNOWN).any() <= (geometry.fit == "crop")


@pytest.mark.parametrize("size_hw", SIZES)
@pytest.mark.parametrize("engine_hw", ENGINES)
def test_tiles_put_every_pixel_back_where_it_was(size_hw: tuple[int, int], engine_hw: tuple[int, int]) -> None:
    frame = scene(size_hw)
    assert (put_back(frame, Geometry(tiles=True), engine_hw) == segment(frame)).all()


@pytest.mark.parametrize("geometry", [Geometry("letterbox"), Geometry("crop"), Geometry()])
@pytest.mark.parametrize("size_hw", [(384, 480), (480, 640), (241, 321), (720, 1280), (601, 303)])
def test_blocks_come_back_within_half_a_pixel_of_the_engine(size_hw: tuple[int, int], geometry: Geometry) -> None:
    """Away from the blocks' edges, where a scaled pixel mixes two classes, every pixel has its own id."""
    frame = scene(size_hw)
    mask, wanted = put_back(frame, geometry, (384, 480)), segment(frame)
    rows, columns = np.indices(size_hw) % 16
    scale = max(size_hw[0] / 384, size_hw[1] / 480, 1)
    edge = int(np.ceil(1.5 * scale))
    inside = (np.minimum(rows, 15 - rows) >= edge) & (np.minimum(columns, 15 - columns) >= edge) & (mask != UNKNOWN)
    assert inside.any()
    assert (mask == wanted)[inside].all()


@pytest.mark.parametrize("roi", [(0, 0, 640, 480), (13, 7, 201, 99), (639, 479, 1, 1), (0, 100, 640, 1)])
@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
def test_outside_the_part_nothing_is_known(roi: tuple[int, int, int, int], fit: str) -> None:
    frame = scene((480, 640))
    mask = put_back(frame, Geometry(fit, roi), (96, 128))
    left, top, width, height = roi
    inside = np.zeros((480, 640), bool)
    inside[top : top + height, left : left + width] = True
    assert (mask[~inside] == UNKNOWN).all()
    if fit != "crop":
        assert (mask[inside] != UNKNOWN).all()


def test_a_part_is_seen_at_its_own_scale_in_tiles() -> None:
    frame = scene((480, 640))
    mask = put_back(frame, Geometry(roi=(33, 21, 501, 301), tiles=True), (96, 128))
    assert (mask[21:322, 33:534] == segment(frame)[21:322, 33:534]).all()


def test_the_middle_is_what_is_left_of_a_crop() -> None:
    (window,) = Geometry("crop").layout((100, 400), (50, 100)).windows
    assert window.source == Box(0, 100, 100, 300)
    (window,) = Geometry("crop").layout((400, 100), (50, 100)).windows
    assert window.source == Box(175, 0, 225, 100)


def test_a_letterbox_keeps_the_shape() -> None:
    (window,) = Geometry("letterbox").layout((720, 1280), (384, 480)).windows
    assert window.inner == Box(57, 0, 327, 480)
    assert window.inner.size_hw == (270, 480)


def test_each_pixel_takes_its_id_from_the_tile_that_sees_most_round_it() -> None:
    layout = Geometry(tiles=True).layout((100, 300), (100, 100))
    for window in layout.windows:
        inner_left = window.target.left - window.source.left
        inner_right = window.source.right - window.target.right
        assert window.source.left == 0 or inner_left >= 12
        assert window.source.right == 300 or inner_right >= 12
    owned = sum(window.target.size_hw[0] * window.target.size_hw[1] for window in layout.windows)
    assert owned == 100 * 300, "each pixel belongs to one tile"


@pytest.mark.parametrize("flip", FLIPS)
def test_a_turn_moves_every_pixel_where_it_says(flip: str) -> None:
    frame = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    expected = {
        "none": frame,
        "180": frame[::-1, ::-1],
        "horizontal": frame[:, ::-1],
        "vertical": frame[::-1],
        "90": np.rot90(frame, -1),
        "270": np.rot90(frame),
    }[flip]
    assert (turned(frame, flip) == expected).all()
    assert (turned(frame[..., 0], flip) == expected[..., 0]).all()


@pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d", "1,2,3,4,5", "-1,2,3,4", "1,2,3,", "1.5,2,3,4"])
def test_a_part_is_four_whole_numbers(text: str) -> None:
    with pytest.raises(OptionError, match="X,Y,WIDTH,HEIGHT"):
        roi_from_text(text)


def test_a_part_must_have_pixels_and_lie_in_the_frame() -> None:
    assert roi_from_text("1, 2,3,4") == (1, 2, 3, 4)
    assert roi_from_text(None) is None
    with pytest.raises(OptionError, match="not a part of a frame"):
        Geometry(roi=(0, 0, 0, 5))
    with pytest.raises(OptionError, match="does not lie inside the frame of 480x640 pixels"):
        Geometry(roi=(600, 0, 41, 10)).layout((480, 640), (96, 128))


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(OptionError, match="unknown fit 'squeeze'"):
        Geometry("squeeze")
    with pytest.raises(OptionError, match="exclude each other"):
        Geometry("crop", tiles=True)
