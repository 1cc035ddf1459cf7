"""Challenge 2: SSD300 on images with boxes."""

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from challenges.detection import check, held_out
from challenges.detection import fits as rules
from challenges.detection.data import SceneData
from challenges.detection.judgement import DetectionJudgement
from challenges.detection.page import DetectionPage
from challenges.detection.playground import DetectorPlayground
from challenges.detection.reach import View
from challenges.detection.recipes import RECIPES, DetectionRecipe
from challenges.detection.scenes import Scenes
from challenges.detection.serving.face import ServedDetector
from challenges.detection.task import DetectionTask
from challenges.detection.weights import DetectionWeights
from common.challenge import Challenge, CheckedData, Trained
from common.errors import RecipeError
from common.files import cache_folder
from common.machine.distributed import ALONE, World
from common.question import Question
from common.run.fitting import Fit
from common.run.run_directory import RunDirectory


class DetectionChallenge(Challenge[DetectionRecipe, SceneData, DetectionTask]):
    """Annotated images in, boxes out."""

    model = "ssd300"
    recipe_class = DetectionRecipe
    recipes = RECIPES
    predicts_from = ("inputs", "threshold")
    weights = DetectionWeights()
    judgement = DetectionJudgement()
    page = DetectionPage()
    served = ServedDetector()
    playground = DetectorPlayground()

    def demo_data(self, console: Console) -> Path:
        from challenges.detection import demo

        return demo.generate(cache_folder() / "demo" / "scenes", console=console)

    def sample_data(self, console: Console) -> Path:
        from challenges.detection import demo

        return demo.generate(cache_folder() / "demo" / "few-scenes", images=(16, 8), console=console)

    def check(self, root: Path, recipe: DetectionRecipe, output: Path, console: Console) -> CheckedData:
        report = check.check(
            root,
            output,
            validation_fraction=recipe.data.validation_fraction,
            seed=recipe.training.seed,
            view=View(recipe.preprocessing.crop, recipe.data.tile),
            progress=console,
        )
        report.print(console)
        scenes = report.scenes
        summary: dict[str, object] = {
            "classes": list(scenes.classes),
            "category_ids": list(scenes.category_ids),
            "images": len(scenes),
            "boxes": len(scenes.boxes),
        }
        return CheckedData(root, scenes.fingerprint, summary)

    def fits(self, recipe: DetectionRecipe, checked: Path) -> Sequence[Fit]:
        return rules.fits(recipe, Scenes.read(checked))

    def lighter(self, recipe: DetectionRecipe, checked: Path) -> Sequence[tuple[tuple[str, ...], float]]:
        return rules.lighter(recipe, Scenes.read(checked))

    def check_test(
        self, root: Path, run: RunDirectory, recipe: DetectionRecipe, output: Path, console: Console
    ) -> CheckedData:
        return held_out.check(root, output, Scenes.read(run.data), console=console)

    def open_data(
        self,
        recipe: DetectionRecipe,
        checked: Path,
        device: torch.device,
        world: World = ALONE,
    ) -> SceneData:
        """As every challenge; raises RecipeError where a process gets too few images to normalise a single cell by."""
        share = recipe.training.batch_size // world.size
        if share < 2 and not recipe.training.sync_batchnorm:
            raise RecipeError(
                f"training.batch-size {recipe.training.batch_size} leaves {share} to each of {world.size} processes.",
                "Batch normalisation of the smallest map, a single cell, takes two images or more.",
                f"Give --training.batch-size {2 * world.size} or --training.sync-batchnorm.",
            )
        scenes = Scenes.read(checked)
        return SceneData(
            scenes, recipe.preprocessing, recipe.data, device=device, world=world, seed=recipe.training.seed,
            whole_from=rules.whole_from(recipe, len(scenes.subset("train"))),
        )  # fmt: skip

    def build_task(self, recipe: DetectionRecipe, data: SceneData) -> DetectionTask:
        return DetectionTask(recipe, data.num_classes, data.validation)

    def predict(
        self,
        trained: Trained[DetectionRecipe, SceneData, DetectionTask],
        question: Question,
        output: Path,
        device: torch.device,
        console: Console,
    ) -> None:
        from challenges.detection.predict import predict

        predict(trained, question, output, device, console)


CHALLENGE = DetectionChallenge()
"""The value that the registry names."""
