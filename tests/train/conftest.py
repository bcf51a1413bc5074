from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from pspnet_edge.data.scenes import Drive
from pspnet_edge.labels import CAMVID


@pytest.fixture(scope="session")
def small_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of layout ``folder``: 30 images to train and 2 to validate, 120×160."""
    root = tmp_path_factory.mktemp("scenes")
    for split, count, first in (("train", 30, 0), ("val", 2, 90)):
        for index in range(count):
            frame = Drive(first + index, (120, 160)).frame(7 * index)
            for folder, content in (("images", frame.image), ("masks", frame.mask)):
                path = root / folder / split / f"{index:02d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), content)
    (root / "classes.txt").write_text("\n".join(CAMVID.classes))
    return root
