"""SSD300's recipes: the published COCO one, and those for boxes of one's own."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from challenges.detection.tiles import SMALLEST_TILE
from common.errors import RecipeError
from common.language.telling import english
from common.run.recipe import OptimizerConfig, Recipe, Target, TrainingConfig, told
from common.vision.preprocessing import ImagePreprocessing


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network; the number of classes comes from the data."""

    depth: Literal[18, 34, 50, 101, 152] = 50
    zero_init_last_norm: bool = False


@dataclass(frozen=True, kw_only=True)
class NmsConfig:
    """From scored boxes to detections; the defaults are those of the published evaluation."""

    score_threshold: float = 0.05
    """Boxes must score more than this."""
    iou_threshold: float = 0.5
    """A box is dropped when it overlaps a better one of its class by more than this."""
    per_class: int = 200
    """Best boxes of each class that enter the suppression."""
    per_image: int = 200
    """Best detections of an image that are kept over all classes."""
    candidates: int = 3000
    """Best boxes of an image that enter the suppression over all classes; TensorRT takes fewer than 3,840."""

    def __post_init__(self) -> None:
        if not 0 <= self.score_threshold < 1 or not 0 < self.iou_threshold <= 1:
            raise RecipeError(
                told("nms", self, "score_threshold", "iou_threshold"), "They lie in [0, 1) and in (0, 1]."
            )
        if not 1 <= self.per_image <= self.candidates < 3840 or self.per_class < 1:
            raise RecipeError(
                told("nms", self, "per_class", "per_image", "candidates"),
                "nms.per-class starts at 1, and 1 <= nms.per-image <= nms.candidates < 3840.",
            )


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Augmentation and loading."""

    crop: bool = True
    """Random windows that keep at least one box's overlap above a random bound (Liu et al. 2016, arXiv:1512.02325)."""
    crop_scale: tuple[float, float] = (0.3, 1.0)
    """Each side of a window, as a share of the image's."""
    whole_share: float = 0.0
    """Last share of the run in which training sees whole images, as evaluation does, and no windows; where it is not 0
    the last epochs at least (`fits.WHOLE_EPOCHS`)."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    vertical_flip: float = 0.0
    """For pictures without an upright: microscopes, satellites."""
    saturation: tuple[float, float] = (0.5, 1.5)
    contrast: tuple[float, float] = (0.5, 1.5)
    brightness: tuple[float, float] = (0.875, 1.125)
    tile: int | None = None
    """For small objects in large images: side, in an image's own pixels, of overlapping tiles that are searched besides
    the whole image, and that training looks at too. Exported and served models look at whole images."""
    validation_fraction: float = 0.2
    """Share held out where the data has no validation images of its own."""
    threads: int | None = None
    """DALI threads per process; by default the processors shared by the processes of this machine."""

    def __post_init__(self) -> None:
        for name in ("crop_scale", "saturation", "contrast", "brightness"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise RecipeError(f"data.{name.replace('_', '-')} {low} {high} is not a range of positive numbers.")
        if not 0 <= self.whole_share <= 1:
            raise RecipeError(told("data", self, "whole_share"), "It lies in [0, 1].")
        if self.tile is not None and self.tile < SMALLEST_TILE:
            raise RecipeError(
                f"data.tile is {self.tile} pixels.",
                f"Tiles have {SMALLEST_TILE} pixels or more: the network's input blurs what is enlarged further.",
                "Pass a larger one, or leave data.tile out to search whole images.",
            )


@dataclass(frozen=True, kw_only=True)
class DetectionRecipe(Recipe):
    """One way to train an SSD on images with boxes."""

    weights: Path | None = None
    """A detector to start from: torchvision's, NVIDIA's or the kit's own; its heads stay where the classes agree."""
    backbone: Path | None = None
    """A classifier's weights for the backbone: a run of challenge 1, or a file of torchvision, timm or NVIDIA."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    preprocessing: ImagePreprocessing = field(
        default_factory=lambda: ImagePreprocessing(resize=300, crop=300, mode="squash")
    )
    """300 pixels make the network an SSD300, 512 an SSD512, with a map and default boxes more."""
    nms: NmsConfig = field(default_factory=NmsConfig)

    def __post_init__(self) -> None:
        if self.preprocessing.crop not in SIZES or self.preprocessing.mode != "squash":
            raise RecipeError(
                f"preprocessing is {self.preprocessing.mode} to {self.preprocessing.crop} pixels.",
                f"Default boxes exist for images squashed to {', '.join(map(str, SIZES[:-1]))} or {SIZES[-1]} pixels.",
            )
        if self.training.batch_size < 2 or self.training.micro_batch == 1:
            raise RecipeError(
                "training.batch-size or training.micro-batch is 1.",
                "Batch normalisation of the smallest map, a single cell, takes two images or more.",
            )

    def lighter(self) -> tuple[tuple[str, ...], float] | None:
        """Eighteen layers, unless weights of another depth are started from, and pictures of 300 or 192 pixels."""
        return self.seen_at(next((side for side in (PUBLISHED, LIGHT) if side < self.preprocessing.crop), None))

    def seen_at(self, side: int | None) -> tuple[tuple[str, ...], float] | None:
        """The same at another side of the pictures; None: at the recipe's own."""
        flags: list[str] = []
        work = 1.0
        if self.model.depth > 18 and self.weights is None and self.backbone is None:
            flags += ["--model.depth", "18"]
            work *= BILLION_PRODUCTS[18] / BILLION_PRODUCTS[self.model.depth]
        if side is not None:
            flags += ["--preprocessing.crop", str(side), "--preprocessing.resize", str(side)]
            work *= (side / self.preprocessing.crop) ** 2
        return (tuple(flags), work) if flags else None


