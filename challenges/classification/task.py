"""Image classification as a task: losses, parameter groups, freezing, metrics, and what is exported."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from challenges.classification.accuracy import accuracies, balanced_interval
from challenges.classification.losses import adjusted, cross_entropy, cutmix, mixup
from challenges.classification.recipes import MOST_FROZEN, ClassificationRecipe
from challenges.classification.serving import EMBEDDING
from common.export.signature import GPU_BATCH, Signature, TensorSpec
from common.machine.distributed import from_all_ranks
from common.run.result import wilson
from common.training.metrics import Accuracy, Mean, reduce_metrics
from common.training.optimizers import scheduled_optimizer, stage_scales
from common.training.randomness import step_generator, step_number
from common.training.schedules import build_schedule
from common.training.task import Batch, Evaluation, ScheduledOptimizer, Task
from common.vision.fused_norm import require_apex
from common.vision.resnet import ResNet

HEAD = "fc"


class ClassificationTask(Task):
    """A ResNet that tells kinds of photographs apart.

    counts: (class,), the training samples of each; read where the recipe balances classes.
    """

    can_embed = True
    _log_prior: Tensor

    def __init__(self, recipe: ClassificationRecipe, counts: Sequence[int]) -> None:
        super().__init__()
        self.recipe, self.num_classes = recipe, len(counts)
        shares = torch.tensor(counts, dtype=torch.float64).clamp_min(1)
        self.register_buffer("_log_prior", (shares / shares.sum()).log().float(), persistent=False)
        self.model = ResNet(
            depth=recipe.model.depth,
            num_classes=self.num_classes,
            zero_init_last_norm=recipe.model.zero_init_last_norm,
            gradient_checkpointing=recipe.training.gradient_checkpointing,
            fused=recipe.model.normalisation == "apex",
        )
        self._frozen_steps = 0
        self._is_frozen = False

    def optimizers(self, total_steps: int, steps_per_epoch: float) -> list[ScheduledOptimizer]:
        config, finetune = self.recipe.optimizer, self.recipe.finetune
        if self.recipe.model.normalisation == "apex":
            require_apex(next(self.parameters()).device)
        self._frozen_steps = round(min(finetune.freeze_epochs * steps_per_epoch, MOST_FROZEN * total_steps))
        schedule = build_schedule(config, total_steps, steps_per_epoch)
        scales = stage_scales(self.model, self.model.stages(), finetune.stage_lr_decay)
        return [scheduled_optimizer(self.model, config, schedule, lr_scales=scales)]

    def set_trainable(self, step: int) -> bool:
        """Keep everything but the head as it is in the first steps (FinetuneConfig), statistics included."""
        freeze = step < self._frozen_steps
        changed, self._is_frozen = freeze != self._is_frozen, freeze
        if changed:
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad_(not freeze or name.startswith(f"{HEAD}."))
            self.train(self.training)
        return changed

    def train(self, mode: bool = True) -> "ClassificationTask":
        super().train(mode)
        if self._is_frozen:
            self.model.eval()
        return self

    def prepare_batch(self, batch: Batch, step: int) -> Batch:
        recipe = self.recipe
        ways = [(mix, alpha) for mix, alpha in ((mixup, recipe.mixup_alpha), (cutmix, recipe.cutmix_alpha)) if alpha]
        if not ways or (chance := step_number(recipe.training.seed, step)) >= recipe.mixed_share:
            return batch
        mix, alpha = ways[int(chance / recipe.mixed_share * len(ways))]
        generator = step_generator(recipe.training.seed, step)
        images, target = mix(batch["images"], batch["label"], self.num_classes, alpha, generator)
        return {**batch, "images": images, "label": target}

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.model(batch["images"])
        if self.recipe.balance:
            logits = adjusted(logits, self._log_prior, self.recipe.balance)
        return {"loss": cross_entropy(logits, batch["label"], self.recipe.label_smoothing)}

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """top1, top5 (of more than five classes), the mean of top1 over the classes, and the cross entropy.

        Predictions are in the split's order.
        """
        device = next(self.model.parameters()).device
        accuracy, loss = Accuracy((1, 5) if self.num_classes > 5 else (1,), device), Mean(device)
        rows: dict[str, list[Tensor]] = {name: [] for name in PREDICTION_COLUMNS}
        for batch in batches:
            logits, label = self.model(batch["images"]).float(), batch["label"]
            accuracy.update(logits, label)
            loss.update(cross_entropy(logits, label), len(label))
            probability = logits.softmax(1)
            best, predicted = probability.max(1)
            own = probability.gather(1, label[:, None])[:, 0]
            for name, column in zip(PREDICTION_COLUMNS, (batch["index"], label, predicted, best, own), strict=True):
                rows[name].append(column.clone())
        reduce_metrics(accuracy, loss)
        metrics, counted = accuracy.compute(), int(accuracy.totals[-1])
        intervals = {name: wilson(round(value * counted), counted) for name, value in metrics.items()}
        columns = _gathered(rows)
        answers = columns["predicted"].astype(np.int64), columns["label"].astype(np.int64), self.num_classes
        metrics["balanced_top1"] = accuracies(*answers)["balanced_top1"]
        intervals["balanced_top1"] = balanced_interval(*answers)
        return Evaluation({**metrics, "loss": loss.compute()}, intervals, predictions=columns)

    def inference_module(self) -> nn.Module:
        return EmbeddingClassifier(self.model) if self.gives_embedding else ImageClassifier(self.model)

    def signature(self) -> Signature:
        crop = self.recipe.preprocessing.crop
        embedding = (TensorSpec(EMBEDDING, "float32", (self.model.fc.in_features,)),) if self.gives_embedding else ()
        return Signature(
            inputs=(TensorSpec("images", "float32", (3, crop, crop)),),
            outputs=(
                TensorSpec("logits", "float32", (self.num_classes,)),
                TensorSpec("probabilities", "float32", (self.num_classes,)),
                *embedding,
            ),
            plan_batch=GPU_BATCH,
        )


PREDICTION_COLUMNS = ("index", "label", "predicted", "probability", "label_probability")


class ImageClassifier(nn.Module):
    """What is exported: normalised images to class logits and probabilities.

    images:  (batch, 3, crop, crop)
    returns: logits and probabilities, both (batch, class)
    """

    def __init__(self, model: ResNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.model(images)
        return logits, logits.softmax(1)


class EmbeddingClassifier(nn.Module):
    """The same with what the classifier sees, of length one, so that vectors multiply to the cosine of two pictures.

    images:  (batch, 3, crop, crop)
    returns: logits and probabilities, both (batch, class), and embedding (batch, width)
    """

    def __init__(self, model: ResNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.model.features(images)
        logits = self.model.fc(features)
        return logits, logits.softmax(1), nn.functional.normalize(features)


def _gathered(rows: dict[str, list[Tensor]]) -> dict[str, np.ndarray]:
    """The columns of all ranks together, sorted by `index`."""
    columns = {name: torch.cat(parts).cpu().numpy() if parts else np.empty(0) for name, parts in rows.items()}
    parts = from_all_ranks(columns)
    if len(parts) > 1:
        columns = {name: np.concatenate([part[name] for part in parts if len(part[name])]) for name in columns}
    order = np.argsort(columns["index"], kind="stable")
    return {name: column[order] for name, column in columns.items()}
