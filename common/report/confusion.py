"""Which classes are taken for which: a table of counts for a few classes, shades for many, and the worst pairs."""

from collections.abc import Sequence

import numpy as np

from common.language.telling import grouped, tell
from common.report.elements import Markup, columns, figure, join, matrix, notice, percentage, table
from common.report.plots import heat_map

CELLS_UP_TO, CELLS_BESIDE = 15, 8  # classes whose confusion matrix can show its counts; leaves room beside it
PAIRS = 20


def confusion_figures(names: Sequence[str], counts: np.ndarray, title: str, unit: str, nothing: str) -> Markup:
    """The matrix and the pairs that are confused most.

    counts:  (true class, predicted class), in the order of `names`.
    unit:    what is counted, in the plural. nothing: said where no pair was confused.
    """
    pairs = _confused_pairs(names, counts, unit) or notice(nothing, "good")
    listing = figure(pairs, tell("Most confused pairs"))
    if len(names) <= CELLS_UP_TO:
        caption = tell("True classes in rows, predicted classes in columns.")
        chart = figure(matrix(names, counts.tolist()), title, caption=caption)
        return columns(chart, listing) if len(names) <= CELLS_BESIDE else join([chart, listing])
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    caption = tell("Rows add up to one; shades follow the square root of the share. Classes are numbered from 0.")
    chart = heat_map(tell("Share of each true class"), shares, tell("predicted class"), tell("true class"), caption)
    return columns(chart, listing)


def _confused_pairs(names: Sequence[str], counts: np.ndarray, unit: str) -> Markup:
    """The cells off the diagonal that count most; empty where there is none."""
    mistakes = counts - np.diag(counts.diagonal())
    order = np.argsort(-mistakes, axis=None, kind="stable")[:PAIRS]
    rows = [
        (names[label], names[predicted], grouped(count), percentage(count / counts[label].sum()))
        for label, predicted in zip(*np.unravel_index(order, mistakes.shape), strict=True)
        if (count := mistakes[label, predicted])
    ]
    if not rows:
        return Markup("")
    return table((tell("true class"), tell("taken for"), unit, tell("of its class")), rows, numeric=(2, 3))
