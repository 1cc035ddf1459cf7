"""Splits in which a model can find something planted, small enough to train on in a second."""

import numpy as np
import torch

from tests.recommendation.worlds import build_split

CPU = torch.device("cpu")


def cycle_split(num_users=96, num_items=40, *, longest=14, seed=0):
    """Leave-one-out where everyone walks round the catalogue: the item after i is always i + 3."""
    random = np.random.default_rng(seed)
    histories = [
        [(start + 3 * step) % num_items for step in range(length)]
        for start, length in zip(
            random.integers(num_items, size=num_users), random.integers(4, longest, size=num_users), strict=True
        )
    ]
    return build_split([h[:-1] for h in histories], [h[-1:] for h in histories], num_items=num_items)


def taste_split(num_users=160, held_out=40, num_items=60, *, tastes=4, seed=0):
    """Held-out users who each like most items of one of several disjoint groups, and know 60 % of what they like."""
    random = np.random.default_rng(seed)
    size = num_items // tastes
    likes = [(u % tastes) * size + random.permutation(size)[: size - 3] for u in range(num_users + held_out)]
    told = int(0.6 * (size - 3))
    train, judged = likes[:num_users], likes[num_users:]
    return build_split(
        [items.tolist() for items in train],
        [items[told:].tolist() for items in judged],
        seen=[items[:told].tolist() for items in judged],
        num_items=num_items,
        protocol="held-out-users",
    )
