"""Rules that fit the recommenders' own recipes to a data set: how long to train, in what batches, in what windows."""

import math

import numpy as np

from challenges.recommendation.histories import HistorySplit
from challenges.recommendation.recipes import RecommendationRecipe
from common.fitting import Fit

STEPS = 800
"""After fewer, small data's models have not learnt yet, after more they know the data by heart: BERT4Rec's NDCG@10 on
900 users is .017, popularity's, at 70 steps, .060 at 700 and .050 at 1,500 (docs/log.md)."""
STEPS_PER_EPOCH, SMALLEST_BATCH, MOST_EPOCHS, LOOKS = 2, 32, 400, 20
SHORT_HISTORY = 20  # items, the median


def training_fits(recipe: RecommendationRecipe, samples: int, unit: str) -> tuple[list[Fit], int]:
    """Batch, epochs and evaluations by the number of training samples; and the steps that these make.

    The batch is halved until an epoch has some steps; the epochs are the recipe's, or more where that is too few steps.
    """
    batch, asked = recipe.training.batch_size, recipe.training.batch_size
    while batch > SMALLEST_BATCH and samples < STEPS_PER_EPOCH * batch:
        batch //= 2
    per_epoch = samples / batch
    epochs = float(min(max(math.ceil(STEPS / per_epoch), recipe.training.epochs), MOST_EPOCHS))
    fits = [
        Fit("training.epochs", epochs, f"{epochs * per_epoch:,.0f} steps over {samples:,} {unit}s, if none is in vain"),
        Fit("training.evaluate_every", max(1.0, epochs // LOOKS), f"about {LOOKS} looks at the held-out part"),
    ]
    if batch < asked:
        reason = f"an epoch of {samples:,} {unit}s has {per_epoch:.0f} steps of it"
        fits.insert(0, Fit("training.batch_size", batch, reason))
    return fits, round(epochs * per_epoch)


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
