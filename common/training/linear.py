"""Linear layers at the processor's full width.

torch multiplies float32 matrices on x86 CPUs by MKL, which on AMD's processors keeps to vectors of 256 bits where they
have 512. oneDNN, which torch uses for convolutions and half precisions, takes the width it finds: on a Zen 5 twice as
fast (docs/log.md). Its linear operator is the one that torch.compile puts into its programs.
"""

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from common.machine.environment import processor

SMALLEST = 2**23  # multiplications from which oneDNN gains more than its start costs


class Linear(nn.Linear):
    """nn.Linear, by way of `linear`."""

    def forward(self, inputs: Tensor) -> Tensor:
        return linear(inputs, self.weight, self.bias)


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """inputs (..., n) times weight (m, n) transposed plus bias (m,) -> (..., m); differentiable once.

    Exported graphs hold the plain operator.
    """
    if not _is_for_onednn(inputs, weight):
        return functional.linear(inputs, weight, bias)
    answer: Tensor = _OneDnnLinear.apply(inputs.flatten(0, -2), weight, bias)  # type: ignore[no-untyped-call]  # torch's
    shaped: Tensor = answer.unflatten(0, inputs.shape[:-1])
    return shaped


class _OneDnnLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return _product(inputs, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, errors: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        by_inputs, by_weight, by_bias = ctx.needs_input_grad
        return (
            _product(errors, weight.t()) if by_inputs else None,
            _product(errors.t(), inputs.t()) if by_weight else None,
            errors.sum(0) if by_bias else None,
        )


def _product(first: Tensor, second: Tensor, bias: Tensor | None = None) -> Tensor:
    """first (n, k) times second (m, k) transposed plus bias (m,) -> (n, m)."""
    return torch.ops.mkldnn._linear_pointwise(first, second, bias, "none", [], "")  # type: ignore[no-any-return]


def _is_for_onednn(inputs: Tensor, weight: Tensor) -> bool:
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # sizes may be symbols: no question about them
        return False
    return (
        inputs.device.type == "cpu"
        and inputs.dtype == weight.dtype == torch.float32
        and inputs.ndim > 1
        and inputs.numel() * len(weight) >= SMALLEST
        and not torch.is_autocast_enabled("cpu")
        and _mkl_is_half_as_wide()
    )


@functools.cache
def _mkl_is_half_as_wide() -> bool:
    return (
        processor()["model"].startswith("AMD")
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and torch.backends.mkl.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )
