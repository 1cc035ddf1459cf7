"""A disk that is full, as far as this process can tell: the system refuses every byte of a file beyond a limit."""

import contextlib
import resource
from collections.abc import Iterator


@contextlib.contextmanager
def limited_files(size: int) -> Iterator[None]:
    """No file may become larger than `size` bytes while the block runs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
