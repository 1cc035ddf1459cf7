"""What a recommender's figures are held against: published ones for the very same split, and simpler recommenders."""

from collections.abc import Mapping
from dataclasses import dataclass

from challenges.recommendation.histories import baselines
from challenges.recommendation.histories.data import HistoryData
from challenges.recommendation.histories.ranking import nearest_metric
from challenges.recommendation.histories.recipes import RecommendationRecipe
from common.challenge import Judgement
from common.language.telling import english
from common.run.result import Result

DEMO = "the demo interactions"
WHERE = {
    "popularity": "the most frequent items that a user lacks",
    "item k-NN": "challenges/recommendation/histories/baselines.py item_knn",
    "EASE": "challenges/recommendation/histories/baselines.py ease",
    "iALS": "challenges/recommendation/histories/baselines.py ials",
    "sequential rules": "challenges/recommendation/histories/baselines.py sequential_rules",
}
"""Where the baselines are to be had."""


@dataclass(frozen=True)
class HistoryJudgement(Judgement[RecommendationRecipe, HistoryData]):
    """primary_metric: of a run whose recipe has no target.
    counts: a target's protocol -> training users, items and judged users of its data.
    """

    primary_metric: str
    counts: Mapping[str, tuple[int, int, int]]

    def comparability(self, recipe: RecommendationRecipe, data: HistoryData) -> tuple[bool, str]:
        if recipe.target is None:
            return False, english("Nothing is published for this data: compare with the baselines in the report.")
        if recipe.target.protocol.startswith(DEMO):
            from challenges.recommendation.histories import demo

            is_demo = demo.is_demo(data.split.root)
            return is_demo, "" if is_demo else english(
                "The target belongs to the demo interactions, this run used others."
            )
        expected = self.counts[recipe.target.protocol]
        found = (data.split.num_users, data.split.num_items, data.split.num_judged)
        if found == expected:
            return True, ""
        return False, english(
            "The target is for {wanted}, this data has {found}.", wanted=_told(expected), found=_told(found)
        )

    def baselines(self, recipe: RecommendationRecipe, data: HistoryData) -> Mapping[str, Mapping[str, float]]:
        return baselines.figures(data.split, recipe.evaluation)

    def below_baseline(self, result: Result) -> str:
        best = result.baseline
        if best is None:
            return ""
        inside = result.interval is not None and result.interval.low <= best.value <= result.interval.high
        doubt = ", within the interval of chance" if inside else ""
        return (
            f"{best.name} does better than {result.model} on this data: {result.metric} {best.value:.4f} against "
            f"{result.value:.4f}{doubt}. Recommend by {best.name} ({WHERE[best.name]}; it needs no gradient), let the "
            "model lean on such weights where its recipe does not (--neighbours chosen), or bring more interactions "
            "per user and item."
        )

    def main_metric(self, recipe: RecommendationRecipe, metrics: Mapping[str, float]) -> str:
        """The target's metric or the model's, or what comes next to it where this data has no such ranking."""
        return nearest_metric(recipe.target.metric if recipe.target else self.primary_metric, metrics)


def _told(counts: tuple[int, int, int]) -> str:
    users, items, judged = counts
    return english(
        "{users:,} training users, {items:,} items and {judged:,} judged users", users=users, items=items, judged=judged
    )
