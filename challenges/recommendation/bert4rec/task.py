"""Sequential recommendation as a task: hidden or next items as labels, the loss, rankings, and what is exported."""

import torch
from torch import Tensor, nn

from challenges.recommendation.bert4rec.losses import catalogue_cross_entropy, sampled_cross_entropy
from challenges.recommendation.bert4rec.masking import hide_items
from challenges.recommendation.bert4rec.model import SequenceTransformer
from challenges.recommendation.bert4rec.recipes import Bert4RecRecipe
from challenges.recommendation.histories.histories import HistorySplit
from challenges.recommendation.histories.neighbours import Neighbours
from challenges.recommendation.histories.ranking_task import RankingTask
from challenges.recommendation.histories.top_items import best_unseen, history_signature
from common.export.signature import Signature
from common.training.optimizers import scheduled_optimizer
from common.training.randomness import random_below, random_numbers
from common.training.schedules import build_schedule
from common.training.task import Batch, ScheduledOptimizer

MASKS, CANDIDATES = 0, 1  # streams of random numbers


class SequenceTask(RankingTask[Bert4RecRecipe]):
    """BERT4Rec or SASRec, as the recipe says.

    Training batches: items (batch, recipe.window) int64, right-aligned, -1 where empty, and row (batch,).
    Validation batches: index (batch,) and items (batch, at least recipe.told).
    """

    def __init__(self, recipe: Bert4RecRecipe, split: HistorySplit) -> None:
        super().__init__()
        model = recipe.model
        self.recipe, self.split = recipe, split
        self.model = SequenceTransformer(
            num_items=split.num_items,
            length=model.length,
            width=model.width,
            num_layers=model.num_layers,
            num_heads=model.num_heads,
            feedforward=model.feedforward,
            dropout=model.dropout,
            causal=model.attention == "causal",
        )

    def prepare_batch(self, batch: Batch, step: int) -> Batch:
        """Add what is to be guessed: labels (batch, prediction), and where, unless it is everywhere."""
        items, config, seed = batch["items"], self.recipe.sequence, self.recipe.training.seed
        if self.model.causal:
            inputs, labels = items[:, :-1], items[:, 1:].masked_fill(items[:, :-1] < 0, -1)
            prepared = {"items": inputs, "labels": labels}
        else:
            numbers = random_numbers(seed, step, batch["row"], items.shape[1] + 1, stream=MASKS)
            inputs, positions, labels = hide_items(
                items, numbers, share=config.mask_share, last_item_share=config.last_item_share,
                mask_item=self.model.mask_item,
            )  # fmt: skip
            prepared = {"items": inputs, "labels": labels, "positions": positions}
        if config.sampled_items is not None:
            row = torch.zeros(1, dtype=torch.int64, device=items.device)  # one list for the step, equal on all ranks
            prepared["candidates"] = random_below(
                self.split.num_items, seed, step, row, config.sampled_items, stream=CANDIDATES
            )[0]
        return prepared

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        states = self.model(batch["items"])
        if "positions" in batch:
            states = states.gather(1, batch["positions"][..., None].expand(-1, -1, states.shape[-1]))
        states, labels = self.model.head(states.flatten(0, 1)), batch["labels"].flatten()
        weights, bias = self.model.item_weights, self.model.bias
        if "candidates" in batch:
            return {"loss": sampled_cross_entropy(states, weights, bias, labels, batch["candidates"])}
        return {"loss": catalogue_cross_entropy(states, weights, bias, labels)}

    def optimizers(self, total_steps: int, steps_per_epoch: float) -> list[ScheduledOptimizer]:
        config = self.recipe.optimizer
        return [scheduled_optimizer(self.model, config, build_schedule(config, total_steps, steps_per_epoch))]

    def scores(self, batch: Batch) -> Tensor:
        return self.model.next_item_logits(batch["items"])

    def inference_module(self) -> nn.Module:
        return NextItems(self.model, self._count, self.neighbours)

    def signature(self) -> Signature:
        return history_signature(self._count)

    @property
    def _count(self) -> int:
        return min(self.recipe.evaluation.top_k, self.split.num_items)


class NextItems(nn.Module):
    """What is exported: a history to the items most likely to come next, none of which is in it.

    history: (batch, history) int64, oldest first; -1 fills up shorter ones, anywhere. Unknown items are left out.
    returns: items (batch, count) int64 and their logits (batch, count) float32, best first.
    """

    def __init__(self, model: SequenceTransformer, count: int, neighbours: Neighbours | None = None) -> None:
        super().__init__()
        self.model, self.count, self.neighbours = model, count, neighbours

    def forward(self, history: Tensor) -> tuple[Tensor, Tensor]:
        return best_unseen(self.model.next_item_logits(history), history, self.count, self.neighbours)
