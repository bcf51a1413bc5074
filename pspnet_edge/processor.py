"""The instructions of this processor, where they change a result or a default."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

_INT8_DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "amx_int8"}
_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}


@functools.cache
def instructions() -> frozenset[str]:
    """Their names as Linux lists them; empty elsewhere."""
    for name in ("flags", "Features"):
        if entry := cpu_entry(name):
            return frozenset(entry.split())
    return frozenset()


def cpu_entry(name: str) -> str | None:
    """The first value of that name in Linux's ``/proc/cpuinfo``."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None


def int8_sums_fit() -> bool:
    """Whether sums of uint8 · int8 products are exact here.

    x86 without VNNI adds such products in pairs, in int16, and cuts off what exceeds it: 255 · 127 twice does. Intel,
    64-ia-32 architectures manual, VPMADDUBSW. An x86 whose instructions are unknown counts as one without VNNI.
    """
    return platform.machine().lower() not in ("x86_64", "amd64") or not _INT8_DOT_PRODUCTS.isdisjoint(instructions())


def has_bfloat16() -> bool:
    """Whether it computes in bfloat16 itself; emulated it is several times slower than float32."""
    return not _BFLOAT16.isdisjoint(instructions())
