"""A detector as it is served: images in, boxes out."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from challenges.detection.comparison import SHOWN, DetectionComparison, agreement
from challenges.detection.data import SceneData
from challenges.detection.detections import DetectionTable
from challenges.detection.drawing import draw_detections, read_picture
from challenges.detection.evaluation import evaluate
from challenges.detection.recipes import DetectionRecipe
from challenges.detection.scenes import Scenes
from challenges.detection.serving.asking import Detection, DetectorDialogue, detect
from common.challenge import ServedFace
from common.files import atomic_writer
from common.language.telling import english
from common.positions import evenly_spread
from common.run.run_directory import RunDirectory

if TYPE_CHECKING:
    from common.export.parity import Judged
    from common.export.runner import Arrays, Runner
    from common.serving.client import Client
    from common.serving.repository import Exported, ModelRepository

SENT_TOGETHER = 4  # files of a request to Triton
EXAMPLES = 6  # files answered by Triton that the report shows
SERVED_AS = "bf16"  # how close served boxes are asked to be, in the terms of comparison.COVER


class ServedDetector(ServedFace[DetectionRecipe, SceneData]):
    """Image files in, named boxes out."""

    dialogue = DetectorDialogue()
    judged_samples = 200  # of whose many boxes each is a decision; six engines take a minute for them on two cores

    def example(self, run: RunDirectory) -> Sequence[str]:
        validation = Scenes.read(run.data).subset("val")
        return (str(validation.root / validation.paths[0]),)

    def comparison(self) -> DetectionComparison:
        return DetectionComparison()

    def contract(self, recipe: DetectionRecipe, data: SceneData) -> tuple[dict[str, Any], tuple[str, ...]]:
        return recipe.preprocessing.to_plain(), data.scenes.classes

    def labelled_inputs(self, data: SceneData, split: str, limit: int) -> "Iterator[tuple[Arrays, Arrays]]":
        scenes = data.train if split == "train" else data.validation
        chosen = evenly_spread(len(scenes), limit)
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
        exported: "Exported",
        class_names: Sequence[str],
        run: RunDirectory,
    ) -> None:
        from challenges.detection.serving.ensemble import add_detector
        from common.serving.images import ImageModel

        preprocessing = run.recipe(DetectionRecipe).preprocessing
        model = ImageModel.of(exported, preprocessing, repository.device, with_sizes=True)
        add_detector(repository, name, model, class_names)

    def compare_served(self, client: "Client", name: str, run: RunDirectory, limit: int) -> dict[str, Any]:
        from common.serving.client import timed

        validation = Scenes.read(run.data).subset("val")
        rows = evenly_spread(len(validation), limit)
        files = [validation.root / validation.paths[row] for row in rows]
        answers, milliseconds = timed(lambda part: detect(client, name, part), files, SENT_TOGETHER)
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
            "sent_unit": english("files"),
            "compared": len(same),
            "unit": english("detections"),
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


def _drawn(file: Path, found: Sequence[Detection], classes: tuple[str, ...], copy: Path) -> dict[str, str]:
    """A copy of the picture with what the server found in it, and that in words."""
    image, table = read_picture(file), _table(0, [detection for detection in found if detection.score > SHOWN])
    draw_detections(image, table.boxes, table.labels, table.scores, classes)
    with atomic_writer(copy) as stream:
        image.save(stream, "JPEG", quality=90)
    counts = Counter(classes[label - 1] for label in table.labels.tolist())
    told = ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing"
    return {"path": str(copy), "answer": told}


def _table(image: int, found: Sequence[Detection]) -> DetectionTable:
    """One image's served detections."""
    return DetectionTable(
        np.full(len(found), image, np.int64),
        np.asarray([detection.label for detection in found], np.int64),
        np.asarray([detection.score for detection in found], np.float32),
        np.asarray([detection.box for detection in found], np.float32).reshape(-1, 4),
    )
