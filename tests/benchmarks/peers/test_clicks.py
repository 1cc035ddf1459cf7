"""The benchmark of click models: both sides compute the same over the same rows, and the record tells what ran."""

import dataclasses
import itertools

import pytest
import torch

from benchmarks.measure import MeasurementError
from benchmarks.peers.click_peers import PeerBatch, PerTableDlrm, dataset_batches
from benchmarks.peers.click_sides import (
    BOTTOM,
    COLUMNS,
    CPU,
    NUMBERS,
    TOP,
    OurStep,
    made_up_batch,
    peak_gib,
    prepared_clicks,
)
from benchmarks.peers.clicks import Settings, measured
from challenges.recommendation.clicks.data import ClickData

SMALL = Settings(
    batch=32, rows=26 * 600, width=4, precision="fp32", clicks=1_000, rounds=3, block_seconds=0.05, warmup_seconds=0.05
)


def test_both_sides_answer_alike_with_the_same_weights():
    shape = dataclasses.replace(SMALL, rows=26 * 40)
    batch = made_up_batch(shape, 1)
    ours = OurStep(shape, itertools.repeat(batch)).task
    theirs = PerTableDlrm(40, COLUMNS, NUMBERS, 4, BOTTOM, TOP, is_sparse=True)
    layers = [one for one in ours.network.modules() if isinstance(one, torch.nn.Linear)]
    peers = [layer for part in (theirs.bottom, theirs.top) for layer in part if isinstance(layer, torch.nn.Linear)]
    with torch.no_grad():
        for table, rows in zip(theirs.tables, ours.tables.weight.split(40), strict=True):
            table.weight.copy_(rows)
        for peer, layer in zip(peers, layers, strict=True):
            peer.weight.copy_(layer.weight[:, : peer.in_features])  # ours is padded
            peer.bias.copy_(layer.bias)
        dense, ids, _ = PeerBatch.of(batch)
        torch.testing.assert_close(ours.score(batch), theirs(dense, ids, torch.arange(32)))


def test_both_loaders_give_the_same_rows(tmp_path):
    log = prepared_clicks(SMALL, tmp_path)
    ours = ClickData(log, device=CPU)
    whole = next(ours.train_batches(0, ours.num_train, 1))
    theirs = next(dataset_batches(log.split("train"), ours.num_train))
    mine, peers = (
        sorted(zip(one.dense.tolist(), torch.stack(one.ids, 1).tolist(), one.label.tolist(), strict=True))
        for one in (PeerBatch.of(whole), theirs)
    )
    assert mine == peers


def test_a_log_of_more_ids_than_rows_is_refused(tmp_path):
    with pytest.raises(MeasurementError, match="ids, and the tables have 4 rows each"):
        prepared_clicks(dataclasses.replace(SMALL, rows=26 * 4), tmp_path)


@pytest.mark.parametrize(
    ("what", "ratio"),
    [
        ("step", "ours/dlrm-sparse-adagrad"),
        ("loader", "ours/dataset-dataloader"),
        ("together", "ours/dlrm-sparse-adagrad"),
    ],
)
def test_the_record_holds_the_ratio(what, ratio):
    record = measured(dataclasses.replace(SMALL, what=what))
    assert record.ratios[ratio].median > 0
    assert record.workload.batch == 32


@pytest.mark.slow
def test_memory_is_that_of_the_tables_and_what_they_need():
    small, large = (peak_gib(dataclasses.replace(SMALL, rows=rows, width=16), "ours") for rows in (26_000, 5_200_000))
    assert 0.25 < large - small < 0.6  # 0.31 of rows, 0.02 of sums
