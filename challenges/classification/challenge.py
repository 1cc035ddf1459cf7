"""Challenge 1: ResNet-50 v1.5 on folders of photographs."""

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from challenges.classification import check, held_out
from challenges.classification import fits as rules
from challenges.classification.data import PhotographData
from challenges.classification.judgement import ClassificationJudgement
from challenges.classification.manifest import Manifest
from challenges.classification.page import ClassificationPage
from challenges.classification.playground import ClassifierPlayground
from challenges.classification.recipes import RECIPES, ClassificationRecipe
from challenges.classification.search.verbs import ClassifierSearch
from challenges.classification.serving.face import ServedClassifier
from challenges.classification.task import ClassificationTask
from challenges.classification.weights import ClassificationWeights
from common.challenge import Challenge, CheckedData, Trained
from common.files import cache_folder, read_json
from common.machine.distributed import ALONE, World
from common.question import Question
from common.run.fitting import Fit
from common.run.run_directory import RunDirectory


class ClassificationChallenge(Challenge[ClassificationRecipe, PhotographData, ClassificationTask]):
    """Folders of photographs in, the class of each out."""

    model = "resnet50"
    recipe_class = ClassificationRecipe
    recipes = RECIPES
    weights = ClassificationWeights()
    judgement = ClassificationJudgement()
    page = ClassificationPage()
    served = ServedClassifier()
    playground = ClassifierPlayground()
    search = ClassifierSearch()

    def demo_data(self, console: Console) -> Path:
        from challenges.classification import demo

        return demo.generate(cache_folder() / "demo" / "photographs", console=console)

    def sample_data(self, console: Console) -> Path:
        from challenges.classification import demo

        return demo.generate(cache_folder() / "demo" / "few-photographs", images_per_class=(4, 2), console=console)

    def check(self, root: Path, recipe: ClassificationRecipe, output: Path, console: Console) -> CheckedData:
        report = check.check(
            root,
            output,
            config=recipe.data,
            seed=recipe.training.seed,
            progress=console,
        )
        report.print(console)
        manifest = report.manifest
        summary: dict[str, object] = {"classes": list(manifest.classes), "images": len(manifest.paths)}
        return CheckedData(root, manifest.fingerprint, summary)

    def fits(self, recipe: ClassificationRecipe, checked: Path) -> Sequence[Fit]:
        return rules.fits(recipe, Manifest.read(checked / "manifest.csv"), read_json(checked / "check.json"))

    def check_test(
        self, root: Path, run: RunDirectory, recipe: ClassificationRecipe, output: Path, console: Console
    ) -> CheckedData:
        learnt = Manifest.read(run.data / "manifest.csv")
        return held_out.check(root, output, learnt, group_pattern=recipe.data.group_pattern, console=console)

    def own_test(self, run: RunDirectory, output: Path) -> CheckedData | None:
        return held_out.own(run.data, output)

    def open_data(
        self,
        recipe: ClassificationRecipe,
        checked: Path,
        device: torch.device,
        world: World = ALONE,
    ) -> PhotographData:
        manifest = Manifest.read(checked / "manifest.csv")
        return PhotographData(
            manifest, recipe.preprocessing, recipe.data, device=device, world=world, seed=recipe.training.seed
        )

    def build_task(self, recipe: ClassificationRecipe, data: PhotographData) -> ClassificationTask:
        return ClassificationTask(recipe, data.class_counts)

    def predict(
        self,
        trained: Trained[ClassificationRecipe, PhotographData, ClassificationTask],
        question: Question,
        output: Path,
        device: torch.device,
        console: Console,
    ) -> None:
        from challenges.classification.predict import predict

        predict(trained, question.inputs, output, device, console)


CHALLENGE = ClassificationChallenge()
"""The value that the registry names."""
