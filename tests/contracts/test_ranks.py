"""Every model's data is cut over processes so that together they see what one alone sees."""

from collections import Counter
from itertools import islice

from common.machine.distributed import World
from tests.contracts.line import BATCH


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
