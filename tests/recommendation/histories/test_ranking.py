"""Ranking metrics against a written-out version, hand-computed cases and scikit-learn."""

import math

import numpy as np
import pytest
import torch

from challenges.recommendation.histories.histories import HistorySplit
from challenges.recommendation.histories.negatives import sample_negatives
from challenges.recommendation.histories.ranking import Rankings
from challenges.recommendation.histories.recipes import EvaluationConfig
from common.errors import DataError
from tests.recommendation.worlds import build_split, held_out_split, random_split

CPU = torch.device("cpu")
CONFIG = EvaluationConfig(cutoffs=(1, 5, 10), uniform_negatives=8, popular_negatives=6, top_k=4)


def rank_all(split: HistorySplit, scores: torch.Tensor, config: EvaluationConfig = CONFIG, batch: int = 7) -> Rankings:
    rankings = Rankings(split, config, CPU)
    for index in torch.arange(split.num_judged).split(batch):
        rankings.update(index, scores[index])
    return rankings


def slow_rank(own: float, rivals: list[float]) -> int:
    return sum(not rival < own for rival in rivals)


def slow_single(split: HistorySplit, scores: np.ndarray, config: EvaluationConfig) -> dict[str, float]:
    """Every metric of leave-one-out, user by user."""
    totals: dict[str, list[float]] = {}
    lists = {
        f"uniform-{config.uniform_negatives}": sample_negatives(
            split, config.uniform_negatives, by="uniform", seed=config.seed
        ),
        f"popularity-{config.popular_negatives}": sample_negatives(
            split, config.popular_negatives, by="popularity", seed=config.seed
        ),
    }
    if split.negatives is not None:
        lists[f"ncf-{split.negatives.shape[1]}"] = split.negatives
    for user in range(split.num_judged):
        (target,) = split.targets.of(user)
        seen = set(split.seen.of(user))
        rivals = {"full": {item for item in range(split.num_items) if item not in seen} - {target}}
        rivals |= {name: set(rows[user].tolist()) - {target, -1} for name, rows in lists.items()}
        for name, items in rivals.items():
            rank = slow_rank(scores[user, target], [scores[user, item] for item in items])
            for k in config.cutoffs:
                totals.setdefault(f"hr@{k}/{name}", []).append(float(rank < k))
                totals.setdefault(f"ndcg@{k}/{name}", []).append(1 / math.log2(rank + 2) if rank < k else 0.0)
            totals.setdefault(f"mrr/{name}", []).append(1 / (rank + 1))
    return {name: sum(values) / len(values) for name, values in totals.items()}


@pytest.mark.parametrize("kind", ["distinct", "ties", "constant", "not-a-number"])
def test_leave_one_out_equals_the_written_out_version(kind):
    split = random_split(negatives=9)
    scores = torch.randn(split.num_judged, split.num_items, generator=torch.Generator().manual_seed(0))
    if kind == "ties":
        scores = (scores * 2).round()
    if kind == "constant":
        scores = torch.zeros_like(scores)
    if kind == "not-a-number":
        scores[::3, ::5] = torch.nan
    found = rank_all(split, scores).compute().metrics
    expected = slow_single(split, scores.numpy(), CONFIG)
    assert found.keys() <= expected.keys()
    assert {"hr@10/full", "ndcg@5/uniform-8", "mrr/popularity-6", "hr@5/ncf-9"} <= found.keys()
    assert "hr@10/uniform-8" not in found
    if kind == "not-a-number":  # a held-out item with such a score comes after the seen items too
        del found["mrr/full"]
    for name, value in found.items():
        assert value == pytest.approx(expected[name], abs=1e-12), name
    if kind == "constant":
        assert found["hr@10/full"] == found["hr@5/uniform-8"] == 0


def slow_several(split: HistorySplit, scores: np.ndarray, cutoffs: tuple[int, ...]) -> dict[str, float]:
    totals: dict[str, list[float]] = {}
    for user in range(split.num_judged):
        targets, seen = set(split.targets.of(user).tolist()), set(split.seen.of(user).tolist())
        unseen = [item for item in range(split.num_items) if item not in seen - targets]
        order = sorted(unseen, key=lambda item: (-scores[user, item], item in targets))
        gains = [float(item in targets) for item in order]
        for k in cutoffs:
            possible = min(k, len(targets))
            totals.setdefault(f"recall@{k}/full", []).append(sum(gains[:k]) / possible)
            dcg = sum(gain / math.log2(place + 2) for place, gain in enumerate(gains[:k]))
            ideal = sum(1 / math.log2(place + 2) for place in range(possible))
            totals.setdefault(f"ndcg@{k}/full", []).append(dcg / ideal)
        totals.setdefault("mrr/full", []).append(1 / (gains.index(1.0) + 1))
    return {name: sum(values) / len(values) for name, values in totals.items()}


