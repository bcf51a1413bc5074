"""The command lines that README.md and docs/ show, and those of 0.1's README."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Every command of README.md at its last commit before 0.2.0 (30d8990).
OF_0_1 = """
pspnet-edge benchmark mine.onnx --precision fp32,int8 --dataset folder --root my_data -o next --against report/report.json
pspnet-edge benchmark mine.onnx --precision fp32,int8 --dataset folder --root my_data -o report
pspnet-edge build --precision int8
pspnet-edge build --precision int8 --max-drop 0.003 --dataset camvid --root CamVid
pspnet-edge build mine.onnx --precision int8 -o mine.engine
pspnet-edge build runs/mine-int8/best.pt --precision int8
pspnet-edge calibrate mine.onnx --dataset folder --root my_data -o mine.calib.json
pspnet-edge data check folder --root my_data
pspnet-edge doctor
pspnet-edge evaluate --dataset camvid --root CamVid --split test --json
pspnet-edge export ours.pt --size 512x1024
pspnet-edge export runs/mine/best.pt -o mine.onnx --size 384x480
pspnet-edge import --auto theirs.pth --label-set cityscapes -o ours.pt
pspnet-edge run --camera 0 --precision int8
pspnet-edge run --camera 0 --precision int8 --view web
pspnet-edge run --input video.mp4 --view none --record overlay.mp4 --json
pspnet-edge run mine.engine --camera 0
pspnet-edge train --dataset folder --root my_data -o runs/mine
pspnet-edge train --qat --init runs/mine/best.pt --dataset folder --root my_data -o runs/mine-int8
""".strip().splitlines()  # noqa: E501

# Spellings that 0.2.0 replaced, and the line that each prints.
FORMER = {
    "pspnet-edge import --auto absent.pth -o ours.pt": "--auto is the old spelling",
    "pspnet-edge import semseg absent.pth -o ours.pt": "`import semseg FILE` is the old spelling",
    "pspnet-edge run --camera 63 --size 1280x720": "--size is HEIGHTxWIDTH now: taking 1280x720 as 720x1280",
    "pspnet-edge train --dataset kitti --tensorboard": "--tensorboard is now --log tensorboard",
    "pspnet-edge train --dataset kitti --freeze-batchnorm": "--freeze-batchnorm is now --freeze batchnorm",
}

_PROGRAM = re.compile(r"(?:[A-Z_]+=\S+ )*(?:pspnet-edge|(?:torchrun .*)?(?:python )?-m pspnet_edge) ")
_PLACEHOLDER = re.compile(r"…|\.\.\.|COMMAND|[\[\]<>]|\w\|\w")


def shown_commands() -> dict[str, str]:
    """Each command line of a code block once, and the page that it is on."""
    return {line: page for page, text in _pages() for line in _in_blocks(text)}


def mentioned_commands() -> dict[str, str]:
    """What running text quotes, such as ``pspnet-edge build --max-drop``, and the page that it is on."""
    return {
        _without_comment(quoted): page
        for page, text in _pages()
        for quoted in re.findall(r"`(pspnet-edge [^`]+)`", text)
    }


def arguments_of(line: str) -> list[str]:
    """What the program gets of a command line."""
    words = shlex.split(line, comments=True)
    end = next((place for place, word in enumerate(words) if word in ("|", "&&", ">", ">>", "&", "2>")), len(words))
    start = next(place for place, word in enumerate(words) if word in ("pspnet-edge", "pspnet_edge"))
    return words[start + 1 : end]


def _pages() -> Iterator[tuple[str, str]]:
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        yield page.name, page.read_text(encoding="utf-8")


def _in_blocks(text: str) -> Iterator[str]:
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        block = line.strip().removeprefix("$ ")
        if _PROGRAM.match(block) and not _PLACEHOLDER.search(_without_comment(block)):
            yield _without_comment(block)


def _without_comment(line: str) -> str:
    return re.split(r"\s{3,}|\s+#\s", line)[0]
