"""A classifier's weights: any ResNet's to start from, the kit's own to go on with."""

from pathlib import Path

from rich.console import Console

from challenges.classification.data import PhotographData
from challenges.classification.recipes import ClassificationRecipe
from challenges.classification.task import ClassificationTask
from common.challenge import Weights
from common.storage.weight_files import save_weights, weights_metadata
from common.terminal.console import say
from common.vision.resnet_weights import load_weights


class ClassificationWeights(Weights[ClassificationRecipe, PhotographData, ClassificationTask]):
    """Any ResNet's to start from; the kit's own, with its head, to go on with."""

    def start(
        self, task: ClassificationTask, data: PhotographData, recipe: ClassificationRecipe, console: Console
    ) -> None:
        if recipe.weights is not None:
            say(console, f"weights: {load_weights(task.model, recipe.weights, classes=data.manifest.classes)}")

    def save(self, task: ClassificationTask, data: PhotographData, recipe: ClassificationRecipe, path: Path) -> None:
        metadata = weights_metadata(data.manifest.classes, recipe.preprocessing.to_plain())
        save_weights(task.model.state_dict(), path, metadata)

    def load(self, task: ClassificationTask, path: Path) -> None:
        load_weights(task.model, path, strict_head=True)
