"""ResNet-50 v1.5's recipes: the published ImageNet ones, and those for photographs of one's own."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from common.errors import RecipeError
from common.language.telling import english
from common.run.recipe import OptimizerConfig, Recipe, Target, TrainingConfig, told
from common.vision.preprocessing import ImagePreprocessing


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network; the number of classes comes from the data."""

    depth: Literal[18, 34, 50, 101, 152] = 50
    zero_init_last_norm: bool = True
    normalisation: Literal["torch", "apex"] = "torch"
    """apex: train by NVIDIA's kernels, which normalise, add the shortcut and apply ReLU at once, in fp16 on a GPU."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Augmentation and loading."""

    area: tuple[float, float] = (0.08, 1.0)
    """Share of the image that a random crop keeps."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Width over height of a random crop."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    colour: float = 0.0
    """Share by which saturation, contrast and brightness of a training picture are raised or lowered at most."""
    rotation: float = 0.0
    """Degrees by which a training picture is turned at most, to either side."""
    validation_fraction: float = 0.2
    """Share held out where the folder has no val/ of its own."""
    split: Literal["keep", "random", "by-group"] = "keep"
    """What becomes of given train and val folders: kept, or joined and parted anew, at random or so that pictures of
    one group by their file names, and near-duplicates, stay together."""
    group_pattern: str | None = None
    """Regular expression whose first group names what must not be split (a patient, a scene)."""
    groups: Path | None = None
    """A CSV file of path and group that names the same for files, as `kit check DATA --similar` writes one."""
    label_column: str | None = None
    """Column of a table beside the pictures that holds their classes; left out, the one that is called so."""
    threads: int | None = None
    """DALI threads per process; by default the processors shared by the processes of this machine."""

    def __post_init__(self) -> None:
        if not 0 < self.area[0] <= self.area[1] <= 1 or not 0 < self.ratio[0] <= self.ratio[1]:
            raise RecipeError(
                f"data.area {self.area} or data.ratio {self.ratio} is not a range.", "Areas lie in (0, 1]."
            )
        if not 0 <= self.colour < 1:
            raise RecipeError(told("data", self, "colour"), "It lies in [0, 1).")
        if not 0 <= self.rotation <= 180:
            raise RecipeError(told("data", self, "rotation"), "It lies in [0, 180].")


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Transfer learning: train the head alone, then everything, the earlier stages more gently."""

    freeze_epochs: float = 0.0
    """Of the head alone, and never more than MOST_FROZEN of the run, however few epochs its minutes or flags leave."""
    stage_lr_decay: float = 1.0
    """Each stage further from the head learns this much slower (Howard and Ruder 2018, arXiv:1801.06146)."""


