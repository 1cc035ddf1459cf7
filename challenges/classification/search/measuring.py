"""How well a search finds pictures of the same class: recall among the first, and mean average precision."""

from collections.abc import Sequence

import numpy as np

from challenges.classification.search.embedding import normalised

COUNTS = (1, 5, 10)
BINS = 8  # of each colour
QUERIES = 512  # whose ranking is held at a time


def retrieval(vectors: np.ndarray, labels: np.ndarray, counts: Sequence[int] = COUNTS) -> dict[str, float]:
    """Every picture asks for its like among all the others.

    vectors: (picture, width), of length one, of which the cosines rank; equal ones in the pictures' order.
    labels:  (picture,)
    returns: recall@k, the share of pictures with one of their class among the first k; map, the mean over pictures of
             the average precision over all others. Pictures alone in their class ask nothing.
    """
    hits = dict.fromkeys(counts, 0)
    precisions: list[float] = []
    for begin in range(0, len(vectors), QUERIES):
        rows = np.arange(begin, min(begin + QUERIES, len(vectors)))
        cosines = vectors[rows] @ vectors.T
        cosines[np.arange(len(rows)), rows] = -np.inf
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :-1]
        is_same = labels[order] == labels[rows, None]
        is_same = is_same[is_same.any(1)]
        for count in counts:
            hits[count] += int(is_same[:, :count].any(1).sum())
        found = np.cumsum(is_same, axis=1) / np.arange(1, is_same.shape[1] + 1)
        precisions += ((found * is_same).sum(1) / is_same.sum(1)).tolist()
    asked = max(1, len(precisions))
    return {**{f"recall@{count}": hits[count] / asked for count in counts}, "map": float(np.sum(precisions)) / asked}


def colour_histograms(pictures: np.ndarray) -> np.ndarray:
    """(picture, BINS cubed) float32 of length one: how often each colour occurs, coarsely.

    pictures: (picture, height, width, 3) uint8
    """
    coarse = (pictures.astype(np.int64) * BINS) >> 8
    codes = (coarse[..., 0] * BINS + coarse[..., 1]) * BINS + coarse[..., 2]
    return normalised(np.stack([np.bincount(code.ravel(), minlength=BINS**3) for code in codes]).astype(np.float32))


def random_vectors(count: int, width: int, seed: int = 0) -> np.ndarray:
    """(count, width) float32 of length one, in directions that mean nothing."""
    return normalised(np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32))
