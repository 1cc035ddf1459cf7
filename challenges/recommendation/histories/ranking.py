"""Rankings of held-out items in several protocols at once, from one matrix of scores.

full:           among every item the user has not seen.
uniform-100,
popularity-100: among unseen items drawn evenly or by their training counts, the same ones in every run.
ncf-99:         among the data's own list. Copies of the held-out item and repetitions in it count once, as in the
                evaluator of He et al., which keeps scores by item: 156 users of its MovieLens lists have fewer rivals.

Lists are ranked where every user has one held-out item (leave-one-out); with several only the full ranking is made.
Equal scores rank before the held-out item, and so does NaN: a model that answers always the same scores 0. The
evaluator of He et al. does the same, because it appends the held-out item last and sorts stably.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import torch
import torch.distributed
from torch import Tensor

from challenges.recommendation.histories.device_histories import Ragged
from challenges.recommendation.histories.histories import HistorySplit
from challenges.recommendation.histories.negatives import first_distinct, sample_negatives
from challenges.recommendation.histories.recipes import EvaluationConfig
from common.errors import DataError
from common.language.telling import english
from common.run.bootstrap import bootstrap_means
from common.training.task import Evaluation


class Rankings:
    """Metrics of every judged user, gathered batch by batch on the device; nothing waits for it before `compute`.

    Metrics are means over users, named metric@cutoff/protocol.
    leave-one-out: hr (the item is among the first k), ndcg = 1 / log2(rank + 1) where it is, mrr = 1 / rank.
    several items: recall = found among the first k / min(k, held out) and ndcg with an ideal of min(k, held out) items
                   (Liang et al. 2018), mrr of the first item found.
    """

    def __init__(self, split: HistorySplit, config: EvaluationConfig, device: torch.device) -> None:
        lengths = split.targets.lengths
        if not len(lengths) or lengths.min() < 1:
            raise DataError("A judged user has no held-out item, or there is none.", remedy="Check the data again.")
        self._is_single = split.protocol == "leave-one-out"
        self._split, self._device = split, device
        self._seen, self._targets = Ragged(split.seen, device), Ragged(split.targets, device)
        self._cutoffs = tuple(k for k in sorted(config.cutoffs) if k <= split.num_items)
        self._top_k = min(config.top_k, split.num_items)
        lists = _lists(split, config) if self._is_single else {}
        self._lists = {name: torch.as_tensor(items).to(device) for name, items in lists.items()}
        names = self._metric_names()
        self._names = names
        self._values = torch.zeros(split.num_judged, len(names), dtype=torch.float64, device=device)
        self._counts = torch.zeros(split.num_judged, dtype=torch.int64, device=device)
        self._ranks = torch.zeros(split.num_judged, 1 + len(self._lists), dtype=torch.int64, device=device)
        self._top_items = torch.zeros(split.num_judged, self._top_k, dtype=torch.int64, device=device)

    def listed(self, index: Tensor) -> Tensor:
        """All items that the lists need scores of, the held-out one first: (batch, n) int64 for index (batch,)."""
        own = self._targets.singles(index)[1]
        return torch.cat([own[:, None], *(items[index].long().clamp(min=0) for items in self._lists.values())], 1)

    def update(self, index: Tensor, scores: Tensor) -> None:
        """Count a batch: index (batch,) int64, positions of judged users; scores (batch, item), left as they are."""
        scores = scores.detach().float()
        masked = scores.clone()
        masked[self._seen.entries(index)] = -torch.inf
        row, item = self._targets.singles(index) if self._is_single else self._targets.entries(index)
        masked[row, item] = scores[row, item]  # a held-out item that was also seen stays in the ranking
        best, order = masked.topk(self._top_k)
        self._top_items[index] = torch.where(best == -torch.inf, -1, order)
        if self._is_single:
            values, ranks = self._single(index, scores, masked, item)
        else:
            values, ranks = self._several(masked, row, item)
        self._values[index], self._ranks[index] = values, ranks
        self._counts.index_add_(0, index, torch.ones_like(index))

    def compute(self) -> Evaluation:
        """Means over the users counted so far on all ranks, with bootstrap intervals and a row per user.

        predictions: index, rank (of the held-out item, or of the first found of several, from 0 on, full ranking),
                     rank/<protocol>, top_items (user, top_k) with -1 where a user has fewer unseen items.
        Raises ValueError when a user was counted twice, or none was.
        """
        tables = [self._values, self._ranks, self._top_items, self._counts]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            tables = [table.clone() for table in tables]
            for table in tables:
                torch.distributed.all_reduce(table)
        values, ranks, top_items, counts = (table.cpu().numpy() for table in tables)
        if counts.max() > 1 or not counts.any():
            raise ValueError(f"judged users must be counted once; a user was counted {counts.max()} times")
        index = np.flatnonzero(counts)
        low, high = bootstrap_means(values[index])
        means = values[index].mean(0)
        predictions: dict[str, np.ndarray] = {"index": index}
        for column, name in enumerate(["rank", *(f"rank/{name}" for name in self._lists)]):
            predictions[name] = ranks[index, column]
        predictions["top_items"] = top_items[index]
        return Evaluation(
            {name: float(mean) for name, mean in zip(self._names, means, strict=True)},
            {name: (float(a), float(b)) for name, a, b in zip(self._names, low, high, strict=True)},
            english("bootstrap over users, 1,000 resamples"),
            predictions,
        )

    def _metric_names(self) -> tuple[str, ...]:
        found = "hr" if self._is_single else "recall"
        names = []
        for protocol, rivals in (("full", self._split.num_items), *((n, t.shape[1]) for n, t in self._lists.items())):
            cutoffs = self._usable(rivals)
            names += [f"{kind}@{k}/{protocol}" for kind in (found, "ndcg") for k in cutoffs] + [f"mrr/{protocol}"]
        return tuple(names)

    def _usable(self, rivals: int) -> list[int]:
        """Cutoffs that tell anything: every item is among the first 101 of 101."""
        return [k for k in self._cutoffs if k < rivals]

    def _single(self, index: Tensor, scores: Tensor, masked: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        own = scores.gather(1, item[:, None])
        behind = masked.lt_(own).sum(1).long()  # as floats: six times as fast on a CPU as through truth values
        ranks = [masked.shape[1] - behind - 1]
        values = self._of_ranks(ranks[0], self._split.num_items)
        for items in self._lists.values():
            candidates = items[index].long()
            rivals = (candidates >= 0) & (candidates != item[:, None])
            ranks.append((~(scores.gather(1, candidates.clamp(min=0)) < own) & rivals).sum(1))
            values += self._of_ranks(ranks[-1], items.shape[1])
        return torch.stack(values, 1), torch.stack(ranks, 1)

    def _of_ranks(self, rank: Tensor, rivals: int) -> list[Tensor]:
        place = rank.double() + 1
        cutoffs = self._usable(rivals)
        gain = 1 / (place + 1).log2()
        hits = [(place <= k).double() for k in cutoffs]
        return [*hits, *(hit * gain for hit in hits), 1 / place]

    def _several(self, masked: Tensor, row: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        own = masked[row, item]
        own = torch.where(own.isnan(), -torch.inf, own)
        others = masked.clone()
        others[row, item] = -torch.inf
        best = own.new_full((len(masked),), -torch.inf).scatter_reduce_(0, row, own, "amax")
        first = (~(others < best[:, None])).sum(1)
        others[row, item] = torch.nextafter(own, torch.full_like(own, -torch.inf))  # behind its equals
        held_out = torch.zeros_like(masked, dtype=torch.bool)
        held_out[row, item] = True
        cutoffs = self._usable(self._split.num_items)
        hit = held_out.gather(1, others.topk(max(cutoffs, default=1)).indices).double()
        discount = 1 / (torch.arange(hit.shape[1], dtype=torch.float64, device=hit.device) + 2).log2()
        found, gain, ideal = hit.cumsum(1), (hit * discount).cumsum(1), discount.cumsum(0)
        possible = torch.bincount(row, minlength=len(masked))
        limits = [possible.clamp(max=k) for k in cutoffs]
        recall = [found[:, k - 1] / limit for k, limit in zip(cutoffs, limits, strict=True)]
        ndcg = [gain[:, k - 1] / ideal[limit - 1] for k, limit in zip(cutoffs, limits, strict=True)]
        return torch.stack([*recall, *ndcg, 1 / (first.double() + 1)], 1), first[:, None]


def nearest_metric(wanted: str, reported: Iterable[str]) -> str:
    """The metric itself if it is reported; else the same with the nearest cutoff, or mrr, at worst among all items.

    A small catalogue has small cutoffs, several held-out items have recall for hr, and most data no lists of its own.
    """
    names = list(reported)
    if wanted in names:
        return wanted
    kind, _, rest = wanted.partition("@")
    cutoff, _, protocol = rest.partition("/")
    for place in (protocol, "full"):
        for found in (kind, "recall") if kind == "hr" else (kind,):
            others = [re.fullmatch(rf"{found}@(\d+)/{re.escape(place)}", name) for name in names]
            near = sorted((abs(int(other[1]) - int(cutoff)), other[0]) for other in others if other)
            if near:
                return near[0][1]
        if f"mrr/{place}" in names:
            return f"mrr/{place}"
    return names[0]


@lru_cache(maxsize=4)
def _lists(split: HistorySplit, config: EvaluationConfig) -> dict[str, np.ndarray]:
    """Every protocol's items to rank the held-out one among, (judged user, n) int32, -1 for none."""
    lists = {}
    if config.uniform_negatives:
        lists[f"uniform-{config.uniform_negatives}"] = sample_negatives(
            split, config.uniform_negatives, by="uniform", seed=config.seed
        )
    if config.popular_negatives:
        lists[f"popularity-{config.popular_negatives}"] = sample_negatives(
            split, config.popular_negatives, by="popularity", seed=config.seed
        )
    if split.negatives is not None:
        lists[f"ncf-{split.negatives.shape[1]}"] = first_distinct(torch.as_tensor(split.negatives)).numpy()
    return {name: items.astype(np.int32) for name, items in lists.items()}
