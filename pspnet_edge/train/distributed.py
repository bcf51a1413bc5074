"""Several processes, on one machine or many, that compute one run together.

``torchrun`` starts the processes and tells each, in environment variables, which one it is. Every process computes its
part of every batch; a sample depends only on (seed, epoch, index) and every loss is divided by the count of the whole
batch, so the number of processes changes neither the samples nor the gradient. Three things do depend on it:
dropout, which every process draws separately; the Lovász loss, which is not a sum over pixels and is averaged over the
micro-batches; and BatchNorm on a CPU, for which PyTorch has no SyncBatchNorm, so that each process normalizes by its
own crops.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .. import processor
from ..errors import OptionError, PspnetEdgeError
from ..model.batchnorm import synchronised
from ..model.pspnet import PSPNet
from ..records import first_line
from .memory import keep_freed_memory
from .recipe import Autocast

_PATIENCE = timedelta(hours=1)
"""How long a process waits for the others, who may be reading a large data set."""


@dataclass(frozen=True)
class World:
    """Which of the processes this one is, and what it computes on."""

    device: torch.device
    rank: int = 0
    size: int = 1
    local_size: int = 1
    """How many of the processes run on this machine."""

    @property
    def first(self) -> bool:
        """Whether this process writes the files and reports progress."""
        return self.rank == 0

    def autocast(self, wanted: Autocast) -> Autocast:
        """The mixed precision of a run: ``auto`` is bfloat16 where the device itself computes in it."""
        if wanted != "auto":
            return wanted
        on_gpu = self.device.type == "cuda"
        return "bf16" if (torch.cuda.is_bf16_supported(False) if on_gpu else processor.has_bfloat16()) else "none"

    def total(self, values: Tensor) -> Tensor:
        """The sum of ``values`` over all processes, in a new tensor; a single process gets its own back."""
        if self.size == 1:
            return values
        summed = values.detach().clone().to(self.device)
        dist.all_reduce(summed)
        return summed

    def broadcast(self, module: nn.Module) -> None:
        """Give every process the first one's weights and buffers."""
        if self.size > 1:
            for value in module.state_dict().values():
                dist.broadcast(value, 0)

    def agree(self, text: str) -> str:
        """The first process's ``text``, in every process."""
        if self.size == 1:
            return text
        values: list[str | None] = [text]
        dist.broadcast_object_list(values, 0, device=self.device)
        assert values[0] is not None
        return values[0]

    def wait(self) -> None:
        """Return when all processes have arrived."""
        if self.size > 1:
            # Not dist.barrier, which makes NCCL guess a device.
            self.total(torch.zeros(1))


ALONE = World(torch.device("cpu"))
"""One process on the CPU."""


@contextmanager
def joined(device: str = "auto") -> Iterator[World]:
    """Join the processes that ``torchrun`` started, or run as a single process.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``; auto chooses a GPU where PyTorch finds one.

    Raises:
        OptionError: an unknown device.
        PspnetEdgeError: no GPU, or more processes than GPUs on this machine; or another process ended, so this one
            cannot continue.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    chosen = _device(device, local)
    if chosen.type == "cpu":
        keep_freed_memory()
    if size == 1:
        yield World(chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield World(chosen, rank, size, int(os.environ.get("LOCAL_WORLD_SIZE", size)))
    except RuntimeError as error:
        if not _is_of_the_connection(error):
            raise
        reason = first_line(error).rpartition("] ")[2]
        raise PspnetEdgeError(
            f"process {rank} lost the connection to the others ({reason})",
            "see what the first one to end reported",
        ) from error
    finally:
        dist.destroy_process_group()


def _device(name: str, local_rank: int) -> torch.device:
    if name not in ("auto", "cpu", "cuda"):
        raise OptionError(f"unknown device {name!r}", "choose auto, cpu or cuda")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise PspnetEdgeError("PyTorch finds no GPU", "install its CUDA build and a driver, or give --device cpu")
    if local_rank >= torch.cuda.device_count():
        raise PspnetEdgeError(
            f"process {local_rank} of this machine has no GPU: there are {torch.cuda.device_count()}",
            "lower torchrun's --nproc-per-node",
        )
    return torch.device("cuda", local_rank)


def _is_of_the_connection(error: RuntimeError) -> bool:
    # Gloo raises plain RuntimeErrors with its source's path in them; NCCL's are DistBackendErrors.
    return isinstance(error, dist.DistError) or "gloo" in str(error)


class _WithAux(nn.Module):
    """The network as training calls it: ``forward`` returns the logits and the aux head's."""

    def __init__(self, model: PSPNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.forward_with_aux(x)


class DistributedNetwork:
    """A network whose gradients are those of the whole batch, whichever process computed which part."""

    def __init__(self, model: PSPNet, world: World, synchronize_batchnorm: bool) -> None:
        if world.size > 1 and world.device.type == "cuda" and synchronize_batchnorm:
            model = synchronised(model)
        self._local = _WithAux(model)
        self._parallel: DistributedDataParallel | None = None
        if world.size > 1:
            devices = [world.device] if world.device.type == "cuda" else None
            self._parallel = DistributedDataParallel(self._local, device_ids=devices)

    def accumulation(self, last: bool) -> AbstractContextManager[object]:
        """The context for forward and backward: processes exchange gradients after a step's ``last`` micro-batch."""
        return nullcontext() if last or self._parallel is None else self._parallel.no_sync()

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and aux logits of normalized RGB ``float [N, 3, H, W]``."""
        logits, aux_logits = (self._parallel or self._local)(x)
        return logits, aux_logits
