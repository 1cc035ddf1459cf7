"""What a detector's figures are held against."""

from collections.abc import Mapping

from challenges.detection import baselines
from challenges.detection.data import SceneData
from challenges.detection.recipes import COCO, DEMO, SIZES, DetectionRecipe
from common.challenge import Judgement
from common.language.telling import english
from common.report.data import check_record
from common.run.evidence import Evidence
from common.run.run_directory import RunDirectory
from common.vision.preprocessing import ImagePreprocessing

COCO_CLASSES, COCO_VALIDATION = 80, 5000


class DetectionJudgement(Judgement[DetectionRecipe, SceneData]):
    """COCO's average precision, beside what looks at no picture."""

    primary_metric = "ap"

    def comparability(self, recipe: DetectionRecipe, data: SceneData) -> tuple[bool, str]:
        if recipe.target is None:
            return False, english("Nothing is published for this data: compare runs with each other.")
        if recipe.data.tile is not None:
            return False, english(
                "The target is for whole images, this figure is for tiles of {tile} pixels too.", tile=recipe.data.tile
            )
        if recipe.target.protocol == DEMO:
            from challenges.detection import demo

            is_demo = demo.is_demo(data.scenes.root)
            return is_demo, "" if is_demo else english("The target belongs to the demo scenes, this run used others.")
        assert recipe.target.protocol == COCO
        if (data.num_classes, data.num_validation) != (COCO_CLASSES, COCO_VALIDATION):
            return False, english(
                "The target is for {images:,} validation images with {classes} classes, this data has {own_images:,} "
                "with {own_classes}.",
                images=COCO_VALIDATION, classes=COCO_CLASSES, own_images=data.num_validation,
                own_classes=data.num_classes,
            )  # fmt: skip
        is_published = recipe.preprocessing == ImagePreprocessing(resize=300, crop=300, mode="squash")
        return is_published, "" if is_published else english("The target is for images squashed to 300 x 300.")

    def evidence(self, run: RunDirectory) -> Evidence:
        record, recipe = check_record(run), run.recipe(DetectionRecipe)
        sizes = record.get("sizes", {}).get("classes", {})
        larger = next((side for side in SIZES if side > recipe.preprocessing.crop), None)
        flags = ("--preprocessing.crop", str(larger), "--preprocessing.resize", str(larger)) if larger else ()
        return Evidence(
            counts=record["counts"]["train"],
            unit=english("boxes"),
            too_small={name: row["below"] for name, row in sizes.items() if name in record["counts"]["train"]},
            for_smaller=flags,
        )

    def baselines(self, recipe: DetectionRecipe, data: SceneData) -> Mapping[str, Mapping[str, float]]:
        return baselines.figures(data.train, data.validation)
