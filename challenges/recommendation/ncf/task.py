"""NeuMF as a task: negatives on the device, the binary loss, pretraining in stages, and the served ranking."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from challenges.recommendation.histories.histories import HistorySplit
from challenges.recommendation.histories.negatives import UnseenItems
from challenges.recommendation.histories.neighbours import Neighbours
from challenges.recommendation.histories.ranking import Rankings
from challenges.recommendation.histories.ranking_task import RankingTask
from challenges.recommendation.histories.recipes import EvaluationConfig
from challenges.recommendation.histories.top_items import LONGEST, SEEN, best_unseen, list_sizes
from challenges.recommendation.ncf.model import NeuMF, Tower
from challenges.recommendation.ncf.recipes import NcfRecipe
from common.errors import DataError
from common.export.signature import BatchRange, Signature, TensorSpec
from common.machine.precision import quick_products
from common.training.optimizers import scheduled_optimizer
from common.training.randomness import random_below
from common.training.schedules import Schedule, build_schedule
from common.training.task import Batch, Evaluation, ScheduledOptimizer

STAGES: tuple[Tower, ...] = ("gmf", "mlp", "neumf")
JOINED = len(STAGES) - 1
SERVED_CELLS = 2**26  # numbers of one perceptron layer in a batch of the exported graph: 256 MiB in float32


class NcfTask(RankingTask[NcfRecipe]):
    """NeuMF on one split.

    With pretraining a run has three stages: the factorisation alone, the perceptron alone, both joined. The stage is
    part of the state, so that a resumed run joins the towers exactly once; a number with a fraction belongs to a moving
    average on its way from one stage to the next.
    """

    def __init__(self, recipe: NcfRecipe, split: HistorySplit) -> None:
        super().__init__()
        if len(split.users) and split.users.min() < 0:
            raise DataError(
                f"{int((split.users < 0).sum())} of {split.num_judged} judged users were not trained on.",
                "NCF scores users by an embedding that training gave them.",
                "Split by leave-one-out, or use a model that reads histories.",
            )
        self.recipe, self.split = recipe, split
        self.model = NeuMF(
            num_users=split.num_users,
            num_items=split.num_items,
            factors=recipe.model.factors,
            layers=recipe.model.layers,
            dropout=recipe.model.dropout,
        )
        self._unseen: UnseenItems | None = None
        self._bounds: tuple[int, ...] = ()
        self._stage = JOINED
        self.stage: Tensor
        if recipe.pretraining.is_used:
            self.register_buffer("stage", torch.tensor(float(JOINED)))
            self.register_load_state_dict_post_hook(_follow_stage)  # type: ignore[no-untyped-call]  # torch's

    def set_trainable(self, step: int) -> bool:
        """Train one tower at a time while pretraining; join them when its last step is over."""
        if not self._bounds:
            return False
        before, stage = self._stage, sum(step >= bound for bound in self._bounds)
        if stage == before:
            return False
        if before < JOINED == stage:
            self.model.mix(self.recipe.pretraining.alpha)
        self.stage.fill_(stage)
        self._enter(stage)
        return True

    def _enter(self, stage: int) -> None:
        self._stage, tower = stage, STAGES[stage]
        self.model.tower = tower
        self.model.gmf.requires_grad_(tower != "mlp")
        self.model.mlp.requires_grad_(tower != "gmf")

    def optimizers(self, total_steps: int, steps_per_epoch: float) -> list[ScheduledOptimizer]:
        config, pretraining = self.recipe.optimizer, self.recipe.pretraining
        scales = [1.0]
        if pretraining.is_used:
            first = round(pretraining.gmf_epochs * steps_per_epoch)
            self._bounds = (first, first + round(pretraining.mlp_epochs * steps_per_epoch))
            scales = [1.0, 1.0, pretraining.joint_lr_scale]
        edges = (0, *self._bounds, total_steps)
        parts = [build_schedule(config, end - begin, steps_per_epoch) for begin, end in pairwise(edges)]
        return [scheduled_optimizer(self.model, config, _in_stages(parts, edges, scales))]

    def prepare_batch(self, batch: Batch, step: int) -> Batch:
        """Add negatives: items (batch, 1 + negatives) with the positive first."""
        user, item, row, negatives = batch["user"], batch["item"], batch["row"], self.recipe.negatives
        seed, count = self.recipe.training.seed, negatives.per_positive
        if negatives.unseen_only:
            if self._unseen is None:
                self._unseen = UnseenItems(self.split.train, self.split.num_items, user.device)
            drawn = self._unseen.draw(user, count, seed=seed, step=step, row=row)
        else:
            drawn = random_below(self.split.num_items, seed, step, row, count)
        return {"user": user, "items": torch.cat([item[:, None], drawn], 1)}

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Binary cross entropy of every pair: 1 for the first column of `items`, 0 for the others."""
        logits = self.model(batch["user"], batch["items"]).float()
        return {"loss": functional.softplus(logits).mean() - logits[:, 0].mean() / logits.shape[1]}

    def scores(self, batch: Batch) -> Tensor:
        return self.model.score_all(batch["user"])

    def other_units(self) -> Mapping[str, float]:
        """NVIDIA's figures count pairs, negatives too."""
        return {"pair": 1.0 + self.recipe.negatives.per_positive}

    def evaluate_briefly(self, batches: Iterable[Batch]) -> Evaluation:
        """Where the recipe says so, the lists' metrics alone: a hundredth of the pairs to score."""
        config = self.recipe.evaluation
        if not config.lists_while_training:
            return self.evaluate(batches)
        self._follow_average()
        device = self.model.gmf.user.weight.device
        rankings = Rankings(self.split, config, device)
        with torch.autocast(device.type, enabled=False), quick_products(device):
            for batch in batches:
                items = rankings.listed(batch["index"])
                scores = torch.full((len(items), self.split.num_items), -torch.inf, device=device)
                rankings.update(batch["index"], scores.scatter_(1, items, self.model(batch["user"], items)))
        found = rankings.compute()
        told = [name for name in found.metrics if not name.endswith("/full")]
        return replace(
            found,
            metrics={name: found.metrics[name] for name in told},
            intervals={name: found.intervals[name] for name in told},
        )

    def ranked(self, batches: Iterable[Batch], split: HistorySplit, config: EvaluationConfig) -> Evaluation:
        """On a GPU in TF32: of MovieLens 20M 3.7 billion pairs pass the perceptron, and few differ by ten bits."""
        self._follow_average()
        with quick_products(next(self.parameters()).device):
            return super().ranked(batches, split, config)

    def _follow_average(self) -> None:
        if self.recipe.pretraining.is_used:
            _follow_stage(self, None)  # a moving average of the task follows by its buffer alone

    def inference_module(self) -> nn.Module:
        count = min(self.recipe.evaluation.top_k, self.split.num_items)
        return TopItems(self.model, count, self.neighbours)

    def signature(self) -> Signature:
        count = min(self.recipe.evaluation.top_k, self.split.num_items)
        largest = max(1, min(32, SERVED_CELLS // (self.split.num_items * self.recipe.model.layers[1])))
        return Signature(
            inputs=(TensorSpec("user", "int64", (1,)), TensorSpec("seen", "int64", ("seen",))),
            outputs=(TensorSpec("items", "int64", (count,)), TensorSpec("scores", "float32", (count,))),
            batch=BatchRange(1, min(8, largest), largest),
            free={"seen": list_sizes(self.split.num_items + LONGEST)},  # the user's own, and those of the request
        )


class TopItems(nn.Module):
    """What is exported: a training user and the items not to recommend, to the best items and their logits.

    user: (batch, 1) int64, where one that is no training user scores every item as seen
    seen: (batch, seen) int64, oldest first, padded with -1
    returns: items (batch, count) int64 and scores (batch, count) float32, best first
    """

    first_items: Tensor

    def __init__(self, model: NeuMF, count: int, neighbours: Neighbours | None = None) -> None:
        super().__init__()
        self.model, self.count, self.neighbours = model, count, neighbours
        self.num_users = model.gmf.user.num_embeddings
        with torch.no_grad():
            self.register_buffer("first_items", model.mlp.first_items().detach().clone())

    def forward(self, user: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        known = (user >= 0) & (user < self.num_users)
        scores = self.model.score_with(self.first_items, torch.where(known, user, 0)[:, 0])
        return best_unseen(torch.where(known, scores.float(), SEEN), seen, self.count, self.neighbours)


def _in_stages(parts: Sequence[Schedule], edges: Sequence[int], scales: Sequence[float]) -> Schedule:
    """One schedule per stage, one after the other; edges: the first step of every stage, then the end."""

    def schedule(step: int) -> float:
        stage = max(0, min(sum(step >= edge for edge in edges) - 1, len(parts) - 1))
        return scales[stage] * parts[stage](step - edges[stage])

    return schedule


def _follow_stage(task: nn.Module, _: Any) -> None:
    """Continue in the stage of the state that was loaded."""
    assert isinstance(task, NcfTask)
    task._enter(round(float(task.stage)))
