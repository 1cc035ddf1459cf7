"""What a classifier's figures are held against."""

from collections.abc import Mapping

import numpy as np

from challenges.classification import baselines
from challenges.classification.data import PhotographData
from challenges.classification.manifest import Manifest
from challenges.classification.recipes import DEMO, ClassificationRecipe
from common.challenge import Judgement
from common.language.telling import english
from common.run.evidence import Evidence
from common.run.run_directory import RunDirectory
from common.vision.preprocessing import ImagePreprocessing

IMAGENET_CLASSES, IMAGENET_VALIDATION = 1000, 50_000


class ClassificationJudgement(Judgement[ClassificationRecipe, PhotographData]):
    """Top-1 accuracy, beside what needs no network."""

    primary_metric = "top1"

    def comparability(self, recipe: ClassificationRecipe, data: PhotographData) -> tuple[bool, str]:
        if recipe.target is None:
            return False, english("Nothing is published for this data: compare with the baseline.")
        if recipe.target.protocol == DEMO:
            from challenges.classification import demo

            is_demo = demo.is_demo(data.manifest.root)
            return is_demo, "" if is_demo else english(
                "The target belongs to the demo photographs, this run used others."
            )
        if (data.num_classes, data.num_validation) != (IMAGENET_CLASSES, IMAGENET_VALIDATION):
            return False, english(
                "The target is for {images:,} validation images in {classes} classes, this data has {own_images:,} in "
                "{own_classes}.",
                images=IMAGENET_VALIDATION, classes=IMAGENET_CLASSES, own_images=data.num_validation,
                own_classes=data.num_classes,
            )  # fmt: skip
        is_published = recipe.preprocessing == ImagePreprocessing()
        return is_published, "" if is_published else english(
            "The target is for images resized to 256 and cropped to 224."
        )

    def baselines(self, recipe: ClassificationRecipe, data: PhotographData) -> Mapping[str, Mapping[str, float]]:
        return baselines.figures(data)

    def evidence(self, run: RunDirectory) -> Evidence:
        manifest = Manifest.read(run.data / "manifest.csv")
        counts = np.bincount(manifest.subset("train").labels, minlength=len(manifest.classes)).tolist()
        return Evidence(
            counts=dict(zip(manifest.classes, counts, strict=True)),
            unit=english("photographs"),
        )

    def main_metric(self, recipe: ClassificationRecipe, metrics: Mapping[str, float]) -> str:
        """Where classes are balanced, top1 would reward answering with the commonest ones."""
        return "balanced_top1" if recipe.balance and recipe.target is None else super().main_metric(recipe, metrics)
