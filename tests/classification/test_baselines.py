"""What needs no network: each baseline answers what it can see, and nothing more."""

import pytest
import torch

from challenges.classification.baselines import SIDE, nearest_colours, random_features


def pictures(make, count=60):
    """Two classes of (count, 3, SIDE, SIDE) pictures in [0, 1] by turns, and their labels."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(count) % 2
    return torch.stack([make(int(label), generator) for label in labels]), labels


def tinted(label, generator):
    picture = 0.2 * torch.rand(3, SIDE, SIDE, generator=generator)
    picture[label] += 0.6
    return picture


def striped(label, generator):
    """Stripes across or along, of the same colours and at any offset."""
    shift = int(torch.randint(0, 6, (1,), generator=generator))
    wave = ((torch.arange(SIDE) + shift) % 6 < 3).float()
    picture = wave[:, None].expand(SIDE, SIDE) if label else wave[None, :].expand(SIDE, SIDE)
    return (0.2 + 0.6 * picture).repeat(3, 1, 1)


@pytest.mark.parametrize("method", [nearest_colours, random_features])
def test_colours_are_told_apart(method):
    known, labels = pictures(tinted)
    asked, truth = pictures(tinted, 20)
    assert (method(known, labels, asked, 2) == truth).all()


def test_only_the_filters_see_the_direction_of_stripes():
    known, labels = pictures(striped)
    asked, truth = pictures(striped, 20)
    assert (random_features(known, labels, asked, 2) == truth).all()
    assert (nearest_colours(known, labels, asked, 2) == truth).float().mean() < 0.9
