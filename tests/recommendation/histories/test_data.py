"""Batches of interactions, users and sequences."""

from itertools import islice

import numpy as np
import pytest
import torch

from challenges.recommendation.histories.data import (
    HistoryData,
    InteractionData,
    SequenceData,
    UserData,
    training_windows,
)
from challenges.recommendation.histories.device_histories import Ragged
from common.machine.distributed import ALONE, World
from tests.recommendation.worlds import held_out_split, histories_of, random_split

CPU = torch.device("cpu")
SPLIT = random_split()
KINDS = ["interaction", "user", "sequence"]


def build(kind: str, split=SPLIT, world: World = ALONE, **more) -> HistoryData:
    if kind == "sequence":
        return SequenceData(split, length=6, stride=3, device=CPU, world=world, seed=5, **more)
    return {"interaction": InteractionData, "user": UserData}[kind](split, device=CPU, world=world, seed=5, **more)


def samples(kind: str, batch: dict[str, torch.Tensor]) -> list[tuple]:
    """What each sample of a batch is, in a comparable form."""
    if kind == "interaction":
        return list(zip(batch["user"].tolist(), batch["item"].tolist(), strict=True))
    if kind == "sequence":
        return [tuple(row) for row in torch.cat([batch["user"][:, None], batch["items"]], 1).tolist()]
    histories = [(user,) for user in batch["user"].tolist()]
    for row, item in zip(batch["entry_row"].tolist(), batch["entry_item"].tolist(), strict=True):
        histories[row] = (*histories[row], item)
    return histories


def everything(kind: str) -> list[tuple]:
    if kind == "interaction":
        return list(zip(SPLIT.train.users().tolist(), SPLIT.train.items.tolist(), strict=True))
    if kind == "user":
        return [(user, *SPLIT.train.of(user).tolist()) for user in range(SPLIT.num_users)]
    found = []
    for user in range(SPLIT.num_users):
        history = SPLIT.train.of(user).tolist()
        begin = max(0, len(history) - 6)
        while True:
            window = history[begin : begin + 6]
            found.append((user, *[-1] * (6 - len(window)), *window))
            if begin == 0:
                break
            begin = max(0, begin - 3)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_holds_every_sample_once(kind):
    data = build(kind)
    expected = sorted(everything(kind))
    assert data.num_train == len(expected)
    stream = [sample for batch in islice(data.train_batches(0, 7, 1), 200) for sample in samples(kind, batch)]
    for epoch in (0, 1):
        assert sorted(stream[epoch * data.num_train : (epoch + 1) * data.num_train]) == expected
    assert stream[: data.num_train] != stream[data.num_train : 2 * data.num_train]


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_stream_goes_on(kind):
    data = build(kind)
    whole = list(islice(data.train_batches(0, 16, 1), 9))
    for batch, again in zip(whole[5:], data.train_batches(5, 16, 1), strict=False):
        assert samples(kind, batch) == samples(kind, again)
        torch.testing.assert_close(batch["row"], again["row"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("size", "accumulation"), [(1, 4), (2, 2), (4, 1)])
def test_processes_and_micro_batches_share_a_batch(kind, size, accumulation):
    whole = next(build(kind).train_batches(3, 16, 1))
    parts: dict[int, tuple] = {}
    for rank in range(size):
        stream = build(kind, world=World(rank, size)).train_batches(3, 16, accumulation)
        for batch in islice(stream, accumulation):
            parts |= dict(zip(batch["row"].tolist(), samples(kind, batch), strict=True))
    assert [parts[row] for row in range(16)] == samples(kind, whole)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 3])
def test_every_judged_user_comes_once(kind, size):
    found = []
    for rank in range(size):
        for batch in build(kind, world=World(rank, size), evaluation_batch=4).validation_batches():
            found += batch["index"].tolist()
            if kind == "interaction":
                assert batch["user"].tolist() == SPLIT.users[batch["index"].numpy()].tolist()
    assert sorted(found) == list(range(SPLIT.num_judged))


def test_models_are_told_what_judged_users_have_seen():
    split = held_out_split()
    for batch in build("user", split, evaluation_batch=4).validation_batches():
        for row, index in enumerate(batch["index"].tolist()):
            assert batch["entry_item"][batch["entry_row"] == row].tolist() == split.seen.of(index).tolist()
    for batch in build("sequence", split, evaluation_batch=4, validation_length=15).validation_batches():
        for items, index in zip(batch["items"].tolist(), batch["index"].tolist(), strict=True):
            newest = split.seen.of(index).tolist()[-15:]
            assert items == [-1] * (15 - len(newest)) + newest


def test_windows_cover_long_histories():
    user, start = training_windows(np.array([0, 3, 10, 4, 11]), 4, 3)
    assert list(zip(user.tolist(), start.tolist(), strict=True)) == [
        (1, 0), (2, 6), (2, 3), (2, 0), (3, 0), (4, 7), (4, 4), (4, 1), (4, 0),
    ]  # fmt: skip
    user, start = training_windows(np.array([0, 3, 10]), 4, None)
    assert list(zip(user.tolist(), start.tolist(), strict=True)) == [(1, 0), (2, 6)]


def test_entries_equal_the_histories_end_to_end():
    histories = histories_of([[4, 5], [], [6], [7, 8, 9]])
    row, item = Ragged(histories, CPU).entries(torch.tensor([3, 1, 0, 3]))
    assert row.tolist() == [0, 0, 0, 2, 2, 3, 3, 3]
    assert item.tolist() == [7, 8, 9, 4, 5, 7, 8, 9]


def test_data_describes_itself():
    facts = build("user").describe()
    assert (facts["users"], facts["items"], facts["judged_users"], facts["train_samples"]) == (40, 60, 40, 40)
