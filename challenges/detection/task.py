"""Object detection as a task: matching, loss, parameter groups, metrics, and what is exported."""

import math
from collections.abc import Iterable

from torch import Tensor, nn

from challenges.detection.boxes import BY_IMAGE_SIZE, match
from challenges.detection.detections import UNTILED, Detections, DetectionTable
from challenges.detection.evaluation import evaluate
from challenges.detection.losses import multibox_loss
from challenges.detection.model import SSD
from challenges.detection.nms import PostProcessing, detect
from challenges.detection.recipes import DetectionRecipe
from challenges.detection.scenes import Scenes
from challenges.detection.searching import search
from common.export.signature import BatchRange, Signature, TensorSpec
from common.language.telling import english
from common.machine.distributed import from_all_ranks
from common.training.optimizers import scheduled_optimizer
from common.training.schedules import build_schedule
from common.training.task import Batch, Evaluation, ScheduledOptimizer, Task

METRICS = ("ap", "ap50")  # those with an interval


class DetectionTask(Task):
    """An SSD that finds `num_classes` kinds of objects, judged on the scenes held out.

    validation: the images whose rows validation batches name in `index`.
    """

    anchors: Tensor

    def __init__(self, recipe: DetectionRecipe, num_classes: int, validation: Scenes) -> None:
        super().__init__()
        self.recipe, self.num_classes, self._validation = recipe, num_classes, validation
        default_boxes = BY_IMAGE_SIZE[recipe.preprocessing.crop]
        self.model = SSD(
            depth=recipe.model.depth,
            num_classes=num_classes,
            zero_init_last_norm=recipe.model.zero_init_last_norm,
            gradient_checkpointing=recipe.training.gradient_checkpointing,
            default_boxes=default_boxes,
        )
        self.register_buffer("anchors", default_boxes.boxes(), persistent=False)

    def optimizers(self, total_steps: int, steps_per_epoch: float) -> list[ScheduledOptimizer]:
        config = self.recipe.optimizer
        return [scheduled_optimizer(self.model, config, build_schedule(config, total_steps, steps_per_epoch))]

    def prepare_batch(self, batch: Batch, step: int) -> Batch:
        """Replace the images' boxes, of any number, by what every default box is to answer."""
        offsets, labels = match(batch["boxes"], batch["labels"], self.anchors)
        rest = {name: tensor for name, tensor in batch.items() if name not in ("boxes", "labels")}
        return {**rest, "target_offsets": offsets, "target_labels": labels}

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        offsets, logits = self.model(batch["images"])
        return multibox_loss(offsets.float(), logits.float(), batch["target_offsets"], batch["target_labels"])

    def detect(self, images: Tensor) -> Detections:
        """Everything found in preprocessed images, (batch, 3, 300, 300)."""
        offsets, logits = self.model(images)
        return detect(offsets.float(), logits.float(), self.anchors, self.recipe.nms)

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """COCO's and VOC's average precision, with every detection in the split's order.

        Metrics that no box defines, such as the AP of small objects where there are none, are left out. Where the
        recipe searches tiles, what whole images alone come to is told beside it.
        """
        found = search(self.detect, batches, self._validation.widths, self._validation.heights, self.recipe.nms)
        table = _gathered(found.table)
        scores = evaluate(self._validation, table)
        metrics, predictions = scores.metrics, table.columns()
        if self.recipe.data.tile is not None:
            untiled = _gathered(found.untiled)
            alone = evaluate(self._validation, untiled, resamples=0).metrics
            metrics = metrics | {UNTILED + name: alone[name] for name in METRICS}
            predictions |= untiled.columns(UNTILED)
        return Evaluation(
            {name: value for name, value in metrics.items() if not math.isnan(value)},
            {name: scores.intervals[name] for name in METRICS if name in scores.intervals},
            english("bootstrap over validation images"),
            predictions,
        )

    def inference_module(self) -> nn.Module:
        return Detector(self.model, PostProcessing(self.anchors, self.recipe.nms))

    def signature(self) -> Signature:
        side, count = self.recipe.preprocessing.crop, self.recipe.nms.per_image
        return Signature(
            inputs=(TensorSpec("images", "float32", (3, side, side)),),
            outputs=(
                TensorSpec("boxes", "float32", (count, 4)),
                TensorSpec("scores", "float32", (count,)),
                TensorSpec("labels", "int64", (count,)),
            ),
            batch=BatchRange(1, 4, 16),
            plan_batch=BatchRange(1, 16, 64),
        )


class Detector(nn.Module):
    """What is exported: normalised images to detections after suppression, as `Detections` describes them.

    images: (batch, 3, 300, 300)
    """

    def __init__(self, model: SSD, post_processing: PostProcessing) -> None:
        super().__init__()
        self.model, self.post_processing = model, post_processing

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        offsets, logits = self.model(images)
        found: tuple[Tensor, Tensor, Tensor] = self.post_processing(offsets.float(), logits.float())
        return found


def _gathered(table: DetectionTable) -> DetectionTable:
    """The tables of all ranks together, on every rank."""
    parts = from_all_ranks(table)
    return DetectionTable.join(parts) if len(parts) > 1 else table