@pytest.mark.parametrize("kind", ["distinct", "ties", "constant"])
def test_several_held_out_items_equal_the_written_out_version(kind):
    split = held_out_split()
    scores = torch.randn(split.num_judged, split.num_items, generator=torch.Generator().manual_seed(0))
    if kind == "ties":
        scores = (scores * 2).round()
    if kind == "constant":
        scores = torch.zeros_like(scores)
    found = rank_all(split, scores).compute().metrics
    expected = slow_several(split, scores.numpy(), CONFIG.cutoffs)
    assert found == pytest.approx(expected, abs=1e-12)


def test_truncated_ndcg_equals_scikit_learns():
    from sklearn.metrics import ndcg_score

    split = held_out_split()
    scores = torch.rand(split.num_judged, split.num_items, generator=torch.Generator().manual_seed(1)) + 1
    relevant = np.zeros(scores.shape)
    blocked = scores.numpy().copy()
    for user in range(split.num_judged):
        relevant[user, split.targets.of(user)] = 1
        blocked[user, split.seen.of(user)] = 0
    found = rank_all(split, scores).compute().metrics
    for k in CONFIG.cutoffs:
        assert found[f"ndcg@{k}/full"] == pytest.approx(ndcg_score(relevant, blocked, k=k), abs=1e-6)


def test_a_case_by_hand():
    """Two users, five items: ranks 1 and 3 (from 1 on) among the unseen ones."""
    split = build_split([[0], [1]], [[2], [4]], num_items=5, negatives=np.array([[2, 3, 3], [0, 0, 2]]))
    scores = torch.tensor([[9.0, 1.0, 5.0, 2.0, 3.0], [4.0, 9.0, 3.0, 1.0, 2.0]])
    config = EvaluationConfig(cutoffs=(1, 2, 3), uniform_negatives=0, popular_negatives=0, top_k=4)
    evaluation = rank_all(split, scores, config).compute()
    expected = {
        "hr@1/full": 0.5, "hr@2/full": 0.5, "hr@3/full": 1.0, "ndcg@1/full": 0.5, "ndcg@2/full": 0.5,
        "ndcg@3/full": (1 + 0.5) / 2, "mrr/full": (1 + 1 / 3) / 2, "hr@1/ncf-3": 0.5, "hr@2/ncf-3": 0.5,
        "ndcg@1/ncf-3": 0.5, "ndcg@2/ncf-3": 0.5, "mrr/ncf-3": (1 + 1 / 3) / 2,
    }  # fmt: skip
    assert evaluation.metrics == pytest.approx(expected)
    assert evaluation.predictions["rank"].tolist() == [0, 2]
    assert evaluation.predictions["rank/ncf-3"].tolist() == [0, 2]
    assert evaluation.predictions["top_items"].tolist() == [[2, 4, 3, 1], [0, 2, 4, 3]]


def test_seen_items_are_never_recommended():
    split = build_split([[0, 1, 2], [3]], [[3], [0]], num_items=5)
    config = EvaluationConfig(cutoffs=(1,), uniform_negatives=0, popular_negatives=0, top_k=10)
    top_items = rank_all(split, torch.ones(2, 5).cumsum(1), config).compute().predictions["top_items"]
    assert top_items.tolist() == [[4, 3, -1, -1, -1], [4, 2, 1, 0, -1]]


def test_a_held_out_item_that_was_seen_before_can_be_found():
    split = build_split([[0, 1]], [[1]], num_items=4)
    evaluation = rank_all(split, torch.tensor([[9.0, 5.0, 4.0, 3.0]]))
    assert evaluation.compute().metrics["hr@1/full"] == 1


def test_scores_are_left_as_they_are():
    split = random_split()
    scores = torch.randn(split.num_judged, split.num_items)
    before = scores.clone()
    rank_all(split, scores)
    torch.testing.assert_close(scores, before)


def test_the_order_and_size_of_batches_do_not_matter():
    split = random_split(negatives=9)
    scores = torch.randn(split.num_judged, split.num_items)
    one, other = rank_all(split, scores, batch=3).compute(), rank_all(split, scores, batch=100).compute()
    assert one.metrics == other.metrics
    assert one.intervals == other.intervals
    np.testing.assert_array_equal(one.predictions["top_items"], other.predictions["top_items"])


def test_a_part_of_the_users_may_be_judged_but_nobody_twice():
    split = random_split()
    scores = torch.randn(split.num_judged, split.num_items)
    rankings = Rankings(split, CONFIG, CPU)
    with pytest.raises(ValueError, match="counted 0 times"):
        rankings.compute()
    rankings.update(torch.tensor([4, 2]), scores[[4, 2]])
    assert rankings.compute().predictions["index"].tolist() == [2, 4]
    rankings.update(torch.tensor([4]), scores[[4]])
    with pytest.raises(ValueError, match="counted 2 times"):
        rankings.compute()


def test_users_without_a_held_out_item_are_refused():
    with pytest.raises(DataError):
        Rankings(build_split([[0], [1]], [[1], []], num_items=3), CONFIG, CPU)
