from __future__ import annotations

import platform
import subprocess
import sys

import pytest

ALLOCATE = """
import resource
from pspnet_edge.train.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        b"x" * (64 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

by_default = faults()
keep_freed_memory()
faults()
print(by_default, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")
def test_memory_that_was_freed_is_used_again_without_asking_the_kernel() -> None:
    by_default, kept = map(int, subprocess.check_output([sys.executable, "-c", ALLOCATE], text=True).split())
    assert by_default > 1000, "glibc gives it back, so that there is something to gain"
    assert kept < 100
