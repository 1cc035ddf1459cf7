"""Challenge 1: ResNet-50 v1.5 on folders of photographs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import Console

from challenges.classification import baselines, folder, held_out
from challenges.classification import fits as rules
from challenges.classification.data import PhotographData
from challenges.classification.manifest import Manifest
from challenges.classification.recipes import DEMO, RECIPES, ClassificationRecipe
from challenges.classification.report import sample_grid, sections
from challenges.classification.task import ClassificationTask
from common.challenge import Challenge, CheckedData, Question
from common.files import atomic_writer, cache_folder, read_json
from common.machine.distributed import World
from common.machine.processes import usable_cores
from common.report.elements import Section
from common.run.fitting import Fit
from common.run.run_directory import RunDirectory
from common.storage.weight_files import save_weights, weights_metadata
from common.terminal.console import say
from common.training.task import Task
from common.vision.dali.images import serving_pipeline
from common.vision.preprocessing import ImagePreprocessing
from common.vision.resnet_weights import load_weights

if TYPE_CHECKING:
    from common.export.artefact import ArtefactSidecar
    from common.export.parity import Judged
    from common.export.runner import Arrays, Runner
    from common.serving.client import Client
    from common.serving.config import Engine, EngineOptions
    from common.serving.repository import ModelRepository

EXAMPLES = 8  # files answered by Triton that the report shows
NUM_SAMPLES = 24  # training samples shown in the report
IMAGENET_CLASSES, IMAGENET_VALIDATION = 1000, 50_000


class ClassificationChallenge(Challenge[ClassificationRecipe, PhotographData]):
    model = "resnet50"
    recipe_class = ClassificationRecipe
    recipes = RECIPES

    def demo_data(self, console: Console) -> Path:
        from challenges.classification import demo

        return demo.generate(cache_folder() / "demo" / "photographs", console=console)

    def check(self, root: Path, recipe: ClassificationRecipe, output: Path, console: Console) -> CheckedData:
        report = folder.check(
            root,
            output,
            validation_fraction=recipe.data.validation_fraction,
            seed=recipe.training.seed,
            group_pattern=recipe.data.group_pattern,
            split=recipe.data.split,
            console=console,
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
        world: World = World(),  # noqa: B008
    ) -> PhotographData:
        manifest = Manifest.read(checked / "manifest.csv")
        return PhotographData(
            manifest, recipe.preprocessing, recipe.data, device=device, world=world, seed=recipe.training.seed
        )

    def build_task(self, recipe: ClassificationRecipe, data: PhotographData) -> ClassificationTask:
        return ClassificationTask(recipe, data.class_counts)

    def load_starting_weights(self, task: Task, recipe: ClassificationRecipe, console: Console) -> None:
        if recipe.weights is not None:
            assert isinstance(task, ClassificationTask)
            say(console, f"weights: {load_weights(task.model, recipe.weights)}")

    def save_weights(self, task: Task, data: PhotographData, recipe: ClassificationRecipe, path: Path) -> None:
        assert isinstance(task, ClassificationTask)
        save_weights(
            task.model.state_dict(), path, weights_metadata(data.manifest.classes, recipe.preprocessing.to_plain())
        )

    def load_weights(self, task: Task, path: Path) -> None:
        assert isinstance(task, ClassificationTask)
        load_weights(task.model, path, strict_head=True)

    def comparability(self, recipe: ClassificationRecipe, data: PhotographData) -> tuple[bool, str]:
        if recipe.target is None:
            return False, "Nothing is published for this data: compare with the baseline."
        if recipe.target.protocol == DEMO:
            from challenges.classification import demo

            is_demo = demo.is_demo(data.manifest.root)
            return is_demo, "" if is_demo else "The target belongs to the demo photographs, this run used others."
        if (data.num_classes, data.num_validation) != (IMAGENET_CLASSES, IMAGENET_VALIDATION):
            return False, (
                f"The target is for {IMAGENET_VALIDATION:,} validation images in {IMAGENET_CLASSES} classes, "
                f"this data has {data.num_validation:,} in {data.num_classes}."
            )
        is_published = recipe.preprocessing == ImagePreprocessing()
        return is_published, "" if is_published else "The target is for images resized to 256 and cropped to 224."

    def baselines(self, recipe: ClassificationRecipe, data: PhotographData) -> Mapping[str, Mapping[str, float]]:
        return baselines.figures(data)

    def primary_metric(self) -> str:
        return "top1"

    def main_metric(self, recipe: ClassificationRecipe, metrics: Mapping[str, float]) -> str:
        """Where classes are balanced, top1 would reward answering with the commonest ones."""
        return "balanced_top1" if recipe.balance and recipe.target is None else super().main_metric(recipe, metrics)

    def keep_samples(self, run: RunDirectory, recipe: ClassificationRecipe, data: PhotographData) -> None:
        batch = next(data.train_batches(0, min(NUM_SAMPLES, data.num_train), 1))
        images = data.preprocessing.pixels(batch["images"].cpu().numpy())
        with atomic_writer(_samples_file(run)) as stream:
            np.savez_compressed(stream, images=images, labels=batch["label"].cpu().numpy())

    def report_sections(self, run: RunDirectory, recipe: ClassificationRecipe) -> Sequence[Section]:
        manifest = Manifest.read(run.data / "manifest.csv")
        parts = sections(run, manifest, recipe)
        if _samples_file(run).is_file():
            samples = np.load(_samples_file(run))
            parts.append(sample_grid(samples["images"], samples["labels"], manifest.classes))
        return parts

    def predict(
        self, run: RunDirectory, question: Question, output: Path, device: torch.device, console: Console
    ) -> None:
        from challenges.classification.predict import predict

        predict(self, run, question.inputs, output, device, console)

    def contract(self, recipe: ClassificationRecipe, data: PhotographData) -> tuple[dict[str, Any], tuple[str, ...]]:
        return recipe.preprocessing.to_plain(), data.manifest.classes

    def labelled_inputs(self, data: PhotographData, split: str, limit: int) -> "Iterator[tuple[Arrays, Arrays]]":
        rows = data.train if split == "train" else data.validation
        chosen = np.linspace(0, len(rows) - 1, min(limit, len(rows))).astype(np.int64)  # all classes, evenly
        for batch in data.batches_of(rows, chosen):
            images = np.ascontiguousarray(batch["images"].cpu().numpy())
            yield {"images": images}, {"label": batch["label"].cpu().numpy()}

    def judge(self, runner: "Runner", inputs: "Iterable[tuple[Arrays, Arrays]]", data: PhotographData) -> "Judged":
        """top1, and the class chosen for every image."""
        from common.export.parity import Judged

        answers = [(runner(arrays)["logits"].argmax(1), labels["label"]) for arrays, labels in inputs]
        decisions = np.concatenate([predicted for predicted, _ in answers])
        return Judged(float((decisions == np.concatenate([label for _, label in answers])).mean()), decisions)

    def add_to_repository(
        self,
        repository: "ModelRepository",
        name: str,
        path: Path,
        sidecar: "ArtefactSidecar",
        engine: "Engine",
        options: "EngineOptions",
        run: RunDirectory,
    ) -> None:
        pipeline = serving_pipeline(
            run.recipe(self.recipe_class).preprocessing,
            batch_size=sidecar.signature.batch.maximum,
            num_threads=usable_cores(),
            device_id=0 if repository.device == "gpu" else None,
        )
        repository.add_image_classifier(
            name,
            path,
            sidecar.signature,
            engine,
            pipeline.serialize(),
            sidecar.class_names,
            options=options,
            scores="probabilities",
        )

    def compare_served(self, client: "Client", run: RunDirectory, limit: int) -> dict[str, Any]:
        validation = Manifest.read(run.data / "manifest.csv").subset("val")
        predictions = np.load(run.predictions_file)
        rows = np.linspace(0, len(validation) - 1, min(limit, len(validation))).astype(np.int64)
        files = [validation.root / validation.paths[row] for row in rows]
        from common.stages.serving_stage import send_files

        answers, milliseconds = send_files(client, self.model, files)
        expected = [validation.classes[predictions["predicted"][row]] for row in rows]
        return {
            "sent": len(files),
            "sent_unit": "files",
            "compared": len(files),
            "unit": "answers",
            "same": sum(answer == wanted for answer, wanted in zip(answers, expected, strict=True)),
            "correct": sum(
                answer == validation.classes[validation.labels[row]] for answer, row in zip(answers, rows, strict=True)
            ),
            "p50_ms": float(np.median(milliseconds)),
            "examples": [
                {"path": str(file), "answer": answer, "label": validation.classes[validation.labels[row]]}
                for file, answer, row in list(zip(files, answers, rows, strict=True))[:: max(1, len(files) // EXAMPLES)]
            ][:EXAMPLES],
        }


def _samples_file(run: RunDirectory) -> Path:
    return run.report_file.with_name("samples.npz")


CHALLENGE = ClassificationChallenge()