@dataclass(frozen=True, kw_only=True)
class ClassificationRecipe(Recipe):
    """One way to train a ResNet on folders of photographs."""

    weights: Path | None = None
    """A weights file to start from: torchvision's, timm's, NVIDIA's or the kit's own."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    preprocessing: ImagePreprocessing = field(default_factory=ImagePreprocessing)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    label_smoothing: float = 0.1
    balance: float = 0.0
    """How far rare classes are answered as if all were equally frequent: 0 not at all, 1 wholly (arXiv:2007.07314)."""
    mixup_alpha: float = 0.0
    """Strength of mixup (Zhang et al. 2017, arXiv:1710.09412); 0 leaves it out."""
    cutmix_alpha: float = 0.0
    """Strength of CutMix (Yun et al. 2019, arXiv:1905.04899), for every other mixed batch where mixup is there, too."""
    mixed_share: float = 1.0
    """Of the batches, that mixup or CutMix blend; the others are learnt as they are."""

    def __post_init__(self) -> None:
        if min(self.mixup_alpha, self.cutmix_alpha) < 0 or not 0 <= self.mixed_share <= 1:
            raise RecipeError(
                f"mixup-alpha is {self.mixup_alpha}, cutmix-alpha {self.cutmix_alpha}, mixed-share {self.mixed_share}.",
                "The first two start at 0, the third lies in [0, 1].",
            )
        training = self.training
        if self.model.normalisation == "apex" and (
            training.precision != "fp16" or not training.channels_last or training.compile or training.sync_batchnorm
        ):
            raise RecipeError(
                "model.normalisation apex was chosen, and "
                + told("training", training, "precision", "channels_last", "compile", "sync_batchnorm"),
                "Its kernels take fp16 in channels-last memory, the compiler does not look into them, and each process "
                "normalises by itself.",
                "Add --training.precision fp16 and leave the others as they are, or use --model.normalisation torch.",
            )

    def lighter(self) -> tuple[tuple[str, ...], float] | None:
        """Eighteen layers, unless weights of another depth are started from, and pictures of 96 or 64 pixels."""
        flags: list[str] = []
        work = 1.0
        if self.model.depth > 18 and self.weights is None:
            flags += ["--model.depth", "18"]
            if self.model.zero_init_last_norm and not starts_as_identity(18, self.optimizer.name):
                flags.append("--model.no-zero-init-last-norm")
            work *= BILLION_PRODUCTS[18] / BILLION_PRODUCTS[self.model.depth]
        side = next((side for side in (96, 64) if side < self.preprocessing.crop), None)
        if side is not None:
            resize = round(side * self.preprocessing.resize / self.preprocessing.crop)
            flags += ["--preprocessing.crop", str(side), "--preprocessing.resize", str(resize)]
            work *= (side / self.preprocessing.crop) ** 2
        return (tuple(flags), work) if flags else None


def starts_as_identity(depth: int, optimizer: str) -> bool:
    """Whether the blocks of a network learn sooner when they start as the identity.

    AdamW moves their scales from 0 to 1 in some thousand steps. Eighteen layers are better off whole in a short run
    (top-1 0.900 for 0.730 after 156 steps), fifty are not (0.412 for 0.574 after 150): docs/log.md, 2026-11.
    """
    return optimizer != "adamw" or depth > DEEPEST_WHOLE


DEEPEST_WHOLE = 18
MOST_FROZEN = 0.05
BILLION_PRODUCTS = {18: 1.81, 34: 3.66, 50: 4.09, 101: 7.80, 152: 11.51}
"""By depth, of one picture of 224 pixels."""


IMAGENET = english("ImageNet-1k validation, 50,000 images in 1,000 classes, shorter side 256, centre crop 224")
DEMO = english("the demo photographs' own validation images, ten classes")
NVIDIA = "NVIDIA DeepLearningExamples, ConvNets resnet50v1.5 README, 8 x A100, AMP"

_IMAGENET_90 = ClassificationRecipe(
    summary=english("ImageNet from scratch, 90 epochs: NVIDIA's recipe (batch 2048, cosine, label smoothing)"),
    target=Target(metric="top1", value=0.7712, source=f"{NVIDIA}, 90 epochs: 77.12 +- 0.11", protocol=IMAGENET),
    # The published run steps the cosine once per epoch and decays the shortcut's normalisation and the head's bias;
    # here the cosine moves every step and no normalisation or bias is decayed.
    optimizer=OptimizerConfig(peak_lr=2.048, momentum=0.875, weight_decay=2**-15, schedule="cosine", warmup_epochs=8),
    training=TrainingConfig(epochs=90, batch_size=2048, micro_batch=256, checkpoint_every=500, log_every=20),
)

_FROM_SCRATCH = OptimizerConfig(name="adamw", peak_lr=1e-3, schedule="one-cycle", weight_decay=0.05)

RECIPES: Mapping[str, ClassificationRecipe] = {
    "demo": ClassificationRecipe(
        summary=english("generated photographs, minutes on a CPU: what `make challenge1` runs without DATA"),
        target=Target(
            metric="top1",
            value=0.84,
            source=english("what six epochs at 48 pixels give, less an interval; knowing every object gives 0.96"),
            protocol=DEMO,
        ),
        preprocessing=ImagePreprocessing(resize=55, crop=48),
        optimizer=replace(_FROM_SCRATCH, schedule="cosine", warmup_epochs=0.12),
        data=DataConfig(area=(0.5, 1.0)),
        label_smoothing=0.0,
        training=TrainingConfig(
            epochs=6, batch_size=16, evaluate_every=2, checkpoint_every=250, ema_decay=0.98, log_every=10
        ),
    ),
    "photos": ClassificationRecipe(
        summary=english("from scratch on hundreds to thousands of your own photographs"),
        fit="data",
        preprocessing=ImagePreprocessing(resize=110, crop=96),
        optimizer=replace(_FROM_SCRATCH, weight_decay=0.3),
        data=DataConfig(area=(0.35, 1.0), colour=0.3),
        training=TrainingConfig(
            epochs=40, batch_size=32, evaluate_every=5, checkpoint_every=50, ema_decay=0.99, log_every=10
        ),
    ),
    "finetune": ClassificationRecipe(
        summary=english("start from --weights FILE: train the head, then all stages at falling learning rates"),
        fit="data",
        # A few photographs give a few hundred steps, in which SGD at 0.01 per 64 hardly leaves its start: 0.31 for
        # AdamW's 0.535 with five photographs a class (docs/log.md, 2026-11).
        optimizer=OptimizerConfig(name="adamw", peak_lr=1e-3, weight_decay=0.05, schedule="cosine", warmup_epochs=1),
        data=DataConfig(area=(0.25, 1.0)),
        # So few steps are all needed: a tenth of the time with the head alone cost 0.06, smoothed labels 0.04.
        finetune=FinetuneConfig(freeze_epochs=1, stage_lr_decay=0.5),
        label_smoothing=0.0,
        training=TrainingConfig(epochs=15, batch_size=64, micro_batch=64, checkpoint_every=50, ema_decay=0.99),
    ),
    "imagenet-50e": replace(
        _IMAGENET_90,
        summary=english("ImageNet from scratch, 50 epochs"),
        target=Target(
            metric="top1",
            value=0.7581,
            source="NVIDIA DeepLearningExamples, ConvNets resnet50v1.5 README, DGX-2, AMP, 50 epochs: 75.81",
            protocol=IMAGENET,
        ),
        training=replace(_IMAGENET_90.training, epochs=50),
    ),
    "imagenet-90e": _IMAGENET_90,
    "imagenet-250e": replace(
        _IMAGENET_90,
        summary=english("ImageNet from scratch, 250 epochs with mixup"),
        target=Target(metric="top1", value=0.7843, source=f"{NVIDIA}, 250 epochs: 78.43 +- 0.11", protocol=IMAGENET),
        mixup_alpha=0.2,
        training=replace(_IMAGENET_90.training, epochs=250),
    ),
}
