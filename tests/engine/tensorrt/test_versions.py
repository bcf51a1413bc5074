"""The builder against stand-ins that have exactly the attributes of each version, and so fail on any other."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import onnx
import pytest

from pspnet_edge.engine.tensorrt import builder
from pspnet_edge.engine.tensorrt.builder import BuildOptions, Plan, build_plan
from pspnet_edge.engine.tensorrt.gpu import Gpu
from pspnet_edge.errors import BuildError, EngineError, OptionError
from pspnet_edge.graph.onnx_file import ModelFile

LISTS = json.loads((Path(__file__).parent / "api" / "tensorrt_api.json").read_text(encoding="utf-8"))
VERSIONS = [version for version in LISTS["versions"] if not version.startswith("rtx-")]


def members(version: str, name: str) -> list[str]:
    return [key for key, text in LISTS["classes"][name].items() if text == "*" or version in text.split()]


class StandIn(ModuleType):
    """A module ``tensorrt`` of one version, whose builder gives a plan of a few bytes."""

    def __init__(self, version: str, dla_cores: int = 0) -> None:
        super().__init__("tensorrt")
        self.__version__ = version
        for name in LISTS["classes"]:
            if listed := members(version, name):
                setattr(self, name, self._class(name, listed))
        self.config = self._object("IBuilderConfig")
        self.network = self._object("INetworkDefinition")
        self.parser = self._object("OnnxParser")
        self.builder = self._object("Builder")
        self.builder.create_network.return_value = self.network
        self.builder.create_builder_config.return_value = self.config
        self.builder.build_serialized_network.return_value = b"plan"
        self.builder.num_DLA_cores = dla_cores
        self.network.num_layers = 3
        self.network.get_layer.side_effect = lambda index: SimpleNamespace(name=f"layer_{index}")
        self.config.can_run_on_DLA.return_value = False
        self.config.get_timing_cache.return_value.serialize.return_value = b"timing"
        self.Builder = mock.Mock(return_value=self.builder)
        self.OnnxParser = mock.Mock(return_value=self.parser)

    def _class(self, name: str, listed: list[str]) -> Any:
        if name in ("ILogger", "IProgressMonitor"):
            return type(name, (), {})
        return type(name, (), {member: position for position, member in enumerate(listed) if member.isupper()})

    def _object(self, name: str) -> Any:
        return mock.MagicMock(spec_set=members(self.__version__, name))

    def parsed(self) -> onnx.ModelProto:
        return onnx.load_model_from_string(self.parser.parse.call_args[0][0])

    def flags(self) -> set[str]:
        names = {getattr(self.BuilderFlag, name): name for name in members(self.__version__, "BuilderFlag")[:-2]}
        return {names[call[0][0]] for call in self.config.set_flag.call_args_list}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "find_gpu", lambda: Gpu("Orin", "8.7", True))
    # There is no GPU that they could run on; test_proof.py is about them.
    monkeypatch.setattr(builder, "prove", lambda *_: None)


def built(stand_in: StandIn, model: ModelFile, precision: str, cache: Path, **options: Any) -> Plan:
    with mock.patch.dict(sys.modules, {"tensorrt": stand_in}):
        return build_plan("tensorrt", model, precision, BuildOptions(**options), cache=cache)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_build_uses_only_what_the_version_has(
    version: str, precision: str, fp32: ModelFile, int8: ModelFile, tmp_path: Path
) -> None:
    stand_in = StandIn(version)
    model = int8 if precision == "int8" else fp32
    plan = built(stand_in, model, precision, tmp_path, tail="graph")
    assert plan.content == b"plan"
    assert plan.facts["tensorrt"]["compute_capability"] == "8.7"
    assert (tmp_path / f"tensorrt-{version}.timing").read_bytes() == b"timing"
    graph, (network_flags,) = stand_in.parsed(), stand_in.builder.create_network.call_args[0]
    half = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in graph.graph.initializer)
    if version == "8.6.1":
        assert stand_in.flags() == {"fp32": set(), "fp16": {"FP16"}, "int8": {"FP16", "INT8"}}[precision]
        assert network_flags == 1 << stand_in.NetworkDefinitionCreationFlag.EXPLICIT_BATCH
        assert graph.opset_import[0].version == 17
        assert not half
        assert [node.op_type for node in graph.graph.node[-3:]] == ["ArgMax", "Cast", "Cast"]
    else:
        assert stand_in.flags() == set()
        assert network_flags == 1 << stand_in.NetworkDefinitionCreationFlag.STRONGLY_TYPED
        assert half == (precision != "fp32")
        assert [node.op_type for node in graph.graph.node[-3:]] == ["ArgMax", "Cast", "Cast"]
    onnx.checker.check_model(graph)


@pytest.mark.usefixtures("gpu")
def test_memory_that_runs_out_is_met_with_a_smaller_workspace(fp32: ModelFile, tmp_path: Path) -> None:
    stand_in = StandIn("10.3.0")
    tries: list[int] = []

    def build(*_: object) -> bytes | None:
        logger = stand_in.Builder.call_args[0][0]
        tries.append(stand_in.config.set_memory_pool_limit.call_args[0][1])
        if len(tries) < 3:
            logger.log(SimpleNamespace(name="ERROR"), "Requested amount of GPU memory\nis too much")
            return None
        return b"plan"

    stand_in.Builder.return_value.build_serialized_network.side_effect = build
    plan = built(stand_in, fp32, "fp16", tmp_path, workspace_bytes=512 << 20)
    assert tries == [512 << 20, 256 << 20, 128 << 20]
    assert plan.facts["tensorrt"]["workspace_bytes"] == 128 << 20
    stand_in.builder.build_serialized_network.side_effect = lambda *_: None
    with pytest.raises(BuildError, match=r"cannot build the engine .no reason in its log."):
        built(stand_in, fp32, "fp16", tmp_path)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("capability", "tail"), [("8.7", "kernel"), ("11.0", "kernel"), ("8.6", "kernel"), ("7.2", "graph")]
)
def test_head_and_tail_are_our_kernels_where_machine_code_or_ptx_for_the_gpu_ships(
    capability: str, tail: str, fp32: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "find_gpu", lambda: Gpu("a board", capability, True))
    stand_in = StandIn("10.3.0")
    plan = built(stand_in, fp32, "fp16", tmp_path)
    assert plan.facts["tensorrt"]["proved"] == (["tail", "head"] if tail == "kernel" else [])
    assert plan.facts["tensorrt"]["left_to_graph"] == {}
    assert (plan.facts["tail"] is not None) == (plan.facts["head"] is not None) == (tail == "kernel")
    output = stand_in.parsed().graph.output[0].type.tensor_type.elem_type
    assert output == (onnx.TensorProto.FLOAT16 if tail == "kernel" else onnx.TensorProto.UINT8)
    (begin,) = stand_in.parsed().graph.input
    assert begin.type.tensor_type.elem_type == (
        onnx.TensorProto.FLOAT16 if tail == "kernel" else onnx.TensorProto.UINT8
    )
    assert stand_in.config.avg_timing_iterations == 8
    portable = built(StandIn("10.3.0"), fp32, "fp16", tmp_path, hardware_compatible=True)
    assert portable.facts["tail"] is portable.facts["head"] is None


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("precision", "dtype", "formats"),
    [("fp32", "float32", ["LINEAR"]), ("fp16", "float16", ["LINEAR", "HWC8"]), ("int8", "int8", ["LINEAR", "CHW4"])],
)
def test_the_heads_kernel_leaves_a_normalized_or_quantized_input(
    version: str, precision: str, dtype: str, formats: list[str], fp32: ModelFile, int8: ModelFile, tmp_path: Path
) -> None:
    stand_in = StandIn(version)
    if version == "8.6.1":  # flags decide the precision of a graph in FP32
        dtype, formats = "float32", ["LINEAR"]
    kinds = stand_in.DataType
    stand_in.network.get_input.return_value = tensor = mock.MagicMock(spec_set=members(version, "ITensor"))
    tensor.dtype = {"float32": kinds.FLOAT, "float16": kinds.HALF, "int8": kinds.INT8}[dtype]
    plan = built(stand_in, int8 if precision == "int8" else fp32, precision, tmp_path)
    assert plan.facts["head"]["dtype"] == dtype
    assert plan.facts["head"]["order"] == [0, 1, 2]
    assert tensor.allowed_formats == sum(1 << getattr(stand_in.TensorFormat, name) for name in formats)
    graph = stand_in.parsed()
    assert [side.dim_value for side in graph.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 384, 480]
    assert not {"Transpose", "Sub", "Div"} & {node.op_type for node in graph.graph.node[:4]}
    onnx.checker.check_model(graph)


@pytest.mark.usefixtures("gpu")
def test_what_cannot_be_built_without_its_head_is_built_with_it(
    fp32: ModelFile, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stand_in = StandIn("10.3.0")

    def build(*_: object) -> bytes | None:
        if stand_in.parsed().graph.input[0].name == "frames":
            return b"plan"
        stand_in.Builder.call_args[0][0].log(SimpleNamespace(name="ERROR"), "no such input")
        return None

    stand_in.builder.build_serialized_network.side_effect = build
    plan = built(stand_in, fp32, "fp16", tmp_path)
    assert plan.content == b"plan"
    assert plan.facts["head"] is None
    assert plan.facts["tail"] is not None
    reason = plan.facts["tensorrt"]["left_to_graph"]["head"]
    assert reason.startswith("TensorRT 10.3.0 cannot build the engine (no such input")
    assert f"built without the head's kernel: {reason}" in caplog.text
    with pytest.raises(BuildError, match="no such input"):
        built(stand_in, fp32, "fp16", tmp_path, head="kernel")


def fail_with(stand_in: StandIn, *messages: str) -> list[int]:
    """The builder says these, one per attempt, and then succeeds; the workspaces that it was given."""
    tries: list[int] = []

    def build(*_: object) -> bytes | None:
        tries.append(stand_in.config.set_memory_pool_limit.call_args[0][1])
        if len(tries) > len(messages):
            return b"plan"
        logger = stand_in.Builder.call_args[0][0]
        logger.log(SimpleNamespace(name="ERROR"), "Error Code 4: the timing cache was made by another GPU")
        logger.log(SimpleNamespace(name="ERROR"), messages[len(tries) - 1])
        return None

    stand_in.builder.build_serialized_network.side_effect = build
    return tries


@pytest.mark.usefixtures("gpu")
def test_a_depthwise_convolution_without_an_int8_kernel_stays_in_fp16(int8: ModelFile, tmp_path: Path) -> None:
    stand_in = StandIn("10.3.0")
    tries = fail_with(stand_in, "Error Code 10: Could not find any implementation for node conv_1.weight + conv_1.")
    heard: list[str] = []
    with mock.patch.dict(sys.modules, {"tensorrt": stand_in}):
        plan = build_plan(
            "tensorrt", int8, "int8", BuildOptions(), cache=tmp_path, report=lambda done, note: heard.append(note)
        )
    assert tries[0] == tries[1]
    left = plan.facts["tensorrt"]["left_in_float"]
    assert "conv_1" in left
    assert any("no INT8 kernel for conv_1" in note for note in heard)
    whole = len([node for node in int8.proto.graph.node if node.op_type == "Conv"])
    assert plan.facts["int8_convolutions"]["placed"] == whole - len(left) - 1  # the classifier never has a pair
    onnx.checker.check_model(stand_in.parsed())


@pytest.mark.usefixtures("gpu")
def test_an_argmax_without_an_implementation_gets_a_larger_workspace_once(
    fp32: ModelFile, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "free_memory_bytes", lambda: 6 << 30)
    said = "Error Code 10: Could not find any implementation for node argmax_0 [ArgMax]."
    stand_in = StandIn("10.3.0")
    tries = fail_with(stand_in, said)
    built(stand_in, fp32, "fp16", tmp_path, tail="graph")
    assert tries == [1 << 30, 3 << 30]
    assert said in caplog.text
    again = StandIn("10.3.0")
    fail_with(again, said, said, said)
    with pytest.raises(BuildError, match=r"node argmax_0 .*: build with --tail kernel"):
        built(again, fp32, "fp16", tmp_path, tail="graph")


@pytest.mark.usefixtures("gpu")
def test_dla_lists_what_falls_back_and_is_refused_where_it_is_not(fp32: ModelFile, tmp_path: Path) -> None:
    stand_in = StandIn("10.3.0", dla_cores=2)
    plan = built(stand_in, fp32, "fp16", tmp_path, dla_core=1)
    assert plan.facts["tensorrt"]["dla_fallback"] == ["layer_0", "layer_1", "layer_2"]
    assert stand_in.flags() == {"FP16", "GPU_FALLBACK"}
    assert stand_in.builder.create_network.call_args[0] == (0,)
    for version, cores, precision, message in (
        ("10.3.0", 0, "fp16", "DLA core 1 does not exist here"),
        ("8.6.1", 2, "fp32", "build with --precision fp16"),
        ("11.4", 2, "fp16", "does not support DLA"),
    ):
        with pytest.raises(OptionError if cores else BuildError, match=message):
            built(StandIn(version, cores), fp32, precision, tmp_path, dla_core=1)


def test_what_cannot_be_is_refused_before_the_build(fp32: ModelFile, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(builder, "find_gpu", lambda: None)
    with pytest.raises(BuildError, match="builds on the GPU that will run the engine"):
        built(StandIn("10.3.0"), fp32, "fp16", tmp_path)
    older = StandIn("8.6.1")
    older.__version__ = "8.5.2"
    with pytest.raises(EngineError, match=r"older than 8\.6"):
        built(older, fp32, "fp16", tmp_path)
    monkeypatch.setattr(builder, "find_gpu", lambda: Gpu("Orin", "8.7", True))
    (tmp_path / "file").touch()
    with pytest.raises(BuildError, match="name another with XDG_CACHE_HOME"):
        built(StandIn("10.3.0"), fp32, "fp16", tmp_path / "file" / "cache")
    monkeypatch.setattr(builder, "free_memory_bytes", lambda: 100 << 20)
    with pytest.raises(BuildError, match="100 MiB are free: close other programs"):
        built(StandIn("10.3.0"), fp32, "fp16", tmp_path)
