"""Rows of embedding tables, with the quickest gradient for the device."""

from torch import Tensor
from torch.nn import functional


def rows_of(table: Tensor, index: Tensor) -> Tensor:
    """The rows of `table` (row, width) that `index` (...) int64 names: (..., width).

    On a CPU the gradient of index_select takes a quarter of the time of embedding's: 0.15 and 0.63 ms for 20,480 rows
    of a table of 3,416 by 16. On a GPU embedding's adds up in a fixed order, which index_select's does not.
    """
    if table.device.type == "cuda":
        return functional.embedding(index, table)
    rows: Tensor = table.index_select(0, index.flatten()).unflatten(0, index.shape)
    return rows
