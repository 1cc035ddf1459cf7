"""Counts the operations that make a GPU's host wait: what reads a tensor's numbers, or a size that they decide."""

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

READING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique", "unique2", "_unique2")


class Reads(TorchDispatchMode):
    """Names and counts them in a `with` block; on the CPU the same operations are dispatched as on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.names.append(name)
        self.count += name in READING
        return func(*args, **(kwargs or {}))
