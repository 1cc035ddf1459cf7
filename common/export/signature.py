"""The tensors a model takes and gives: written once, read by ONNX, TensorRT, Triton, the client and the benchmark."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

Dimension = int | str
"""A fixed size, or the name of a free one."""


@dataclass(frozen=True)
class TensorSpec:
    """One named tensor without its batch dimension.

    dtype: a NumPy type name (`float32`, `int64`, `uint8`, `bytes` for encoded files).
    shape: sizes after the batch dimension; a string names a free dimension.
    """

    name: str
    dtype: str
    shape: tuple[Dimension, ...]


@dataclass(frozen=True)
class SizeRange:
    """The sizes of a free dimension an engine is built for, and the one it is tuned for."""

    minimum: int
    optimum: int
    maximum: int

    def __post_init__(self) -> None:
        if not 1 <= self.minimum <= self.optimum <= self.maximum:
            raise ValueError(f"a range of sizes must rise from 1: {self.minimum}, {self.optimum}, {self.maximum}")


@dataclass(frozen=True)
class BatchRange(SizeRange):
    """The batch sizes an engine is built for."""

    minimum: int = 1
    optimum: int = 8
    maximum: int = 32


@dataclass(frozen=True)
class Signature:
    """Inputs are named as in the inference module's `forward`; outputs are given in the order it returns them.

    free:       the range of every free dimension, by name. One that has none may be of any size, for which TensorRT
                builds no plan.
    plan_batch: of a TensorRT plan, where a GPU is to take more at a time than `batch`.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batch: BatchRange = BatchRange()
    free: Mapping[str, SizeRange] = field(default_factory=dict)
    plan_batch: BatchRange | None = None

    def of_plan(self) -> "Signature":
        return replace(self, batch=self.plan_batch or self.batch, plan_batch=None)


GPU_BATCH = BatchRange(1, 32, 128)
"""What keeps a GPU busy with inputs that a CPU takes 32 of."""
