"""Both sides of the recommenders' comparison: the sizes a peer gets, our training and evaluation, one evaluator."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from challenges.recommendation.bert4rec.challenge import CHALLENGE as BERT4REC
from challenges.recommendation.bert4rec.recipes import RECIPES as BERT4REC_RECIPES
from challenges.recommendation.histories.challenge import HistoryChallenge
from challenges.recommendation.histories.data import HistoryData
from challenges.recommendation.histories.histories import HistorySplit
from challenges.recommendation.histories.ranking import Rankings
from challenges.recommendation.histories.recipes import EvaluationConfig
from challenges.recommendation.ncf.challenge import CHALLENGE as NCF
from challenges.recommendation.ncf.recipes import RECIPES as NCF_RECIPES
from challenges.recommendation.vae_cf.challenge import CHALLENGE as VAE_CF
from challenges.recommendation.vae_cf.recipes import RECIPES as VAE_CF_RECIPES
from common.machine.precision import select_precision
from common.run.recipe import OptimizerConfig, Recipe
from common.training.averages import MovingAverage
from common.training.step import build_step
from common.training.task import StepSettings

Model = Literal["bert4rec", "sasrec", "ncf", "vae_cf"]
TOP_K = 10
CPU = torch.device("cpu")
FULL_RANKING = EvaluationConfig(cutoffs=(TOP_K,), uniform_negatives=0, popular_negatives=0, top_k=TOP_K)
METRICS = (f"hr@{TOP_K}/full", f"ndcg@{TOP_K}/full")
PEER_LEARNING_RATE = 1e-3  # the default of both peers
RECBOLE_NOISE = 0.01  # fixed in its MultiVAE
ENDLESS_EPOCHS = 1000  # of the schedule, which then hardly moves while speed is measured
RECBOLE_SCORES = {"ncf": 2**14, "vae_cf": 2**22}
"""Scores of one batch of RecBole's evaluation; of 2^14, 2^17, 2^22 (NeuMF) and 2^19, 2^22 (MultiVAE) the quickest."""


@dataclass(frozen=True)
class Pair:
    """A model of ours and the same one of a peer.

    recipe: ours, with the peer's sizes. sizes: the peer's names for the same.
    """

    challenge: HistoryChallenge[Any]
    recipe: Any
    peer: str
    sizes: dict[str, Any]

    @property
    def module(self) -> str:
        return f"benchmarks.peers.{self.peer}_peer"


def pair_of(model: Model) -> Pair:
    """Our recipe for MovieLens 1M, and what of it the peer does otherwise taken from the peer.

    RecTools takes no sliding windows, and its SASRec has a feed-forward part as wide as the states. RecBole does not
    know held-out users, and draws codes with a hundredth of their deviation. Schedules and decay of our recipes were
    chosen for other data or more steps: all but NeuMF, whose learning rate is constant anyway, learn here as the peers
    do, at one rate and without decay.
    """
    if model in ("bert4rec", "sasrec"):
        recipe = BERT4REC_RECIPES["ml-1m-50" if model == "bert4rec" else "sasrec-ml-1m-50"]
        recipe = replace(recipe, sequence=replace(recipe.sequence, stride=None), optimizer=_plain(recipe.optimizer))
        ours = recipe.model
        sizes: dict[str, Any] = {
            "n_blocks": ours.num_layers, "n_heads": ours.num_heads, "n_factors": ours.width,
            "session_max_len": ours.length, "dropout_rate": ours.dropout,
        }  # fmt: skip
        if model == "bert4rec":
            sizes["mask_prob"] = recipe.sequence.mask_share
        else:
            recipe = replace(recipe, model=replace(ours, feedforward=ours.width))
        return Pair(BERT4REC, recipe, "rectools", sizes)
    if model == "ncf":
        ncf = NCF_RECIPES["ml-1m-8"]
        sizes = {
            "mf_embedding_size": ncf.model.factors, "mlp_embedding_size": ncf.model.layers[0] // 2,
            "mlp_hidden_size": list(ncf.model.layers[1:]), "dropout_prob": ncf.model.dropout,
            "negatives": ncf.negatives.per_positive, "eval_batch_size": RECBOLE_SCORES["ncf"],
        }  # fmt: skip
        return Pair(NCF, ncf, "recbole", sizes)
    vae = VAE_CF_RECIPES["ml-1m"]
    vae = replace(vae, model=replace(vae.model, noise=RECBOLE_NOISE), optimizer=_plain(vae.optimizer))
    sizes = {
        "mlp_hidden_size": list(vae.model.hidden), "latent_dimension": 2 * vae.model.latent,
        "dropout_prob": vae.model.dropout, "anneal_cap": vae.annealing.cap,
        "total_anneal_steps": vae.annealing.steps, "eval_batch_size": RECBOLE_SCORES["vae_cf"],
    }  # fmt: skip
    return Pair(VAE_CF, vae, "recbole", sizes)


