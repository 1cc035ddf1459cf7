"""All that is random in a training, as functions of seed, step and row: any step can be a first one, on any processes.

NumPy's numbers are for loaders, on the CPU; torch's are the same on any device.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.machine.distributed import World

GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # splitmix64, Steele et al. 2014
WORD = 2**64


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


def step_number(seed: int, step: int) -> float:
    """One random number in [0, 1) for a choice about a whole batch: equal on all processes."""
    return float(np.random.default_rng([seed, step, 2]).random())


def step_generator(seed: int, step: int) -> torch.Generator:
    """A generator on the CPU for choices about a whole batch: equal on all processes."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def random_bits(seed: int, step: int, row: Tensor, width: int, *, stream: int = 0) -> Tensor:
    """(row, width) int64, all 64 bits random.

    row:    (row,) int64, positions within the global batch: the only thing that differs between processes.
    stream: tells several uses within one step apart.
    """
    key = _signed(_mixed(_mixed(_mixed(seed % WORD) + step) + stream))
    state = row[:, None] * width + torch.arange(width, device=row.device)
    state = state.mul_(_signed(GOLDEN)).add_(key)
    state = (state ^ _shifted(state, 30)).mul_(_signed(FIRST))
    state = (state ^ _shifted(state, 27)).mul_(_signed(SECOND))
    return state ^ _shifted(state, 31)


def random_numbers(seed: int, step: int, row: Tensor, width: int, *, stream: int = 0) -> Tensor:
    """(row, width) float32, uniform in [0, 1)."""
    return _shifted(random_bits(seed, step, row, width, stream=stream), 40).float() * 2**-24


def random_below(limit: Tensor | int, seed: int, step: int, row: Tensor, width: int, *, stream: int = 0) -> Tensor:
    """(row, width) int64, uniform from 0 to `limit` - 1.

    limit: below 2**31; a number or (row, 1) int64.
    """
    return (_shifted(random_bits(seed, step, row, width, stream=stream), 32) * limit) >> 32


def _shifted(value: Tensor, bits: int) -> Tensor:
    """A shift to the right that fills with zeros; int64's own one repeats the sign."""
    return (value >> bits).bitwise_and_(2 ** (64 - bits) - 1)


def _mixed(state: int) -> int:
    state = (state + GOLDEN) % WORD
    state = (state ^ (state >> 30)) * FIRST % WORD
    state = (state ^ (state >> 27)) * SECOND % WORD
    return state ^ (state >> 31)


def _signed(word: int) -> int:
    word %= WORD
    return word - WORD if word >= WORD // 2 else word
