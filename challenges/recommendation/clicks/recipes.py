"""How click models are trained: what DLRM's and Wide & Deep's recipes share, and the recipes themselves."""

from dataclasses import dataclass, field
from typing import Literal

from common.errors import RecipeError
from common.run.recipe import Recipe

LARGEST_WIDTH = 1024


@dataclass(frozen=True, kw_only=True)
class TablesConfig:
    """The embedding tables; their numbers of rows come from the data."""

    width: int = 16
    """Numbers in a row."""
    optimizer: Literal["rowwise-adagrad", "sgd", "dense"] = "rowwise-adagrad"
    """Of the rows that a batch read: Adagrad with one sum a row, or SGD. dense: the network's own optimizer, for tables
    so small that every row may be updated at every step."""
    peak_lr: float = 0.05
    """Of the rows' optimizer, with the network's schedule; unused by dense."""
    weight_decay: float = 0.0
    """dense: of the rows, where optimizer.weight-decay is the network's."""
    dtype: Literal["fp32", "fp16"] = "fp32"
    """What rows are kept in; fp16 halves them, and updates are rounded at random."""
    spread: float | None = None
    """Rows start evenly in ± spread; None: ± sqrt(1 / rows) of their column."""
    shard: Literal["none", "auto", "row", "table", "column"] = "none"
    """How several processes share the tables, by TorchRec."""
    unknown_share: float = 0.0
    """Of a training batch's ids, so many are taken for values that were never seen, so that their row learns too."""

    def __post_init__(self) -> None:
        if not 1 <= self.width <= LARGEST_WIDTH:
            raise RecipeError(f"tables.width is {self.width}.", f"It lies between 1 and {LARGEST_WIDTH:,}.")
        if self.peak_lr <= 0 or (self.spread is not None and self.spread < 0):
            raise RecipeError("tables.peak-lr is above 0, and tables.spread is not negative.")
        if not 0 <= self.unknown_share < 1:
            raise RecipeError(f"tables.unknown-share is {self.unknown_share}.", "It lies in [0, 1).")
        if self.optimizer == "dense" and (self.dtype != "fp32" or self.shard != "none"):
            raise RecipeError(
                f"tables.optimizer dense was chosen with tables.dtype {self.dtype} and tables.shard {self.shard}.",
                "It updates every row at every step, in fp32 and in one process.",
                "Use --tables.optimizer rowwise-adagrad or sgd.",
            )
        if self.weight_decay and self.optimizer != "dense":
            raise RecipeError(
                f"tables.weight-decay {self.weight_decay} was chosen for {self.optimizer}.",
                "Rows that a batch did not read are not touched, so that only dense tables decay.",
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
        if self.tables.optimizer != "dense":
            self._refuse("optimizer.clip-norm", self.optimizer.clip_norm, None, "a norm needs every row's whole sum")
            self._refuse("training.cuda-graphs", self.training.cuda_graphs, False, "a batch's rows differ in number")
        if self.tables.shard != "none":
            self._refuse(
                "training.micro-batch", self.training.micro_batch, None, "their rows are updated going backward"
            )

    def _refuse(self, field: str, given: object, allowed: object, why: str) -> None:
        if given != allowed:
            raise RecipeError(
                f"{field} {given} was chosen with tables.optimizer {self.tables.optimizer}, tables.shard "
                f"{self.tables.shard}.",
                f"With these it stays {allowed}: {why}.",
                f"Leave {field} out, or use --tables.optimizer dense --tables.shard none.",
            )


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
