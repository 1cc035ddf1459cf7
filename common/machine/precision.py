"""Number formats of a training step: chosen by the hardware unless the recipe names one."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from common.errors import RecipeError


@dataclass(frozen=True)
class Precision:
    """name: fp32, tf32, bf16 or fp16. `autocast` is the type matrix products run in, None for full precision."""

    name: str
    autocast: torch.dtype | None

    @contextlib.contextmanager
    def context(self, device: torch.device) -> Iterator[None]:
        """Run the block with this precision's autocast; the weight cache is off, so CUDA graphs can hold it."""
        if self.autocast is None:
            yield
            return
        with torch.autocast(device.type, dtype=self.autocast, cache_enabled=device.type == "cpu"):
            yield

    def scaler(self, device: torch.device) -> torch.amp.GradScaler:
        """A gradient scaler: dynamic for fp16, whose gradients underflow; elsewhere it only skips non-finite steps.

        On a GPU it decides on the device, without a synchronisation, whatever the optimizer.
        """
        kind = torch.amp.GradScaler if device.type == "cpu" else DeviceScaler
        if self.name == "fp16":
            return kind(device.type)
        return kind(device.type, init_scale=1.0, growth_interval=2**31 - 1)


class DeviceScaler(torch.amp.GradScaler):
    """A gradient scaler that never waits to learn whether the gradients are finite.

    Fused optimizers look at that themselves. Any other steps first, and where the step was not finite its weights and
    state are put back, on the device; state that the step began is zero then. Counters that an optimizer keeps on the
    host go on. Gradients that are sparse are waited for: their tables are too large to be copied.
    """

    def _maybe_opt_step(
        self, optimizer: torch.optim.Optimizer, optimizer_state: dict[str, Any], *args: Any, **kwargs: Any
    ) -> float | None:
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if any(parameter.grad.is_sparse for parameter in parameters):
            return super()._maybe_opt_step(optimizer, optimizer_state, *args, **kwargs)
        bad = sum(optimizer_state["found_inf_per_device"].values()) > 0
        with torch.no_grad():
            tensors = _tensors(optimizer, parameters)
            before = [torch.empty_like(tensor) for tensor in tensors]
            torch._foreach_copy_(before, tensors)
            result: float | None = optimizer.step(*args, **kwargs)
            held = {id(tensor): old for tensor, old in zip(tensors, before, strict=True)}
            for tensor in _tensors(optimizer, parameters):
                torch.where(bad, held.get(id(tensor), tensor.new_zeros(())), tensor, out=tensor)
        return result


def _tensors(optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> list[Tensor]:
    """The parameters and what an optimizer keeps of them on their device."""
    state = [
        value
        for parameter in parameters
        for value in optimizer.state.get(parameter, {}).values()
        if isinstance(value, Tensor) and value.device == parameter.device
    ]
    return [*parameters, *state]


def select_precision(name: str, device: torch.device) -> Precision:
    """Resolve `auto` and apply the process-wide matrix-product setting.

    auto: bf16 on GPUs from Ampere on and on CPUs with bfloat16 instructions, fp16 on older GPUs, fp32 elsewhere.
    """
    if name == "auto":
        name = _best(device)
    if name == "tf32" and device.type == "cpu":
        raise RecipeError("training.precision tf32 was asked for on a CPU.", "A CPU offers fp32, bf16 and fp16.")
    torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = name == "tf32"
    return Precision(name, {"bf16": torch.bfloat16, "fp16": torch.float16}.get(name))


@contextlib.contextmanager
def quick_products(device: torch.device) -> Iterator[None]:
    """Let a GPU multiply float32 matrices as TF32 within the block: sums stay float32, factors have ten bits."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _best(device: torch.device) -> str:
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    return "bf16" if cpu_has_bfloat16() else "fp32"


def cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware (AVX512-BF16 or AMX)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
