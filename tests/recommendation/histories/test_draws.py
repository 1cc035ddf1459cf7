"""Random numbers by seed, step and row."""

import numpy as np
import pytest
import torch

from challenges.recommendation.histories.draws import random_below, random_bits, random_numbers


def rows(count: int) -> torch.Tensor:
    return torch.arange(count)


def test_a_row_is_the_same_in_any_share_of_the_batch():
    whole = random_bits(3, 7, rows(100), 5)
    torch.testing.assert_close(random_bits(3, 7, rows(100)[60:], 5), whole[60:])


def test_bits_equal_a_written_out_splitmix64():
    def step(state: int) -> int:
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
        return state ^ (state >> 31)

    key = step(step(step(11) + 5) + 2)
    expected = [[step((key + (row * 3 + column - 1) * 0x9E3779B97F4A7C15) % 2**64) for column in range(3)] for row in
                range(4)]  # fmt: skip
    found = random_bits(11, 5, rows(4), 3, stream=2).numpy().astype(np.uint64)
    assert found.tolist() == expected


@pytest.mark.parametrize("other", [{"seed": 1}, {"step": 1}, {"stream": 1}])
def test_seed_step_and_stream_change_everything(other: dict[str, int]):
    arguments = {"seed": 0, "step": 0, "stream": 0}
    first, second = (
        random_bits(a["seed"], a["step"], rows(50), 4, stream=a["stream"]) for a in (arguments, arguments | other)
    )
    assert not (first == second).any()


def test_numbers_are_uniform():
    numbers = random_numbers(0, 0, rows(20_000), 5)
    assert 0 <= numbers.min() < 1e-4
    assert 0.9999 < numbers.max() < 1
    counts = torch.histc(numbers, 50, 0, 1)
    assert ((counts - 2000) ** 2 / 2000).sum() < 49 + 5 * (2 * 49) ** 0.5  # chi-squared, five standard deviations
    assert abs(torch.corrcoef(numbers.T) - torch.eye(5)).max() < 0.04


def test_limits_may_differ_by_row():
    limit = torch.tensor([[1], [2], [1000]])
    drawn = random_below(limit, 0, 0, rows(3), 2000)
    assert drawn.min() == 0
    assert drawn.amax(1).tolist()[:2] == [0, 1]
    assert drawn[2].max() > 980
