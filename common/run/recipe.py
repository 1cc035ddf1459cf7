"""What a run is: frozen values with a target. Nothing here imports torch, so that listing recipes costs nothing."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeVar

import tyro

from common.errors import RecipeError

Verdict = Literal["reached", "missed", "not-comparable"]
"""Of a run's figure beside the recipe's target; whether a baseline beats it is told beside it."""


def told(section: str, config: object, *names: str) -> str:
    """What fields of a recipe hold, as the sentence with which an error begins."""
    return ", ".join(f"{section}.{name.replace('_', '-')} is {getattr(config, name)}" for name in names) + "."


@dataclass(frozen=True, kw_only=True)
class Target:
    """The figure a recipe promises, and the only conditions under which it may be compared."""

    metric: str
    value: float
    source: str
    protocol: str  # data, split and preprocessing the value belongs to; a run on anything else is not comparable
    higher_is_better: bool = True

    def reached_by(self, value: float) -> bool:
        return value >= self.value if self.higher_is_better else value <= self.value


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimizer and its learning-rate schedule; one step is one global batch."""

    name: Literal["sgd", "adamw", "lamb", "adagrad", "rmsprop", "ftrl"] = "sgd"
    peak_lr: float = 0.1
    momentum: float = 0.9
    """Of SGD and RMSProp; unused by the others."""
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    """Of adamw and lamb; the second one is RMSProp's decay."""
    weight_decay: float = 1e-4
    decay_norm_and_bias: bool = False
    """Also decay normalisation weights and biases (off, as the published recipes do)."""
    implementation: Literal["auto", "foreach", "fused", "apex"] = "auto"
    """auto: the quickest that torch has; apex: NVIDIA's, where its package can be imported."""
    schedule: Literal["cosine", "one-cycle", "multistep", "constant", "polynomial"] = "cosine"
    warmup_epochs: float = 0.0
    milestones: tuple[float, ...] = ()
    """Epochs at which multistep divides the learning rate by ten; polynomial falls with the square of what is left of
    the way from the first of its two to the second."""
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        if self.peak_lr <= 0:
            raise RecipeError(f"optimizer.peak-lr is {self.peak_lr}.", "It must be above 0.")
        if self.schedule == "multistep" and not self.milestones:
            raise RecipeError("optimizer.schedule multistep was chosen without optimizer.milestones.")
        if self.schedule == "polynomial" and not (
            len(self.milestones) == 2 and 0 <= self.milestones[0] < self.milestones[1]
        ):
            raise RecipeError(
                f"optimizer.schedule polynomial was chosen with optimizer.milestones {self.milestones}.",
                "It needs two rising epochs: where the learning rate starts to fall and where it would be zero.",
            )


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How long and how: everything the trainer needs and no model knows."""

    epochs: float = 90.0
    minutes: float | None = None
    """On the wall, evaluations included: the epochs then follow from the speed that is measured before the first step
    (common/stages/pace.py)."""
    batch_size: int = 256
    """Samples per optimizer step over all processes together."""
    micro_batch: int | Literal["auto"] | None = "auto"
    """Most samples per process and forward pass: a larger share of a step is accumulated, in less memory. auto: the
    most that fit into a GPU's memory, all on a CPU; None: all. Batch normalisation sees no more than these at once."""
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    channels_last: bool = True
    compile: bool = False
    cuda_graphs: bool = False
    """Record forward and backward once on a GPU and replay them; several processes exchange their gradients between
    that and the update."""
    gradient_checkpointing: bool = False
    sync_batchnorm: bool = False
    ema_decay: float | None = None
    """Largest decay of the weights' moving average, which short runs never reach (common/training/averages.py); the
    average is what is evaluated, exported and served, and the weights of the last step are evaluated beside it."""
    evaluate_every: float = 1.0
    """Epochs between evaluations; the last step is always evaluated."""
    patience: int | None = None
    """Evaluations in a row that are worse than the best on a part held out of the training data by more than a standard
    error, after which training ends; the last weights before are kept. None: train to the end and keep the last."""
    checkpoint_every: int = 100
    """Steps between checkpoints; the last step is always saved."""
    checkpoint_seconds: float = 30.0
    """Least time between two checkpoints: one that comes earlier is left out."""
    keep_checkpoints: int = 2
    log_every: int = 10
    """Steps between log points; the device is never synchronised in between."""
    stop_after_nonfinite: int = 5
    """Consecutive non-finite losses after which the run stops."""
    seed: int = 0
    deterministic: bool = False
    profile_steps: tuple[int, int] | None = None
    """First and last step of a profiler window, written to the run directory as a trace."""

    def __post_init__(self) -> None:
        if self.epochs <= 0:
            raise RecipeError(f"training.epochs is {self.epochs}.", "It must be above 0.")
        if self.minutes is not None and self.minutes <= 0:
            raise RecipeError(f"training.minutes is {self.minutes:g}.", "It must be above 0.")
        if self.batch_size < 1 or (isinstance(self.micro_batch, int) and self.micro_batch < 1):
            raise RecipeError(told("training", self, "batch_size", "micro_batch"), "Both start at 1.")
        if self.patience is not None and self.patience < 1:
            raise RecipeError(f"training.patience is {self.patience}.", "It starts at 1, or is None.")
        if self.checkpoint_seconds < 0:
            raise RecipeError(told("training", self, "checkpoint_seconds"), "It starts at 0: every checkpoint is kept.")
        if self.evaluate_every <= 0 or self.checkpoint_every < 1 or self.log_every < 1 or self.keep_checkpoints < 1:
            raise RecipeError(
                told("training", self, "evaluate_every", "checkpoint_every", "log_every", "keep_checkpoints"),
                "The first is above 0, the others start at 1.",
            )

    def refuse_checkpointing(self) -> None:
        """Raises RecipeError where blocks are to be computed again; to be called for a model that has none."""
        if self.gradient_checkpointing:
            raise RecipeError(
                "training.gradient-checkpointing was chosen for a recommender.",
                "It computes the blocks of a ResNet again instead of keeping them.",
                "Leave it out; less memory is taken with a smaller --training.micro-batch or --training.batch-size.",
            )

    def accumulation(self, world_size: int) -> int:
        """Micro-batches per step and process.

        Raises RecipeError when a step cannot be shared evenly, which would weight samples unequally, or not captured.
        """
        share, rest = divmod(self.batch_size, world_size)
        parts = -(-share // self.micro_batch) if isinstance(self.micro_batch, int) else 1
        if rest or share % parts:
            raise RecipeError(
                f"training.batch-size {self.batch_size} cannot be cut evenly into {world_size} processes of {parts} "
                "micro-batches.",
                f"It must be a multiple of {world_size * parts}.",
            )
        if self.cuda_graphs and parts > 1:
            raise RecipeError(
                f"training.cuda-graphs was chosen with {parts} micro-batches of a step.",
                "What is captured overwrites its gradients, so that a step is one micro-batch.",
                "Use a smaller training.batch-size or more processes, or leave training.cuda-graphs out.",
            )
        if self.cuda_graphs and self.sync_batchnorm and world_size > 1:
            raise RecipeError(
                f"training.cuda-graphs was chosen with training.sync-batchnorm and {world_size} processes.",
                "What is captured is one process's own work; statistics of all would be exchanged within it.",
                "Leave one of the two out.",
            )
        return parts


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A run's complete description; challenges add their own frozen parts."""

    summary: Annotated[str, tyro.conf.Fixed, tyro.conf.Suppress]
    target: Annotated[Target | None, tyro.conf.Fixed, tyro.conf.Suppress] = None
    """None where nothing is published for the data: such a run is never compared."""
    fit: Literal["data", "none"] = "none"
    """data: fields that were not given follow from the data, each told with its reason; none: all are as written."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def digest(self) -> str:
        """Eight hex digits that change whenever any field changes."""
        return hashlib.sha256(to_json(self).encode()).hexdigest()[:8]

    def lighter(self) -> tuple[tuple[str, ...], float] | None:
        """Flags under which a sample takes less work, and the share of it that is left; None where there are none."""
        return None


def to_json(recipe: Recipe) -> str:
    """The recipe's JSON text, every field resolved."""
    return json.dumps(dataclasses.asdict(recipe), indent=2, sort_keys=True, default=str)


RecipeType = TypeVar("RecipeType", bound=Recipe)


def from_json(recipe_class: type[RecipeType], text: str) -> RecipeType:
    """Rebuild a recipe from `to_json`'s text.

    Raises RecipeError when a field is missing, unknown or of another type: another version of the kit wrote it.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(recipe_class).validate_json(text, extra="forbid")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecipeError(
            f"The stored recipe does not fit this version of the kit: {where}: {first['msg'].lower()}.",
            remedy="Use the version that wrote it, or start a new run.",
        ) from None
