"""When two engines recommend the same: the same items, whatever the order among nearly equal scores."""

import numpy as np

from common.export.parity import Comparison, Judged, Tolerance, Tolerances
from common.export.runner import Arrays

SAME = {"fp32": 1.0, "fp16": 0.9, "bf16": 0.8, "int8": 0.7}
"""Share of the recommended items that must agree for a user's answer to count as the same, by precision."""

TOLERANCES = Tolerances(
    fp32=Tolerance(absolute=1e-3, relative=1e-3, disagreement=0.005, metric_loss=0.001, metric_floor=0.001),
    fp16=Tolerance(absolute=None, relative=0.02, disagreement=0.02, metric_loss=0.01, metric_floor=0.001),
    bf16=Tolerance(absolute=None, relative=0.10, disagreement=0.05, metric_loss=0.02, metric_floor=0.001),
    int8=Tolerance(absolute=None, relative=0.30, disagreement=0.10, metric_loss=0.05, metric_floor=0.001),
)


class RankingComparison(Comparison):
    """Answers are lists of items with scores, best first."""

    def __init__(self) -> None:
        super().__init__(TOLERANCES)

    def align(self, expected: Arrays, answers: Arrays, precision: str) -> Arrays:
        """The scores of the items that both recommend; where only one does, nothing is compared."""
        if any(answers[name].shape != expected[name].shape for name in expected):
            return answers
        alike = expected["items"][:, :, None] == answers["items"][:, None]
        scores = np.take_along_axis(answers["scores"], alike.argmax(2), 1)
        return {**answers, "scores": np.where(alike.any(2), scores, expected["scores"])}

    def same_answers(self, expected: Arrays, answers: Arrays, precision: str) -> np.ndarray:
        return _overlap(expected["items"], answers["items"]) >= SAME[precision]

    def same_decisions(self, baseline: Judged, judged: Judged, precision: str) -> np.ndarray:
        return _overlap(baseline.decisions, judged.decisions) >= SAME[precision]


def _overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Per row, the share of the items of `first` that `second` has too; both (row, item)."""
    return np.asarray((first[:, :, None] == second[:, None]).any(2).mean(1))
