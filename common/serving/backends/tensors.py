"""Tensors in and out of Triton's Python stub without the stub's own NumPy bridge.

The stub of Triton 24.10 was compiled against NumPy 1: under NumPy 2 its `as_numpy` and its constructor from an array
give wrong values without an error. DLPack does not touch that bridge, so it is right under both. Strings, which DLPack
does not know, leave over the bridge in a form that both read alike, and come in past it.
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


class _Strings(ctypes.Structure):
    """The beginning of the stub's own tensor, PbTensor of Triton 24.10's Python backend (pb_tensor.h)."""

    _fields_ = (
        ("name", ctypes.c_uint64 * 4),  # std::string
        ("arrays", ctypes.c_uint64 * 2),  # what NumPy was given, as Python objects
        ("data_type", ctypes.c_uint32),
        ("memory", ctypes.c_uint64),
        ("memory_type", ctypes.c_uint32),
        ("dimensions", ctypes.c_uint64 * 3),  # std::vector: begin, end, end of its memory
        ("memory_device", ctypes.c_uint64),
        ("byte_size", ctypes.c_uint64),
    )


_VALUE = 16  # bytes into an object of pybind11: the address of the C++ object
_BYTES, _CPU = 13, 0  # TRITONSERVER_TYPE_BYTES, TRITONSERVER_MEMORY_CPU


def input_array(request: Any, name: str) -> np.ndarray:
    """A view of one input, (batch, ...); valid while the request is. Numbers only: DLPack knows no strings."""
    return np.from_dlpack(pb_utils.get_input_tensor_by_name(request, name))


def string_bytes(tensor: Any) -> bytes:
    """The strings of an input as they travel: each follows its length, 4 bytes, little-endian.

    The stub copies them through an array of NumPy whose items it takes for 0 bytes long under NumPy 2, so that every
    byte becomes the first one. So they are read where that copy began. Raises RuntimeError where the stub's tensors are
    laid out otherwise.
    """
    strings = _Strings.from_address(ctypes.c_uint64.from_address(id(tensor) + _VALUE).value)
    begin, end, _ = strings.dimensions
    dimensions = tensor.shape()
    if (
        (strings.data_type, strings.memory_type, end - begin) != (_BYTES, _CPU, 8 * len(dimensions))
        or [*(ctypes.c_int64 * len(dimensions)).from_address(begin)] != [*dimensions]
    ):  # fmt: skip
        raise RuntimeError("this Triton's Python stub keeps its tensors otherwise than that of 24.10")
    return ctypes.string_at(strings.memory, strings.byte_size)


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
