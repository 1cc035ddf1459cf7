"""What the recipes of all history recommenders share: where the data comes from and how it is split."""

import re
from dataclasses import dataclass, field
from typing import Literal

from common.errors import RecipeError
from common.run.recipe import Recipe, told

COLUMN_ROLES = ("user", "item", "rating", "time", "event")
Protocol = Literal["leave-one-out", "held-out-users", "global-time"]


@dataclass(frozen=True, kw_only=True)
class HistoryConfig:
    """Filters and split, in the order in which they are applied."""

    columns: str = ""
    """What columns hold what, where their names do not tell: user=NAME,item=NAME,rating=NAME,time=NAME, or places from
    1 on; item=2- where a line holds a user and all the user's items."""
    protocol: Protocol = "leave-one-out"
    minimum_rating: float | None = None
    """Interactions rated below are dropped; None keeps all."""
    minimum_per_user: int = 1
    """Users with fewer interactions are dropped (k-core: repeated until nothing changes)."""
    minimum_per_item: int = 1
    validation_item: bool = False
    """leave-one-out: keep the last but one item out of training too; the model is told it when the last is judged."""
    tuning_from: int | None = None
    """leave-one-out: with so many users or more, the last but one item of some (a fiftieth, at least 200, at most half)
    is kept out of training, to choose weights by; None: never."""
    held_out_users: int = 0
    """held-out-users: how many are judged; as many again are set aside for tuning. 0: as the share says."""
    held_out_share: float = 0.0
    """held-out-users: share of the users that is judged, 1,000 at least and a fifth of all at most."""
    fold_in: float = 0.8
    """held-out-users: share of a judged user's items that the model is told."""
    split_seed: int = 98765
    """Seed of every random choice of the split (Liang et al. 2018 use this one)."""
    test_share: float = 0.1
    """global-time: the last share of all interactions is held out."""

    @property
    def named_columns(self) -> dict[str, str]:
        """Role -> column, as `columns` says; a comma may be part of a name."""
        parts = re.split(rf",(?=(?:{'|'.join(COLUMN_ROLES)})=)", self.columns) if self.columns else []
        return dict(part.split("=", 1) for part in parts)

    def __post_init__(self) -> None:
        _require_columns(self.columns)
        if self.protocol == "held-out-users" and self.held_out_users < 1 and not 0 < self.held_out_share <= 0.2:
            raise RecipeError(
                "The protocol held-out-users needs history.held-out-users above 0, or history.held-out-share above 0."
            )
        if not 0 < self.fold_in < 1 or not 0 < self.test_share < 1:
            raise RecipeError(told("history", self, "fold_in", "test_share"), "Both lie between 0 and 1.")
        if self.minimum_per_user < 1 or self.minimum_per_item < 1:
            raise RecipeError(told("history", self, "minimum_per_user", "minimum_per_item"), "Both start at 1.")


def _require_columns(given: str) -> None:
    """Raise RecipeError unless every part is role=column, no role twice."""
    role = "|".join(COLUMN_ROLES)
    parts = re.split(rf",(?=(?:{role})=)", given) if given else []
    roles = [part.split("=")[0] for part in parts]
    unknown = [part for part in parts for word in part.split(",")[1:] if re.match(r"\w+=", word)]
    if unknown or not all(re.fullmatch(rf"(?:{role})=.+", part) for part in parts) or len(set(roles)) < len(roles):
        raise RecipeError(
            f"--columns is {given!r}.",
            f"It says role=column, with commas between, each of {', '.join(COLUMN_ROLES)} at most once.",
            "Such as: --columns user=customer,item=sku,time=bought",
        )


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Which rankings are made of every judged user."""

    cutoffs: tuple[int, ...] = (10, 20, 50, 100)
    uniform_negatives: int = 100
    """Unseen items drawn evenly per user; 0 leaves the protocol out."""
    popular_negatives: int = 100
    """Unseen items drawn by their popularity per user; 0 leaves the protocol out."""
    lists_while_training: bool = False
    """Rank among the lists alone until training is over, where scoring every item costs more than the training."""
    seed: int = 0
    top_k: int = 10
    """Items that the served model answers with."""


@dataclass(frozen=True, kw_only=True)
class RecommendationRecipe(Recipe):
    """One way to train a recommender on user–item histories."""

    history: HistoryConfig = field(default_factory=HistoryConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    neighbours: Literal["none", "chosen"] = "none"
    """chosen: item-to-item weights, of what stands together (EASE), of what follows what, or of both, are added to the
    model's scores after training, by as much as ranks the held-out part best; none: the model answers alone."""

    def __post_init__(self) -> None:
        self.training.refuse_checkpointing()
