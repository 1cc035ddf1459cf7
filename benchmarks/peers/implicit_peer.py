"""Alternating least squares of implicit as a peer: its documented calls, its settings chosen from a few.

Its own environment: Python 3.11, implicit==0.7.3 with numpy and scipy; it may be that of RecTools.
"""

from collections.abc import Callable
from importlib.metadata import version

import numpy as np
from implicit.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from benchmarks.peers.careful import choose, grid
from benchmarks.peers.peer_process import Job, PeerHistories, serve_learning

SETTINGS = {"factors": (100, 32, 64, 128), "regularization": (0.01, 1.0, 10.0), "alpha": (1.0, 4.0, 16.0)}
"""The library's defaults first."""


def learn(job: Job) -> dict[str, object]:
    threadpool_limits(1, "blas")  # the library has threads of its own, and asks for it

    def fit(settings: dict[str, float], histories: PeerHistories) -> Callable[[int], np.ndarray]:
        ones = np.ones(len(histories.items), np.float32)
        shape = (len(histories.offsets) - 1, histories.num_items)
        matrix = csr_matrix((ones, histories.items, histories.offsets), shape)
        matrix.sum_duplicates()
        model = AlternatingLeastSquares(**settings, random_state=job.seed, num_threads=job.threads, use_gpu=False)
        model.fit(matrix, show_progress=False)

        def rank(count: int) -> np.ndarray:
            asked = histories.judged
            count = min(count, histories.num_items)
            items, scores = model.recommend(asked, matrix[asked], N=count, filter_already_liked_items=True)
            return np.where(np.isfinite(scores) & (scores > np.finfo(np.float32).min), items, -1)

        return rank

    return choose(fit, list(grid(job.seed, **SETTINGS)), job, version("implicit"))


if __name__ == "__main__":
    serve_learning(learn)
