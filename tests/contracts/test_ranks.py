"""Every model's data is cut over processes so that together they see what one alone sees."""

import os
from collections import Counter
from dataclasses import replace
from itertools import islice

import pytest

from common.errors import RecipeError
from common.machine.distributed import World
from common.run.run_directory import RunDirectory
from tests.contracts.line import BATCH, STEPS, Line
from tests.ranks import on_ranks


def samples(data, steps: int, size: int) -> Counter:
    """Each sample of the first steps, all its tensors as bytes; size: of a batch here."""
    seen: Counter = Counter()
    for batch in islice(data.train_batches(0, BATCH, 1), steps):
        columns = [tensor.numpy() for tensor in batch.values() if len(tensor) == size]
        seen.update(b"".join(column[row].tobytes() for column in columns) for row in range(size))
    return seen


def test_two_ranks_see_every_sample_of_an_epoch_once(line):
    alone = line.data()
    steps = -(-alone.num_train // BATCH)
    together: Counter = Counter()
    for rank in range(2):
        together += samples(line.data(world=World(rank, 2, rank, 2)), steps, BATCH // 2)
    assert together == samples(alone, steps, BATCH)
    assert together.total() == steps * BATCH


def train(world: World, line: Line, cache: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHALLENGE_KIT_CACHE", cache)
        try:
            line.train("pair")
        except RecipeError as error:
            (line.folder / "refused").write_text(error.given)


@pytest.mark.slow
def test_two_ranks_walk_from_the_data_to_the_weights(line):
    """Or are told why not. A collective that one rank alone comes to, such as in a baseline, would wait for ever."""
    fresh = replace(line)  # without the trained tensors that it may keep
    on_ranks(2, train, fresh, os.environ["CHALLENGE_KIT_CACHE"], joined=False)
    refused = line.folder / "refused"
    if refused.exists():
        assert refused.read_text().startswith("2 processes")
        return
    run = RunDirectory(line.folder / "pair")
    assert run.training()["steps"] == STEPS
    assert run.weights_file.is_file()
    assert run.baselines_file.is_file()
