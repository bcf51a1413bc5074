"""Damaged inputs for ``fuzz.py``: sound files of a few kilobytes, and edits of them by their structure.

An area is a kind of input. ``make_case`` turns an area and a few edits, each a number that seeds its own random choices,
into files in a folder and the arguments of one command; the same numbers give the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_checkpoints import checkpoint_case, make_foreign
from fuzz_data import fetch_case, labels_case, make_exports
from fuzz_edits import Edits, edit_value, edited_bytes, edited_json, edited_png, edited_text, json_bytes
from fuzz_state import adapted_case, deployed_case, kept_case, make_states, recipe_case, report_case

SIZE = 32
_WORDS = ("", "auto", "-1", "0", "1", "2", "1e400", "nan", "inf", "9" * 30, "9" * 5000, "x", "\u0660", "é" * 200, "a/b")
_WORDS += (
    ".",
    "..",
    "/",
    "0x0",
    "1x1",
    "32x32",
    "99999x99999",
    "-1x5",
    "32X",
    "1,2,3",
    ",",
    "n" * 5000,
    "missing",
    " ",
)
_WORDS += ("int8", "fp32", "onnxruntime", "openvino", "folder", "test", "\u202e", "bad\udcffname", "tcp://", "http://[")


def make_seeds(folder: Path) -> None:
    """Sound files that cases start from."""
    import cv2
    import onnx

    from pspnet_edge.data.images import ImageFiles
    from pspnet_edge.engine.build import build_engine, prepare_model
    from pspnet_edge.graph.calibrate import table_from_dataset
    from pspnet_edge.graph.calibration_table import write_table
    from pspnet_edge.graph.onnx_file import read_model, write_model

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for kind in ("images", "masks"):
            (folder / "set" / kind / split).mkdir(parents=True)
        for index in range(2):
            picture = rng.integers(0, 255, (SIZE, SIZE, 3), np.uint8)
            cv2.imwrite(str(folder / f"set/images/{split}/{index}.png"), picture)
            cv2.imwrite(str(folder / f"set/masks/{split}/{index}.png"), picture[..., 0] % 4)
    (folder / "set/classes.txt").write_text("road\nsky\ncar\ntree\n")
    cv2.imwrite(str(folder / "picture.png"), picture)
    cv2.imwrite(str(folder / "picture.jpg"), picture)
    cv2.imwrite(str(folder / "picture.bmp"), picture)
    cv2.imwrite(str(folder / "picture.tif"), picture)
    for name, code in (("film.avi", "MJPG"), ("film.mp4", "mp4v")):
        writer = cv2.VideoWriter(str(folder / name), cv2.VideoWriter.fourcc(*code), 10, (SIZE, SIZE))
        for _ in range(4):
            writer.write(picture)
        writer.release()
    write_model(folder / "small.onnx", small_model())
    onnx.save(_foreign_model(read_model(folder / "small.onnx").proto), folder / "foreign.onnx")
    model = read_model(folder / "small.onnx")
    table, _ = table_from_dataset(model, ImageFiles(folder / "set/images/train"), dataset="noise")
    write_table(folder / "small.calib.json", table)
    for runtime in ("onnxruntime", "openvino"):
        build_engine(prepare_model(str(folder / "small.onnx")), "fp32", runtime, folder / f"{runtime}.engine")
    _make_pack(folder)
    make_foreign(folder)
    make_exports(folder / "exports")
    make_states(folder)


def small_model() -> Any:
    """A network of a few kilobytes with the operators that ours have."""
    from onnx import TensorProto, helper, numpy_helper

    from pspnet_edge.graph.onnx_file import model_file
    from pspnet_edge.labels import CAMVID, LabelSet

    rng = np.random.default_rng(0)
    wide = [("w0", (8, 3, 3, 3)), ("b0", (8,)), ("w1", (8, 1, 3, 3)), ("b1", (8,)), ("w2", (4, 8, 1, 1)), ("b2", (4,))]
    stored = [numpy_helper.from_array(rng.normal(size=shape).astype("f4"), name) for name, shape in wide]
    stored.append(numpy_helper.from_array(np.array([1, 1, 2, 2], "f4"), "scales"))
    stored.append(numpy_helper.from_array(np.full((1, 3, 1, 1), 100, "f4"), "mean"))
    stored.append(numpy_helper.from_array(np.full((1, 3, 1, 1), 50, "f4"), "std"))
    steps: list[tuple[str, list[str], dict[str, Any]]] = [
        ("Cast", ["frames"], {"to": TensorProto.FLOAT}),
        ("Transpose", ["t0"], {"perm": [0, 3, 1, 2]}),
        ("Sub", ["t1", "mean"], {}),
        ("Div", ["t2", "std"], {}),
        ("Conv", ["t3", "w0", "b0"], {"strides": [2, 2], "pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}),
        ("Relu", ["t4"], {}),
        ("Conv", ["t5", "w1", "b1"], {"group": 8, "pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}),
        ("Relu", ["t6"], {}),
        ("Conv", ["t7", "w2", "b2"], {"kernel_shape": [1, 1]}),
        ("Resize", ["t8", "", "scales"], {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}),
        ("ArgMax", ["t9"], {"axis": 1, "keepdims": 0}),
        ("Cast", ["t10"], {"to": TensorProto.UINT8}),
    ]
    last = len(steps) - 1
    nodes = [
        helper.make_node(kind, inputs, ["masks" if i == last else f"t{i}"], f"{kind.lower()}_{i}", **attributes)
        for i, (kind, inputs, attributes) in enumerate(steps)
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, [1, SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("masks", TensorProto.UINT8, [1, SIZE, SIZE])],
        stored,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model_file(proto, "small", LabelSet("four", ("road", "sky", "car", "tree"), CAMVID.palette[:4]), {})


def _foreign_model(ours: Any) -> Any:
    """The same network as another program exports it: float pictures in, scores out."""
    import onnx
    from onnx import TensorProto, helper

    nodes = [node for node in ours.graph.node if node.op_type in ("Conv", "Relu", "Resize")]
    nodes[0].input[0] = "picture"
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, [1, 4, SIZE, SIZE])],
        [tensor for tensor in ours.graph.initializer if tensor.name not in ("mean", "std")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def _make_pack(folder: Path) -> None:
    from pspnet_edge.deploy.pack import Contents, make_pack
    from pspnet_edge.engine.model import prepare_model

    model = prepare_model(str(folder / "small.onnx"))
    make_pack(model, folder / "small.pspnet", Contents(name="small", golden=1, precisions=("fp32",)))


# Edits of files


def edited_onnx(content: bytes, edits: Edits) -> bytes:
    import onnx

    proto, flips = onnx.ModelProto.FromString(content), []
    for edit in edits:
        rng = random.Random(edit)
        if rng.random() < 0.12:
            flips.append(edit)
        else:
            rng.choice(_ONNX_EDITS)(proto, rng)
    return edited_bytes(proto.SerializeToString(), flips)


def _edit_node(proto: Any, rng: random.Random) -> None:
    nodes = proto.graph.node
    if not nodes:
        return
    node = rng.choice(list(nodes))
    kind = rng.randrange(8)
    if kind == 0:
        nodes.remove(node)
    elif kind == 1:
        from onnx import defs

        node.op_type = rng.choice(sorted({schema.name for schema in defs.get_all_schemas()}))
    elif kind == 2 and node.attribute:
        node.attribute.remove(rng.choice(list(node.attribute)))
    elif kind == 3 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(("", "frames", "masks", "t3", "w0", "nothing"))
    elif kind == 4:
        nodes.add().CopyFrom(node)
    elif kind == 5 and node.output:
        node.output[0] = rng.choice(("", "masks", "t3", "frames", "w0"))
    elif kind == 6:
        node.domain = rng.choice(("com.microsoft", "ai.onnx.ml", "x"))
    else:
        node.name = rng.choice(("", "t3", "x" * 5000, "/\0", "relu_5"))


def _edit_attribute(proto: Any, rng: random.Random) -> None:
    from onnx import AttributeProto

    nodes = [node for node in proto.graph.node if node.attribute]
    if not nodes:
        return
    attribute = rng.choice(list(rng.choice(nodes).attribute))
    kind = rng.randrange(6)
    if kind == 0:
        attribute.type = rng.choice(list(AttributeProto.AttributeType.values()))
    elif kind == 1:
        attribute.name = rng.choice(("", "mode", "axis", "to", "kernel_shape", "nearest_mode"))
    elif kind == 2 and attribute.ints:
        del attribute.ints[rng.randrange(len(attribute.ints)) :]
    elif attribute.ints:
        attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(
            (0, -1, 1, 2, 7, 10**6, 2**31, 2**63 - 1, -(2**63))
        )
    elif attribute.s:
        attribute.s = rng.choice((b"", b"nearest", b"cubic", b"align_corners", b"asymmetric", b"\xff\xfe", b"x" * 9999))
    else:
        attribute.i = rng.choice((0, -1, 1, 2, 3, 6, 7, 10, 11, 16, 99, 2**31, 2**63 - 1))


def _edit_constant(proto: Any, rng: random.Random) -> None:
    if not proto.graph.initializer:
        return
    tensor = rng.choice(list(proto.graph.initializer))
    kind = rng.randrange(8)
    if kind == 0:
        proto.graph.initializer.remove(tensor)
    elif kind == 1:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice((0, -1, 1, 2, 3, 10**9, 2**62))
    elif kind == 2:
        tensor.dims.append(rng.choice((0, 1, 10**9)))
    elif kind == 3:
        tensor.data_type = rng.randrange(24)
    elif kind == 4:
        tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data) + 1)]
    elif kind == 5:
        value = rng.choice((np.nan, np.inf, -np.inf, 0, -1, 3e38, 1e-45, 1e30))
        array = np.frombuffer(tensor.raw_data[: len(tensor.raw_data) // 4 * 4], "<f4").copy()
        array[rng.randrange(len(array)) :] = value
        tensor.raw_data = array.tobytes()
    elif kind == 6:
        tensor.data_location = 1
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", rng.choice(("../picture.png", "picture.png", ""))
    else:
        tensor.name = rng.choice(("", "w0", "t3", "frames"))


def _edit_shape(proto: Any, rng: random.Random) -> None:
    values = list(proto.graph.input) + list(proto.graph.output)
    if not values:
        return
    value = rng.choice(values)
    dims = value.type.tensor_type.shape.dim
    kind = rng.randrange(6)
    if kind == 0 and dims:
        rng.choice(list(dims)).dim_param = rng.choice(("batch", "", "N" * 999))
    elif kind == 1:
        dims.add().dim_value = rng.choice((0, 1, 3))
    elif kind == 2:
        value.type.tensor_type.elem_type = rng.randrange(20)
    elif kind == 3:
        value.name = rng.choice(("", "x", "t3", "masks"))
    elif kind == 4:
        other = rng.choice((proto.graph.input, proto.graph.output))
        other.add().CopyFrom(value)
    elif dims:
        rng.choice(list(dims)).dim_value = rng.choice((0, -1, 1, 3, 4, 16, 31, 10**5, 10**9, 2**62))


def _edit_head(proto: Any, rng: random.Random) -> None:
    kind = rng.randrange(6)
    if kind == 0 and proto.metadata_props:
        entry = rng.choice(list(proto.metadata_props))
        try:
            value = json_bytes(edit_value(json.loads(entry.value), rng)).decode()
        except ValueError:
            value = ""
        entry.value = value
    elif kind == 1 and proto.opset_import:
        proto.opset_import[0].version = rng.choice((-1, 0, 1, 9, 11, 13, 16, 18, 21, 22, 99, 2**62))
    elif kind == 2:
        proto.ir_version = rng.choice((0, 1, 3, 4, 7, 9, 99, 2**62))
    elif kind == 3:
        del proto.metadata_props[:]
    elif kind == 4:
        function = proto.functions.add()
        function.name, function.domain = "Relu", ""
    else:
        proto.graph.name = rng.choice(("", "x" * 9999))


def _edit_flow(proto: Any, rng: random.Random) -> None:
    """An ``If`` or an endless ``Loop``, or a chain of many nodes."""
    from onnx import helper

    if rng.random() < 0.5:
        inner = helper.make_graph([helper.make_node("Identity", ["t3"], ["inner"])], "g", [], [])
        kind = rng.choice(("If", "Loop", "Scan"))
        proto.graph.node.append(helper.make_node(kind, ["t3"], ["flow"], then_branch=inner, body=inner))
    else:
        before = "t5"
        for index in range(rng.choice((10, 300))):
            proto.graph.node.append(helper.make_node("Relu", [before], [f"many{index}"]))
            before = f"many{index}"


_ONNX_EDITS: tuple[Callable[[Any, random.Random], None], ...] = (
    _edit_node,
    _edit_node,
    _edit_attribute,
    _edit_attribute,
    _edit_constant,
    _edit_constant,
    _edit_shape,
    _edit_head,
    _edit_flow,
)


def _edited_pack(content: bytes, edits: Edits) -> bytes:
    """Parts changed, half of the time with sums and seal that fit."""
    rng = random.Random(edits[0] if edits else 0)
    if not edits or rng.random() < 0.2:
        return edited_bytes(content, edits)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(parts.pop("manifest.json"))
    where = rng.randrange(4)
    if where == 0 and "model.onnx" in parts:
        parts["model.onnx"] = edited_onnx(parts["model.onnx"], edits)
    elif where == 1:
        name = rng.choice(sorted(parts))
        parts[name] = edited_bytes(parts[name], edits)
    elif where == 2:
        parts[rng.choice(("../x", "/x", "golden/99.png", "manifest.sig", "x" * 300, "é"))] = b"x"
    if rng.random() < 0.8:
        manifest["parts"] = {
            name: {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()} for name, body in parts.items()
        }
    parts["manifest.json"] = edited_json(json.dumps(manifest).encode(), edits) if where == 3 else json_bytes(manifest)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", rng.choice((0, 0, 0, 8))) as archive:
        archive.comment = b"pspnet-edge pack sha256:" + b"0" * 64
        for name in sorted(parts):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, parts[name])
    unsealed = made.getvalue()[:-64]
    return unsealed + hashlib.sha256(unsealed).hexdigest().encode()


# Cases


def make_case(area: str, edits: Edits, choice: int, folder: Path, seeds: Path) -> list[str]:
    """Write the files of one damaged input into ``folder`` and return the arguments of the command that reads them.

    Args:
        area: one of ``AREAS``.
        edits: the seeds of its edits; without any, the files are sound.
        choice: seeds the choice of the file and the command.
        folder: an empty folder, which the command has as its working folder.
        seeds: the folder of ``make_seeds``.
    """
    rng = random.Random(choice)
    arguments = AREAS[area](edits, rng, folder, seeds)
    return [*arguments, "--json"] if rng.random() < 0.3 else arguments


def _onnx(edits: Edits, rng: random.Random, folder: Path, seeds: Path) -> list[str]:
    if rng.random() < 0.2:
        (folder / "x.onnx").write_bytes(edited_onnx((seeds / "foreign.onnx").read_bytes(), edits))
        return ["adapt", "x.onnx", "--classes", "4", "-o", "y.onnx"]
    (folder / "x.onnx").write_bytes(edited_onnx((seeds / "small.onnx").read_bytes(), edits))
    runtime = ["--runtime", rng.choice(("onnxruntime", "openvino"))]
    commands = (
        ["build", "x.onnx", *runtime, "-o", "x.engine"],
        ["build", "x.onnx", *runtime, "--precision", "fp16", "-o", "x.engine"],
        ["build", "x.onnx", *runtime, "--scores", "-o", "x.engine"],
        ["run", "x.onnx", *runtime, "--input", f"{seeds}/picture.png", "--view", "none"],
        ["calibrate", "x.onnx", "--root", f"{seeds}/set", "-o", "x.calib.json"],
        [
            "build",
            "x.onnx",
            *runtime,
            "--precision",
            "int8",
            "--calibration",
            f"{seeds}/small.calib.json",
            "-o",
            "x.engine",
        ],
    )
    return rng.choice(commands)


def _sidecar(edits: Edits, rng: random.Random, folder: Path, seeds: Path) -> list[str]:
    runtime = rng.choice(("onnxruntime", "openvino"))
    engine, sidecar = (seeds / f"{runtime}.engine").read_bytes(), (seeds / f"{runtime}.engine.json").read_bytes()
    if rng.random() < 0.8:
        sidecar = edited_json(sidecar, edits)
    else:
        engine = edited_bytes(engine, edits)
        if rng.random() < 0.7:
            facts = json.loads(sidecar)
            facts["sha256"] = hashlib.sha256(engine).hexdigest()
            sidecar = json_bytes(facts)
    (folder / "x.engine").write_bytes(engine)
    (folder / "x.engine.json").write_bytes(sidecar)
    if rng.random() < 0.7:
        return ["run", "x.engine", "--input", f"{seeds}/picture.png", "--view", "none"]
    return ["evaluate", "x.engine", "--root", f"{seeds}/set", "--split", "test"]


def _table(edits: Edits, rng: random.Random, folder: Path, seeds: Path) -> list[str]:
    (folder / "x.calib.json").write_bytes(edited_json((seeds / "small.calib.json").read_bytes(), edits))
    runtime = rng.choice(("onnxruntime", "openvino"))
    options = ["--precision", "int8", "--calibration", "x.calib.json", "--runtime", runtime, "-o", "x.engine"]
    return ["build", f"{seeds}/small.onnx", *options]


def _image(edits: Edits, rng: random.Random, folder: Path, seeds: Path) -> list[str]:
    name = rng.choice(("picture.png", "picture.png", "picture.jpg", "picture.bmp", "picture.tif"))
    kind = rng.choice(("images", "masks"))
    alone = rng.random() < 0.5
    name = "picture.png" if kind == "masks" and not alone else name
    sound = seeds / (name if alone or kind == "images" else "set/masks/test/0.png")
    content = sound.read_bytes()
    content = edited_png(content, edits) if name.endswith("png") else edited_bytes(content, edits)
    engine = f"{seeds}/onnxruntime.engine"
    if alone:
        (folder / name).write_bytes(content)
        return ["run", engine, "--input", name, "--view", "none", *rng.choice(([], ["--save-masks", "masks"]))]
    _copy_set(folder, seeds)
    path = folder / f"set/{kind}/test/0.png"
    path.unlink()
    path.with_suffix(Path(name).suffix if kind == "images" else ".png").write_bytes(content)
    return rng.choice((["evaluate", engine, "--root", "set", "--split", "test"], ["data", "check", "set"]))


def _video(edits: Edits, rng: random.Random, folder: Path, seeds: Path) -> list[str]:
    name = rng.choice(("film.avi", "film.mp4"))
    (folder / name).write_bytes(edited_bytes((seeds / name).read_bytes(), edits))
    record = rng.choice(([], ["--record", "y.mp4"], ["--realtime"]))
    return ["run", f"{seeds}/onnxruntime.engine", "--input", name, "--view", "none", "--frames", "8", *record]


def _list(edits: Edits, rng: random.Random, folder: Path, seeds: Path) -> list[str]:
    kind = rng.randrange(5)
    if kind == 0:
        (folder / "ids.txt").write_bytes(edited_text(b"0\n1\n", edits))
        options = ["--root", f"{seeds}/set", "--images-from", "ids.txt", "-o", "x.calib.json"]
        return ["calibrate", f"{seeds}/small.onnx", *options]
    classes = edited_text((seeds / "set/classes.txt").read_bytes(), edits)
    if kind == 1:
        (folder / "names").write_bytes(classes)
        return ["adapt", f"{seeds}/foreign.onnx", "--classes", "names", "-o", "y.onnx"]
    _copy_set(folder, seeds)
    (folder / "set/classes.txt").write_bytes(classes)
    if kind == 2:
        return ["data", "check", "set"]
    if kind == 3:
        return ["data", "split", "set", "--overwrite"]
    if edits:
        _odd_entry(folder / "set", rng)
    return rng.choice((["data", "check", "set"], ["evaluate", f"{seeds}/onnxruntime.engine", "--root", "set"]))


def _copy_set(folder: Path, seeds: Path) -> None:
    import shutil

    shutil.copytree(seeds / "set", folder / "set")


def _odd_entry(root: Path, rng: random.Random) -> None:
    """A FIFO, link or folder where a file is meant, all below ``root``."""
    path = rng.choice((root / "classes.txt", root / "images/test/0.png", root / "masks/test/0.png", root / "test.txt"))
    path.unlink(missing_ok=True)
    kind = rng.randrange(4)
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        path.mkdir()
    elif kind == 2:
        path.symlink_to(path.name)
    else:
        path.symlink_to("nothing")


def _pack(edits: Edits, rng: random.Random, folder: Path, seeds: Path) -> list[str]:
    (folder / "x.pspnet").write_bytes(_edited_pack((seeds / "small.pspnet").read_bytes(), edits))
    if rng.random() < 0.5:
        return ["build", "x.pspnet", "--runtime", "onnxruntime", "--precision", "fp32", "-o", "x.engine"]
    options = [
        "--home",
        "home",
        "--service",
        "none",
        "--measure",
        "0.1",
        "--runtime",
        "onnxruntime",
        "--precision",
        "fp32",
    ]
    return ["deploy", "x.pspnet", *options]


_SOUND: dict[str, tuple[str, ...]] = {
    "build": ("{seeds}/small.onnx", "--runtime", "onnxruntime", "-o", "x.engine"),
    "calibrate": ("{seeds}/small.onnx", "--root", "{seeds}/set", "-o", "x.calib.json"),
    "adapt": ("{seeds}/foreign.onnx", "--classes", "4", "-o", "y.onnx"),
    "run": ("{seeds}/onnxruntime.engine", "--input", "{seeds}/picture.png", "--view", "none"),
    "evaluate": ("{seeds}/onnxruntime.engine", "--root", "{seeds}/set", "--split", "test"),
    "data check": ("{seeds}/set",),
    "plan": (),
    "import": ("{seeds}/small.onnx",),
    "export": ("{seeds}/small.onnx",),
    "models": (),
    "train": ("--root", "missing"),
    "benchmark": ("--from", "missing.json"),
    "deploy": ("--list", "--home", "home"),
}
_LEFT_OUT = {
    "--help",
    "--verbose",
    "--to",
    "--fleet",
    "--health",
    "--rtp",
    "--camera",
    "--watchdog",
    "--wait",
    "--loop",
}
_LEFT_OUT |= {"--web-host", "--web-port", "--metrics-port", "--active", "--home", "--ssh-config", "--install", "--from"}
_LEFT_OUT |= {"--view", "--service", "--root", "--rollback", "--search", "--measure"}


def _options(edits: Edits, rng: random.Random, folder: Path, seeds: Path) -> list[str]:
    import typer

    from pspnet_edge.cli.main import app

    command = rng.choice(sorted(_SOUND))
    found: Any = typer.main.get_command(app)
    for word in command.split():
        found = found.commands[word]
    options = [option for option in found.params if option.param_type_name == "option"]
    options = [option for option in options if not _LEFT_OUT & set(option.opts)]
    arguments = [*command.split(), *(word.format(seeds=seeds) for word in _SOUND[command])]
    for edit in edits:
        choose = random.Random(edit)
        option = choose.choice(options)
        arguments.append(option.opts[0])
        if not getattr(option, "is_flag", False):
            arguments.append(_value_of(option, choose, seeds))
    return arguments


def _value_of(option: Any, choose: random.Random, seeds: Path) -> str:
    """Outputs stay below the working folder; other paths may be any file of ``seeds`` too."""
    words = [word for word in _WORDS if word not in ("/", "..") and "\0" not in word]
    if not set(option.opts) & {"--output", "--record", "--save-masks", "--save-overlays", "--stats", "--html"}:
        words += [f"{seeds}/{name}" for name in ("picture.png", "set", "small.onnx", "small.calib.json")]
    return choose.choice(words)


AREAS: dict[str, Callable[[Edits, random.Random, Path, Path], list[str]]] = {
    "onnx": _onnx,
    "sidecar": _sidecar,
    "checkpoint": checkpoint_case,
    "table": _table,
    "image": _image,
    "video": _video,
    "list": _list,
    "pack": _pack,
    "options": _options,
    "labels": labels_case,
    "fetch": fetch_case,
    "recipe": recipe_case,
    "report": report_case,
    "deployed": deployed_case,
    "kept": kept_case,
    "adapted": adapted_case,
}
