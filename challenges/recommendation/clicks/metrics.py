"""How good probabilities of a click are: order (AUC, GAUC, MAP), size (log loss, calibration), and how sure that is."""

from collections.abc import Mapping

import numpy as np

from common.errors import DataError


def auc(label: np.ndarray, score: np.ndarray) -> float:
    """The chance that a click scores above a non-click; a tie counts half. Exact.

    label: (row,) 0 or 1; score: (row,), of any order-preserving kind.
    Raises DataError where there is one class only.
    """
    return RankedRows(label, score).auc()


class RankedRows:
    """Rows in the order of their scores, so that any weighting of them has its AUC in one pass."""

    def __init__(self, label: np.ndarray, score: np.ndarray) -> None:
        require_both(label)
        order = np.argsort(score, kind="stable")
        ranked = np.asarray(score)[order]
        self._order, self._clicks = order, np.asarray(label)[order] > 0.5
        self._ties = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))

    def auc(self, weight: np.ndarray | None = None) -> float:
        """weight: (row,), how often each row counts; once by default. NaN where a class has no weight."""
        weight = np.ones(len(self._order)) if weight is None else np.asarray(weight, np.float64)[self._order]
        clicks = np.add.reduceat(weight * self._clicks, self._ties)
        others = np.add.reduceat(weight * ~self._clicks, self._ties)
        below = np.cumsum(others) - 0.5 * others
        pairs = clicks.sum() * others.sum()
        return float(clicks @ below / pairs) if pairs else float("nan")


def log_losses(label: np.ndarray, logit: np.ndarray) -> np.ndarray:
    """(row,) float64: the cross entropy of each row, from logits, which never saturate."""
    logit = np.asarray(logit, np.float64)
    losses: np.ndarray = np.maximum(logit, 0) - logit * label + np.log1p(np.exp(-np.abs(logit)))
    return losses


def probabilities(logit: np.ndarray) -> np.ndarray:
    """(row,) float64."""
    half = np.asarray(logit, np.float64) / 2
    return 0.5 * (1 + np.tanh(half))


def entropy(rate: float) -> float:
    """Of one click that comes at this rate, in nats: the log loss of always answering it."""
    return float(-rate * np.log(rate) - (1 - rate) * np.log(1 - rate))


def summary(label: np.ndarray, logit: np.ndarray) -> dict[str, float]:
    """auc, log_loss; normalised_entropy, below 1 where more is known than the rate; calibration, predicted clicks over
    true ones; accuracy at one half.
    """
    losses = log_losses(label, logit)
    rate = float(np.mean(label, dtype=np.float64))
    return {
        "auc": auc(label, logit),
        "log_loss": float(losses.mean()),
        "normalised_entropy": float(losses.mean() / entropy(rate)),
        "calibration": float(probabilities(logit).mean() / rate),
        "accuracy": float(np.mean((np.asarray(logit) > 0) == (np.asarray(label) > 0.5))),
    }


def intervals(label: np.ndarray, logit: np.ndarray, *, resamples: int, seed: int) -> dict[str, tuple[float, float]]:
    """95 % intervals of auc and log_loss, by drawing the rows anew with replacement."""
    ranked, losses = RankedRows(label, logit), log_losses(label, logit)
    random, rows = np.random.default_rng(seed), len(losses)
    drawn = []
    for _ in range(resamples):
        weight = np.bincount(random.integers(rows, size=rows), minlength=rows)
        drawn.append((ranked.auc(weight), losses @ weight / rows))
    if not drawn:
        return {}
    low, high = np.nanpercentile(np.array(drawn), (2.5, 97.5), axis=0)
    return {name: (float(low[at]), float(high[at])) for at, name in enumerate(("auc", "log_loss"))}


def grouped(label: np.ndarray, score: np.ndarray, group: np.ndarray, cutoff: int) -> dict[str, float]:
    """gauc: the mean AUC of the groups with both classes, weighted by their rows (Zhu et al. 2017, DIN). map@cutoff:
    the mean average precision among the first `cutoff` rows of the groups with a click, ties in the data's order.

    group: (row,) integers, equal for the rows of one user or one shown page.
    """
    order = np.lexsort((np.arange(len(group)), -np.asarray(score, np.float64), group))
    label, score, group = np.asarray(label)[order] > 0.5, np.asarray(score)[order], np.asarray(group)[order]
    starts = np.flatnonzero(np.append(True, group[1:] != group[:-1]))
    sizes = np.diff(np.append(starts, len(group)))
    clicks = np.add.reduceat(label.astype(np.int64), starts)
    found = {f"map@{cutoff}": _mean_precision(label, starts, sizes, clicks, cutoff)}
    both = (clicks > 0) & (clicks < sizes)
    if both.any():
        areas = _areas(label, score, starts, sizes, clicks)
        found["gauc"] = float(np.average(areas[both], weights=sizes[both]))
    return found


def _areas(
    label: np.ndarray, score: np.ndarray, starts: np.ndarray, sizes: np.ndarray, clicks: np.ndarray
) -> np.ndarray:
    """(group,) AUC of rows that are sorted by group and falling score; NaN for a group of one class."""
    which = np.repeat(np.arange(len(starts)), sizes)
    is_new = np.append(True, (score[1:] != score[:-1]) | (which[1:] != which[:-1]))
    ties = np.flatnonzero(is_new)
    hits, misses = np.add.reduceat(label.astype(np.int64), ties), np.add.reduceat((~label).astype(np.int64), ties)
    owner = which[ties]
    seen = np.cumsum(misses) - misses
    before = seen - seen[np.searchsorted(owner, owner)]
    others = sizes - clicks
    above = np.bincount(owner, hits * (others[owner] - before - 0.5 * misses), minlength=len(starts))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(above / (clicks * others))


def _mean_precision(label: np.ndarray, starts: np.ndarray, sizes: np.ndarray, clicks: np.ndarray, cutoff: int) -> float:
    which = np.repeat(np.arange(len(starts)), sizes)
    place = np.arange(len(label)) - starts[which]
    hits = np.cumsum(label)
    hits_before = (hits - label)[starts]
    precision = (hits - hits_before[which]) / (place + 1) * label * (place < cutoff)
    with_click = clicks > 0
    sums = np.bincount(which, precision, minlength=len(starts))
    return float((sums[with_click] / np.minimum(clicks, cutoff)[with_click]).mean()) if with_click.any() else 0.0


def by_part(label: np.ndarray, logit: np.ndarray, part: Mapping[str, np.ndarray]) -> dict[str, float]:
    """auc/NAME of the rows of each part (row,) bool that has both classes."""
    return {
        f"auc/{name}": auc(label[rows], logit[rows])
        for name, rows in part.items()
        if rows.any() and len(np.unique(label[rows])) == 2
    }


def require_both(label: np.ndarray) -> None:
    """Raise DataError unless there are clicks and rows without."""
    clicks = int(np.sum(np.asarray(label) > 0.5))
    if clicks in (0, len(label)):
        raise DataError(
            f"All {len(label):,} labels that were to be judged are {int(clicks > 0)}.",
            "Ranking is judged by clicks and by rows without one.",
            "Hold out rows of both kinds.",
        )
