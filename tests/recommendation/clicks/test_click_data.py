"""Prepared clicks as batches, and made-up ones whose best AUC is known."""

import itertools

import numpy as np
import polars as pl
import pytest
import torch
from rich.console import Console
from sklearn.metrics import roc_auc_score

from challenges.recommendation.clicks import demo, synthetic
from challenges.recommendation.clicks.data import ClickData
from challenges.recommendation.clicks.prepare.job import TRUTH
from challenges.recommendation.clicks.prepared import Prepared
from challenges.recommendation.clicks.synthetic import SyntheticRows, expected_auc, make_rows, synthetic_spec
from common.machine.distributed import World
from tests.recommendation.clicks.builders import column_of, content_of, prepared


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "CHUNK_ROWS", 200)
        return prepared(SyntheticRows(1_000), synthetic_spec(), tmp_path_factory.mktemp("made") / "out")


def data(made, world=World(), **settings):  # noqa: B008 (frozen)
    return ClickData(made, device=torch.device("cpu"), world=world, evaluation_batch=64, **settings)


def test_training_batches_are_packed_and_hold_every_row_once_an_epoch(made):
    clicks = data(made)
    rows = clicks.num_train
    batches = list(itertools.islice(clicks.train_batches(0, 50, 1), 2 * rows // 50))
    assert {name: (tuple(values.shape), values.dtype) for name, values in batches[0].items()} == {
        "dense": ((50, 13), torch.float32),
        "categorical": ((50, 26), torch.int32),
        "label": ((50,), torch.float32),
        "row": ((50,), torch.int64),
    }
    seen = np.concatenate([batch["categorical"].numpy() for batch in batches])[:rows]
    written = column_of(made, "train", "categorical")
    assert sorted(map(tuple, seen.tolist())) == sorted(map(tuple, written.tolist()))
    limits = torch.tensor([column.cardinality for column in made.spec.categorical])
    assert all((batch["categorical"] < limits).all() for batch in batches)


def test_two_processes_and_micro_batches_make_up_the_same_step(made):
    whole = next(data(made).train_batches(7, 48, 1))
    parts = [next(data(made, World(rank, 2)).train_batches(7, 48, 1)) for rank in range(2)]
    for name, values in whole.items():
        torch.testing.assert_close(torch.cat([part[name] for part in parts]), values)


@pytest.mark.parametrize("size", [1, 2])
def test_judged_rows_come_once_and_tuning_is_the_validation_split(made, size):
    labels = [batch["label"] for rank in range(size) for batch in data(made, World(rank, size)).validation_batches()]
    assert len(torch.cat(labels)) == made.rows["test"]
    tuning = data(made).tuning()
    assert tuning.num_validation == made.rows["validation"]
    assert tuning.tuning() is None
    assert data(made).describe()["judged_split"] == "test"


def test_rows_are_made_up_by_seed_and_chunk_alone():
    assert make_rows(3, 5, 100).equals(make_rows(3, 5, 100))
    assert not make_rows(3, 5, 100).equals(make_rows(3, 6, 100))
    assert not make_rows(3, 5, 100).equals(make_rows(4, 5, 100))


def test_the_expected_auc_is_that_of_all_pairs():
    probability = np.random.default_rng(0).random(40).round(1)
    win = (probability[:, None] > probability) + 0.5 * (probability[:, None] == probability)
    weight = probability[:, None] * (1 - probability)
    np.fill_diagonal(weight, 0)
    assert expected_auc(probability) == pytest.approx((win * weight).sum() / weight.sum(), abs=1e-12)


def test_no_order_of_made_up_rows_is_better_than_the_truth():
    rows = make_rows(0, 0, 60_000)
    truth, label = rows["truth"].to_numpy(), rows["label"].to_numpy()
    assert roc_auc_score(label, truth) == pytest.approx(expected_auc(truth), abs=0.006)
    assert 0.84 < expected_auc(truth) < 0.87
    counts = rows["C26"].value_counts(sort=True)["count"]
    assert counts[0] > 20 * counts[99] > 0  # a power law, of 400,000 values
    assert rows.select(pl.col("C1").null_count()).item() == pytest.approx(0.08 * 60_000, rel=0.1)


def test_pairs_and_bends_are_what_a_linear_model_cannot_learn(monkeypatch):
    truth = make_rows(0, 0, 20_000)[TRUTH].to_numpy()
    for effect in ("PAIR_EFFECT", "BEND"):
        monkeypatch.setattr(synthetic, effect, 0.0)  # the same draws, as far as values and numbers go
    linear = make_rows(0, 0, 20_000)[TRUTH].to_numpy()
    rising = truth[np.argsort(linear)]
    below = np.cumsum(1 - rising) - (1 - rising) / 2
    assert (rising * below).sum() / (rising.sum() * (1 - rising).sum()) < expected_auc(truth) - 0.05


def test_demo_clicks_of_another_truth_are_made_anew(tmp_path, monkeypatch):
    console = Console(quiet=True)
    made = demo.generate(tmp_path / "clicks", 2_000, console)
    before = content_of(made)
    assert demo.generate(tmp_path / "clicks", 2_000, console) == made
    assert content_of(made) == before
    assert Prepared.open(made).spec.crosses == synthetic_spec().crosses
    monkeypatch.setattr(demo, "VERSION", synthetic.VERSION + 1)
    assert demo.generate(tmp_path / "clicks", 2_000, console) != made
