"""How click models are trained: what DLRM's and Wide & Deep's recipes share."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from common.errors import RecipeError
from common.language.telling import english
from common.run.recipe import OptimizerConfig, Recipe, Target, TrainingConfig

LARGEST_WIDTH = 1024
BLOCK = 4
"""FBGEMM's rows have so many numbers, or several times as many."""


@dataclass(frozen=True, kw_only=True)
class TablesConfig:
    """The embedding tables; their numbers of rows come from the data."""

    width: int = 16
    """Numbers in a row."""
    optimizer: Literal["rowwise-adagrad", "adagrad", "sgd", "dense"] = "rowwise-adagrad"
    """Of the rows that a batch read: Adagrad with one sum a row or one a number, or SGD. dense: the network's own
    optimizer, for tables so small that every row may be updated at every step."""
    peak_lr: float = 0.05
    """Of the rows' optimizer, with the network's schedule; unused by dense."""
    weight_decay: float = 0.0
    """dense: of the rows, where optimizer.weight-decay is the network's."""
    dtype: Literal["fp32", "fp16"] = "fp32"
    """What rows are kept in; fp16 halves them, and updates are rounded at random."""
    shard: Literal["none", "row", "table", "column", "auto"] = "none"
    """Over processes, each of which updates what it has; ids and rows travel. row: each has a share of every column's
    rows. By TorchRec: table: each has some columns' tables whole; column: a share of every row's numbers; auto: its
    planner chooses for every column between table and stretches of rows."""
    spread: float | None = None
    """Rows start evenly in ± spread; None: ± sqrt(1 / rows) of their column."""
    unknown_share: float = 0.0
    """Of a training batch's ids, so many are taken for values that were never seen, so that their row learns too."""

    def __post_init__(self) -> None:
        if not 1 <= self.width <= LARGEST_WIDTH:
            raise RecipeError(f"tables.width is {self.width}.", f"It lies between 1 and {LARGEST_WIDTH:,}.")
        if self.peak_lr <= 0 or (self.spread is not None and self.spread < 0):
            raise RecipeError("tables.peak-lr is above 0, and tables.spread is not negative.")
        if not 0 <= self.unknown_share < 1:
            raise RecipeError(f"tables.unknown-share is {self.unknown_share}.", "It lies in [0, 1).")
        if self.optimizer == "dense" and self.dtype != "fp32":
            raise RecipeError(
                f"tables.optimizer dense was chosen with tables.dtype {self.dtype}.",
                "It updates every row at every step, in fp32.",
                "Use --tables.optimizer rowwise-adagrad, adagrad or sgd.",
            )
        if self.optimizer == "dense" and self.shard != "none":
            raise RecipeError(
                f"tables.optimizer dense was chosen with tables.shard {self.shard}.",
                "It updates every row on every process.",
                "Use --tables.optimizer rowwise-adagrad, adagrad or sgd.",
            )
        if self.is_placed:
            self._refuse_placed()
        if self.weight_decay and self.optimizer != "dense":
            raise RecipeError(
                f"tables.weight-decay {self.weight_decay} was chosen for {self.optimizer}.",
                "Rows that a batch did not read are not touched, so that only dense tables decay.",
            )

    @property
    def is_placed(self) -> bool:
        """Whether TorchRec places the tables of several processes."""
        return self.shard in ("table", "column", "auto")

    def _refuse_placed(self) -> None:
        if self.dtype != "fp32":
            raise RecipeError(
                f"tables.dtype {self.dtype} was chosen with tables.shard {self.shard}.",
                "Updates of half precision rows are rounded at random, and TorchRec rounds to the nearest on a CPU.",
                "Use --tables.shard row, or leave tables.dtype out.",
            )
        if self.width % BLOCK:
            raise RecipeError(
                f"tables.width {self.width} was chosen with tables.shard {self.shard}.",
                f"TorchRec's rows have a multiple of {BLOCK} numbers.",
                "Use --tables.shard row, or another --tables.width.",
            )
        if self.shard == "column" and self.optimizer == "rowwise-adagrad":
            raise RecipeError(
                "tables.optimizer rowwise-adagrad was chosen with tables.shard column.",
                "It keeps one sum of a whole row's squares, and no process has a whole row.",
                "Use --tables.optimizer adagrad or sgd, or another --tables.shard.",
            )


@dataclass(frozen=True, kw_only=True)
class NumbersConfig:
    """Numeric columns, which preparing has logged where the feature spec says so."""

    encoding: Literal["plain", "scaled", "piecewise-linear"] = "plain"


