"""A graph becomes a TensorRT plan.

What differs between versions is in ``versions.py``. TensorRT-RTX builds without a GPU, which is how this file is
tested; TensorRT itself measures on the GPU that it builds for.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...artifact import ensure_writable, write_bytes
from ...errors import BuildError, OptionError, OutputError, one_of
from ...graph.head import without_head
from ...graph.onnx_file import ModelFile
from ...graph.tail import without_tail
from ..facts import HeadFacts, MadeFacts, TailFacts
from .gpu import Gpu, find_gpu, free_memory_bytes
from .graphs import quantized_depthwise, without_pairs
from .head import head_facts
from .kernels import has_kernels, kernels_for
from .layers import convolution_precisions
from .log import Log, Report, logger_for, monitor_for
from .parser import parse_graph
from .proof import End, prove
from .tail import tail_facts
from .versions import (
    Api,
    check_dla,
    create_network,
    graph_for,
    has_progress_monitor,
    has_timing_cache,
    is_strongly_typed,
    load_api,
    set_compute_capability,
    set_input_formats,
    set_precision,
)

if TYPE_CHECKING:
    from . import typed

_log = logging.getLogger(__name__)
ENDS = ("auto", "graph", "kernel")
"""What may compute the head and the tail."""
OPTIMIZATION_LEVELS = range(6)
_MIB = 1 << 20
_LARGEST_WORKSPACE = 1024 * _MIB
_SMALLEST_WORKSPACE = 64 * _MIB
_LARGEST_RAISED = 4096 * _MIB
_BUILDER_ITSELF = 384 * _MIB
"""What the builder's libraries and kernels take, seen with TensorRT-RTX 1.7; not measured on a board."""
_OUT_OF_MEMORY = ("memory", "workspace", "could not find any implementation")
_NO_IMPLEMENTATION = "could not find any implementation"
_WITH_SCRATCH = ("argmax", "topk")
"""Nodes that find no implementation where the workspace is too small."""
_AVERAGED_TIMINGS = 8
"""Runs that each measured kernel is averaged over, as in trtexec; one is too noisy to choose by."""


@dataclass(frozen=True)
class BuildOptions:
    """What can be chosen beside the precision."""

    dla_core: int | None = None
    """Run what can on this DLA core, the rest on the GPU."""
    version_compatible: bool = False
    """A plan that later TensorRT of the same major version opens too."""
    hardware_compatible: bool = False
    """A plan for every GPU from Ampere on, slower than one for this GPU."""
    compute_capability: str | None = None
    """For TensorRT-RTX: the one GPU to build for, such as ``8.6``."""
    workspace_bytes: int | None = None
    """Scratch memory a layer may take; None chooses by what is free."""
    tail: str = "auto"
    """``graph`` upsamples and takes the argmax in the network, ``kernel`` in one CUDA kernel behind it; ``auto`` takes
    the kernel where the plan is for this GPU and the kernel gives the right masks on it."""
    head: str = "auto"
    """``graph`` normalizes frames of the engine's size in the network, ``kernel`` resizes and normalizes in one CUDA
    kernel before it; ``auto`` takes the kernel as for the tail, if the rest can be built."""
    optimization_level: int | None = None
    """0 builds fastest, 5 tries most kernels; None leaves TensorRT's default, 3."""


@dataclass(frozen=True)
class Plan:
    """What a build gave."""

    content: bytes
    facts: MadeFacts
    """For the sidecar."""


def target_sentence(runtime: str) -> str:
    """What a build would run on: version, GPU, free memory.

    Raises:
        MissingPackage, EngineError: the runtime is not installed or too old.
    """
    api, gpu, free = load_api(runtime, "build an engine"), find_gpu(), free_memory_bytes()
    where = f"{gpu.name}, compute capability {gpu.compute_capability}" if gpu else "no GPU"
    return f"{api.name}, {where}{f', {free // _MIB} MiB of memory free' if free else ''}"