def _plain(optimizer: OptimizerConfig) -> OptimizerConfig:
    """Adam at the peers' learning rate."""
    return replace(
        optimizer, peak_lr=PEER_LEARNING_RATE, schedule="constant", warmup_epochs=0, weight_decay=0.0, clip_norm=None
    )


class OurSide:
    """The kit's training step and evaluation on one split.

    epochs: what the schedule is made for; None for a measurement of speed.
    """

    def __init__(self, pair: Pair, data: HistoryData, epochs: float | None) -> None:
        recipe: Recipe = pair.recipe
        torch.manual_seed(recipe.training.seed)
        self._data, self._batch = data, recipe.training.batch_size
        self._task = pair.challenge.build_task(recipe, data).place(CPU, channels_last=False).train()
        per_epoch = data.num_train / self._batch
        self.steps = max(1, round((ENDLESS_EPOCHS if epochs is None else epochs) * per_epoch))
        optimizers = self._task.optimizers(self.steps, per_epoch)
        self._task.set_trainable(0)
        decay = recipe.training.ema_decay
        self._ema = None if decay is None else MovingAverage(self._task, decay)
        precision = select_precision(recipe.training.precision, CPU)
        settings = StepSettings(precision, CPU, clip_norm=recipe.optimizer.clip_norm, average=self._ema)
        self._step = build_step(self._task, optimizers, settings)
        self._batches, self._done = data.train_batches(0, self._batch, 1), 0
        self._finite = torch.ones((), dtype=torch.bool)

    def train(self) -> int:
        """One step; returns its samples."""
        self._finite &= self._step([next(self._batches)], self._done)["loss"].isfinite()
        self._done += 1
        return self._batch

    def evaluate(self) -> int:
        """Rank every item for every judged user; returns the users."""
        self.metrics()
        return self._data.num_validation

    def metrics(self) -> Mapping[str, float]:
        task: Any = self._task if self._ema is None else self._ema.module
        task.eval()
        with torch.inference_mode():
            found: Mapping[str, float] = task.evaluate(self._data.validation_batches()).metrics
        task.train()
        return found

    @property
    def losses_were_finite(self) -> bool:
        return bool(self._finite)


def metrics_of(split: HistorySplit, top_items: np.ndarray) -> Mapping[str, float]:
    """Metrics of given lists, by our evaluator. top_items: (judged user, n) int64, best first, -1 at their end."""
    scores = torch.full((split.num_judged, split.num_items + 1), -torch.inf)
    items = torch.as_tensor(np.where(top_items < 0, split.num_items, top_items))
    scores.scatter_(1, items, -torch.arange(items.shape[1], dtype=torch.float32).expand(items.shape))
    rankings = Rankings(split, FULL_RANKING, CPU)
    rankings.update(torch.arange(split.num_judged), scores[:, :-1])
    return rankings.compute().metrics
