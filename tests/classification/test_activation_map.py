"""Class activation maps: they add up to the logit, and warm the picture where the class is."""

import numpy as np
import pytest
import torch

from challenges.classification.activation_map import activation_map, overlay
from common.vision.resnet import ResNet


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return ResNet(depth=18, num_classes=3, zero_init_last_norm=False).eval()


def test_its_mean_and_the_bias_are_the_logit(model):
    images = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        logits = model(images)
    for label in range(3):
        places = activation_map(model, images, label)
        assert places.shape == (2, 3, 2)
        torch.testing.assert_close(places.mean((1, 2)) + model.fc.bias[label], logits[:, label])


def test_only_what_speaks_for_the_class_is_coloured():
    picture = np.full((64, 64, 3), 100, np.uint8)
    places = np.array([[1.0, -1.0], [-1.0, -1.0]])
    warm = np.abs(overlay(picture, places).astype(int) - 100).sum(-1)
    assert warm[8, 8] > 60
    assert warm[56, 56] == 0


def test_a_class_that_nothing_speaks_for_leaves_the_picture_as_it_is():
    picture = np.full((32, 32, 3), 100, np.uint8)
    assert (overlay(picture, np.full((2, 2), -1.0)) == picture).all()
