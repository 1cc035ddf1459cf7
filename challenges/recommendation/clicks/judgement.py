"""What a click model's figures are held against: published ones for the very same rows, and simpler models."""

from collections.abc import Iterator, Mapping
from itertools import islice

from challenges.recommendation.clicks.baselines import baselines
from challenges.recommendation.clicks.data import ClickData
from challenges.recommendation.clicks.recipes import PROTOCOLS, ClickRecipe, Rows
from common.challenge import Judgement
from common.language.telling import english
from common.run.result import Result
from common.training.task import Batch

BATCH = 4096
"""Rows of a step of the baselines."""


class ClickJudgement(Judgement[ClickRecipe, ClickData]):
    """The area under the ROC curve, beside what has no hidden layer."""

    primary_metric = "auc"

    def comparability(self, recipe: ClickRecipe, data: ClickData) -> tuple[bool, str]:
        if recipe.target is None:
            return False, english("Nothing is published for this data: compare with the baselines in the report.")
        wanted = PROTOCOLS[recipe.target.protocol]
        kind = data.prepared.name.split()[0]
        found = Rows(kind, data.num_train, data.judged, data.num_validation)
        if found == wanted:
            return True, ""
        return False, english(
            "The target is for {wanted}. This data is {found}.", wanted=_told(wanted), found=_told(found)
        )

    def baselines(self, recipe: ClickRecipe, data: ClickData) -> Mapping[str, Mapping[str, float]]:
        def epoch() -> Iterator[Batch]:
            return islice(data.train_batches(0, BATCH, 1), max(1, data.num_train // BATCH))

        return baselines(data.spec, epoch, data.validation_batches)

    def below_baseline(self, result: Result) -> str:
        best = result.baseline
        if best is None:
            return ""
        return (
            f"{best.name} does better than {result.model} on this data: {result.metric} {best.value:.4f} against "
            f"{result.value:.4f}. Few rows for many values call for smaller tables: kit prepare … --threshold 10, "
            "--tables.width 4, or more --model.dropout."
        )


def _told(rows: Rows) -> str:
    return english(
        "{kind}, {train:,} rows to learn from and {judged:,} {split} rows",
        kind=rows.kind, train=rows.train, judged=rows.judged, split=rows.split,
    )  # fmt: skip
