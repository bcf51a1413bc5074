"""Every difference between the versions of TensorRT that this package knows: 8.6, 10, 11 and TensorRT-RTX.

A guard is a comparison of ``api.level`` with a tuple, or ``api.is_rtx``. ``tests/engine/tensorrt/test_api.py``
evaluates these guards for each version and looks up what follows them in that version's own list of attributes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import BuildError, EngineError, MissingPackage, OptionError
from ...graph.onnx_file import ModelFile
from ...graph.precision import fp16_model
from ...lazy import require
from .graphs import float_before_uint8, int8_fp16_model

if TYPE_CHECKING:
    from . import typed

OLDEST = (8, 6)
_RTX_LEVEL = (11, 0)
INPUT_FORMATS = {"LINEAR": 1, "CHW4": 4, "HWC8": 8}
"""Formats in which the head's kernel writes, and channels that lie beside each other in them, of four at most.

NVIDIA's headers bind CHW4 to INT8 and FP16, HWC8 to FP16, and give both as ``[N, H, W, lanes]`` for so few channels.
"""


@dataclass(frozen=True)
class Api:
    """One installed TensorRT."""

    runtime: str
    """``tensorrt`` or ``tensorrt-rtx``."""
    trt: Any
    """Its Python module."""
    version: tuple[int, ...]
    """Its own version: 1.7.1 for TensorRT-RTX."""

    @property
    def is_rtx(self) -> bool:
        """Whether this is TensorRT-RTX."""
        return self.runtime == "tensorrt-rtx"

    @property
    def level(self) -> tuple[int, ...]:
        """The version of TensorRT whose interface it has; TensorRT-RTX 1.x has that of TensorRT 11."""
        return _RTX_LEVEL if self.is_rtx else self.version

    @property
    def name(self) -> str:
        """What people call it: ``TensorRT 10.3.0``."""
        return f"{'TensorRT-RTX' if self.is_rtx else 'TensorRT'} {'.'.join(map(str, self.version))}"


def load_api(runtime: str, purpose: str) -> Api:
    """Import a runtime's module.

    Args:
        runtime: ``tensorrt`` or ``tensorrt-rtx``.
        purpose: what for, as a phrase after "to", quoted when it is missing.

    Raises:
        MissingPackage: it is not installed.
        EngineError: it is older than this package knows.
    """
    try:
        module = require(runtime.replace("-", "_"), purpose)
    except MissingPackage as error:
        if runtime != "tensorrt":
            raise
        raise MissingPackage(
            f"TensorRT is needed to {purpose} and cannot be imported: on a Jetson it comes with JetPack and a venv "
            "sees it when made with --system-site-packages; elsewhere pip install tensorrt"
        ) from error
    version = tuple(int(part) for part in str(module.__version__).split(".")[:4] if part.isdecimal())
    api = Api(runtime, module, version)
    if api.level < OLDEST:
        raise EngineError(
            f"{api.name} is older than 8.6, the first that this package knows",
            "flash JetPack 6 on an Orin; a Xavier or older board has no JetPack 6, so use --runtime onnxruntime there",
        )
    return api


def is_strongly_typed(api: Api, dla_core: int | None) -> bool:
    """Whether the graph's own types rule; else builder flags do, which is how DLA is built while there is that way."""
    return api.level >= (10,) and dla_core is None


def create_network(api: Api, builder: typed.Builder, strongly_typed: bool) -> typed.INetworkDefinition:
    """An empty network with explicit batch."""
    flags = 0
    if api.level < (10,):
        flags |= 1 << int(api.trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    if api.level >= (10,) and strongly_typed:
        flags |= 1 << int(api.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    return builder.create_network(flags)


def graph_for(api: Api, model: ModelFile, precision: str, strongly_typed: bool) -> ModelFile:
    """The flavour of a graph that a version takes.

    Args:
        api: who will parse it.
        model: FP32; for ``int8`` with Q/DQ.
        precision: ``fp32``, ``fp16`` or ``int8``.
        strongly_typed: whether the types in the graph decide the precision.
    """
    model = float_before_uint8(model)
    if api.level < (10,) or not strongly_typed or precision == "fp32":
        return model
    return int8_fp16_model(model) if precision == "int8" else fp16_model(model)


def set_input_formats(api: Api, network: typed.INetworkDefinition) -> None:
    """Let the builder choose, of the formats that the head's kernel writes, the fastest for the first layer."""
    tensor: typed.ITensor = network.get_input(0)
    formats = [api.trt.TensorFormat.LINEAR]
    if tensor.dtype == api.trt.DataType.INT8:
        formats.append(api.trt.TensorFormat.CHW4)
    if tensor.dtype == api.trt.DataType.HALF:
        formats.append(api.trt.TensorFormat.HWC8)
    tensor.allowed_formats = sum(1 << int(each) for each in formats)


def set_precision(api: Api, config: typed.IBuilderConfig, precision: str, strongly_typed: bool) -> None:
    """Where flags rule, allow FP16 and INT8; a strongly typed network refuses such flags."""
    if strongly_typed or precision == "fp32":
        return
    if api.level < (11,):
        config.set_flag(api.trt.BuilderFlag.FP16)
        if precision == "int8":
            config.set_flag(api.trt.BuilderFlag.INT8)


def set_compute_capability(api: Api, config: typed.IBuilderConfig, capability: str | None) -> None:
    """Choose the GPU of a TensorRT-RTX plan; None leaves its own default, every GPU that it knows.

    Raises:
        OptionError: a capability that it does not know, or TensorRT, which builds for the GPU it runs on.
    """
    if capability is None:
        return
    if not api.is_rtx:
        raise OptionError(f"{api.name} builds for the GPU it runs on: leave --compute-capability out")
    known = api.trt.ComputeCapability.__members__
    name = f"SM{capability.replace('.', '')}"
    if name not in known:
        choices = ", ".join(f"{key[2:-1]}.{key[-1]}" for key in known if key.startswith("SM"))
        raise OptionError(f"{api.name} does not build for compute capability {capability}: choose one of {choices}")
    rtx_config: Any = config  # tensorrt-stubs describe only TensorRT
    # Without the count, the capability that follows is ignored and nothing says so.
    rtx_config.num_compute_capabilities = 1
    rtx_config.set_compute_capability(known[name], 0)


def has_timing_cache(api: Api) -> bool:
    """TensorRT-RTX measures nothing while it builds; its functions for a timing cache do nothing and warn."""
    return not api.is_rtx


def has_progress_monitor(api: Api) -> bool:
    """Whether the builder reports its progress; else it is read from the log."""
    return api.level >= (10,)


def check_dla(api: Api, builder: typed.Builder, core: int, precision: str) -> None:
    """Refuse a DLA core that is not there, or a precision that it does not take.

    Raises:
        OptionError: DLA does not build this precision, or this TensorRT not for DLA.
        BuildError: there is no such core.
    """
    if api.is_rtx or api.level >= (11,):
        raise OptionError(f"{api.name} does not support DLA: leave --dla out")
    if builder.num_DLA_cores <= core:
        raise BuildError(
            f"DLA core {core} does not exist here ({builder.num_DLA_cores} in all; Orin Nano and Thor have none): "
            "leave --dla out"
        )
    if precision != "fp16":
        raise OptionError(f"DLA supports neither Q/DQ graphs nor {precision} here: build with --precision fp16")
