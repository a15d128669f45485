"""Keep freed memory, so that large activations are mapped once and not in every training step."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_memory() -> bool:
    """Tell glibc to keep large freed blocks for the next step instead of giving them back.

    By default it maps every block above 32 MB anew and the kernel clears its pages, which takes
    longer than the arithmetic of a training step. Called at the start of commands that compute;
    the process keeps its peak memory until it ends.

    Returns:
        True where it took effect: on Linux with glibc. Elsewhere nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # musl and others have no such function
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    largest = 2**31 - 1
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, largest))
