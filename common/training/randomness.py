"""The order in which samples are seen: a pure function of seed and position, so that any step can be a first step."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.machine.distributed import World


@dataclass(frozen=True)
class Share:
    """One process's part of one global batch, cut into micro-batches.

    step:    optimizer step
    rows:    positions within the global batch, for per-sample random numbers
    samples: sample indices, as many as rows
    """

    step: int
    rows: NDArray[np.int64]
    samples: NDArray[np.int64]


def shuffled_shares(
    num_samples: int, batch_size: int, first_step: int, *, seed: int, world: World, accumulation: int = 1
) -> Iterator[Share]:
    """Endless micro-batches of this process, from `first_step` on.

    Epochs are permutations laid end to end and cut into batches: each sample comes exactly once per epoch, all batches
    are full, and the union over the processes of a step is the same at any world size.
    """
    local = batch_size // world.size
    micro = local // accumulation
    permutations: dict[int, NDArray[np.int64]] = {}
    step = first_step
    while True:
        for part in range(accumulation):
            rows = np.arange(micro, dtype=np.int64) + world.rank * local + part * micro
            positions = step * batch_size + rows
            epochs = positions // num_samples
            samples = np.empty(micro, dtype=np.int64)
            for epoch in np.unique(epochs):
                if epoch not in permutations:
                    permutations = {e: p for e, p in permutations.items() if e >= epoch - 1}
                    permutations[epoch] = np.random.default_rng([seed, int(epoch)]).permutation(num_samples)
                chosen = epochs == epoch
                samples[chosen] = permutations[epoch][positions[chosen] % num_samples]
            yield Share(step, rows, samples)
        step += 1


def uniform_numbers(seed: int, step: int, batch_size: int, width: int) -> NDArray[np.float64]:
    """Random numbers in [0, 1) for every sample of a global batch, (batch_size, width): equal on all processes."""
    return np.random.default_rng([seed, step, 1]).random((batch_size, width))
