"""The host's memory, as the C library hands it out."""

import ctypes
import sys

# glibc's mallopt(3), and the largest values that it takes
M_TRIM_THRESHOLD, LARGEST_TRIM_THRESHOLD = -1, 2**31 - 1
M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD = -3, 32 * 2**20


def keep_freed_memory() -> None:
    """Keep what is freed for the next allocation, instead of giving it back to Linux and faulting it in anew.

    Blocks of up to 32 MiB come from the heap, of which 2 GiB may lie free; larger ones are given back. A training step
    asks for the same tensors again and again: on a CPU it takes 5 to 11 % less time (docs/log.md, 2026-11-30).
    Another C library than glibc goes its own way.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(M_TRIM_THRESHOLD, LARGEST_TRIM_THRESHOLD)
        library.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
