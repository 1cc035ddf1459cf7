"""A click model as a task: cross entropy of clicks, tables updated apart from the network, and what is served."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn import functional

from challenges.recommendation.clicks.memory import placed_within_memory
from challenges.recommendation.clicks.metrics import by_part, grouped, intervals, summary
from challenges.recommendation.clicks.numbers import NUMBERS, PlainNumbers
from challenges.recommendation.clicks.placement import Placement
from challenges.recommendation.clicks.recipes import ClickRecipe
from challenges.recommendation.clicks.row_wise import RowStep, ShardedTable, table_shards
from challenges.recommendation.clicks.sparse_optimizers import RowAdagrad, RowSgd, RowwiseAdagrad
from challenges.recommendation.clicks.spec import FIRST, RARE, FeatureSpec
from challenges.recommendation.clicks.tables import Bag, FusedTable, Tables
from common.errors import RecipeError
from common.export.signature import BatchRange, Dimension, Signature, TensorSpec
from common.language.telling import english
from common.machine.distributed import ALONE, World, any_rank
from common.training.optimizers import build_optimizer, parameter_groups
from common.training.randomness import random_numbers
from common.training.schedules import build_schedule
from common.training.sharded_checkpoint import ShardedCheckpoints
from common.training.shards import Shard
from common.training.task import (
    Batch,
    DataModule,
    Evaluation,
    HeldOut,
    ScheduledOptimizer,
    Step,
    StepSettings,
    Task,
)

DTYPES = {"fp32": torch.float32, "fp16": torch.float16}
ROW_OPTIMIZERS = {"rowwise-adagrad": RowwiseAdagrad, "adagrad": RowAdagrad, "sgd": RowSgd}
HEAD = 0.1
"""The commonest tenth of a column's values."""
WIDE = 64
"""Numbers of a row from which reading it in a CPU's autocast type pays: a step is 1.2 times as fast at 128, and at 16
0.94 times (docs/log.md)."""
NORMAL_95 = 1.96  # standard errors from the middle to an end of a 95 % interval
EXAMPLE_ROWS, EXAMPLE_VALUES = 4, 3

RecipeType = TypeVar("RecipeType", bound=ClickRecipe)


