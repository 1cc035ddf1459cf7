"""A classifier as it is served: photographs in, classes out."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from challenges.classification.data import PhotographData
from challenges.classification.manifest import Manifest
from challenges.classification.recipes import ClassificationRecipe
from challenges.classification.serving import EMBEDDING
from challenges.classification.serving.asking import ClassifierDialogue, classify
from common.challenge import ServedFace
from common.language.telling import english
from common.run.run_directory import RunDirectory

if TYPE_CHECKING:
    from common.export.parity import Comparison, Judged
    from common.export.runner import Arrays, Runner
    from common.serving.client import Client
    from common.serving.repository import Exported, ModelRepository

SENT_TOGETHER = 4  # files of a request to Triton
EXAMPLES = 8  # files answered by Triton that the report shows


class ServedClassifier(ServedFace[ClassificationRecipe, PhotographData]):
    """Image files in, the likeliest classes out."""

    dialogue = ClassifierDialogue()

    def comparison(self) -> "Comparison":
        from common.export.parity import Comparison

        return Comparison(directions=(EMBEDDING,))

    def example(self, run: RunDirectory) -> Sequence[str]:
        validation = Manifest.read(run.data / "manifest.csv").subset("val")
        return (str(validation.root / validation.paths[0]),)

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
        exported: "Exported",
        class_names: Sequence[str],
        run: RunDirectory,
    ) -> None:
        from challenges.classification.serving.ensemble import add_classifier
        from common.serving.images import ImageModel

        model = ImageModel.of(exported, run.recipe(ClassificationRecipe).preprocessing, repository.device)
        add_classifier(repository, name, model, class_names, scores="probabilities")

    def compare_served(self, client: "Client", name: str, run: RunDirectory, limit: int) -> dict[str, Any]:
        validation = Manifest.read(run.data / "manifest.csv").subset("val")
        predictions = np.load(run.predictions_file)
        rows = np.linspace(0, len(validation) - 1, min(limit, len(validation))).astype(np.int64)
        files = [validation.root / validation.paths[row] for row in rows]
        from common.serving.client import timed

        best, milliseconds = timed(lambda part: classify(client, name, part, top_k=1), files, SENT_TOGETHER)
        answers = [named[0][0] for named in best]
        expected = [validation.classes[predictions["predicted"][row]] for row in rows]
        return {
            "sent": len(files),
            "sent_unit": english("files"),
            "compared": len(files),
            "unit": english("answers"),
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
