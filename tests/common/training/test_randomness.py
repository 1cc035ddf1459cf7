"""Order of samples: exactly once per epoch, at any world size, from any step."""

from itertools import islice

import numpy as np
import pytest

from common.machine.distributed import ALONE, World
from common.training.randomness import shuffled_shares, uniform_numbers


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
