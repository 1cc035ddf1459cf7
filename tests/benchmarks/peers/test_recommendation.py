"""Recommenders against their peers: the same histories and sizes, one evaluator; the peers run where they are told.

KIT_TEST_RECTOOLS and KIT_TEST_RECBOLE name the Python of an environment that has them.
"""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks.peers.peer_process import PeerError, PeerHistories
from benchmarks.peers.recommendation import (
    METRICS,
    Settings,
    compare_evaluation,
    compare_metrics,
    compare_training,
    main,
    open_bench,
)
from benchmarks.peers.recommendation_sides import TOP_K, OurSide, metrics_of, pair_of
from common.errors import KitError

MODELS = ("bert4rec", "sasrec", "ncf", "vae_cf")
FAST = {"threads": 1, "rounds": 2, "block_seconds": 0.03, "warmup_seconds": 0.01}

STAND_IN = '''
"""Answers like a peer, in no time."""
import numpy as np
from benchmarks.peers.peer_process import serve

class StandIn:
    version = "1.2"
    def __init__(self, job, histories):
        print("noise that is no answer")
        self.job, self.histories = job, histories
    def train(self, epochs, after_batch):
        while epochs is None:
            after_batch(self.job.batch)
    def evaluate(self):
        return len(self.histories.judged)
    def top_items(self, count):
        return np.tile(self.histories.targets[:, None], (1, count))[:, :1]

serve(StandIn)
'''


pytestmark = pytest.mark.usefixtures("keep_threads")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """150 users with 12 to 19 of 60 items each."""
    random = np.random.default_rng(0)
    lines = [f"{user + 1} {item + 1}" for user in range(150) for item in random.permutation(60)[: 12 + user % 8]]
    path = tmp_path_factory.mktemp("data") / "histories.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def bench_of(data, tmp_path):
    def opened(model, peer: Path = Path("missing"), **settings):
        chosen = Settings(data=data, peer=peer, batch=32, **{**FAST, **settings})
        return open_bench(model, chosen, tmp_path, ("python",), Console(quiet=True))

    return opened


@pytest.fixture
def stand_in(tmp_path_factory) -> Path:
    """A Python that runs the stand-in, whatever module is asked for."""
    folder = tmp_path_factory.mktemp("peer")
    (folder / "stand_in.py").write_text(STAND_IN)
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {folder}/stand_in.py "$3"\n')
    python.chmod(0o755)
    return python


@pytest.mark.parametrize("model", MODELS)
def test_our_side_trains_and_ranks(model, bench_of):
    bench = bench_of(model)
    ours = OurSide(bench.pair, bench.data, 2)
    assert ours.steps == round(2 * bench.data.num_train / 32)
    assert [ours.train() for _ in range(3)] == [32, 32, 32]
    assert ours.losses_were_finite
    assert ours.evaluate() == 150
    assert set(METRICS) <= set(ours.metrics())


def test_no_sliding_windows_where_the_peer_has_none(bench_of):
    assert bench_of("bert4rec").data.num_train == bench_of("sasrec").data.num_train == 150


def test_sizes_are_the_same():
    assert pair_of("sasrec").recipe.model.feedforward == pair_of("sasrec").sizes["n_factors"] == 64
    ncf, vae = pair_of("ncf"), pair_of("vae_cf")
    assert [2 * ncf.sizes["mlp_embedding_size"], *ncf.sizes["mlp_hidden_size"]] == list(ncf.recipe.model.layers)
    assert vae.sizes["latent_dimension"] == 2 * vae.recipe.model.latent