BILLION_PRODUCTS = {18: 6.19, 34: 14.27, 50: 16.17, 101: 43.52, 152: 66.04}
"""By depth, of one picture of 300 pixels and 20 classes."""

PUBLISHED = 300
"""Pixels of the input in the published recipes."""
LIGHT = 192
"""Pixels where little time is left; fewer are for data without small objects (`fits.lighter`)."""
SIZES = (128, LIGHT, PUBLISHED, 512)
COCO = english("COCO val2017, 5,000 images, 80 classes, images squashed to 300 x 300, score > 0.05, NMS at 0.5")
DEMO = english("the demo scenes' own validation images")

_FROM_SCRATCH = OptimizerConfig(
    name="adamw", peak_lr=1e-3, schedule="cosine", warmup_epochs=0.5, weight_decay=0.05, clip_norm=10.0
)
# Windows show objects larger than whole images do: the last fifth gets used to what is judged and served. Narrower ones
# cost more than they vary in so few epochs (AP 0.497 from half a side on, 0.541 from these, 0.489 without any).
_SCRATCH_DATA = DataConfig(crop_scale=(0.75, 1.0), whole_share=0.2)

RECIPES: Mapping[str, DetectionRecipe] = {
    "demo": DetectionRecipe(
        summary=english("generated scenes, minutes on a CPU: what `make challenge2` runs without DATA"),
        target=Target(
            metric="ap",
            value=0.55,
            source=english(
                "eight epochs at 128 pixels from scratch give 0.62 with a ResNet-18; every object can be found"
            ),
            protocol=DEMO,
        ),
        model=ModelConfig(depth=18),
        # 600 steps of 4 reached .57 where 300 of 8 reached .44 to .47: what is short needs steps more than pictures
        data=DataConfig(crop_scale=(0.6, 1.0), saturation=(0.8, 1.2), contrast=(0.8, 1.2)),
        preprocessing=ImagePreprocessing(resize=128, crop=128, mode="squash"),
        optimizer=replace(_FROM_SCRATCH, warmup_epochs=0.2),
        training=TrainingConfig(epochs=8, batch_size=4, evaluate_every=8, checkpoint_every=200, ema_decay=0.99),
    ),
    "small": DetectionRecipe(
        summary=english("from scratch on hundreds of your own images with boxes"),
        fit="data",
        model=ModelConfig(depth=18),
        data=_SCRATCH_DATA,
        optimizer=_FROM_SCRATCH,
        training=TrainingConfig(epochs=24, batch_size=8, evaluate_every=6, checkpoint_every=100, ema_decay=0.99),
    ),
    "small-512": DetectionRecipe(
        summary=english("SSD512 from scratch, at 512 pixels: for objects too small for 300, at three times the work"),
        fit="data",
        model=ModelConfig(depth=18),
        data=_SCRATCH_DATA,
        preprocessing=ImagePreprocessing(resize=512, crop=512, mode="squash"),
        optimizer=_FROM_SCRATCH,
        training=TrainingConfig(epochs=24, batch_size=8, evaluate_every=6, checkpoint_every=100, ema_decay=0.99),
    ),
    "finetune": DetectionRecipe(
        summary=english("start from --weights FILE (a detector) or --backbone RUN|FILE (a classifier)"),
        optimizer=OptimizerConfig(
            peak_lr=2.6e-3, momentum=0.9, weight_decay=5e-4, schedule="cosine", warmup_epochs=1, clip_norm=10.0
        ),
        training=TrainingConfig(epochs=30, batch_size=32, micro_batch=32, evaluate_every=5, ema_decay=0.99),
    ),
    "coco": DetectionRecipe(
        summary=english("COCO 2017 from an ImageNet backbone (--backbone), 65 epochs: NVIDIA's recipe"),
        target=Target(
            metric="ap",
            value=0.265,
            source=english("NVIDIA DeepLearningExamples, SSD v1.1 README: 15 seeds give 0.268 +- 0.0014 with AMP"),
            protocol=COCO,
        ),
        # lr 2.6e-3 for 32 images, scaled linearly; x0.1 after epochs 43 and 54; 300 warm-up steps at batch 64
        optimizer=OptimizerConfig(
            peak_lr=5.2e-3,
            momentum=0.9,
            weight_decay=5e-4,
            schedule="multistep",
            milestones=(43, 54),
            warmup_epochs=300 * 64 / 117_266,
        ),
        training=TrainingConfig(
            epochs=65, batch_size=64, micro_batch=64, evaluate_every=5, checkpoint_every=500, log_every=20
        ),
    ),
}
