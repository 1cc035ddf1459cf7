"""Tensors in and out of Triton's Python stub without the stub's own NumPy bridge.

The stub of Triton 24.10 was compiled against NumPy 1: under NumPy 2 its `as_numpy` and its constructor from an array
give wrong values without an error. DLPack does not touch that bridge, so it is right under both.
"""

import ctypes
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

_set_destructor = ctypes.pythonapi.PyCapsule_SetDestructor
_set_destructor.argtypes = [ctypes.py_object, ctypes.c_void_p]


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


def failure(message: str, code: Any) -> Any:
    """A response that carries an error of the given `TritonError` code and nothing else."""
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
