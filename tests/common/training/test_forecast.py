"""The forecast of a training: its time within a tenth, its advice where it is long and only there."""

import json

import pytest

from challenges.registry import MODELS
from common.report.forecast import forecast_section
from common.run.overrides import apply_overrides
from common.run.run_directory import RunDirectory
from common.training.advice import ten_minutes
from common.training.cadence import Cadence
from common.training.forecast import Forecaster, recorded
from tests.toy import ToyData, ToyTask, toy_recipe, toy_trainer


class Clock:
    """Time that passes only while something works."""

    now = 1000.0

    def __call__(self):
        return self.now


class SlowTask(ToyTask):
    """Takes `step_seconds` for a step and `evaluation_seconds` for an evaluation on its clock; the first steps more."""

    def __init__(self, recipe, clock, step_seconds, evaluation_seconds=0.0):
        super().__init__(recipe)
        self.clock, self.step_seconds, self.evaluation_seconds = clock, step_seconds, evaluation_seconds
        self.steps = 0

    def loss(self, batch):
        self.steps += 1
        self.clock.now += self.step_seconds * (3 if self.steps <= 2 else 1)
        return super().loss(batch)

    def evaluate(self, batches):
        self.clock.now += self.evaluation_seconds
        return super().evaluate(batches)


def trained(folder, step_seconds, *, evaluation_seconds=0.0, late=False, records=None, **training):
    """Train the toy with a forecast; returns what was told and the record."""
    recipe, clock, told = toy_recipe(checkpoint_every=1000, **training), Clock(), []
    data = ToyData(num_train=200)
    forecaster = Forecaster(
        recipe, (data.num_train, data.num_validation), told.append,
        runs_late=late, clock=clock, records=records or folder / "none",
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    task = SlowTask(recipe, clock, step_seconds, evaluation_seconds)
    toy_trainer(folder, recipe, task=task, data=data, observers=(forecaster,)).fit()
    return told, json.loads((folder / "forecast.json").read_text())


@pytest.mark.parametrize("step_seconds", [0.002, 0.4, 7.0])
@pytest.mark.parametrize("evaluate_every", [1, 4])
def test_the_time_is_forecast_within_a_tenth(tmp_path, step_seconds, evaluate_every):
    evaluation = step_seconds * 23 / 8 / 3  # 23 samples in batches of 8, the pass forward alone
    told, record = trained(
        tmp_path / "run", step_seconds, evaluation_seconds=evaluation, epochs=8, evaluate_every=evaluate_every
    )
    assert record["took"]["seconds"] == pytest.approx(record["seconds"], rel=0.1)
    assert record["step_seconds"] == pytest.approx(step_seconds)
    assert record["evaluations"] == {1: 8, 4: 2}[evaluate_every]
    assert len(told) == 1
    assert told[0].startswith("forecast: ")


def test_an_evaluation_that_takes_longer_than_thought_corrects_the_forecast(tmp_path):
    told, record = trained(tmp_path / "run", 0.1, evaluation_seconds=4.0, epochs=8, evaluate_every=1)
    assert record["seconds"] < 0.7 * record["took"]["seconds"]
    assert record["corrected"]["seconds"] == pytest.approx(record["took"]["seconds"], rel=0.1)
    assert record["corrected"]["evaluation_seconds"] == pytest.approx(4.0)
    assert record["corrected"]["evaluations"] == 7
    assert "corrected after the first evaluation" in told[1]
    assert len(told) == 3
    assert "after the first evaluation" in forecast_section(record).html


def test_an_evaluation_between_two_steps_is_no_step(tmp_path):
    _, record = trained(tmp_path / "run", 0.01, evaluation_seconds=5.0, epochs=2, evaluate_every=0.16)  # every 4 steps
    assert record["step_seconds"] == pytest.approx(0.01)
    assert record["took"]["seconds"] == pytest.approx(record["seconds"], rel=0.1)


def test_a_device_that_answers_early_is_timed_where_it_was_logged(tmp_path):
    class Late(SlowTask):
        """Time passes where the device is read: at every other step."""

        def loss(self, batch):
            self.steps += 1
            self.clock.now += 2 * self.step_seconds * (self.steps % 2 == 0)
            return ToyTask.loss(self, batch)

    recipe, clock = toy_recipe(epochs=8, log_every=2, evaluate_every=8, checkpoint_every=1000), Clock()
    data = ToyData(num_train=200)
    forecaster = Forecaster(recipe, (200, 23), lambda _: None, runs_late=True, clock=clock, records=tmp_path)
    forecaster_memory = "common.training.forecast._device_memory"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forecaster_memory, lambda: 123)
        task = Late(recipe, clock, 0.3)
        toy_trainer(tmp_path, recipe, task=task, data=data, observers=(forecaster,)).fit()
    record = json.loads((tmp_path / "forecast.json").read_text())
    assert record["step_seconds"] == pytest.approx(0.3)
    assert record["device_bytes"] == 123


