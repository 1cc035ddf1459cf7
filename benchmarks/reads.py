"""Counts the operations that make a GPU's host wait: what reads a tensor's numbers, or a size that they decide."""

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

READING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique", "unique2", "_unique2")


class Reads(TorchDispatchMode):
    """Names and counts them in a `with` block; on the CPU the same operations are dispatched as on a GPU."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        self.names: list[str] = []

    @property
    def reading(self) -> list[str]:
        return [name for name in self.names if name in READING]

    @property
    def count(self) -> int:
        return len(self.reading)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))
