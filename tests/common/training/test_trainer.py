"""The loop: resume, signals, non-finite losses, cadence."""

import json
import math
import os
import shutil
import signal
import types

import pytest
import torch

from common.errors import CheckpointError, InterruptedRunError, RecipeError, TrainingError
from common.run.recipe import TrainingConfig
from common.run.run_directory import RunDirectory
from common.training import cadence
from common.training.cadence import Cadence
from common.training.observers import JsonLines, Observer
from tests.full_disk import limited_files
from tests.toy import StopAfter, ToyData, ToyTask, toy_recipe, toy_trainer


def weights(trainer_outcome):
    return {name: value.clone() for name, value in trainer_outcome.task.state_dict().items()}


@pytest.mark.parametrize("extra", [{}, {"micro_batch": 2}, {"ema_decay": 0.9}], ids=["plain", "accumulated", "ema"])
@pytest.mark.parametrize("stop", [1, 3, 7, 12])
def test_a_run_stopped_at_any_step_resumes_bit_for_bit(tmp_path, stop, extra):
    recipe = toy_recipe(**extra)
    whole = toy_trainer(tmp_path / "whole", recipe).fit()
    with pytest.raises(InterruptedRunError) as stopped:
        toy_trainer(tmp_path / "cut", recipe, observers=(StopAfter(stop),)).fit()
    assert stopped.value.exit_code == 128 + signal.SIGTERM
    resumed = toy_trainer(tmp_path / "cut", recipe).fit()
    assert resumed.evaluation.metrics == whole.evaluation.metrics
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name]), name


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the step it comes in is saved."""


class KillAfter(Observer):
    def __init__(self, step):
        self.step = step

    def on_step(self, step):
        if step == self.step:
            raise Killed


def log_of(folder):
    timeless = {"seconds", "samples_per_s", "data_wait"}
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in timeless} for line in lines]


@pytest.mark.parametrize(
    ("log_every", "stops"), [(2, [KillAfter(5), StopAfter(8, signal.SIGINT)]), (5, [StopAfter(1), KillAfter(8)])]
)
def test_a_resumed_log_equals_the_uninterrupted_one(tmp_path, log_every, stops):
    recipe = toy_recipe(log_every=log_every)
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    toy_trainer(tmp_path / "whole", recipe, observers=(JsonLines(),)).fit()
    for stop in stops:
        with pytest.raises((InterruptedRunError, Killed)):
            toy_trainer(tmp_path / "cut", recipe, observers=(JsonLines(), stop)).fit()
    toy_trainer(tmp_path / "cut", recipe, observers=(JsonLines(),)).fit()
    toy_trainer(tmp_path / "cut", recipe, observers=(JsonLines(),)).fit()  # nothing is left, and nothing logged twice
    assert log_of(tmp_path / "cut") == log_of(tmp_path / "whole")


def test_a_streak_of_bad_losses_is_counted_over_a_resume(tmp_path):
    recipe = toy_recipe(stop_after_nonfinite=5, log_every=10)
    with pytest.raises(InterruptedRunError):
        toy_trainer(tmp_path, recipe, task=PoisonedTask(recipe, 5, 100), observers=(StopAfter(8),)).fit()
    with pytest.raises(TrainingError, match="5 steps in a row at step 10"):
        toy_trainer(tmp_path, recipe, task=PoisonedTask(recipe, 5, 100)).fit()


def test_a_damaged_log_is_mended_by_the_training_and_told(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"kind": "train", "step"\n\0\0\n')
    told = []
    toy_trainer(tmp_path, observers=(JsonLines(told.append),)).fit()
    assert "2 damaged lines" in told[0]
    assert log_of(tmp_path)[0]["kind"] == "train"


def test_a_checkpoint_of_another_network_is_told_with_a_way_out(tmp_path):
    recipe = toy_recipe()
    with pytest.raises(InterruptedRunError):
        toy_trainer(tmp_path, recipe, observers=(StopAfter(3),)).fit()
    with pytest.raises(CheckpointError, match=r"(?s)Missing|Unexpected.*written by.*begin anew: delete .*checkpoints"):
        toy_trainer(tmp_path, recipe, task=ToyTask(recipe, normalised=False)).fit()
    shutil.rmtree(tmp_path / "checkpoints")  # the way out that is named
    toy_trainer(tmp_path, recipe, task=ToyTask(recipe, normalised=False)).fit()


def test_too_little_memory_for_a_checkpoint_is_no_fault_of_it(tmp_path, monkeypatch):
    with pytest.raises(InterruptedRunError):
        toy_trainer(tmp_path, observers=(StopAfter(3),)).fit()

    def no_memory(self, state):
        torch.empty(10**15)

    monkeypatch.setattr(ToyTask, "load_state_dict", no_memory)
    with pytest.raises(RuntimeError, match="allocate memory"):
        toy_trainer(tmp_path).fit()


def test_a_full_disk_under_the_best_weights_is_told(tmp_path):
    with limited_files(2000), pytest.raises(TrainingError, match=r"best\.pt cannot be written"):
        toy_trainer(tmp_path, toy_recipe(checkpoint_every=1000)).fit()
    toy_trainer(tmp_path, toy_recipe(checkpoint_every=1000)).fit()


def test_accumulated_micro_batches_train_like_one_batch(tmp_path):
    recipe = toy_recipe()
    one = toy_trainer(tmp_path / "one", recipe, task=_seeded(recipe)).fit()
    cut = toy_recipe(micro_batch=2)
    many = toy_trainer(tmp_path / "many", cut, task=_seeded(cut)).fit()
    for name, value in weights(one).items():
        torch.testing.assert_close(weights(many)[name], value)


def _seeded(recipe):
    torch.manual_seed(1)
    return ToyTask(recipe, normalised=False)  # batch statistics do depend on the cut


class PoisonedTask(ToyTask):
    """Losses are NaN from step `start` on, `length` times."""

    def __init__(self, recipe, start, length):
        super().__init__(recipe)
        self.start, self.length = start, length

    def prepare_batch(self, batch, step):
        self.poisoned = self.start <= step < self.start + self.length
        return batch

    def loss(self, batch):
        losses = super().loss(batch)
        return {"loss": losses["loss"] * math.nan} if self.poisoned else losses


def test_a_non_finite_step_changes_no_weight_and_the_run_goes_on(tmp_path):
    recipe = toy_recipe()
    outcome = toy_trainer(tmp_path, recipe, task=PoisonedTask(recipe, 4, 2)).fit()
    assert all(value.isfinite().all() for value in weights(outcome).values())


def test_persistent_non_finite_losses_stop_the_run_with_their_names(tmp_path):
    recipe = toy_recipe(stop_after_nonfinite=5)
    with pytest.raises(TrainingError, match=r"5 steps in a row.*loss") as stopped:
        toy_trainer(tmp_path, recipe, task=PoisonedTask(recipe, 5, 100)).fit()
    assert stopped.value.exit_code == 3
    assert RunDirectory(tmp_path).checkpoints.is_dir()


def test_each_sample_is_trained_on_once_per_epoch(tmp_path):
    data = ToyData(num_train=48)
    toy_trainer(tmp_path, toy_recipe(epochs=2), data=data).fit()
    assert sorted(data.seen) == sorted([*range(48), *range(48)])


def test_the_last_step_is_always_evaluated_and_saved(tmp_path):
    trainer = toy_trainer(tmp_path, toy_recipe(epochs=1.3))
    trainer.fit()
    assert f"step-{trainer.cadence.total:08d}.pt" in os.listdir(tmp_path / "checkpoints")


@pytest.mark.parametrize(
    ("every", "expected"), [(1, [10, 20, 30]), (2, [20, 30]), (0.5, [5, 10, 15, 20, 25, 30]), (9, [30])]
)
def test_evaluations_come_at_the_stated_epochs(every, expected):
    cadence = Cadence.of(TrainingConfig(epochs=3, batch_size=10, evaluate_every=every), num_train=100)
    assert [step for step in range(1, 31) if cadence.evaluates_after(step)] == expected


def test_a_finished_run_resumes_to_the_same_outcome(tmp_path):
    first = toy_trainer(tmp_path).fit()
    again = toy_trainer(tmp_path).fit()
    assert again.evaluation.metrics == first.evaluation.metrics
    assert again.seconds >= first.seconds


def test_an_uneven_share_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="cannot be cut evenly"):
        toy_trainer(tmp_path, toy_recipe(batch_size=7, micro_batch=2))


def test_checkpoints_that_come_too_early_are_left_out(tmp_path, monkeypatch):
    """Of a run of 25 steps with one due at every third: by a clock that goes on by 2 seconds a step, every 15."""
    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr(cadence, "time", types.SimpleNamespace(monotonic=lambda: 3 * next(clock)))
    recipe = toy_recipe(checkpoint_seconds=15, keep_checkpoints=10)
    trainer = toy_trainer(tmp_path, recipe)
    trainer.fit()
    assert sorted(int(path.stem[5:]) for path in tmp_path.glob("checkpoints/step-*.pt")) == [9, 18, 25]
