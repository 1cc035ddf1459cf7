"""Wide & Deep on a click log: a second table holds the wide part's weights."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from challenges.recommendation.clicks.sparse_optimizers import RowFtrl
from challenges.recommendation.clicks.spec import FeatureSpec
from challenges.recommendation.clicks.tables import Bag
from challenges.recommendation.clicks.task import ClickTask
from challenges.recommendation.wide_and_deep.network import Crosses, WideAndDeep
from challenges.recommendation.wide_and_deep.recipes import WideAndDeepRecipe
from common.machine.distributed import ALONE, World
from common.training.optimizers import Ftrl
from common.training.schedules import build_schedule
from common.training.task import ScheduledOptimizer


class WideAndDeepTask(ClickTask[WideAndDeepRecipe]):
    """With `wide.optimizer` ftrl the wide part has an optimizer of its own, as published."""

    def __init__(
        self,
        recipe: WideAndDeepRecipe,
        spec: FeatureSpec,
        *,
        device: torch.device | None = None,
        world: World = ALONE,
    ) -> None:
        super().__init__(recipe, spec, device=device, world=world)
        self.crosses = Crosses(spec)
        self.weights = self.table(_wide_rows(spec), 1, spread=0.0)

    @property
    def wide_rows(self) -> int:
        return sum(_wide_rows(self.spec))

    def build_network(self) -> nn.Module:
        config = self.recipe.model
        return WideAndDeep(
            numbers=self.numbers.width,
            columns=self.tables.columns,
            width=self.tables.width,
            hidden=config.hidden,
            dropout=config.dropout,
            batch_norm=config.batch_norm,
        )

    def logits(self, dense: Tensor, ids: Tensor, bags: Sequence[Bag] | Tensor) -> Tensor:
        rows = self.tables(ids, bags)
        wide = torch.cat([ids, self.crosses(ids)], 1) if self.crosses.rows else ids
        logits: Tensor = self.network(self.numbers(dense), rows, self.weights(wide, bags))
        return logits.float()

    def table_weights(self) -> list[nn.Parameter]:
        own = self.recipe.wide.optimizer == "ftrl"
        return super().table_weights() + ([] if own else list(self.weights.parameters()))

    def network_groups(self) -> list[dict[str, Any]]:
        groups = super().network_groups()
        if self.recipe.wide.optimizer == "ftrl":
            wide = {id(parameter) for parameter in self._wide_numbers()}
            for group in groups:
                group["params"] = [parameter for parameter in group["params"] if id(parameter) not in wide]
        return groups

    def _wide_numbers(self) -> list[nn.Parameter]:
        return [parameter for name, parameter in self.network.named_parameters() if name.startswith("wide.")]

    def optimizers(self, total_steps: int, steps_per_epoch: float) -> list[ScheduledOptimizer]:
        others, config = super().optimizers(total_steps, steps_per_epoch), self.recipe.wide
        if config.optimizer != "ftrl":
            return others
        schedule = build_schedule(replace(self.recipe.optimizer, peak_lr=config.peak_lr), total_steps, steps_per_epoch)
        rows = list(self.weights.parameters())
        dense = self._wide_numbers()
        if self.recipe.tables.optimizer == "dense":
            rows, dense = [], rows + dense
        if rows:
            sparse = RowFtrl(rows, lr=config.peak_lr, l1=config.l1, l2=config.l2)
            others.append(ScheduledOptimizer(sparse, schedule))
        if dense:
            whole = Ftrl(dense, lr=config.peak_lr, l1=config.l1, weight_decay=config.l2)
            others.append(ScheduledOptimizer(whole, schedule))
        return others


def _wide_rows(spec: FeatureSpec) -> list[int]:
    """Of every column's table in the wide part, crosses after the columns that they are made of."""
    return [
        *(column.cardinality for column in spec.categorical),
        *(cross.buckets for cross in spec.crosses),
        *(column.cardinality for column in spec.multi_hot),
    ]