class ClickTask(Task, Generic[RecipeType]):
    """A click model on the columns of a feature spec.

    A step whose loss is not finite changes neither the network nor the tables, in which rows that a batch did not read
    stay bit for bit. Where the recipe keeps a moving average, it is the network's: tables with an optimizer of their
    own are not averaged, since most of their rows would only be copied at every step.

    world: the processes that train it together, over which `tables.shard` cuts the tables.
    """

    def __init__(
        self, recipe: RecipeType, spec: FeatureSpec, *, device: torch.device | None = None, world: World = ALONE
    ) -> None:
        super().__init__()
        self.recipe, self.spec, self.world = recipe, spec, world
        self._row_optimizers: Sequence[ScheduledOptimizer] = ()
        placement = placed_within_memory(recipe, _rows(spec), self.wide_rows, device or torch.device("cpu"), world)
        self.numbers: PlainNumbers = NUMBERS[recipe.numbers.encoding](spec.dense)
        self.tables = self._all_columns(placement)
        self.network = self.build_network()

    @abstractmethod
    def build_network(self) -> nn.Module: ...

    def logits(self, dense: Tensor, ids: Tensor, bags: Sequence[Bag] | Tensor) -> Tensor:
        """(batch,) float32 of dense (batch, column), ids (batch, column) and multi-hot ones as `Tables` takes them."""
        logits: Tensor = self.network(self.numbers(dense), self.tables(ids, bags))
        return logits.float()

    @property
    def wide_rows(self) -> int:
        """Weights of a wide part."""
        return 0

    def _all_columns(self, placement: Placement | None) -> Tables:
        config = self.recipe.tables
        if placement is None or self.world.size == 1:
            table = self.table(_rows(self.spec), config.width, spread=config.spread)
            table.placement = placement
            one_pass = not isinstance(self.recipe.training.micro_batch, int)
            table.is_rounded = one_pass and config.width >= WIDE  # as the networks round rows themselves
            return table
        from challenges.recommendation.clicks.placed import PlacedTable

        return PlacedTable(placement, config, self.world, bags=len(self.spec.multi_hot))

    def table(self, rows: Sequence[int], width: int, *, spread: float | None) -> FusedTable:
        """For columns of single ids, of which the spec's multi-hot ones follow last."""
        config = self.recipe.tables
        if config.shard != "none" and self.world.size > 1:
            return ShardedTable(
                rows, width, self.world, bags=len(self.spec.multi_hot), spread=spread, dtype=DTYPES[config.dtype]
            )
        return FusedTable(
            rows, width, bags=len(self.spec.multi_hot), is_sparse=config.optimizer != "dense", spread=spread,
            dtype=DTYPES[config.dtype],
        )  # fmt: skip

    def unaveraged(self) -> list[nn.Parameter]:
        """Of the tables with an optimizer of their own."""
        if self.recipe.tables.optimizer == "dense":
            return []
        return [parameter for name, parameter in self.named_parameters() if not name.startswith("network.")]

    def prepare_batch(self, batch: Batch, step: int) -> Batch:
        """Some ids become those of unseen values, whose rows would else never be trained."""
        share, ids = self.recipe.tables.unknown_share, batch["categorical"]
        if not share:
            return batch
        draws = random_numbers(self.recipe.training.seed, step, batch["row"], ids.shape[1])
        return {**batch, "categorical": torch.where((draws < share) & (ids >= FIRST), RARE, ids)}

    def score(self, batch: Batch) -> Tensor:
        """(batch,) float32 logits."""
        bags = [
            Bag(batch[f"{column.name}__values"], batch[f"{column.name}__offsets"]) for column in self.spec.multi_hot
        ]
        return self.logits(batch["dense"], batch["categorical"], bags)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": functional.binary_cross_entropy_with_logits(self.score(batch), batch["label"])}

    def optimizers(self, total_steps: int, steps_per_epoch: float) -> list[ScheduledOptimizer]:
        """The network's, and the tables' with the same schedule at their own rate."""
        config, tables = self.recipe.optimizer, self.recipe.tables
        schedule = build_schedule(config, total_steps, steps_per_epoch)
        groups = self.network_groups()
        weights = self.table_weights()
        if tables.optimizer == "dense":
            groups.append({"params": weights, "weight_decay": tables.weight_decay, "lr_scale": 1.0, "name": "tables"})
        own = ScheduledOptimizer(build_optimizer(config, groups, next(self.network.parameters()).device), schedule)
        if tables.optimizer == "dense":
            return [own]
        rate = build_schedule(replace(config, peak_lr=tables.peak_lr), total_steps, steps_per_epoch)
        of_rows = [self.tables.own_optimizer(tables.peak_lr)]
        if weights:
            of_rows.append(ROW_OPTIMIZERS[tables.optimizer](weights, lr=tables.peak_lr))
        return [own, *(ScheduledOptimizer(optimizer, rate) for optimizer in of_rows if optimizer is not None)]

    def network_groups(self) -> list[dict[str, Any]]:
        """What the network's optimizer updates, tables left out."""
        config = self.recipe.optimizer
        return parameter_groups(
            self.network, weight_decay=config.weight_decay, decay_norm_and_bias=config.decay_norm_and_bias
        )

    def table_weights(self) -> list[nn.Parameter]:
        """Of the tables that the tables' optimizer updates."""
        return list(self.tables.parameters())

    @property
    def passes_alone(self) -> bool:
        return self.recipe.tables.shard == "none" or self.world.size == 1

    def own_step(self, optimizers: Sequence[ScheduledOptimizer], settings: StepSettings) -> Step | None:
        """Raises RecipeError for several processes whose tables have an optimizer of their own and are not cut."""
        config = self.recipe.tables
        if config.shard == "none":
            if settings.world_size > 1 and config.optimizer != "dense":
                raise RecipeError(
                    f"{settings.world_size} processes were started with tables.optimizer {config.optimizer}.",
                    "Data parallelism adds up whole gradients, and those of such tables name rows.",
                    "Use --tables.shard row, --tables.optimizer dense, or one process.",
                )
            return None
        self._row_optimizers = optimizers
        return RowStep(self, optimizers, settings)

    def own_checkpoints(self, folder: Path, keep: int) -> ShardedCheckpoints | None:
        if self.recipe.tables.shard == "none":
            return None
        for table in self._all_tables().values():
            table.is_apart = True
        return ShardedCheckpoints(folder, keep, self._shards, self.world)

    def gather(self) -> None:
        for name, table in self._all_tables().items():
            setattr(self, name, table.whole())

    def _all_tables(self) -> dict[str, Tables]:
        return {name: module for name, module in self.named_children() if isinstance(module, Tables)}

    def _shards(self) -> dict[str, Shard]:
        return table_shards(self._all_tables(), self._row_optimizers, self.world)

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """Metrics of clicks/metrics.py over all ranks' rows; logits are float32 in any precision.

        predictions: label, logit, and group where the spec names one.
        """
        kept: dict[str, list[np.ndarray]] = {"label": [], "logit": [], "place": []}
        if self.spec.group is not None:
            kept["group"] = []
        for batch in self._in_step(batches):
            kept["logit"].append(self.score(batch).cpu().numpy())
            kept["place"].append(self._places(batch))
            for name in kept.keys() - {"logit", "place"}:
                kept[name].append(batch[name].cpu().numpy())
        found = _of_all_ranks({name: np.concatenate(parts) for name, parts in kept.items()})
        return self._judged(found)

    def _in_step(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches, and empty ones while other processes still have some: rows are looked up by all together."""
        if _world_size() == 1:
            yield from batches
            return
        device, own = next(self.parameters()).device, iter(batches)
        batch = next(own, None)
        while any_rank(batch is not None, device):
            yield self._empty(device) if batch is None else batch
            batch = next(own, None)

    def _empty(self, device: torch.device) -> Batch:
        """A batch without rows."""
        shapes: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
            "label": (torch.float32, (0,)),
            "group": (torch.int64, (0,)),
            "dense": (torch.float32, (0, len(self.spec.dense))),
            "categorical": (torch.int32, (0, len(self.spec.categorical))),
        }
        for column in self.spec.multi_hot:
            shapes |= {f"{column.name}__values": (torch.int32, (0,)), f"{column.name}__offsets": (torch.int64, (1,))}
        return {name: torch.zeros(shape, dtype=dtype, device=device) for name, (dtype, shape) in shapes.items()}

    def held_out_value(self, data: DataModule) -> HeldOut | None:
        """AUC on the validation rows where others are judged, and its standard error of the resamples."""
        tuning = data.tuning()
        if tuning is None:
            return None
        evaluation = self.evaluate(tuning.validation_batches())
        low, high = evaluation.intervals.get("auc", (0.0, 0.0))
        return HeldOut(evaluation.metrics["auc"], (high - low) / (2 * NORMAL_95))

    def _judged(self, found: dict[str, np.ndarray]) -> Evaluation:
        label, logit, config = found["label"], found["logit"], self.recipe.judging
        place = found.pop("place")
        metrics = summary(label, logit)
        if "group" in found:
            metrics |= grouped(label, logit, found["group"], config.cutoff)
        metrics |= by_part(label, logit, {"head": place == 0, "tail": place == 1, "unseen": place == 2})
        return Evaluation(
            metrics,
            intervals(label, logit, resamples=config.resamples, seed=config.seed),
            english("bootstrap over validation rows, {resamples} resamples", resamples=config.resamples),
            found,
        )

    def _places(self, batch: Batch) -> np.ndarray:
        """(row,) int8 by the column with the most values: 0 for its commonest tenth, 1 for the others, 2 for those that
        training did not see, -1 without such a column.
        """
        columns = self.spec.categorical
        if not columns:
            return np.full(len(batch["label"]), -1, np.int8)
        largest = max(range(len(columns)), key=lambda place: columns[place].cardinality)
        ids = batch["categorical"][:, largest].cpu().numpy()
        limit = FIRST + HEAD * (columns[largest].cardinality - FIRST)
        return np.select([ids < FIRST, ids < limit], [2, 0], 1).astype(np.int8)

    def inference_module(self) -> nn.Module:
        return Scores(self)

    def signature(self) -> Signature:
        shapes: dict[str, tuple[str, tuple[Dimension, ...]]] = {
            "dense": ("float32", (len(self.spec.dense),)),
            "categorical": ("int32", (len(self.spec.categorical),)),
            "multi_hot": ("int32", (len(self.spec.multi_hot), "values")),
        }
        return Signature(
            inputs=tuple(TensorSpec(name, dtype, shape) for name, (dtype, shape) in shapes.items() if shape[0]),
            outputs=(TensorSpec("probability", "float32", (1,)), TensorSpec("logit", "float32", (1,))),
            batch=BatchRange(1, 64, 4096),
        )

    def example(self) -> dict[str, Tensor]:
        """Inputs of the signature that lie within the spec, each column's first and last id among them."""
        share = torch.linspace(0, 1, EXAMPLE_ROWS)[:, None]
        inputs = {"dense": torch.tensor([[column.mean for column in self.spec.dense]]).expand(EXAMPLE_ROWS, -1)}
        for name, columns in (("categorical", self.spec.categorical), ("multi_hot", self.spec.multi_hot)):
            last = torch.tensor([[column.cardinality - 1 for column in columns]])
            inputs[name] = (share * last).int()
        inputs["multi_hot"] = inputs["multi_hot"][:, :, None].repeat(1, 1, EXAMPLE_VALUES)
        inputs["multi_hot"][:, :, 1:] = -1
        return {spec.name: inputs[spec.name].contiguous() for spec in self.signature().inputs}


class Scores(nn.Module):
    """What is exported: transformed columns to the probability of a click and its logit, (batch, 1) float32 each.

    dense:       (batch, dense) float32
    categorical: (batch, categorical) int32
    multi_hot:   (batch, multi-hot, values) int32, padded with -1
    A kind of which the spec has no column is left out.
    """

    def __init__(self, task: ClickTask[Any]) -> None:
        super().__init__()
        self.task = task

    def forward(
        self, dense: Tensor | None = None, categorical: Tensor | None = None, multi_hot: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        given = next(tensor for tensor in (dense, categorical, multi_hot) if tensor is not None)
        none = (given.shape[0], 0)  # len() would fix the batch's size in an exported graph
        dense = given.new_zeros(none, dtype=torch.float32) if dense is None else dense
        categorical = given.new_zeros(none, dtype=torch.int32) if categorical is None else categorical
        logit = self.task.logits(dense, categorical, () if multi_hot is None else multi_hot)[:, None]
        return logit.sigmoid(), logit


def _rows(spec: FeatureSpec) -> list[int]:
    """Of every column's table. Raises RecipeError where the spec has no columns with ids."""
    if not spec.looked_up:
        raise RecipeError(
            "The feature spec has numbers only.", "Click models have tables, for one categorical column or more."
        )
    return [column.cardinality for column in spec.looked_up]


def _world_size() -> int:
    is_alone = not (torch.distributed.is_available() and torch.distributed.is_initialized())
    return 1 if is_alone else torch.distributed.get_world_size()


def _of_all_ranks(own: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every rank's arrays, one rank after the other."""
    if _world_size() == 1:
        return own
    parts: list[Any] = [None] * _world_size()
    torch.distributed.all_gather_object(parts, own)
    return {name: np.concatenate([part[name] for part in parts]) for name in own}
