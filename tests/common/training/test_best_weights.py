"""Weights chosen on a part held out of the training data: the best are kept, a resumed run chooses the same."""

import pytest
import torch

from common.errors import CheckpointError, InterruptedRunError, RecipeError
from common.run.recipe import TrainingConfig
from common.training.task import HeldOut
from tests.toy import StopAfter, ToyData, ToyTask, toy_recipe, toy_trainer

VALUES = (0.1, 0.3, 0.9, 0.2, 0.8, 0.1, 0.1, 0.1, 0.1)


class Parted(ToyData):
    def tuning(self):
        return self


class Planned(ToyTask):
    """A task whose values on the held-out part are planned; `shown` keeps the weights of each look."""

    def __init__(self, recipe, values=VALUES):
        super().__init__(recipe)
        self.values, self.error, self.shown = values, 0.05, {}

    def held_out_value(self, data):
        step = self.steps_done
        self.shown[step] = self.model[0].weight.detach().clone()
        return HeldOut(self.values[step // 6 - 1], self.error)

    def prepare_batch(self, batch, step):
        self.steps_done = step + 1
        return batch


def trained(folder, *, patience, values=VALUES, observers=()):
    recipe = toy_recipe(epochs=7, patience=patience)  # 50 points, batches of 8: an evaluation every 6 steps, 44 in all
    torch.manual_seed(0)
    task = Planned(recipe, values)
    return task, toy_trainer(folder, recipe, task=task, data=Parted(), observers=observers)


def test_the_best_weights_are_kept_and_training_ends_when_patience_does(tmp_path):
    task, trainer = trained(tmp_path, patience=2)
    outcome = trainer.fit()
    assert outcome.steps == 30  # the best at 18, two evaluations without improvement
    torch.testing.assert_close(outcome.task.model[0].weight, task.shown[18], rtol=0, atol=0)
    assert not torch.equal(task.shown[18], task.shown[30])
    with torch.no_grad():
        expected = task.eval().evaluate(Parted().validation_batches()).metrics
    assert outcome.evaluation.metrics == expected


def test_without_an_end_the_whole_recipe_is_trained_and_the_best_kept(tmp_path):
    task, trainer = trained(tmp_path, patience=9)
    outcome = trainer.fit()
    assert outcome.steps == 44
    torch.testing.assert_close(outcome.task.model[0].weight, task.shown[18], rtol=0, atol=0)


@pytest.mark.parametrize("step", [17, 20, 27])
def test_a_resumed_run_chooses_as_the_undisturbed_one(tmp_path, step):
    task, trainer = trained(tmp_path / "whole", patience=2)
    expected = trainer.fit()
    with pytest.raises(InterruptedRunError):
        trained(tmp_path / "cut", patience=2, observers=(StopAfter(step),))[1].fit()
    outcome = trained(tmp_path / "cut", patience=2)[1].fit()
    assert outcome.steps == expected.steps
    torch.testing.assert_close(outcome.task.model[0].weight, task.shown[18], rtol=0, atol=0)
    assert trained(tmp_path / "cut", patience=2)[1].fit().steps == expected.steps  # over already


def test_of_what_is_not_told_apart_the_last_is_kept_and_training_goes_on(tmp_path):
    task, trainer = trained(tmp_path, patience=2)
    task.error = 0.2  # .8 is as good as .9
    outcome = trainer.fit()
    assert outcome.steps == 44
    torch.testing.assert_close(outcome.task.model[0].weight, task.shown[30], rtol=0, atol=0)


def test_chosen_weights_that_are_gone_are_told(tmp_path):
    trained(tmp_path, patience=2)[1].fit()
    (tmp_path / "checkpoints" / "chosen.pt").unlink()
    with pytest.raises(CheckpointError, match=r"chosen\.pt is missing"):
        trained(tmp_path, patience=2)[1].fit()


def test_data_that_holds_nothing_out_is_trained_to_the_end(tmp_path):
    recipe = toy_recipe(patience=1)
    outcome = toy_trainer(tmp_path, recipe).fit()
    assert outcome.steps == round(recipe.training.epochs * 50 / 8)


def test_patience_starts_at_one():
    with pytest.raises(RecipeError, match="patience"):
        TrainingConfig(patience=0)
