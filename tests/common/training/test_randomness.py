"""Order of samples: exactly once per epoch, at any world size, from any step. Random numbers by seed, step and row."""

from itertools import islice

import numpy as np
import pytest
import torch

from common.machine.distributed import ALONE, World
from common.training.randomness import (
    random_below,
    random_bits,
    random_numbers,
    shuffled_shares,
    step_generator,
    uniform_numbers,
)


def samples(num: int, batch: int, steps: int, *, first: int = 0, world: World = ALONE, parts: int = 1) -> list[int]:
    shares = shuffled_shares(num, batch, first, seed=3, world=world, accumulation=parts)
    return np.concatenate([share.samples for share in islice(shares, steps * parts)]).tolist()


def test_every_sample_comes_exactly_once_per_epoch_even_when_batches_straddle():
    stream = samples(10, 4, 10)  # 40 samples: four epochs of ten
    for epoch in range(4):
        assert sorted(stream[epoch * 10 : epoch * 10 + 10]) == list(range(10))


def test_epochs_have_different_orders():
    stream = samples(50, 10, 10)
    assert stream[:50] != stream[50:]


@pytest.mark.parametrize("first", [1, 3, 7])
def test_starting_at_a_step_gives_what_the_uninterrupted_stream_gives(first):
    assert samples(10, 4, 10)[first * 4 :] == samples(10, 4, 10 - first, first=first)


@pytest.mark.parametrize("size", [2, 4])
def test_the_union_over_ranks_is_the_global_batch(size):
    for step in range(5):
        union = [s for rank in range(size) for s in samples(10, 8, 1, first=step, world=World(rank, size))]
        assert union == samples(10, 8, 1, first=step)


def test_micro_batches_lay_end_to_end_are_the_share():
    assert samples(10, 8, 3, parts=4) == samples(10, 8, 3)


def test_a_batch_larger_than_the_data_repeats_epochs():
    assert sorted(samples(3, 9, 1)) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_random_numbers_depend_on_seed_and_step_alone():
    assert np.array_equal(uniform_numbers(1, 5, 4, 3), uniform_numbers(1, 5, 4, 3))
    assert not np.array_equal(uniform_numbers(1, 5, 4, 3), uniform_numbers(1, 6, 4, 3))


def test_a_steps_generator_depends_on_seed_and_step_alone():
    first, again, other = (torch.rand(3, generator=step_generator(*given)) for given in ((1, 5), (1, 5), (1, 6)))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


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
