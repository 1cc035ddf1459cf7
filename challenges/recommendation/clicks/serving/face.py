"""A click model as it is served: raw values in, probabilities out."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from challenges.recommendation.clicks.comparison import PROBABILITY, ProbabilityComparison, judged
from challenges.recommendation.clicks.data import ClickData
from challenges.recommendation.clicks.metrics import probabilities
from challenges.recommendation.clicks.recipes import ClickRecipe
from challenges.recommendation.clicks.serving.asking import RowDialogue, score
from common.challenge import ServedFace
from common.language.telling import english
from common.run.run_directory import RunDirectory

if TYPE_CHECKING:
    from common.export.parity import Judged
    from common.export.runner import Arrays, Runner
    from common.serving.client import Client
    from common.serving.repository import Exported, ModelRepository

BATCH = 1024  # rows of one batch of exported inputs
SENT_TOGETHER = 32  # rows of a request to Triton
EXAMPLES = 6  # rows answered by Triton that the report shows
SERVED_AS = "bf16"  # how close served probabilities are asked to be, in the terms of comparison.PROBABILITY


class ServedClicks(ServedFace[ClickRecipe, ClickData]):
    """Raw values are asked with, probabilities answered."""

    dialogue = RowDialogue()

    def comparison(self) -> ProbabilityComparison:
        return ProbabilityComparison()

    def contract(self, recipe: ClickRecipe, data: ClickData) -> tuple[dict[str, Any], tuple[str, ...]]:
        spec = data.spec
        return {"format": spec.format, "columns": list(spec.raw_columns), "label": spec.label.name}, ()

    def labelled_inputs(self, data: ClickData, split: str, limit: int) -> "Iterator[tuple[Arrays, Arrays]]":
        from challenges.recommendation.clicks.answers import batch_inputs

        left = min(limit, data.num_train if split == "train" else data.num_validation)
        batches = data.train_batches(0, BATCH, 1) if split == "train" else data.validation_batches()
        for batch in batches:
            arrays, label = batch_inputs(data.spec, batch), batch["label"].cpu().numpy()
            for begin in range(0, min(left, len(label)), BATCH):
                rows = slice(begin, min(begin + BATCH, left))
                yield {name: array[rows] for name, array in arrays.items()}, {"label": label[rows]}
            left -= len(label)
            if left <= 0:
                return

    def judge(self, runner: "Runner", inputs: "Iterable[tuple[Arrays, Arrays]]", data: ClickData) -> "Judged":
        """auc, and labels beside logits."""
        answers = [(truth["label"], runner(arrays)["logit"][:, 0]) for arrays, truth in inputs]
        label, logit = (np.concatenate(parts) for parts in zip(*answers, strict=True))
        return judged(label, logit)

    def add_to_repository(
        self,
        repository: "ModelRepository",
        name: str,
        exported: "Exported",
        class_names: Sequence[str],
        run: RunDirectory,
    ) -> None:
        from challenges.recommendation.clicks.serving.ensemble import add_click_model

        add_click_model(repository, name, exported, run.data)

    def compare_served(self, client: "Client", name: str, run: RunDirectory, limit: int) -> dict[str, Any]:
        """The first judged rows, in words that lead to their ids."""
        from challenges.recommendation.clicks.answers import Words
        from common.serving.client import timed

        data = ClickData.of_check(run.data)
        limit = min(limit, BATCH)
        inputs, truth = next(self.labelled_inputs(data, "val", limit))
        words, label = Words(data.spec, run.data).of(inputs), truth["label"]
        with np.load(run.predictions_file) as columns:
            expected = probabilities(columns["logit"][:limit])

        def ask(rows: Sequence[int]) -> list[float]:
            found = score(client, name, {column: values[rows] for column, values in words.items()})
            return [float(probability) for probability in found]

        answers, milliseconds = timed(ask, range(len(label)), SENT_TOGETHER)
        same = np.abs(np.asarray(answers) - expected) <= PROBABILITY[SERVED_AS].probability
        return {
            "sent": len(label),
            "sent_unit": english("rows"),
            "compared": len(label),
            "unit": english("answers"),
            "same": int(same.sum()),
            "p50_ms": float(np.median(milliseconds)),
            "examples": [
                {"asked": _told(words, row), "answer": f"{answer:.3f}, it was {int(label[row])}"}
                for row, answer in list(enumerate(answers))[:EXAMPLES]
            ],
        }


def _told(words: "Arrays", row: int) -> str:
    """A row's first values."""
    return ", ".join(f"{name} {values[row, 0] or 'missing'}" for name, values in list(words.items())[:EXAMPLES])
