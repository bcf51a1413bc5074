from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pspnet_edge.data.images import ImageFiles
from pspnet_edge.errors import DataError


def test_images_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    for level in (10, 20, 30):
        cv2.imwrite(str(tmp_path / f"{level}.png"), np.full((4, 4, 3), level, np.uint8))
    (tmp_path / "notes.txt").write_text("no image")
    images = ImageFiles(tmp_path)
    assert [int(image.mean()) for image in images] == [10, 20, 30]
    assert [int(image.mean()) for image in images[1:]] == [20, 30]
    (tmp_path / "20.png").write_bytes(b"broken")
    assert int(images[2].mean()) == 30
    with pytest.raises(DataError, match=r"20\.png"):
        images[1]


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no image"):
        ImageFiles(tmp_path)


def test_the_folder_of_a_data_set_is_pointed_to_its_images(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match=r"holds no image: name its folder .*images"):
        ImageFiles(tmp_path)