def test_memory_is_what_the_process_holds(tmp_path):
    told, record = trained(tmp_path / "run", 0.1)
    assert 50e6 < record["memory_bytes"] <= record["expected_bytes"] < 100e9
    assert record["took"]["memory_bytes"] >= record["memory_bytes"]
    assert "GB at most" in told[0]


@pytest.mark.parametrize(("step_seconds", "long"), [(17.0, False), (19.0, True)])  # 200 steps; 3,600 s are the limit
def test_only_what_takes_more_than_an_hour_is_advised(tmp_path, step_seconds, long):
    told, _ = trained(tmp_path / "run", step_seconds, epochs=8, evaluate_every=8)
    assert ("ten minutes" in " ".join(told)) is long
    assert len(told) == 1 + long


def test_the_advice_takes_ten_minutes(tmp_path):
    told, _ = trained(tmp_path / "slow", 30.0, epochs=8, evaluate_every=4)
    flags = told[1].split("with ", 1)[1].split()
    assert flags[0] == "--training.epochs"
    _, record = trained(tmp_path / "short", 30.0, evaluation_seconds=29.0, epochs=float(flags[1]), evaluate_every=4)
    assert 480 < record["took"]["seconds"] - 2 * 2 * 30 < 600  # without what the first two steps take more


def ways_of(advice):
    """The lists of flags in a sentence of advice."""
    return [way.split() for way in advice.split("with ", 1)[1].split(", or with ")]


RECIPES = [(model, name) for model, entry in MODELS.items() for name in entry.recipes()]


@pytest.mark.parametrize(("model", "name"), RECIPES)
@pytest.mark.parametrize(("step_seconds", "evaluation_seconds"), [(0.5, 3.0), (20.0, 500.0)])
def test_the_advice_of_every_recipe_can_be_typed(model, name, step_seconds, evaluation_seconds):
    recipe, steps_per_epoch = MODELS[model].recipes()[name], 500.0
    advice = ten_minutes(recipe, steps_per_epoch, step_seconds, evaluation_seconds)
    if "nothing shortens" in advice:
        assert recipe.training.epochs * steps_per_epoch * step_seconds < 600
        return
    for flags in ways_of(advice):
        changed = apply_overrides(recipe, flags, "kit train")
        cadence = Cadence.of(changed.training, round(steps_per_epoch * recipe.training.batch_size))
        evaluations = sum(map(cadence.evaluates_after, range(1, cadence.total + 1)))
        work = 1.0 if flags[0] == "--training.epochs" else recipe.lighter()[1]
        assert work * (cadence.total * step_seconds + evaluations * evaluation_seconds) < 660


def test_where_one_evaluation_takes_too_long_no_epochs_are_named():
    assert "nothing shortens" in ten_minutes(toy_recipe(), 100, 50.0, 700.0)


def outcome(seconds, steps, model="AMD EPYC", cores=64, created="2026-11-21T11:13:16+00:00", name="toy"):
    system = {"cpu": {"model": model, "cores": cores}, "gpus": [], "device": "cpu"}
    return {"model": "m", "recipe": name, "steps": steps, "seconds": seconds, "system": system, "created": created}


def test_other_machines_are_told_where_they_did_the_same(tmp_path, monkeypatch):
    here = {"model": "AMD EPYC", "cores": 2, "features": []}
    monkeypatch.setattr("common.training.forecast.processor", lambda: here)
    records = tmp_path / "records"
    records.mkdir()
    gpu = outcome(60, 100, created="2026-11-22T11:13:16+00:00")
    gpu["system"] |= {"gpus": [{"name": "NVIDIA H100"}], "device": "cuda:0"}
    found = [outcome(767, 100), outcome(1, 99), outcome(2, 100, name="other"), outcome(3, 100, cores=2), gpu]
    for number, record in enumerate(found):
        (records / f"{number}.json").write_text(json.dumps(record))
    (records / "damaged.json").write_text("{")
    run = RunDirectory(tmp_path / "run")
    run.create(toy_recipe(), {"model": "m", "recipe": "toy", "command": "", "data": {}})
    assert recorded(run, 100, records) == [
        "on NVIDIA H100 it took 1 min 00 s (2026-11-22)",
        "on AMD EPYC, 64 cores it took 12 min 47 s (2026-11-21)",
    ]
    assert recorded(run, 100, tmp_path / "none") == []


def test_the_page_holds_the_forecast_against_what_it_took(tmp_path):
    _, record = trained(tmp_path / "run", 0.4, epochs=8)
    section = forecast_section(record)
    assert section.html.count("1 min 2") == 2  # 204 times 0.4 s and evaluations, forecast and taken
    assert "GB" in section.html
    assert forecast_section({**record, "took": None}) is not None
    assert forecast_section({}) is None
