"""Rules that fit the recommenders' own recipes to a data set: how long to train, in what batches, in what windows."""

import numpy as np

from challenges.recommendation.histories.histories import HistorySplit
from challenges.recommendation.histories.recipes import RecommendationRecipe
from common.run.fitting import Fit

ENOUGH_STEPS, MOST_STEPS = 600, 12_000
"""In fewer, a model has not learnt; MovieLens 1M needs no more. BERT4Rec's NDCG@10 on 900 users is .017, popularity's,
after 70 steps and .062 after 700, in batches of half the size .050 after 1,500 (docs/log.md)."""
SMALLEST_BATCH, LOOKS = 16, 20
SHORT_HISTORY = 20  # items, the median


def training_fits(recipe: RecommendationRecipe, samples: int, unit: str) -> tuple[list[Fit], int]:
    """Batch, epochs and evaluations by the number of training samples; and the steps that these make.

    The batch is halved until the recipe's epochs make enough steps; of much data there are fewer epochs.
    """
    batch, epochs = recipe.training.batch_size, recipe.training.epochs
    while batch > SMALLEST_BATCH and epochs * samples < ENOUGH_STEPS * batch:
        batch //= 2
    per_epoch = samples / batch
    epochs = float(max(1, min(epochs, MOST_STEPS // per_epoch)))
    steps = round(epochs * per_epoch)
    fits = [
        Fit("training.batch_size", batch, f"an epoch of {samples:,} {unit}s has {per_epoch:,.0f} steps of it"),
        Fit("training.epochs", epochs, f"{steps:,} steps, where {ENOUGH_STEPS:,} to {MOST_STEPS:,} are enough"),
        Fit("training.evaluate_every", max(1.0, epochs // LOOKS), f"about {LOOKS} looks at how far it is"),
    ]
    return fits, steps


def longest_window(split: HistorySplit, most: int) -> Fit:
    """Positions for 95 % of the histories, and one more for what is asked; not more than `most`."""
    usual = int(np.ceil(np.quantile(split.seen.lengths, 0.95)))
    if usual + 1 >= most:
        return Fit("model.length", most, f"the newest {most} of longer histories, 95 % have {usual:,} items at most")
    return Fit("model.length", max(usual + 1, 5), f"95 % of the histories have {usual:,} items at most")


def short_histories(split: HistorySplit) -> list[Fit]:
    """More items hidden where a sequence has few: a fifth of ten items are two lessons in a sequence."""
    median = int(np.median(split.train.lengths))
    if median >= SHORT_HISTORY:
        return []
    reason = f"histories are short (median {median:,} items): a fifth hidden teaches little"
    return [
        Fit("sequence.mask_share", 0.4, reason),
        Fit("sequence.last_item_share", 0.3, "the last item alone is what short histories are asked for"),
    ]
