"""Classifiers that learn no network: every trained one is shown beside them.

majority:        always the class that is most frequent in training.
colour k-NN:     the 5 training pictures with the most similar colour histogram vote (histogram intersection, Swain and
                 Ballard 1991).
random features: ridge regression on what 512 random filters see (Rahimi and Recht 2007; as in Coates et al. 2011, the
                 filters are patches of training pictures, normalised).

The last two look at pictures of SIDE pixels, at most MOST of each split.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, conv2d, one_hot

from challenges.classification.accuracy import accuracies
from challenges.classification.data import PhotographData
from challenges.classification.manifest import Manifest
from common.language.telling import english
from common.positions import evenly_spread

MOST = 4000  # pictures of a split that are looked at: seconds, however large the data is
SIDE = 32  # pixels
BINS = 6  # of a histogram, per channel
NEIGHBOURS = 5
FILTERS, PATCH = 512, 6
BATCH = 64
AT_ONCE = 4  # pictures whose filter responses stay in a processor's cache


def figures(data: PhotographData) -> Mapping[str, Mapping[str, float]]:
    """Every baseline's accuracies on the validation split: name -> metric -> value."""
    counts = np.bincount(data.train.labels, minlength=data.num_classes)
    always = np.full(data.num_validation, counts.argmax())
    found = {english("majority"): accuracies(always, data.validation.labels, data.num_classes)}
    train, learnt = _small(data, data.train)
    judged, labels = _small(data, data.validation)
    predictions = {
        english("colour k-NN"): nearest_colours(train, learnt, judged, data.num_classes),
        english("random features"): random_features(train, learnt, judged, data.num_classes),
    }
    return found | {
        name: accuracies(predicted.numpy(), labels.numpy(), data.num_classes) for name, predicted in predictions.items()
    }


def nearest_colours(train: Tensor, labels: Tensor, judged: Tensor, num_classes: int) -> Tensor:
    """(judged,) int64: the vote of the training pictures (sample, 3, side, side) in [0, 1] with the nearest colours."""
    known, asked = _histograms(train), _histograms(judged)
    votes = []
    for rows in asked.split(BATCH):
        distance = torch.cdist(rows, known, p=1)  # 2 - 2 x intersection, for histograms that sum up to 1
        nearest = distance.topk(min(NEIGHBOURS, len(known)), largest=False).indices
        votes.append(one_hot(labels[nearest], num_classes).sum(1).argmax(1))
    return torch.cat(votes)


def random_features(train: Tensor, labels: Tensor, judged: Tensor, num_classes: int) -> Tensor:
    """(judged,) int64: the class whose ridge regression on filter responses is largest."""
    filters = _filters(train, torch.Generator().manual_seed(0))
    known, asked = _responses(train, filters), _responses(judged, filters)
    mean, deviation = known.mean(0), known.std(0).clamp_min(1e-6)
    known, asked = (known - mean) / deviation, (asked - mean) / deviation
    kernel = known @ known.T / known.shape[1]
    answers = one_hot(labels, num_classes).float()
    centre = answers.mean(0)
    weights: Tensor = torch.linalg.solve(kernel + 0.1 * torch.eye(len(kernel)), answers - centre)
    return ((asked @ known.T / known.shape[1]) @ weights + centre).argmax(1)


def _small(data: PhotographData, split: Manifest) -> tuple[Tensor, Tensor]:
    """Pictures (sample, 3, SIDE, SIDE) in [0, 1], spread over the split, and their labels."""
    rows = evenly_spread(len(split.labels), MOST)
    mean, deviation = (torch.tensor(v)[:, None, None] for v in (data.preprocessing.mean, data.preprocessing.std))
    pictures, labels = [], []
    for batch in data.batches_of(split, rows):
        pixels = (batch["images"].float().cpu() * deviation + mean) / 255
        pictures.append(adaptive_avg_pool2d(pixels.clamp(0, 1), SIDE))
        labels.append(batch["label"].cpu().clone())
    return torch.cat(pictures), torch.cat(labels)


def _histograms(pictures: Tensor) -> Tensor:
    """(sample, BINS^3), each row summing up to 1."""
    levels = (pictures * BINS).long().clamp_max(BINS - 1)
    codes = ((levels[:, 0] * BINS + levels[:, 1]) * BINS + levels[:, 2]).flatten(1)
    counts = torch.zeros(len(pictures), BINS**3).scatter_add_(1, codes, torch.ones(codes.shape))
    return counts / codes.shape[1]


def _filters(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """(FILTERS, 3, PATCH, PATCH): patches of random pictures at random places, of mean 0 and length 1."""
    sample, top, left = (
        torch.randint(0, high, (FILTERS,), generator=generator).tolist()
        for high in (len(pictures), SIDE - PATCH + 1, SIDE - PATCH + 1)
    )
    places = zip(sample, top, left, strict=True)
    patches = torch.stack([pictures[n, :, y : y + PATCH, x : x + PATCH] for n, y, x in places])
    noise = 1e-3 * torch.randn(patches.shape, generator=generator)  # a patch of one colour has no direction of its own
    patches = patches - patches.mean((1, 2, 3), keepdim=True) + noise
    length: Tensor = patches.flatten(1).norm(dim=1)
    return patches / length[:, None, None, None]


def _responses(pictures: Tensor, filters: Tensor) -> Tensor:
    """(sample, 2 * FILTERS * 4): how strongly each filter, and its negative, responds in each quarter."""
    filters = filters.contiguous(memory_format=torch.channels_last)
    parts = []
    for batch in pictures.split(AT_ONCE):
        centred = batch - batch.mean((1, 2, 3), keepdim=True)
        found = conv2d(centred.contiguous(memory_format=torch.channels_last), filters)
        mean = adaptive_avg_pool2d(found, 2).flatten(1)
        positive = adaptive_avg_pool2d(found.relu_(), 2).flatten(1)
        parts.append(torch.cat([positive, positive - mean], 1))  # relu(-x) is relu(x) - x
    return torch.cat(parts)