@dataclass(frozen=True, kw_only=True)
class JudgingConfig:
    """What is measured beside AUC, log loss, normalised entropy and calibration."""

    cutoff: int = 12
    """MAP@cutoff, where the feature spec names a group."""
    resamples: int = 200
    """Of the validation rows, for the intervals; 0: none."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.cutoff < 1 or self.resamples < 0:
            raise RecipeError("judging.cutoff starts at 1, judging.resamples at 0.")


@dataclass(frozen=True, kw_only=True)
class ClickRecipe(Recipe):
    """One way to train a click model."""

    tables: TablesConfig = field(default_factory=TablesConfig)
    numbers: NumbersConfig = field(default_factory=NumbersConfig)
    judging: JudgingConfig = field(default_factory=JudgingConfig)

    def __post_init__(self) -> None:
        self.training.refuse_checkpointing()
        if self.tables.optimizer != "dense":
            self._refuse("optimizer.clip-norm", self.optimizer.clip_norm, None, "a norm needs every row's whole sum")
            self._refuse("training.cuda-graphs", self.training.cuda_graphs, False, "a batch's rows differ in number")
        if self.tables.shard != "none" and self.training.compile:
            raise RecipeError(
                f"training.compile was chosen with tables.shard {self.tables.shard}.",
                "Rows that travel between processes are not compiled.",
                "Leave training.compile out, or use --tables.shard none.",
            )
        if self.tables.is_placed and isinstance(self.training.micro_batch, int):
            raise RecipeError(
                f"training.micro-batch {self.training.micro_batch} was chosen with tables.shard {self.tables.shard}.",
                "TorchRec updates rows at every pass, so that a step has one.",
                "Leave training.micro-batch out, or use --tables.shard row.",
            )

    def _refuse(self, field: str, given: object, allowed: object, why: str) -> None:
        if given != allowed:
            raise RecipeError(
                f"{field} {given} was chosen with tables.optimizer {self.tables.optimizer}.",
                f"With it {field} stays {allowed}: {why}.",
                f"Leave {field} out, or use --tables.optimizer dense.",
            )


METRIC = "auc"
DEMO = english("the demo clicks")
ADULT = english("Adult (UCI Census Income), official split: 32,561 rows to learn from, 16,281 to judge")
ML_1M = (
    "MovieLens 1M as clicks: ratings of 3 dropped, above are clicks; a random tenth judged; users, films, side fields"
)
ML_1M_AUTOINT = (
    "MovieLens 1M as clicks: ratings of 3 dropped, random 8:1:1; gender, age, occupation, zip, genres, year, time"
)
CRITEO_KAGGLE = english("Criteo_x1: 33 million rows to learn from, 4.6 million to judge, as in BARS")
CRITEO_1TB = english(
    "Criteo 1TB: days 0 to 22 to learn from, the first half of day 23 to judge; values from 15 occurrences on"
)
CRITEO_MULTI_HOT = english("Criteo 1TB of MLPerf's multi-hot synthesis: days 0 to 22 to learn from, day 23 to judge")
BARS = "BARS (openbenchmark.github.io/BARS), Criteo_x1"
ML_1M_GROUNDS = "our own measurements: {}, logistic regression .8726, factorisation machine .8790"

SMALL = OptimizerConfig(name="adamw", peak_lr=2e-3, weight_decay=0.01, schedule="cosine")
DEMO_OPTIMIZER = OptimizerConfig(name="adamw", peak_lr=5e-3, weight_decay=0.1, schedule="cosine")
SMALL_TABLES = TablesConfig(width=32, optimizer="dense", spread=0.01, weight_decay=5.0)


def training(epochs: float, batch_size: int, *, evaluate_every: float = 1.0) -> TrainingConfig:
    return TrainingConfig(
        epochs=epochs, batch_size=batch_size, channels_last=False, evaluate_every=evaluate_every, checkpoint_every=500,
        log_every=20,
    )  # fmt: skip


def target(value: float, source: str, protocol: str) -> Target:
    return Target(metric=METRIC, value=value, source=source, protocol=protocol)


DEMO_GROUNDS = english("97 % of the way from .5 to .8546, the AUC that the planted truth itself has on these rows")
DEMO_TARGET = target(0.844, DEMO_GROUNDS, DEMO)
CRITEO_OPTIMIZER = OptimizerConfig(name="adamw", peak_lr=1e-3, weight_decay=0.0, schedule="constant")


OWN_TABLES = TablesConfig(width=16, unknown_share=0.01)
OWN_TRAINING = replace(training(10, 2048), patience=2)


class Rows(NamedTuple):
    """The rows that a target belongs to: what they were prepared as, and how many are learnt from and judged."""

    kind: str
    train: int
    split: str
    judged: int


PROTOCOLS: Mapping[str, Rows] = {
    DEMO: Rows("synthetic", 399_632, "test", 50_343),
    ADULT: Rows("adult", 32_561, "test", 16_281),
    ML_1M: Rows("movielens", 591_205, "test", 73_645),
    ML_1M_AUTOINT: Rows("movielens-autoint", 591_205, "test", 73_645),
    CRITEO_KAGGLE: Rows("criteo", 33_003_326, "test", 4_587_167),
    CRITEO_1TB: Rows("criteo", 4_195_197_692, "test", 89_137_319),
    CRITEO_MULTI_HOT: Rows("criteo", 4_195_197_692, "test", 89_137_319),
}
"""A target's protocol -> its rows."""
