"""``pspnet-edge adapt``: another program's ONNX → ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import parse_size
from .output import JsonFlag, result, say

if TYPE_CHECKING:
    from ..graph.adapt import Adapted
    from ..labels import LabelSet


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("adapt")(adapt)


def adapt(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="Segmentation network from another tool.")],
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|N",
            help="File of class names in output order, one per line; or the number of classes. "
            "Default: the names in the model or in config.json beside it.",
        ),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(
            metavar="M,M,M",
            help="Mean to subtract, after --scale. Default: from preprocessor_config.json beside the model, else 0.",
        ),
    ] = None,
    std: Annotated[
        str | None, typer.Option(metavar="S,S,S", help="Standard deviation to divide by. Default: 1.")
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(
            metavar="F",
            help="Factor on the pixel values, applied first. Default: 1/255; 1 if mean or std is above 5.",
        ),
    ] = None,
    colour: Annotated[
        str | None,
        typer.Option(
            "--colour", "--color", metavar="rgb|bgr", help="Channel order that the network expects. Default: rgb."
        ),
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="HEIGHTxWIDTH", help="Input size, if the network accepts any.")
    ] = None,
    threshold: Annotated[
        float,
        typer.Option(
            metavar="P", help="For a network with one output score: probability above which a pixel is the object."
        ),
    ] = 0.5,
    output_name: Annotated[
        str | None,
        typer.Option("--output-name", metavar="NAME", help="Output that holds the segmentation, if there are several."),
    ] = None,
    layout: Annotated[str, typer.Option(metavar="auto|nchw|nhwc", help="Input layout of the network.")] = "auto",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Default: MODEL.adapted.onnx.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Wrap a segmentation ONNX model from another tool, so that calibrate, build, run and benchmark accept it.

    The model must be float, opset 9 to 21, and output class scores (logits or probabilities, at any stride), a single
    score, or class ids.

    Example:

      pspnet-edge adapt segformer.onnx --classes classes.txt --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
    """
    from ..errors import OptionError
    from ..graph.adapt import adapt as adapt_model
    from ..graph.described import Preprocessing, described

    target = output or model.with_suffix(".adapted.onnx")
    if colour not in (None, "rgb", "bgr"):
        raise OptionError(f"unknown order of colours {colour!r}", "choose rgb or bgr", parameter="colour")
    given = {
        "mean": _numbers(mean, "mean"),
        "std": _numbers(std, "std"),
        "scale": None if scale is None else _number(scale, "scale"),
        "colour": colour,
    }
    chosen = {option: value for option, value in given.items() if value is not None}
    # A mean that is given is not mixed with the deviation of a file.
    base = Preprocessing() if {"mean", "std"} & chosen.keys() else described(model).preprocessing or Preprocessing()
    if chosen.get("colour", base.colour) != base.colour:  # numbers belong to colours
        base = replace(base, mean=base.mean[::-1], std=base.std[::-1])
    adapted = adapt_model(
        model,
        target,
        None if classes is None else _classes(classes),
        preprocessing=replace(base, **chosen) if chosen else None,  # type: ignore[arg-type]
        size_hw=parse_size(size) if size else None,
        threshold=threshold,
        output_name=output_name,
        layout=layout,
    )
    _tell(adapted)
    height, width = adapted.shape_nhw[1:]
    summary = f"{target}: {len(adapted.label_set)} classes at {height}×{width}, {adapted.gmac} GMAC per frame"
    result(adapted.to_dict(), as_json, summary)


def _tell(adapted: Adapted) -> None:
    mean, std = (",".join(f"{value:.6g}" for value in values) for values in (adapted.mean, adapted.std))
    say(
        f"the network reads {adapted.colour} pixels times {adapted.scale:.6g}, less {mean}, over {std}; "
        f"its output {adapted.output} is taken as {adapted.kind}"
        + (f", upsampled {adapted.upsampled:.3g} times" if adapted.upsampled > 1 else "")
    )
    for remark in adapted.remarks:
        say(remark)
    if adapted.agreement is not None:
        say(f"{adapted.agreement:.2%} of the pixels of a test picture get the class that the original gives")


def _classes(text: str) -> LabelSet | int:
    from ..data.class_list import read_class_list

    return int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else read_class_list(Path(text)).label_set


def _numbers(text: str | None, parameter: str) -> tuple[float, ...] | None:
    return None if text is None else tuple(_number(part, parameter) for part in text.split(","))


def _number(text: str, parameter: str) -> float:
    """A decimal number, or a fraction such as ``1/255``."""
    from ..errors import OptionError

    try:
        above, _, below = text.partition("/")
        return float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError) as error:
        raise OptionError(
            f"{text!r} is not a number", "give numbers such as 0.485 or 1/255", parameter=parameter
        ) from error
