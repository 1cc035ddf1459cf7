"""When two engines answer a click model alike: logits near each other, and the same figures over all of validation."""

from dataclasses import dataclass

import numpy as np

from challenges.recommendation.clicks.metrics import auc, probabilities, summary
from common.export.parity import Comparison, Judged, Tolerance, Tolerances
from common.export.runner import Arrays
from common.language.telling import english


@dataclass(frozen=True)
class ProbabilityTolerance:
    """Over the validation rows, and of one probability, by precision.

    probability: by which one answer may differ and still be the same.
    log_loss:    by which it may grow, in nats.
    calibration: by which predicted clicks over true ones may change.
    """

    probability: float
    log_loss: float
    calibration: float


PROBABILITY = {
    "fp32": ProbabilityTolerance(probability=1e-4, log_loss=1e-5, calibration=1e-4),
    "fp16": ProbabilityTolerance(probability=5e-3, log_loss=5e-4, calibration=2e-3),
    "bf16": ProbabilityTolerance(probability=2e-2, log_loss=2e-3, calibration=1e-2),
    "int8": ProbabilityTolerance(probability=3e-2, log_loss=3e-3, calibration=2e-2),
}
TOLERANCES = Tolerances(  # the floor is AUC's
    fp32=Tolerance(absolute=1e-3, relative=1e-3, disagreement=0.0, metric_loss=0.0, metric_floor=1e-5),
    fp16=Tolerance(absolute=None, relative=0.01, disagreement=0.005, metric_loss=0.0, metric_floor=2e-4),
    bf16=Tolerance(absolute=None, relative=0.05, disagreement=0.02, metric_loss=0.0, metric_floor=1e-3),
    int8=Tolerance(absolute=None, relative=0.10, disagreement=0.02, metric_loss=0.0, metric_floor=2e-4),
)


class ProbabilityComparison(Comparison):
    """Answers are probabilities with their logits; the largest error is a logit's, whose range is the wider one."""

    def __init__(self) -> None:
        super().__init__(TOLERANCES)

    def same_answers(self, expected: Arrays, answers: Arrays, precision: str) -> np.ndarray:
        difference = np.abs(expected["probability"].astype(np.float64) - answers["probability"])
        return np.asarray((difference <= PROBABILITY[precision].probability).all(1))

    def same_decisions(self, baseline: Judged, judged: Judged, precision: str) -> np.ndarray:
        ours, theirs = (probabilities(side.decisions[:, 1]) for side in (baseline, judged))
        return np.asarray(np.abs(ours - theirs) <= PROBABILITY[precision].probability)

    def further_failures(self, baseline: Judged, judged: Judged, precision: str) -> list[str]:
        """Log loss that grew, and calibration that moved; AUC is the metric itself."""
        allowed = PROBABILITY[precision]
        ours, theirs = (summary(*side.decisions.T) for side in (baseline, judged))
        failures = []
        if (growth := theirs["log_loss"] - ours["log_loss"]) > allowed.log_loss:
            failures.append(
                english(
                    "the log loss grew by {growth:.2g}, allowed {log_loss:g}", growth=growth, log_loss=allowed.log_loss
                )
            )
        if (moved := abs(theirs["calibration"] - ours["calibration"])) > allowed.calibration:
            failures.append(
                english(
                    "the calibration moved by {moved:.2g}, allowed {calibration:g}",
                    moved=moved,
                    calibration=allowed.calibration,
                )
            )
        return failures


def judged(label: np.ndarray, logit: np.ndarray) -> Judged:
    """An engine's answers (row,) to the validation rows: their AUC, and labels beside logits (row, 2) as decisions."""
    return Judged(auc(label, logit), np.stack([label, logit], 1).astype(np.float64))
