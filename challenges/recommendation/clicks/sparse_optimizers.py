"""Optimizers that touch only the rows of a table that a batch read.

They are torch's in every other way: the schedule sets their learning rate, the trainer's scaler keeps them from steps
that are not finite, their state is saved and loaded with the run. What they cannot do the recipe refuses: a norm over
all gradients, by which others clip, would have to add up equal rows first.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from challenges.recommendation.clicks.tables import equal_together, gather, stretch, sums_of_rows
from common.training.optimizers import GroupOptimizer, ftrl_update

HALF_BITS, SMALLEST_HALF_STEP = 11, 2.0**-24
ROW_EPS = 1e-8
"""Beside the root of Adagrad's sums, as FBGEMM has it."""


class TableOptimizer(torch.optim.Optimizer):
    """Of rows that checkpoints keep by their shards, what it keeps for each of them included."""


class RowOptimizer(TableOptimizer, GroupOptimizer):
    """Updates the rows that a sparse gradient names, each once, by the sum of its entries.

    Rows are float32 or float16; these are updated in float32 and rounded at random, up or down so that the mean is
    right: to the nearest, small updates would be lost.
    """

    def _update_group(self, group: dict[str, Any]) -> None:
        for weight in group["params"]:
            for rows, gradient in summed_by_row(weight.grad) if weight.grad is not None else ():
                self._update(weight, rows, gradient, group)

    def kept(self, weight: Tensor) -> dict[str, Tensor]:
        """What is kept for each row of a weight: name -> (row, ...) float32, from the first step on if not before."""
        state: dict[str, Tensor] = self.state[weight]
        if not state:
            state.update(self._begun(weight))
        return state

    def updates(self, weight: Tensor) -> bool:
        return any(weight is one for group in self.param_groups for one in group["params"])

    def _begun(self, weight: Tensor) -> dict[str, Tensor]:
        """What is kept before the first step."""
        return {}

    @abstractmethod
    def _update(self, weight: Tensor, rows: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Change `rows` (row,) of a weight by their `gradient` (row, width) float32, which may be overwritten."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore; the state stays in float32 where torch would cast it to the weight's type."""
        super().load_state_dict(state_dict)
        saved = state_dict["state"]
        weights = [weight for group in self.param_groups for weight in group["params"]]
        for position, state in saved.items():
            for name, value in state.items():
                self.state[weights[position]][name] = value.to(weights[position].device, torch.float32, copy=True)


class RowSgd(RowOptimizer):
    """Plain gradient descent: w -= lr g."""

    def __init__(self, params: Iterable[Any], lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})

    def _update(self, weight: Tensor, rows: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        store(weight, rows, gather(weight, rows).sub_(gradient, alpha=group["lr"]))


class RowwiseAdagrad(RowOptimizer):
    """Adagrad with one sum a row: s += mean(g²); w -= lr g / (sqrt(s) + eps).

    Source: FBGEMM's exact row-wise Adagrad, of which facebookresearch/dlrm and TorchRec make use.
    """

    def __init__(self, params: Iterable[Any], lr: float = 0.01, eps: float = ROW_EPS, start: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "eps": eps, "start": start})

    def _begun(self, weight: Tensor) -> dict[str, Tensor]:
        return {"sum": torch.full((len(weight),), self.defaults["start"], device=weight.device)}

    def _update(self, weight: Tensor, rows: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.kept(weight)
        total = state["sum"].index_select(0, rows) + gradient.square().mean(1)
        state["sum"].index_copy_(0, rows, total)
        gradient.div_(total.sqrt_().add_(group["eps"])[:, None])
        store(weight, rows, gather(weight, rows).sub_(gradient, alpha=group["lr"]))


class RowAdagrad(RowOptimizer):
    """Adagrad with a sum for every number of a row: s += g²; w -= lr g / (sqrt(s) + eps).

    Source: FBGEMM's exact Adagrad; Duchi et al. 2011.
    """

    def __init__(self, params: Iterable[Any], lr: float = 0.01, eps: float = ROW_EPS) -> None:
        super().__init__(params, {"lr": lr, "eps": eps})

    def _begun(self, weight: Tensor) -> dict[str, Tensor]:
        return {"sum": torch.zeros(weight.shape, device=weight.device)}

    def _update(self, weight: Tensor, rows: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.kept(weight)
        total = state["sum"].index_select(0, rows).addcmul_(gradient, gradient)
        state["sum"].index_copy_(0, rows, total)
        gradient.div_(total.sqrt_().add_(group["eps"]))
        store(weight, rows, gather(weight, rows).sub_(gradient, alpha=group["lr"]))


class RowFtrl(RowOptimizer):
    """FTRL-proximal for every number of a row, of which L1 leaves few that are not zero.

    start: of the sum of squares. l1, l2: the penalties.
    Source: common/training/optimizers.py Ftrl.
    """

    def __init__(
        self, params: Iterable[Any], lr: float = 0.02, l1: float = 0.0, l2: float = 0.0, start: float = 0.1
    ) -> None:
        super().__init__(params, {"lr": lr, "l1": l1, "l2": l2, "start": start})

    def _begun(self, weight: Tensor) -> dict[str, Tensor]:
        return {
            "squares": torch.full(weight.shape, self.defaults["start"], device=weight.device),
            "linear": torch.zeros(weight.shape, device=weight.device),
        }

    def _update(self, weight: Tensor, rows: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.kept(weight)
        squares, linear = (state[name].index_select(0, rows) for name in ("squares", "linear"))
        values, squares, linear = ftrl_update(
            gather(weight, rows), gradient, squares, linear, lr=group["lr"], l1=group["l1"], l2=group["l2"]
        )
        state["squares"].index_copy_(0, rows, squares)
        state["linear"].index_copy_(0, rows, linear)
        store(weight, rows, values)


def summed_by_row(gradient: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Each of a sparse gradient's rows once and in order, (row,), with the sum of its entries, (row, width) float32.

    They come in stretches that stay in a CPU's cache, so that all that an update makes of one does, too.
    """
    values = gradient._values()
    rows, order, starts = equal_together(gradient._indices()[0], len(gradient))
    if values.device.type != "cpu":  # whole: where to cut would have to be waited for
        yield rows.long(), sums_of_rows(values, order, starts)
        return
    starts = torch.cat([starts, starts.new_tensor([len(order)])])
    cuts = torch.searchsorted(starts, torch.arange(0, len(order), stretch(values.shape[1])))
    for begin, end in pairwise(dict.fromkeys([*cuts.tolist(), len(rows)])):
        first, last = starts[begin], starts[end]
        yield rows[begin:end].long(), sums_of_rows(values, order[first:last], starts[begin:end] - first)


def store(weight: Tensor, rows: Tensor, values: Tensor) -> None:
    """Write float32 values (row, width) to rows (row,) of a weight, each named once."""
    if weight.dtype == torch.float16:
        values = rounded_at_random(values)
    weight.index_copy_(0, rows, values)


def rounded_at_random(values: Tensor) -> Tensor:
    """float32 to float16, to one of its two neighbours with the chances that make the mean right."""
    exponent = torch.frexp(values).exponent
    step = torch.ldexp(torch.ones_like(values), exponent - HALF_BITS).clamp_(min=SMALLEST_HALF_STEP)
    return (torch.floor(values / step + torch.rand_like(values)) * step).half()
