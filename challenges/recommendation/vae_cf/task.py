"""Autoencoders of histories as a task: likelihood and KL divergence, rankings, and what is exported."""

import torch
from torch import Tensor, nn

from challenges.recommendation.histories.histories import HistorySplit
from challenges.recommendation.histories.neighbours import Neighbours
from challenges.recommendation.histories.ranking_task import RankingTask
from challenges.recommendation.histories.top_items import best_unseen, history_signature, marked
from challenges.recommendation.vae_cf.model import Autoencoder
from challenges.recommendation.vae_cf.recipes import METRIC, VaeCfRecipe
from common.export.signature import Signature
from common.training.optimizers import scheduled_optimizer
from common.training.schedules import build_schedule
from common.training.task import Batch, ScheduledOptimizer


class VaeCfTask(RankingTask[VaeCfRecipe]):
    """Mult-VAE or Mult-DAE, as the recipe says.

    Batches: entry_row and entry_item (entry,) int64, the histories, with row (batch,) in training and index (batch,) in
    validation.
    """

    chosen_by = METRIC

    def __init__(self, recipe: VaeCfRecipe, split: HistorySplit) -> None:
        super().__init__()
        model = recipe.model
        self.recipe, self.split = recipe, split
        self.model = Autoencoder(
            num_items=split.num_items,
            kind=model.kind,
            hidden=model.hidden,
            latent=model.latent,
            dropout=model.dropout,
            noise=model.noise,
        )

    def prepare_batch(self, batch: Batch, step: int) -> Batch:
        """Add this step's weight of the KL divergence: a function of the step alone, so that a resumed run agrees."""
        return {**batch, "beta": torch.full((), self.recipe.annealing.beta(step), device=batch["row"].device)}

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        row, item, users = batch["entry_row"], batch["entry_item"], len(batch["row"])
        logits, mean, log_variance = self.model(row, item, users)
        fit = -log_likelihood(logits, row, item).mean()
        if self.model.kind == "dae":
            return {"loss": fit}
        kl = kl_divergence(mean, log_variance).mean()
        return {"loss": fit + batch["beta"] * kl, "likelihood": -fit, "kl": kl, "beta": batch["beta"]}

    def optimizers(self, total_steps: int, steps_per_epoch: float) -> list[ScheduledOptimizer]:
        config = self.recipe.optimizer
        return [scheduled_optimizer(self.model, config, build_schedule(config, total_steps, steps_per_epoch))]

    def scores(self, batch: Batch) -> Tensor:
        scores: Tensor = self.model(batch["entry_row"], batch["entry_item"], len(batch["index"]))[0]
        return scores

    def inference_module(self) -> nn.Module:
        return LikelyItems(self.model, self._count, self.neighbours)

    def signature(self) -> Signature:
        return history_signature(self._count)

    @property
    def _count(self) -> int:
        return min(self.recipe.evaluation.top_k, self.split.num_items)


class LikelyItems(nn.Module):
    """What is exported: a history to the items it makes likeliest, none of which is in it.

    history: (batch, history) int64, in any order where no neighbours fade, else oldest first; -1 fills up shorter ones,
             anywhere. Repeated and unknown items do not count.
    returns: items (batch, count) int64 and their logits (batch, count) float32, best first.
    """

    def __init__(self, model: Autoencoder, count: int, neighbours: Neighbours | None = None) -> None:
        super().__init__()
        self.model, self.count, self.neighbours = model, count, neighbours

    def forward(self, history: Tensor) -> tuple[Tensor, Tensor]:
        marks = marked(history, self.model.num_items)
        mean, _ = self.model.code(self.model.input.of_marks(marks))
        return best_unseen(self.model.decode(mean), history, self.count, self.neighbours)


def log_likelihood(logits: Tensor, row: Tensor, item: Tensor) -> Tensor:
    """Of every history under a multinomial distribution, without the constant: (row,) float32.

    logits:    (row, item)
    row, item: (entry,) int64, the histories.
    """
    logits = logits.float()
    normaliser = logits.logsumexp(1)
    return torch.zeros_like(normaliser).index_add(0, row, logits[row, item] - normaliser[row])


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Of normal distributions (row, latent) from the standard one: (row,)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
