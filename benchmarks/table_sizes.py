"""What a calibration table costs at sizes that it was not made at: INT8 with the carried table against one of the size.

python benchmarks/table_sizes.py --root CamVid
writes benchmarks/results/table_sizes.json and the table in docs/int8.md.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from zoo import ROOT, with_section

from pspnet_edge import bundled
from pspnet_edge.artifact import write_json
from pspnet_edge.data.calibration_list import read_list, shipped_list
from pspnet_edge.data.datasets import open_dataset
from pspnet_edge.data.subset import evenly_spaced
from pspnet_edge.engine.backends import open_engine
from pspnet_edge.engine.build import build_engine
from pspnet_edge.engine.model import prepare_model
from pspnet_edge.graph.calibrate import table_from_dataset
from pspnet_edge.graph.calibration_table import write_table
from pspnet_edge.graph.onnx_file import read_model
from pspnet_edge.measure.evaluate import evaluate_engine

SIZES = ((288, 512), (384, 640), (540, 960))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of CamVid")
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--images", type=int, help="calibrate on so many of the listed images only")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size_hw in SIZES:
            rows.append(measured(size_hw, options.root, options.runtime, Path(folder), options.images))
            print(rows[-1], flush=True)
    write_json(ROOT / "benchmarks" / "results" / "table_sizes.json", {"runtime": options.runtime, "rows": rows})
    page = ROOT / "docs" / "int8.md"
    lines = ["| size | FP32 | INT8, carried table | INT8, table of that size | difference |", "|---|---|---|---|---|"]
    lines += [
        f"| {row['size']} | {row['fp32']:.4f} | {row['carried']:.4f} | {row['own']:.4f} "
        f"| {row['carried'] - row['own']:+.4f} |"
        for row in rows
    ]
    page.write_text(with_section(page.read_text(), "table_sizes", "\n".join(lines)))


def measured(size_hw: tuple[int, int], root: Path, runtime: str, folder: Path, count: int | None) -> dict[str, object]:
    """mIoU on the validation split: FP32, and INT8 with either table."""
    size = f"{size_hw[0]}x{size_hw[1]}"
    model = prepare_model(bundled.DEFAULT, size_hw)
    listed = shipped_list("camvid")
    assert listed is not None
    images = read_list(listed).of(open_dataset("camvid", root, "train"))
    images = images if count is None else evenly_spaced(images, count)
    table, _ = table_from_dataset(read_model(model.path), images, dataset="camvid train")
    own = folder / f"{size}.calib.json"
    write_table(own, table)
    validation = open_dataset("camvid", root, "val")
    found: dict[str, object] = {"size": size, "images": len(images)}
    for name, precision, calibration in (("fp32", "fp32", None), ("carried", "int8", None), ("own", "int8", own)):
        path = folder / f"{name}.engine"
        build_engine(model, precision, runtime, path, calibration=calibration)
        with open_engine(path) as engine:
            evaluation = evaluate_engine(engine, validation)
        miou = evaluation["miou"] if isinstance(evaluation, dict) else evaluation.miou
        found[name] = round(float(miou), 6)
    return found


if __name__ == "__main__":
    main()