def test_lists_are_judged_by_our_evaluator(bench_of):
    split = bench_of("vae_cf").data.split
    lists = np.full((150, TOP_K), -1)
    lists[:, 0] = split.targets.items
    assert metrics_of(split, lists)[METRICS[1]] == 1
    lists[75:, :2] = np.stack([split.seen.select(np.arange(75, 150)).padded(1)[:, 0], split.targets.items[75:]], 1)
    assert metrics_of(split, lists)[METRICS[1]] == 1  # seen items do not count
    unseen = [np.setdiff1d(np.arange(60), [*split.seen.of(user), *split.targets.of(user)])[0] for user in range(150)]
    lists[75:, 0] = unseen[75:]
    assert metrics_of(split, lists)[METRICS[0]] == 1
    assert metrics_of(split, lists)[METRICS[1]] == pytest.approx(0.5 + 0.5 / np.log2(3))
    lists[:75, 0] = -1
    assert metrics_of(split, lists)[METRICS[0]] == pytest.approx(0.5)


def test_histories_survive_the_way_to_the_peer(bench_of, tmp_path):
    split = bench_of("ncf").data.split
    found = PeerHistories.read(tmp_path)
    assert found.num_items == split.num_items
    np.testing.assert_array_equal(found.users, split.train.users())
    np.testing.assert_array_equal(found.items[found.users == 7], split.train.of(7))
    np.testing.assert_array_equal(found.places[found.users == 7], np.arange(len(split.train.of(7))))


def test_a_record_for_training_and_one_for_evaluation(data, stand_in, tmp_path, capsys):
    settings = Settings(data=data, peer=stand_in, batch=32, epochs=1, output=tmp_path / "records", **FAST)
    assert main("vae_cf", settings) == 0
    assert capsys.readouterr().out.count("RECORD valid=false") == 2
    names = sorted(path.name.split("_")[2] for path in (tmp_path / "records").iterdir())
    assert names == ["vae-cf-evaluation", "vae-cf-train"]


def test_what_a_record_says(bench_of, stand_in):
    bench = bench_of("vae_cf", stand_in, epochs=1)
    details = compare_metrics(bench)
    assert details["recbole ndcg@10/full"] == 1
    record = compare_training(bench, details)
    assert list(record.measurements) == ["ours", "recbole-1.2"]
    assert record.workload.sample_unit == "user"
    assert record.ratios["ours/recbole-1.2"].median < 1
    assert record.details["threads"] == 1
    assert record.details["epochs"] == 1
    assert compare_evaluation(bench).measurements["ours"].windows[0].samples % 150 == 0


def test_a_peer_that_does_not_run_is_named(bench_of):
    with pytest.raises(KitError, match="recbole does not run with missing"):
        bench_of("ncf").theirs("train")
    with pytest.raises(KitError, match="No module named"):
        bench_of("sasrec", Path(sys.executable)).theirs("train")


def test_a_peer_that_dies_in_between_is_reported(bench_of, stand_in):
    with bench_of("ncf", stand_in).theirs("evaluate") as peer:
        assert peer() == 150
        peer._process.kill()
        with pytest.raises(PeerError, match="noise that is no answer"):
            peer()


def test_a_peer_ends_with_its_requests(bench_of, stand_in):
    with bench_of("ncf", stand_in).theirs("train") as peer:
        assert [peer(), peer()] == [32, 32]
    assert peer._process.returncode == 0


def test_too_large_a_batch_is_refused(data, tmp_path):
    settings = Settings(data=data, peer=Path("missing"), batch=1000, **FAST)
    with pytest.raises(KitError, match="A batch of 1000"):
        open_bench("vae_cf", settings, tmp_path, (), Console(quiet=True))


@pytest.mark.parametrize("model", MODELS)
def test_the_real_peer_trains_and_ranks(model, bench_of):
    variable = "KIT_TEST_" + pair_of(model).peer.upper()
    if variable not in os.environ:
        pytest.skip(f"no peer: {variable} names the Python of its environment")
    bench = bench_of(model, Path(os.environ[variable]), epochs=1)
    with bench.theirs("train") as peer:
        assert sum(peer() for _ in range(5)) == (150 if model not in ("ncf",) else 5 * 32)
    with bench.theirs("evaluate") as peer:
        assert peer() == 150
    details = compare_metrics(bench)
    assert 0 < details[f"{bench.pair.peer} {METRICS[0]}"] < 1
