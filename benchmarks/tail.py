"""OpenVINO's own Resize and ArgMax against the tail that its engines have, in one interleaved run.

    python benchmarks/tail.py [--rounds 25]

The bundled model in every precision, graph against graph, from uint8 frame to uint8 mask; and how many pixels of the masks
differ. Writes benchmarks/results/tail.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial

import numpy as np
from speed import FRAMES, interleaved, one_after_another, processor, ratio
from zoo import ROOT

from pspnet_edge import bundled
from pspnet_edge.artifact import write_json
from pspnet_edge.data.datasets import SceneSet
from pspnet_edge.data.geometry import frame_at
from pspnet_edge.engine.openvino.concat import quantised_before_concat
from pspnet_edge.engine.openvino.session import OpenVinoSession
from pspnet_edge.engine.openvino.tail import tail_by_class
from pspnet_edge.engine.session import Session
from pspnet_edge.graph.calibration_table import read_table
from pspnet_edge.graph.onnx_file import ModelFile, read_model
from pspnet_edge.graph.precision import PRECISIONS, fp16_model
from pspnet_edge.graph.quantize import int8_model, with_uint8_activations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    rounds = parser.parse_args().rounds
    sessions = dict(compiled())
    size_hw = read_model(bundled.onnx_path(bundled.DEFAULT)).shape_nhw[1:]
    frames = [frame_at(SceneSet("test").image(index), size_hw)[None] for index in range(FRAMES)]
    seconds = interleaved(
        {name: partial(one_after_another, session) for name, session in sessions.items()}, frames, rounds
    )
    rows = [
        {
            "precision": precision,
            "own_tail_ms": round(1000 * float(np.median(seconds[f"{precision} own"])), 2),
            "by_class_ms": round(1000 * float(np.median(seconds[f"{precision} by class"])), 2),
            "times_as_fast": ratio(seconds[f"{precision} own"], seconds[f"{precision} by class"]),
            "pixels_that_differ": different(sessions[f"{precision} own"], sessions[f"{precision} by class"], frames),
        }
        for precision in PRECISIONS
    ]
    facts = {"processor": processor(), "rounds": rounds, "frames_a_round": FRAMES, "rows": rows}
    write_json(ROOT / "benchmarks" / "results" / "tail.json", facts)
    for row in rows:
        print(*(f"{key} {value}" for key, value in row.items()), sep="  ")


def compiled() -> Iterator[tuple[str, Session]]:
    """Each precision with either tail."""
    for precision in PRECISIONS:
        own = in_precision(precision)
        for name, graph in (("own", own), ("by class", tail_by_class(own))):
            content = graph.proto.SerializeToString()
            yield f"{precision} {name}", OpenVinoSession(content, precision, name)


def in_precision(precision: str) -> ModelFile:
    """What ``build`` makes for OpenVINO, before the tail."""
    model = read_model(bundled.onnx_path(bundled.DEFAULT))
    if precision == "int8":
        table = read_table(bundled.table_path(bundled.DEFAULT))
        return quantised_before_concat(with_uint8_activations(int8_model(model, table)))
    return fp16_model(model) if precision == "fp16" else model


def different(first: Session, second: Session, frames: list[np.ndarray]) -> float:
    """The share of the pixels."""
    return round(float(np.mean([(first.infer(frame) != second.infer(frame)).mean() for frame in frames])), 7)


if __name__ == "__main__":
    main()
