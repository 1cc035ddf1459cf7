"""Recommenders that need no gradient: every learnt model is shown beside them, in the same rankings.

popularity: training counts, the same for everyone.
item k-NN:  each of the user's items votes for its nearest ones by cosine, Sarwar et al. 2001, with the shrinkage of
            Bell and Koren 2007 and Ferrari Dacrema et al. 2019's finding that it often beats networks.
EASE:       item-to-item weights in closed form, Steck 2019, arXiv:1905.03375.
iALS:       matrix factorisation by alternating least squares, Hu et al. 2008, with the regularisation of Rendle et al.
            2022, arXiv:2110.14037. Judged users are folded in from what the model is told of them, so that users that
            were held out whole are served too.
sequential rules: each of the user's items votes for what followed it in others' histories, the newest ones for more,
            Ludewig and Jannach 2018, arXiv:1803.09587, with the damped cosine of item k-NN.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from challenges.recommendation.histories.device_histories import Ragged, multi_hot
from challenges.recommendation.histories.histories import Histories, HistorySplit
from challenges.recommendation.histories.item_pairs import FOLLOWERS, LARGEST_CATALOGUE
from challenges.recommendation.histories.neighbours import Neighbours
from challenges.recommendation.histories.ranking import Rankings
from challenges.recommendation.histories.recipes import EvaluationConfig
from common.errors import DataError
from common.language.telling import english
from common.training.task import Evaluation

Scorer = Callable[[Tensor], Tensor]
"""index (batch,) int64, positions of judged users, to scores (batch, item) float32"""

CELLS = 2**24  # numbers held at a time: 64 MiB in float32
QUICK_ITEM_MATRIX = 10_000  # items; up to which EASE takes seconds
LARGEST_ITEM_MATRIX = 40_000  # items; EASE inverts items x items in float32, here 6.4 GB


def evaluate(scorer: Scorer, split: HistorySplit, config: EvaluationConfig, device: torch.device) -> Evaluation:
    """Rank every judged user by `scorer`."""
    rankings = Rankings(split, config, device)
    with torch.no_grad():
        for index in torch.arange(split.num_judged, device=device).split(max(1, CELLS // split.num_items)):
            rankings.update(index, scorer(index))
    return rankings.compute()


def popularity(split: HistorySplit, device: torch.device) -> Scorer:
    """Score every item by how often it occurs in training."""
    counts = torch.as_tensor(split.popularity(), device=device).float()
    return lambda index: counts.expand(len(index), -1)


@torch.no_grad()
def ease(split: HistorySplit, device: torch.device, *, l2: float = 500.0) -> Scorer:
    """EASE with ridge strength `l2` (the author's is 500 on MovieLens 20M).

    Raises DataError for a catalogue whose item matrix would not fit in memory.
    """
    weights, seen = solved_ease(item_gram(split, device, "EASE"), l2), Ragged(split.seen, device)
    return lambda index: multi_hot(seen, index, split.num_items) @ weights


@torch.no_grad()
def solved_ease(gram: Tensor, l2: float) -> Tensor:
    """(item, item) float32: what an item of a history, the row, says for another one, the column.

    gram: what `item_gram` made, which stays as it is.
    """
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram + l2 * torch.eye(len(gram), device=gram.device)))
    weights = inverse.div_(-inverse.diagonal())
    weights.diagonal().zero_()
    return weights


@torch.no_grad()
def item_knn(split: HistorySplit, device: torch.device, *, neighbours: int = 100, shrinkage: float = 10.0) -> Scorer:
    """Cosine between items' users, damped by `shrinkage` where few users are common; each item keeps its `neighbours`.

    Raises DataError for a catalogue whose item matrix would not fit in memory.
    """
    gram = item_gram(split, device, "item k-NN")
    norms = gram.diagonal().sqrt()
    gram.div_(norms[:, None] * norms[None, :] + shrinkage)
    gram.diagonal().zero_()
    strongest = gram.topk(min(neighbours, len(gram)), dim=0)
    weights = torch.zeros_like(gram).scatter_(0, strongest.indices, strongest.values)
    seen = Ragged(split.seen, device)
    return lambda index: multi_hot(seen, index, len(weights)) @ weights


@torch.no_grad()
def sequential_rules(split: HistorySplit, device: torch.device, *, keep: float = 0.8) -> Scorer:
    """The pairs of item_pairs.py. keep: what an item of a history counts of the next newer one."""
    rules = Neighbours.of_pairs(split.train, split.num_items, FOLLOWERS, device).fading_by(keep)
    seen = Ragged(split.seen, device)
    return lambda index: rules.of_users(seen, index)


@torch.no_grad()
def ials(
    split: HistorySplit,
    device: torch.device,
    *,
    factors: int = 64,
    sweeps: int = 8,
    unobserved: float = 0.3,
    regularisation: float = 0.01,
    nu: float = 1.0,
    seed: int = 0,
) -> Scorer:
    """Implicit ALS.

    unobserved:     weight of a pair that did not occur, where one that did weighs 1.
    regularisation: multiplied, per user, by (interactions + unobserved * items) ** nu, and so per item.
    """
    by_user, by_item = split.train, transposed(split.train, split.num_items)
    random = torch.Generator().manual_seed(seed)
    items = torch.randn(split.num_items, factors, generator=random).div_(factors**0.5).mul_(0.1).to(device)

    def solved(histories: Histories, table: Tensor) -> Tensor:
        return _least_squares(histories, table, unobserved, regularisation, nu)

    for _ in range(sweeps):
        users = solved(by_user, items)
        items = solved(by_item, users)
    judged = solved(split.seen, items)
    return lambda index: judged[index] @ items.T


def figures(split: HistorySplit, config: EvaluationConfig) -> dict[str, dict[str, float]]:
    """Every baseline's metrics on one split: name -> metric -> value; those too large for this catalogue left out."""
    cpu = torch.device("cpu")
    scorers = {english("popularity"): popularity(split, cpu), "iALS": ials(split, cpu)}
    if split.num_items <= LARGEST_CATALOGUE:
        scorers[english("sequential rules")] = sequential_rules(split, cpu)
    if split.num_items <= QUICK_ITEM_MATRIX:
        scorers |= {"item k-NN": item_knn(split, cpu), "EASE": ease(split, cpu)}
    return {name: evaluate(scorer, split, config, cpu).metrics for name, scorer in scorers.items()}


def item_gram(split: HistorySplit, device: torch.device, name: str) -> Tensor:
    """(item, item) float32: how many training users have both; name: of what asks for it.

    Raises DataError for a catalogue whose item matrix would not fit in memory.
    """
    items = split.num_items
    if items > LARGEST_ITEM_MATRIX:
        raise DataError(
            f"{name} was asked for {items} items.",
            f"It holds items x items numbers: at most {LARGEST_ITEM_MATRIX} items.",
        )
    train = Ragged(split.train, device)
    gram = torch.zeros(items, items, device=device)
    for users in torch.arange(split.num_users, device=device).split(max(1, CELLS // items)):
        rows = multi_hot(train, users, items)
        gram.addmm_(rows.T, rows)
    return gram


def transposed(histories: Histories, num_items: int) -> Histories:
    """The users of every item, in their order."""
    order = np.argsort(histories.items, kind="stable")
    counts = np.bincount(histories.items, minlength=num_items)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Histories(offsets, histories.users()[order])


def _least_squares(histories: Histories, table: Tensor, unobserved: float, regularisation: float, nu: float) -> Tensor:
    """(row, factor): per history, the vector that fits 1 to its entries and, more loosely, 0 to everything else."""
    count, factors = table.shape
    everything = unobserved * (table.T @ table)
    padded = torch.cat([table, table.new_zeros(1, factors)])
    answers = table.new_zeros(len(histories), factors)
    identity = torch.eye(factors, device=table.device)
    for rows, entries in _similar_lengths(histories, count, factors):
        vectors = padded[torch.as_tensor(entries, device=table.device)]
        lengths = torch.as_tensor(histories.lengths[rows], device=table.device)
        strength = regularisation * (lengths + unobserved * count) ** nu
        matrix = everything + vectors.mT @ vectors + strength[:, None, None] * identity
        answers[torch.as_tensor(rows, device=table.device)] = _solved(matrix, vectors.sum(1))
    return answers


def _solved(matrix: Tensor, right: Tensor) -> Tensor:
    """(batch, factor) solutions for symmetric positive definite matrices (batch, factor, factor)."""
    return torch.cholesky_solve(right[..., None], torch.linalg.cholesky(matrix))[..., 0]


def _similar_lengths(histories: Histories, fill: int, factors: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows (batch,) and their entries (batch, longest), filled up with `fill`, in batches of bounded size."""
    order = np.argsort(-histories.lengths, kind="stable")
    lengths = np.maximum(histories.lengths[order], factors)  # a row's own matrix takes room too
    begin = 0
    while begin < len(order):
        end = begin + max(1, CELLS // int(lengths[begin] * factors))
        rows = order[begin:end]
        yield rows, histories.select(rows).padded(fill=fill)
        begin = end