def build_plan(
    runtime: str,
    model: ModelFile,
    precision: str,
    options: BuildOptions,
    *,
    cache: Path,
    report: Report = lambda done, note: None,
) -> Plan:
    """Build a plan.

    Args:
        runtime: ``tensorrt`` or ``tensorrt-rtx``.
        model: FP32; for ``int8`` the FP32 Q/DQ graph.
        precision: ``fp32``, ``fp16`` or ``int8``.
        options: the rest of the choices.
        cache: folder of timing caches, made when missing.
        report: called with the share done in per cent and what is going on.

    Raises:
        BuildError: with the reason and the fix.
        MissingPackage: the runtime is not installed.
    """
    api = load_api(runtime, "build an engine")
    gpu = find_gpu()
    _preflight(api, gpu, model, options, cache)
    strongly_typed = is_strongly_typed(api, options.dla_core)
    fits = _kernel_fits(api, gpu, options)
    ends = _ends(options)
    wanted = {end for end, kind in ends.items() if kind == "kernel" or (kind == "auto" and fits)}
    kernels = _kernels(options, gpu) if wanted else b""
    here = gpu is not None and options.compute_capability in (None, gpu.compute_capability)
    build = _Build(api, model, precision, strongly_typed, options, cache, report, kernels, tries_kernels=here)
    started = time.monotonic()
    build.prepare(wanted)
    try:
        content, limit = _build_until_it_fits(build, options.workspace_bytes)
    except BuildError as error:
        if build.head is None or ends["head"] == "kernel" or build.raised:
            raise  # the head was asked for, or what fails is at the other end
        build.leave_to_graph("head", error)
        content, limit = _build_until_it_fits(build, options.workspace_bytes)
    facts = _facts(build, gpu, limit)
    facts.update({"head": build.head, "tail": build.tail, "build_s": round(time.monotonic() - started, 2)})
    return Plan(content, facts)


def _ends(options: BuildOptions) -> dict[End, str]:
    return {"head": options.head, "tail": options.tail}


