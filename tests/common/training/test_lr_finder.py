"""The learning-rate finder's suggestion."""

import numpy as np
import pytest

from common.errors import TrainingError
from common.training.lr_finder import Sweep


def test_the_steepest_fall_before_the_lowest_loss_is_suggested():
    rates = np.logspace(-5, 0, 6)
    assert Sweep(rates, np.array([3.0, 2.9, 2.0, 1.1, 1.0, 9.0])).suggestion == rates[2]


def test_a_loss_that_runs_away_at_once_is_told_with_its_rate():
    with pytest.raises(TrainingError, match="ran away within three steps, at learning rates of 1e-05"):
        _ = Sweep(np.array([1e-5, 2e-5]), np.array([1.0, 3.0])).suggestion
