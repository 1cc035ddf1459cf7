"""Tensors in and out of Triton's Python stub without the stub's own NumPy bridge.

The stub of Triton 24.10 was compiled against NumPy 1: under NumPy 2 its `as_numpy` and its constructor from an array
give wrong values without an error. DLPack does not touch that bridge, so it is right under both. Strings, which DLPack
does not know, cross the bridge in a form that both read alike.
"""

import ctypes
import struct
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

_set_destructor = ctypes.pythonapi.PyCapsule_SetDestructor
_set_destructor.argtypes = [ctypes.py_object, ctypes.c_void_p]

_PLACE = 32  # bytes into a dtype: NumPy 1 keeps an item's size there, NumPy 2 the dtype's flags (ndarraytypes.h)
_BYTE = np.dtype(np.uint8, metadata={"of": "string tensors"})  # an object of its own, since its flags are written
_byte_flags = ctypes.c_uint64.from_address(id(_BYTE) + _PLACE)


def input_array(request: Any, name: str) -> np.ndarray:
    """A view of one input, (batch, ...); valid while the request is. Numbers only: DLPack knows no strings."""
    return np.from_dlpack(pb_utils.get_input_tensor_by_name(request, name))


def output_tensor(name: str, array: np.ndarray) -> Any:
    """A response tensor that shares `array`'s memory and keeps it alive.

    The stub renames the capsule it consumes to something NumPy's capsule destructor does not know, which makes that
    destructor print a traceback per tensor; ownership has passed to the stub, so the destructor has nothing to do.
    """
    capsule = np.require(array, requirements=["C", "W"]).__dlpack__()
    _set_destructor(capsule, None)
    return pb_utils.Tensor.from_dlpack(name, capsule)


def string_tensor(name: str, strings: np.ndarray) -> Any:
    """A response tensor of the given `str` objects.

    The stub counts the bytes of the serialised strings as items times the item's size, and finds 0 for the latter under
    NumPy 2. So the flags that stand in its place are 1, the size of a byte, while the stub looks, and 0 otherwise.
    Raises RuntimeError where this NumPy's dtypes are laid out otherwise.
    """
    if ctypes.c_uint64.from_address(id(np.dtype(object)) + _PLACE).value != np.dtype(object).flags:
        raise RuntimeError(f"NumPy {np.__version__} keeps a dtype's flags in another place than NumPy 2.0 to 2.4")
    encoded = [text.encode() for text in strings.ravel()]
    serialised = b"".join(part for text in encoded for part in (struct.pack("<I", len(text)), text))
    flat = np.frombuffer(serialised, np.uint8).view(_BYTE)
    original = pb_utils.serialize_byte_tensor
    pb_utils.serialize_byte_tensor = lambda _: flat
    _byte_flags.value = 1
    try:
        return pb_utils.Tensor(name, strings)
    finally:
        _byte_flags.value = 0
        pb_utils.serialize_byte_tensor = original


def failure(message: str, code: Any) -> Any:
    """A response that carries an error of the given `TritonError` code and nothing else."""
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
