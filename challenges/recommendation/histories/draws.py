"""Random numbers that depend on seed, step and row alone: the same on any device, number of processes and resume."""

import torch
from torch import Tensor

GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # splitmix64, Steele et al. 2014
WORD = 2**64


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
