"""Every model's data is cut over processes so that together they see what one alone sees."""

from collections import Counter
from itertools import islice

from common.machine.distributed import World
from tests.contracts.line import BATCH


def rows(batches) -> Counter:
    """Each sample of the batches, all its tensors as bytes."""
    seen: Counter = Counter()
    for batch in batches:
        size = max(len(tensor) for tensor in batch.values())
        columns = [tensor for tensor in batch.values() if len(tensor) == size]
        seen.update(b"".join(column[row].numpy().tobytes() for column in columns) for row in range(size))
    return seen


def test_two_ranks_see_every_sample_of_an_epoch_once(line):
    alone = line.data()
    steps = -(-alone.num_train // BATCH)
    ranks = (line.data(world=World(rank, 2, rank, 2)) for rank in range(2))
    together = sum((rows(islice(data.train_batches(0, BATCH, 1), steps)) for data in ranks), Counter())
    assert together == rows(islice(alone.train_batches(0, BATCH, 1), steps))
    assert len(together) <= alone.num_train
