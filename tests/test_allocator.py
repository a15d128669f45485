"""Freed memory is really kept: fewer page faults, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys
import numpy as np
from avel.memory import keep_memory
kept = sys.argv[1] == "keep" and keep_memory()
def work():
    np.empty(2**26, np.uint8).fill(1)  # 64 MB
for _ in range(8):  # until the heap has its shape
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    work()
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> tuple[bool, int]:
    command = [sys.executable, "-c", _FAULTS, how]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    took_effect, count = done.stdout.split()
    return took_effect == "1", int(count)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
def test_large_blocks_are_mapped_once() -> None:
    took_effect, with_it = faults("keep")
    if not took_effect:
        pytest.skip("not glibc")
    _, without = faults("leave")
    assert with_it < 50 < 200 < without, (with_it, without)
