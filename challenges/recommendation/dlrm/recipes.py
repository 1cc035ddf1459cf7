"""How DLRM is trained: its recipes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from challenges.recommendation.clicks.recipes import (
    BARS,
    CRITEO_1TB,
    CRITEO_KAGGLE,
    CRITEO_MULTI_HOT,
    CRITEO_OPTIMIZER,
    DEMO_OPTIMIZER,
    DEMO_TARGET,
    ML_1M,
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
from common.run.recipe import OptimizerConfig


@dataclass(frozen=True, kw_only=True)
class DlrmConfig:
    """The network; the number of columns comes from the data."""

    bottom: tuple[int, ...] = (512, 256)
    """Widths of the hidden layers over the numbers, before the one that is as wide as a table's row."""
    top: tuple[int, ...] = (1024, 1024, 512, 256)
    """Widths of the hidden layers before the one logit."""
    interaction: Literal["dot", "dcnv2"] = "dot"
    """The products of all pairs, or low-rank crosses."""
    cross_layers: int = 3
    cross_rank: int = 512
    dropout: float = 0.0
    """After every layer of the top."""

    def __post_init__(self) -> None:
        if min((1, *self.bottom, *self.top, self.cross_layers, self.cross_rank)) < 1 or not 0 <= self.dropout < 1:
            raise RecipeError("Widths, layers and ranks of model start at 1, and model.dropout lies in [0, 1).")


@dataclass(frozen=True, kw_only=True)
class DlrmRecipe(ClickRecipe):
    """One way to train DLRM."""

    model: DlrmConfig = field(default_factory=DlrmConfig)


# MovieLens: chosen on a tenth of the rows that is neither trained on nor judged. What holds overfitting back, which
# starts after five epochs, is the decay that AdamW takes off every row of the tables at every step.
_DLRM_ML_1M = DlrmRecipe(
    summary=english("DLRM on MovieLens 1M as clicks"),
    target=target(0.893, ML_1M_GROUNDS.format("DLRM .8944"), ML_1M),
    tables=SMALL_TABLES,
    numbers=NumbersConfig(encoding="scaled"),
    model=DlrmConfig(top=(256, 128), dropout=0.3),
    optimizer=SMALL,
    training=training(6, 4096),
)
_DLRM_CRITEO_1TB = DlrmRecipe(
    summary=english("Criteo 1TB, one epoch of SGD: NVIDIA's recipe, for large GPUs"),
    target=target(0.8025, "NVIDIA DeepLearningExamples, DLRM (PyTorch): .80254 on one A100, 17:47 min", CRITEO_1TB),
    tables=TablesConfig(width=128, optimizer="sgd", peak_lr=24.0),
    optimizer=OptimizerConfig(
        name="sgd",
        peak_lr=24.0,
        momentum=0.0,
        weight_decay=0.0,
        schedule="polynomial",
        warmup_epochs=0.125,
        milestones=(0.75, 1.125),
    ),
    training=training(1, 65_536, evaluate_every=0.25),
)

RECIPES: Mapping[str, DlrmRecipe] = {
    "demo": DlrmRecipe(
        summary=english("a generated click log, seconds on a CPU: what `make challenge3` runs without DATA"),
        target=DEMO_TARGET,
        tables=TablesConfig(width=8, optimizer="dense", spread=0.1, weight_decay=2.0),
        numbers=NumbersConfig(encoding="piecewise-linear"),
        model=DlrmConfig(bottom=(64,), top=(64, 32)),
        optimizer=DEMO_OPTIMIZER,
        training=training(3, 1024),
    ),
    "own": DlrmRecipe(
        summary=english("a click log of your own, weights chosen on a held-out part"),
        tables=OWN_TABLES,
        model=DlrmConfig(bottom=(64,), top=(256, 128), dropout=0.2),
        optimizer=SMALL,
        training=OWN_TRAINING,
    ),
    "ml-1m-clicks": _DLRM_ML_1M,
    "dcnv2-ml-1m-clicks": replace(
        _DLRM_ML_1M,
        summary=english("DLRM with DCNv2's crosses on MovieLens 1M as clicks"),
        target=target(0.893, ML_1M_GROUNDS.format("DCNv2 .8937"), ML_1M),
        model=replace(_DLRM_ML_1M.model, interaction="dcnv2", cross_layers=2, cross_rank=64),
    ),
    "criteo-kaggle": DlrmRecipe(
        summary=english("Criteo's Kaggle log"),
        target=target(0.8138, f"{BARS}: DLRM .8138, log loss .4382", CRITEO_KAGGLE),
        tables=TablesConfig(width=10),
        model=DlrmConfig(bottom=(400, 400, 400), top=(400, 400, 400)),
        optimizer=CRITEO_OPTIMIZER,
        training=training(2, 4096, evaluate_every=0.5),
    ),
    "criteo-1tb": _DLRM_CRITEO_1TB,
    "dcnv2-criteo-1tb": DlrmRecipe(
        summary=english("Criteo 1TB, multi-hot, with DCNv2's crosses: MLPerf's model, for many GPUs"),
        target=target(0.80275, "MLPerf Training, DLRM-DCNv2: its quality target", CRITEO_MULTI_HOT),
        tables=TablesConfig(width=128, peak_lr=0.005),
        model=DlrmConfig(interaction="dcnv2"),
        optimizer=OptimizerConfig(name="adagrad", peak_lr=0.005, weight_decay=0.0, schedule="constant"),
        training=training(1, 65_536, evaluate_every=0.05),
    ),
}
"""By name, the first one without DATA."""
