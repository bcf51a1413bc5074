"""How the process keeps its memory while it trains on a CPU."""

from __future__ import annotations

import ctypes

# mallopt(3) of glibc.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Let glibc's malloc keep what PyTorch frees, until the process ends; elsewhere nothing is done.

    Each step allocates the same hundreds of megabytes again. By default glibc gives them back to the kernel, which
    then has to clear every page once more: a third of the processor time of a step.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, _NEVER)
