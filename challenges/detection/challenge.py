"""Challenge 2: SSD300 on images with boxes."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import Console

from challenges.detection import folder, held_out
from challenges.detection.comparison import SHOWN, DetectionComparison, agreement
from challenges.detection.data import SceneData
from challenges.detection.detections import DetectionTable
from challenges.detection.drawing import draw_detections, read_picture
from challenges.detection.evaluation import evaluate
from challenges.detection.reach import View
from challenges.detection.recipes import COCO, DEMO, RECIPES, DetectionRecipe
from challenges.detection.report import sample_grid, sections
from challenges.detection.scenes import Scenes
from challenges.detection.task import DetectionTask
from challenges.detection.weights import load_backbone, load_weights
from common.challenge import Challenge, CheckedData, Question
from common.files import atomic_writer, cache_folder
from common.machine.distributed import World
from common.machine.processes import usable_cores
from common.report.elements import Section
from common.run.run_directory import RunDirectory
from common.storage.weight_files import save_weights, weights_metadata
from common.terminal.console import say
from common.training.task import Task
from common.vision.dali.images import serving_pipeline
from common.vision.preprocessing import ImagePreprocessing

if TYPE_CHECKING:
    from common.export.artefact import ArtefactSidecar
    from common.export.parity import Judged
    from common.export.runner import Arrays, Runner
    from common.serving.client import Client, Detection
    from common.serving.config import Engine, EngineOptions
    from common.serving.repository import ModelRepository

EXAMPLES = 6  # files answered by Triton that the report shows
SERVED_AS = "bf16"  # how close served boxes are asked to be, in the terms of comparison.COVER
NUM_SAMPLES = 12  # training samples shown in the report
COCO_CLASSES, COCO_VALIDATION = 80, 5000


class DetectionChallenge(Challenge[DetectionRecipe, SceneData]):
    model = "ssd300"
    recipe_class = DetectionRecipe
    recipes = RECIPES
    predicts_from = ("inputs", "threshold")

    def comparison(self) -> DetectionComparison:
        return DetectionComparison()

    def demo_data(self, console: Console) -> Path:
        from challenges.detection import demo

        return demo.generate(cache_folder() / "demo" / "scenes", console=console)

    def check(self, root: Path, recipe: DetectionRecipe, output: Path, console: Console) -> CheckedData:
        report = folder.check(
            root,
            output,
            validation_fraction=recipe.data.validation_fraction,
            seed=recipe.training.seed,
            view=View(recipe.preprocessing.crop, recipe.data.tile),
            console=console,
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

    def check_test(
        self, root: Path, run: RunDirectory, recipe: DetectionRecipe, output: Path, console: Console
    ) -> CheckedData:
        return held_out.check(root, output, Scenes.read(run.data), console=console)

    def open_data(
        self,
        recipe: DetectionRecipe,
        checked: Path,
        device: torch.device,
        world: World = World(),  # noqa: B008
    ) -> SceneData:
        scenes = Scenes.read(checked)
        return SceneData(
            scenes, recipe.preprocessing, recipe.data, device=device, world=world, seed=recipe.training.seed
        )

    def build_task(self, recipe: DetectionRecipe, data: SceneData) -> DetectionTask:
        return DetectionTask(recipe, data.num_classes, data.validation)

    def load_starting_weights(self, task: Task, recipe: DetectionRecipe, console: Console) -> None:
        assert isinstance(task, DetectionTask)
        if recipe.backbone is not None:
            say(console, f"backbone: {load_backbone(task.model, recipe.backbone)}")
        if recipe.weights is not None:
            say(console, f"weights: {load_weights(task.model, recipe.weights)}")

    def save_weights(self, task: Task, data: SceneData, recipe: DetectionRecipe, path: Path) -> None:
        assert isinstance(task, DetectionTask)
        metadata = weights_metadata(data.scenes.classes, recipe.preprocessing.to_plain())
        ids = {"category_ids": str(list(data.scenes.category_ids))}
        save_weights(task.model.state_dict(), path, metadata | ids)

    def load_weights(self, task: Task, path: Path) -> None:
        assert isinstance(task, DetectionTask)
        load_weights(task.model, path, strict_head=True)

    def comparability(self, recipe: DetectionRecipe, data: SceneData) -> tuple[bool, str]:
        if recipe.target is None:
            return False, "Nothing is published for this data: compare runs with each other."
        if recipe.data.tile is not None:
            return False, f"The target is for whole images, this figure is for tiles of {recipe.data.tile} pixels too."
        if recipe.target.protocol == DEMO:
            from challenges.detection import demo

            is_demo = demo.is_demo(data.scenes.root)
            return is_demo, "" if is_demo else "The target belongs to the demo scenes, this run used others."
        assert recipe.target.protocol == COCO
        if (data.num_classes, data.num_validation) != (COCO_CLASSES, COCO_VALIDATION):
            return False, (
                f"The target is for {COCO_VALIDATION:,} validation images with {COCO_CLASSES} classes, "
                f"this data has {data.num_validation:,} with {data.num_classes}."
            )
        is_published = recipe.preprocessing == ImagePreprocessing(resize=300, crop=300, mode="squash")
        return is_published, "" if is_published else "The target is for images squashed to 300 x 300."

    def baselines(self, recipe: DetectionRecipe, data: SceneData) -> Mapping[str, Mapping[str, float]]:
        return {}  # an answer that needs no learning finds nothing

    def primary_metric(self) -> str:
        return "ap"

    def keep_samples(self, run: RunDirectory, recipe: DetectionRecipe, data: SceneData) -> None:
        batch = next(data.train_batches(0, min(NUM_SAMPLES, data.num_train), 1))
        images = data.preprocessing.pixels(batch["images"].cpu().numpy())
        with atomic_writer(_samples_file(run)) as stream:
            np.savez_compressed(
                stream, images=images, boxes=batch["boxes"].cpu().numpy(), labels=batch["labels"].cpu().numpy()
            )

    def report_sections(self, run: RunDirectory, recipe: DetectionRecipe) -> Sequence[Section]:
        scenes = Scenes.read(run.data)
        parts = sections(run, scenes, recipe)
        if _samples_file(run).is_file():
            samples = np.load(_samples_file(run))
            parts.append(sample_grid(samples["images"], samples["boxes"], samples["labels"], scenes.classes))
        return parts

    def predict(
        self, run: RunDirectory, question: Question, output: Path, device: torch.device, console: Console
    ) -> None:
        from challenges.detection.predict import predict

        predict(self, run, question, output, device, console)

    def contract(self, recipe: DetectionRecipe, data: SceneData) -> tuple[dict[str, Any], tuple[str, ...]]:
        return recipe.preprocessing.to_plain(), data.scenes.classes

    def labelled_inputs(self, data: SceneData, split: str, limit: int) -> "Iterator[tuple[Arrays, Arrays]]":
        scenes = data.train if split == "train" else data.validation
        chosen = np.unique(np.linspace(0, len(scenes) - 1, min(limit, len(scenes))).astype(np.int64))
        for batch in data.batches_of(scenes, chosen):
            rows = batch["index"].cpu().numpy()
            truth = {"index": rows, "width": scenes.widths[rows], "height": scenes.heights[rows]}
            yield {"images": np.ascontiguousarray(batch["images"].cpu().numpy())}, truth

    def judge(self, runner: "Runner", inputs: "Iterable[tuple[Arrays, Arrays]]", data: SceneData) -> "Judged":
        """ap, and all detections."""
        from common.export.parity import Judged

        rows: list[int] = []
        parts = []
        for arrays, truth in inputs:
            answers = runner(arrays)
            found = [answers[name] for name in ("boxes", "scores", "labels")]
            positions = np.arange(len(rows), len(rows) + len(truth["index"]))
            parts.append(DetectionTable.from_batch(positions, truth["width"], truth["height"], found))
            rows += truth["index"].tolist()
        table = DetectionTable.join(parts)
        scores = evaluate(data.validation.select(np.asarray(rows)), table, resamples=0)
        return Judged(scores.metrics["ap"], table)

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
            with_sizes=True,
        )
        repository.add_image_detector(
            name, path, sidecar.signature, engine, pipeline.serialize(), sidecar.class_names, options=options
        )

    def compare_served(self, client: "Client", run: RunDirectory, limit: int) -> dict[str, Any]:
        from common.stages.serving_stage import send_files_to_detector

        validation = Scenes.read(run.data).subset("val")
        rows = np.unique(np.linspace(0, len(validation) - 1, min(limit, len(validation))).astype(np.int64))
        files = [validation.root / validation.paths[row] for row in rows]
        answers, milliseconds = send_files_to_detector(client, self.model, files)
        with np.load(run.predictions_file) as columns:
            evaluated = DetectionTable.untiled(columns)  # a server looks at whole images
        served = DetectionTable.join([_table(row, found) for row, found in zip(rows, answers, strict=True)])
        evaluated = evaluated.select(np.isin(evaluated.images, rows))
        same = agreement(evaluated, served, SERVED_AS)
        truth = np.searchsorted(rows, served.images)
        scores = evaluate(
            validation.select(rows), DetectionTable(truth, served.labels, served.scores, served.boxes), resamples=0
        )
        return {
            "sent": len(files),
            "sent_unit": "files",
            "compared": len(same),
            "unit": "detections",
            "same": int(same.sum()),
            "ap": scores.metrics["ap"],
            "p50_ms": float(np.median(milliseconds)),
            "drawn": True,
            "examples": [
                _drawn(file, found, validation.classes, run.report_file.with_name(f"served-{number}.jpg"))
                for number, (file, found) in enumerate(
                    list(zip(files, answers, strict=True))[:: max(1, len(files) // EXAMPLES)][:EXAMPLES]
                )
            ],
        }


def _drawn(file: Path, found: "Sequence[Detection]", classes: tuple[str, ...], copy: Path) -> dict[str, str]:
    """A copy of the picture with what the server found in it, and that in words."""
    image, table = read_picture(file), _table(0, [detection for detection in found if detection.score > SHOWN])
    draw_detections(image, table.boxes, table.labels, table.scores, classes)
    with atomic_writer(copy) as stream:
        image.save(stream, "JPEG", quality=90)
    counts = Counter(classes[label - 1] for label in table.labels.tolist())
    told = ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing"
    return {"path": str(copy), "answer": told}


def _table(image: int, found: "Sequence[Detection]") -> DetectionTable:
    """One image's served detections."""
    return DetectionTable(
        np.full(len(found), image, np.int64),
        np.asarray([detection.label for detection in found], np.int64),
        np.asarray([detection.score for detection in found], np.float32),
        np.asarray([detection.box for detection in found], np.float32).reshape(-1, 4),
    )


def _samples_file(run: RunDirectory) -> Path:
    return run.report_file.with_name("samples.npz")


CHALLENGE = DetectionChallenge()
"""The value that the registry names."""
