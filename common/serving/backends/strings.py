"""Strings in a request to a Python step, looked at before they become Python objects.

Runs in images that have Triton's Python backend and nothing of this kit, too, where it lies beside a step's model.py.
"""

import struct
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

try:
    from common.serving.backends.tensors import string_bytes
except ImportError:  # Triton's own image, whose stub and NumPy fit each other

    def string_bytes(tensor: Any) -> bytes:
        return bytes(tensor.as_numpy().tobytes())


class RefusedError(Exception):
    """Why a request cannot be answered, in words for whoever sent it."""


class Serialised:
    """What stands for an input's strings until the request's size was looked at: their bytes as they came.

    The stub turns the strings of every request into Python objects before anyone can object to their number, which
    takes seconds for millions.
    """

    def __init__(self, content: Any) -> None:
        self._bytes = np.frombuffer(content, np.uint8) if len(content) else np.zeros(0, np.uint8)

    def reshape(self, _: Any) -> np.ndarray:
        """What the stub asks for: it keeps the array as it is."""
        return self._bytes


pb_utils.deserialize_bytes_tensor = Serialised


def input_strings(request: Any, name: str, maximum_bytes: int) -> list[str]:
    """All strings of one input; RefusedError where they are too many bytes, or no strings."""
    content = string_bytes(pb_utils.get_input_tensor_by_name(request, name))
    if len(content) > maximum_bytes:
        raise RefusedError(f"{name} has {len(content):,} bytes, at most {maximum_bytes:,} are taken in a request")
    return texts_of(content)


def texts_of(content: bytes) -> list[str]:
    """Strings that each follow their length in 4 bytes, little-endian."""
    texts, position = [], 0
    while position < len(content):
        if position + 4 > len(content):
            raise RefusedError("a string's length ends before its four bytes")
        (length,) = struct.unpack_from("<I", content, position)
        position += 4
        if position + length > len(content):
            raise RefusedError("a string ends before its length")
        texts.append(content[position : position + length].decode("utf-8", "replace"))
        position += length
    return texts