def _build_until_it_fits(build: _Build, wanted_bytes: int | None) -> tuple[bytes, int]:
    """Build with one workspace after another; the plan and the workspace that it was built with."""
    limits = _workspace_limits(wanted_bytes)
    while limits:
        limit = limits.pop(0)
        content = build.attempt(limit)
        if content is not None:
            return content, limit
        build.log.failed()
        reason = build.log.reason().lower()
        if build.leave_depthwise_in_float(reason):
            limits.insert(0, limit)
        elif _NO_IMPLEMENTATION in reason and any(kind in reason for kind in _WITH_SCRATCH):
            # Too small a workspace, not too large a one: once more with what is free.
            larger = min(_LARGEST_RAISED, (free_memory_bytes() or limit) // 2)
            limits = [larger] if larger > limit and not build.raised else []
            build.raised = True
            build.report(0, f"the end of the graph needs a larger workspace than {limit // _MIB} MiB")
        elif not any(word in reason for word in _OUT_OF_MEMORY):
            break
        else:
            build.report(0, f"too little memory with a workspace of {limit // _MIB} MiB")
    fix = "build with --tail kernel" if build.raised else "close other programs or try another --precision"
    raise BuildError(f"{build.api.name} cannot build the engine ({build.log.reason()}): {fix}")


def _kernel_fits(api: Api, gpu: Gpu | None, options: BuildOptions) -> bool:
    """Whether there are kernels for the one GPU that the plan is for."""
    portable = api.is_rtx or options.hardware_compatible or options.dla_core is not None
    return gpu is not None and not portable and has_kernels(gpu.compute_capability)


class _Build:
    """One build, attempted with one workspace limit after another."""

    def __init__(
        self,
        api: Api,
        model: ModelFile,
        precision: str,
        strongly_typed: bool,
        options: BuildOptions,
        cache: Path,
        report: Report,
        kernels: bytes,
        tries_kernels: bool,
    ) -> None:
        self.api, self.source, self.model, self.precision, self.options = api, model, model, precision, options
        self.fallback: list[str] = []
        self.left_in_float: list[str] = []
        self.raised = False
        self.head: HeadFacts | None = None
        self.tail: TailFacts | None = None
        self.log = Log(report)
        self.report = report
        self.left_to_graph: dict[str, str] = {}
        self._kernels, self._tries_kernels = kernels, tries_kernels
        self._with_kernel: set[End] = set()
        self._proved: dict[End, HeadFacts | TailFacts] = {}
        self._strongly_typed = strongly_typed
        self._cache = cache / f"{api.name.replace(' ', '-').lower()}.timing"

    def prepare(self, ends: set[End]) -> None:
        """Make the graph that this TensorRT takes, without what kernels do: ``head``, ``tail``, both or neither."""
        model = without_pairs(self.source, self.left_in_float) if self.left_in_float else self.source
        self.model = graph_for(self.api, model, self.precision, self._strongly_typed)
        self.head = self.tail = None
        self._with_kernel = set(ends)
        cuts: dict[End, Callable[[], None]] = {"tail": self._cut_tail, "head": self._cut_head}
        for end, cut in cuts.items():
            if end not in ends:
                continue
            try:
                cut()
            except BuildError as error:
                if _ends(self.options)[end] == "kernel":
                    raise
                self._leave(end, error)

    def _cut_tail(self) -> None:
        model, shape = without_tail(self.model)
        facts = tail_facts(shape, self._kernels)
        self._prove("tail", facts)
        self.model, self.tail = model, facts

    def _cut_head(self) -> None:
        # Where flags rule, what a network that begins in INT8 becomes is up to them.
        quantized = self.precision == "int8" and self._strongly_typed
        model, begin = without_head(self.model, quantized=quantized)
        facts = head_facts(begin, self._kernels)
        self._prove("head", facts)
        self.model, self.head = model, facts

    def _prove(self, end: End, facts: HeadFacts | TailFacts) -> None:
        """Try a kernel on the GPU, if it is the one that the plan is for."""
        if self._tries_kernels and self._proved.get(end) != facts:
            self.report(0, f"comparing what the {end}'s kernel gives on this GPU")
            prove(end, facts, self.source.shape_nhw)
            self._proved[end] = facts

    def _leave(self, end: End, why: BuildError) -> None:
        self._with_kernel.discard(end)
        self.left_to_graph[end] = why.problem
        _log.warning("the engine is built without the %s's kernel: %s", end, why.problem)

    def leave_to_graph(self, end: End, why: BuildError) -> None:
        """Prepare a graph that does what a kernel should have done."""
        self._leave(end, why)
        self.prepare(self._with_kernel)

    def proved(self) -> list[str]:
        """What kernels do that gave the right values on this GPU."""
        return [end for end in self._proved if end in self._with_kernel]

    def leave_depthwise_in_float(self, reason: str) -> bool:
        """Where the builder finds no INT8 kernel for a depthwise convolution, prepare a graph without them in INT8."""
        depthwise = quantized_depthwise(self.source) if self.precision == "int8" and not self.left_in_float else []
        words = {word.strip(".") for word in re.findall(r"[\w.]+", reason)}
        named = [name for name in depthwise if name.lower() in words]
        if _NO_IMPLEMENTATION not in reason or not named:
            return False
        self.left_in_float = depthwise
        self.report(0, f"no INT8 kernel for {named[0]}: {len(depthwise)} depthwise convolutions stay in FP16")
        self.prepare(self._with_kernel)
        return True

    def attempt(self, workspace_bytes: int) -> bytes | None:
        """Build from the start; None when the builder gives up, with the reason in ``log``."""
        self.log = Log(self.report)
        logger = logger_for(self.api, self.log)
        try:
            builder: typed.Builder = self.api.trt.Builder(logger)
        except (TypeError, RuntimeError) as error:
            raise BuildError(
                f"{self.api.name} cannot start ({self.log.reason()}): check the driver with `nvidia-smi` or "
                "`pspnet-edge doctor`"
            ) from error
        network = create_network(self.api, builder, self._strongly_typed)
        parse_graph(self.api, network, self.model, logger)
        if self.head is not None:
            set_input_formats(self.api, network)
        config = builder.create_builder_config()
        self._configure(builder, network, config, workspace_bytes)
        timing = self._read_timing_cache(config)
        content = builder.build_serialized_network(network, config)
        if content is None:
            return None
        if timing is not None:
            self._write_timing_cache(config)
        return bytes(content)  # type: ignore[call-overload, unused-ignore]  # a buffer, which the stubs do not say

    def _configure(
        self, builder: typed.Builder, network: typed.INetworkDefinition, config: typed.IBuilderConfig, workspace: int
    ) -> None:
        trt, options = self.api.trt, self.options
        set_precision(self.api, config, self.precision, self._strongly_typed)
        set_compute_capability(self.api, config, options.compute_capability)
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
        config.avg_timing_iterations = _AVERAGED_TIMINGS
        if options.optimization_level is not None:
            config.builder_optimization_level = options.optimization_level
        # The dump of layers in the log and the inspector then say in which precision each is computed.
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        if options.version_compatible:
            config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        if options.hardware_compatible:
            config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
        if options.dla_core is not None:
            self._put_on_dla(builder, network, config, options.dla_core)
        if has_progress_monitor(self.api):
            config.progress_monitor = monitor_for(self.api, self.report)
        else:
            self.log.layers_in_all = network.num_layers

    def _put_on_dla(
        self, builder: typed.Builder, network: typed.INetworkDefinition, config: typed.IBuilderConfig, core: int
    ) -> None:
        check_dla(self.api, builder, core, self.precision)
        config.set_flag(self.api.trt.BuilderFlag.GPU_FALLBACK)
        config.default_device_type = self.api.trt.DeviceType.DLA
        config.DLA_core = core
        layers: list[typed.ILayer] = [network.get_layer(index) for index in range(network.num_layers)]
        self.fallback = [layer.name for layer in layers if not config.can_run_on_DLA(layer)]
        self.report(0, f"{len(self.fallback)} of {len(layers)} layers fall back from DLA to the GPU")

    def _read_timing_cache(self, config: typed.IBuilderConfig) -> typed.ITimingCache | None:
        if not has_timing_cache(self.api):
            return None
        try:
            stored = self._cache.read_bytes()
        except OSError:
            stored = b""
        timing: typed.ITimingCache | None = config.create_timing_cache(stored) or config.create_timing_cache(b"")
        # A cache of another GPU or version is not an error: TensorRT then measures again.
        if timing is not None and not config.set_timing_cache(timing, False):
            timing = config.create_timing_cache(b"")
            config.set_timing_cache(timing, False)
        return timing

    def _write_timing_cache(self, config: typed.IBuilderConfig) -> None:
        timing: typed.ITimingCache = config.get_timing_cache()
        try:
            write_bytes(self._cache, bytes(timing.serialize()))  # type: ignore[call-overload, unused-ignore]
        except OutputError as error:
            # The engine is built; the next build only takes as long as this one.
            self.report(100, str(error))


def _preflight(api: Api, gpu: Gpu | None, model: ModelFile, options: BuildOptions, cache: Path) -> None:
    if gpu is None and not api.is_rtx:
        raise BuildError(
            f"{api.name} builds on the GPU that will run the engine, and there is none here: build on the board, "
            "or with --runtime tensorrt-rtx"
        )
    for end, kind in _ends(options).items():
        one_of(kind, ENDS, end)
    if options.optimization_level is not None and options.optimization_level not in OPTIMIZATION_LEVELS:
        raise OptionError(f"optimization level {options.optimization_level} is not one of TensorRT's: choose 0 to 5")
    if api.is_rtx and (options.version_compatible or options.hardware_compatible):
        raise OptionError(
            f"{api.name} builds for every GPU that it knows and for its own version: "
            "leave --version-compatible and --hardware-compatible out"
        )
    if options.dla_core is not None and api.is_rtx:
        raise OptionError(f"{api.name} does not support DLA: leave --dla out")
    if has_timing_cache(api):
        try:
            ensure_writable(cache / "timing")
        except OutputError as error:
            raise BuildError(
                f"the cache {cache} cannot be written, and without it every build times all kernels again: make it "
                "writable, or name another with XDG_CACHE_HOME"
            ) from error
    # The parser, the builder and the plan each hold the weights once; then the smallest workspace.
    needed = _BUILDER_ITSELF + 4 * model.proto.ByteSize() + _SMALLEST_WORKSPACE
    free = free_memory_bytes()
    if free is not None and free < needed:
        raise BuildError(
            f"building takes about {needed // _MIB} MiB of memory and {free // _MIB} MiB are free: "
            "close other programs, stop the desktop or add swap"
        )


def _kernels(options: BuildOptions, gpu: Gpu | None) -> bytes:
    capability = options.compute_capability or (gpu.compute_capability if gpu else None)
    if capability is None:
        raise BuildError("a kernel is for one GPU and none is here: give --compute-capability X.Y")
    return kernels_for(capability)


def _workspace_limits(wanted: int | None) -> list[int]:
    """The limit to begin with and, for when memory runs out, ever smaller ones."""
    if wanted is None:
        wanted = min(_LARGEST_WORKSPACE, (free_memory_bytes() or _LARGEST_WORKSPACE) // 4)
    limits = [max(wanted, 1)]
    while limits[-1] // 2 >= _SMALLEST_WORKSPACE:
        limits.append(limits[-1] // 2)
    return limits


def _facts(build: _Build, gpu: Gpu | None, workspace_bytes: int) -> MadeFacts:
    nodes = build.model.proto.graph.node
    convolutions = [node.name for node in nodes if node.op_type == "Conv"]
    dequantised = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
    placed = [node.name for node in nodes if node.op_type == "Conv" and dequantised.issuperset(node.input[:2])]
    precisions = convolution_precisions(build.log.layer_lines, convolutions)
    options = build.options
    capability = options.compute_capability
    if capability is None and gpu is not None and (not build.api.is_rtx or build.head or build.tail):
        capability = gpu.compute_capability
    return {
        "tensorrt": {
            "compute_capability": capability,
            "device": gpu.name if gpu else None,
            "version_compatible": options.version_compatible,
            "hardware_compatible": options.hardware_compatible,
            "dla_core": options.dla_core,
            "dla_fallback": build.fallback,
            "workspace_bytes": workspace_bytes,
            "optimization_level": options.optimization_level,
            "left_in_float": build.left_in_float,
            "proved": build.proved(),
            "left_to_graph": build.left_to_graph,
        },
        "graph_sha256": hashlib.sha256(build.model.proto.SerializeToString()).hexdigest(),
        "int8_convolutions": {
            "placed": len(placed),
            "built": sum(kind == "int8" for kind in precisions.values()),
            "not_named": len(convolutions) - len(precisions),
        },
        "precision_by_convolution": {name: precisions[name] for name in convolutions if name in precisions},
    }
