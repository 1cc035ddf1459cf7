"""Baselines against their equations written out, and the published figure of popularity."""

import gzip

import numpy as np
import pytest
import torch

from challenges.recommendation.histories.baselines import (
    ease,
    evaluate,
    figures,
    ials,
    item_knn,
    popularity,
    sequential_rules,
    transposed,
)
from challenges.recommendation.histories.histories import Histories, HistorySplit
from challenges.recommendation.histories.recipes import EvaluationConfig
from tests.recommendation.worlds import held_out_split, random_split

CPU = torch.device("cpu")
SPLITS = {"leave-one-out": random_split(), "held-out": held_out_split()}


def dense(histories: Histories, num_items: int) -> np.ndarray:
    table = np.zeros((len(histories), num_items))
    table[histories.users(), histories.items] = 1
    return table


@pytest.mark.parametrize("name", SPLITS)
def test_ease_is_the_ridge_regression_of_every_item_on_the_others(name):
    split = SPLITS[name]
    train, seen = dense(split.train, split.num_items), dense(split.seen, split.num_items)
    weights = np.zeros((split.num_items, split.num_items))
    for item in range(split.num_items):
        others = np.delete(np.arange(split.num_items), item)
        x = train[:, others]
        weights[others, item] = np.linalg.solve(x.T @ x + 5 * np.eye(len(others)), x.T @ train[:, item])
    index = torch.tensor([3, 0, 7])
    np.testing.assert_allclose(ease(split, CPU, l2=5)(index), seen[index] @ weights, atol=1e-5)


@pytest.mark.parametrize("name", SPLITS)
def test_neighbours_vote_by_their_damped_cosine(name):
    split = SPLITS[name]
    train, seen = dense(split.train, split.num_items), dense(split.seen, split.num_items)
    lengths = np.linalg.norm(train, axis=0)
    similar = train.T @ train / (np.outer(lengths, lengths) + 2)
    np.fill_diagonal(similar, 0)
    index = torch.tensor([3, 0, 7])
    every = item_knn(split, CPU, neighbours=split.num_items, shrinkage=2.0)(index)
    np.testing.assert_allclose(every, seen[index] @ similar, atol=1e-5)
    nearest = item_knn(split, CPU, neighbours=3, shrinkage=2.0)(index).numpy()
    strongest = np.sort(similar, axis=0)[-3:].sum(0)
    assert (nearest <= strongest + 1e-5).all()  # no item has more than three voters
    assert (nearest <= every.numpy() + 1e-5).all()
    assert (nearest < every.numpy() - 1e-5).any()


@pytest.mark.parametrize("name", SPLITS)
def test_rules_vote_for_what_followed_the_newest_items(name):
    split = SPLITS[name]
    counts, follows = np.zeros(split.num_items), np.zeros((split.num_items, split.num_items))
    for user in range(split.num_users):
        items = split.train.of(user)
        np.add.at(counts, items, 1)
        for place, item in enumerate(items):
            for distance in range(1, min(10, len(items) - 1 - place) + 1):
                other = items[place + distance]
                follows[item, other] += 0.8 ** (distance - 1)
                follows[other, item] += 0.3 * 0.8 ** (distance - 1)
    np.fill_diagonal(follows, 0)
    follows /= np.sqrt(np.outer(counts, counts)) + 100
    expected = [
        sum(0.8**age * follows[item] for age, item in enumerate(reversed(split.seen.of(judged))))
        for judged in (3, 0, 7)
    ]
    np.testing.assert_allclose(sequential_rules(split, CPU)(torch.tensor([3, 0, 7])), expected, rtol=1e-4, atol=1e-8)
    assert "sequential rules" in figures(split, EvaluationConfig(uniform_negatives=0, popular_negatives=0))


@pytest.mark.parametrize("name", SPLITS)
def test_alternating_least_squares_minimise_their_objective(name):
    """Judged users' scores solve the weighted least squares for item factors found by whole sweeps."""
    split = SPLITS[name]
    options = {"factors": 5, "unobserved": 0.3, "regularisation": 0.05, "nu": 0.8}
    random = torch.Generator().manual_seed(0)
    items = torch.randn(split.num_items, 5, generator=random).double().numpy() / 5**0.5 * 0.1

    def solved(table: np.ndarray, fixed: np.ndarray) -> np.ndarray:
        rows = []
        for row in table:
            weight = np.where(row > 0, 1 + 0.3, 0.3)
            strength = 0.05 * (row.sum() + 0.3 * len(fixed)) ** 0.8
            matrix = (fixed * weight[:, None]).T @ fixed + strength * np.eye(5)
            rows.append(np.linalg.solve(matrix, fixed.T @ row))
        return np.stack(rows)

    train = dense(split.train, split.num_items)
    for _ in range(3):
        users = solved(train, items)
        items = solved(train.T, users)
    expected = solved(dense(split.seen, split.num_items), items) @ items.T
    index = torch.arange(split.num_judged)
    found = ials(split, CPU, sweeps=3, **options)(index)
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_transposing_twice_gives_the_sorted_histories():
    histories = random_split().train
    twice = transposed(transposed(histories, 60), len(histories))
    assert [sorted(histories.of(user)) for user in range(len(histories))] == [
        twice.of(user).tolist() for user in range(len(histories))
    ]


@pytest.mark.dataset
def test_popularity_gives_its_published_figure(shared_data):
    """Rendle et al. 2020, arXiv:2005.09683: HR@10 .4535, NDCG@10 .2543 on the lists of He et al."""
    split = read_ncf(shared_data / "recsys" / "ml-1m" / "ncf")
    config = EvaluationConfig(cutoffs=(10,), uniform_negatives=0, popular_negatives=0)
    metrics = evaluate(popularity(split, CPU), split, config, CPU).metrics
    assert metrics["hr@10/ncf-99"] == pytest.approx(0.4535, abs=6e-4)  # equal counts are many, and rank differently
    assert metrics["ndcg@10/ncf-99"] == pytest.approx(0.2543, abs=6e-4)


def read_ncf(folder) -> HistorySplit:
    """The files of He et al. as they lie, without the kit's readers."""
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(folder / "ml-1m.train.parquet")
    user, item = (table.column(name).to_numpy().astype(np.int64) for name in table.column_names[:2])
    with gzip.open(folder / "ml-1m.test.rating.gz", "rt") as stream:
        target = np.array([int(line.split()[1]) for line in stream])
    with gzip.open(folder / "ml-1m.test.negative.gz", "rt") as stream:
        negatives = np.array([[int(word) for word in line.split()[1:]] for line in stream])
    users, items = len(target), 1 + int(max(item.max(), target.max(), negatives.max()))
    order = np.argsort(user, kind="stable")
    history = Histories(np.concatenate([[0], np.bincount(user, minlength=users).cumsum()]), item[order])
    return HistorySplit(
        protocol="leave-one-out", num_items=items, item_ids=np.arange(items).astype(str), titles=np.full(items, ""),
        user_ids=np.arange(users).astype(str), train=history, users=np.arange(users), seen=history,
        targets=Histories(np.arange(users + 1), target), negatives=negatives, facts={}, fingerprint="",
    )  # fmt: skip
