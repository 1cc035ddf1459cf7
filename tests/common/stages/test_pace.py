"""A training that is told its minutes: what fits into them, and what the same command finds when it goes on."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from common.errors import RecipeError
from common.run.run_directory import RunDirectory
from common.stages import pace
from common.stages.request import Request, paced
from common.training.forecast import EVALUATION_WORK
from tests.toy import CPU, ToyData, ToyTask, toy_recipe


class Clock:
    """Seconds that only the work moves on."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class SlowTask(ToyTask):
    """Takes `seconds` of the clock for every sample it trains on; a lighter recipe's take half."""

    def __init__(self, recipe, clock, seconds):
        super().__init__(recipe)
        self._clock, self._seconds = clock, seconds

    def loss(self, batch):
        self._clock.now += self._seconds * len(batch["label"]) * (0.5 if self.recipe.training.log_every == 7 else 1)
        return super().loss(batch)


class LightRecipe(type(toy_recipe())):
    def lighter(self):
        return None if self.training.log_every == 7 else (("--training.log-every", "7"), 0.5)


def challenge(clock, seconds):
    return SimpleNamespace(
        recipe_class=LightRecipe,
        lighter=lambda recipe, folder: [way] if (way := recipe.lighter()) else [],
        open_data=lambda recipe, folder, device: ToyData(),
        build_task=lambda recipe, data: SlowTask(recipe, clock, seconds),
    )


def recipe_of(minutes, **fields):
    plain = toy_recipe(minutes=minutes)
    return LightRecipe(**{**vars(plain), **fields})


@pytest.fixture
def clock(monkeypatch):
    moved = Clock()
    monkeypatch.setattr(pace, "clock", moved)
    return moved


def spent(length, each, num_train, num_validation, extra):
    evaluations = round(length.epochs / length.evaluate_every) + extra
    return each * (length.epochs * num_train + evaluations * EVALUATION_WORK * num_validation)


@pytest.mark.parametrize(("num_train", "num_validation"), [(50, 23), (1_000, 200), (200, 5_000)])
@pytest.mark.parametrize("extra", [0, 1])
def test_steps_and_evaluations_fill_the_time(num_train, num_validation, extra):
    length = pace.affordable(600.0, 0.01, num_train, num_validation, extra=extra, batch=8)
    assert spent(length, 0.01, num_train, num_validation, extra) == pytest.approx(600.0)
    evaluations = length.epochs / length.evaluate_every
    assert 1 <= evaluations <= pace.EVALUATIONS
    if evaluations > 1:
        share = evaluations * EVALUATION_WORK * num_validation / (length.epochs * num_train)
        assert share <= pace.EVALUATION_SHARE * 1.1


def test_too_little_time_for_a_step_is_refused_with_what_it_takes():
    with pytest.raises(RecipeError, match="take 9 s here"):
        pace.affordable(5.0, 0.1, 1_000, 240, extra=0, batch=10)


@pytest.mark.parametrize("seconds", [0.001, 0.02])
def test_the_whole_ends_in_time(clock, seconds):
    recipe, told = pace.within(challenge(clock, seconds), recipe_of(1.0), Path(), CPU, ())
    length = pace.Length(recipe.training.epochs, recipe.training.evaluate_every)
    assert clock.now + spent(length, seconds, 50, 23, 0) == pytest.approx(60.0, rel=0.01)
    assert f"{1000 * seconds:g} ms a sample" in told


def test_few_epochs_are_made_more_by_lighter_samples_unless_the_user_chose_them(clock):
    slow = challenge(clock, 0.1)
    fitted = recipe_of(1.0, fit="data")
    fitted = replace(fitted, training=replace(fitted.training, epochs=40))
    light, told = pace.within(slow, fitted, Path(), CPU, ())
    assert light.training.log_every == 7
    assert "--training.log-every 7 since" in told
    clock.now = 0.0
    heavy, _ = pace.within(slow, fitted, Path(), CPU, ("--training.log-every", "2"))
    assert heavy.training.log_every == 2
    assert heavy.training.epochs < light.training.epochs
    clock.now = 0.0
    assert pace.within(slow, replace(fitted, fit="none"), Path(), CPU, ())[0].training.log_every == 2
    clock.now = 0.0
    enough = replace(fitted, training=replace(fitted.training, epochs=20))
    assert pace.within(slow, enough, Path(), CPU, ())[0].training.log_every == 2


def test_lighter_samples_are_tried_before_the_minutes_are_refused(clock):
    tight = challenge(clock, 0.52)  # after measuring 35 s are left, and a step and the evaluation after it take 39
    tight.open_data = lambda recipe, folder, device: ToyData(num_validation=200)
    light, told = pace.within(tight, recipe_of(1.0, fit="data"), Path(), CPU, ())
    assert light.training.log_every == 7
    assert "since about 1.2 of the 4" in told
    clock.now = 0.0
    with pytest.raises(RecipeError, match="take 39 s here"):
        pace.within(tight, recipe_of(1.0), Path(), CPU, ())


def test_a_run_that_has_begun_keeps_its_epochs(tmp_path, clock):
    run, console = RunDirectory(tmp_path / "run"), Console(quiet=True)
    request = Request(challenge(clock, 0.01), "toy", recipe_of(1.0))
    first = paced(request, run, tmp_path, CPU, console)
    run.create(first.recipe, {"model": "m", "recipe": "toy", "command": "", "data": {}, "asked": first.asked})
    clock.now = 0.0
    busier = replace(request, challenge=challenge(clock, 0.05))
    assert paced(busier, run, tmp_path, CPU, console) == replace(first, challenge=busier.challenge)
    other = replace(busier, recipe=recipe_of(2.0))
    assert paced(other, run, tmp_path, CPU, console).recipe.training.epochs != first.recipe.training.epochs


def test_several_processes_are_told_to_count_epochs(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(RecipeError, match="several processes"):
        paced(
            Request(challenge(Clock(), 0.01), "toy", recipe_of(1.0)), RunDirectory(tmp_path), tmp_path, CPU, Console()
        )
