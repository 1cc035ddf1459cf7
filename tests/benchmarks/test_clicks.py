"""The benchmark of click models: both sides compute the same, and the record says what was measured."""

import torch

from benchmarks.clicks import BATCHES, BOTTOM, COLUMNS, NUMBERS, TOP, OurStep, Settings, _batch, measured
from benchmarks.peers.click_peers import PerTableDlrm

SMALL = Settings(batch=32, rows=26 * 40, width=4, precision="fp32", rounds=3, block_seconds=0.05, warmup_seconds=0.05)


def test_both_sides_answer_alike_with_the_same_weights():
    ours = OurStep(SMALL, [_batch(SMALL, 0)])._step.task
    theirs = PerTableDlrm(40, COLUMNS, NUMBERS, 4, BOTTOM, TOP, is_sparse=True)
    layers = [one for one in ours.network.modules() if isinstance(one, torch.nn.Linear)]
    peers = [layer for part in (theirs.bottom, theirs.top) for layer in part if isinstance(layer, torch.nn.Linear)]
    with torch.no_grad():
        for table, rows in zip(theirs.tables, ours.tables.weight.split(40), strict=True):
            table.weight.copy_(rows)
        for peer, layer in zip(peers, layers, strict=True):
            peer.weight.copy_(layer.weight[:, : peer.in_features])  # ours is padded
            peer.bias.copy_(layer.bias)
        batch = _batch(SMALL, 1)
        ids = list(batch["categorical"].long().t())
        torch.testing.assert_close(ours.score(batch), theirs(batch["dense"], ids, torch.arange(32)))


def test_the_record_holds_the_ratio():
    record = measured(SMALL)
    assert record.ratios["ours/dlrm-sparse-adagrad"].median > 0
    assert record.workload.batch == 32
    assert BATCHES > 1
