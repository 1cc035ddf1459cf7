"""Every model goes on after an interruption as if there had been none."""

import pytest

from common.errors import InterruptedRunError
from common.stages import training_stage
from tests.common.training.test_trainer import StopAfter
from tests.contracts.line import STEPS


def test_a_run_that_was_interrupted_ends_with_the_same_weights_bit_for_bit(line, run, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(training_stage, "ProgressReport", lambda console: StopAfter(STEPS // 2))
        with pytest.raises(InterruptedRunError):
            line.train("cut")
    assert line.train("cut").weights_file.read_bytes() == run.weights_file.read_bytes()


def test_its_recipe_is_read_back_as_it_was_written(line, run):
    assert run.recipe(line.challenge.recipe_class) == line.recipe
