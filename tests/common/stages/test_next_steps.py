"""Each rule of what to try next: when it speaks, when it is silent, and what command it gives."""

import dataclasses

import pytest

from common.run.evidence import Evidence
from common.run.recipe import Target
from common.run.result import Interval, Kit, Result
from common.stages import next_steps
from common.stages.next_steps import Facts

RESULT = Result(
    model="m", recipe="own", metric="top1", value=0.8, interval=None, target=None, verdict="not-comparable", reason="",
    metrics={"top1": 0.8}, steps=40, epochs=4, wall_seconds=1, samples_per_s=None, sample_unit="image", created="",
    report="", kit=Kit("1"),
)  # fmt: skip
AGAIN = ("kit", "challenge", "m", "--recipe", "own", "--data", "my data", "--training.epochs", "4")


def facts(values=(), waits=(), evidence=None, data="my data", **changed):
    log = [
        {"kind": "validation", "step": 10 * place, "epoch": float(place), "top1": value}
        for place, value in enumerate(values, 1)
    ]
    log += [{"kind": "train", "step": place, "epoch": 0.1, "data_wait": wait} for place, wait in enumerate(waits, 1)]
    changed = {"value": values[-1] if values else RESULT.value, **changed}
    return Facts(dataclasses.replace(RESULT, **changed), log, evidence or Evidence(), data, AGAIN)


def test_a_scarce_class_is_named_with_the_check():
    counts = {"cat": 400, "dog": 300, "eel": 9}
    told = next_steps.scarce_class(facts(evidence=Evidence(counts=counts, unit="photographs")))
    assert told.startswith("eel has 9 training photographs only")
    assert told.endswith("kit check 'my data'")


@pytest.mark.parametrize(
    ("counts", "data"),
    [
        ({"cat": 400, "eel": 9}, ""),
        ({"cat": 20, "eel": 9}, "d"),
        ({"cat": 400, "eel": 300}, "d"),
        ({"eel": 1}, "d"),
        ({}, "d"),
    ],
)
def test_classes_of_generated_data_and_even_ones_are_not(counts, data):
    assert not next_steps.scarce_class(facts(evidence=Evidence(counts=counts), data=data))


def test_what_was_learnt_by_heart_ends_at_the_best_step():
    told = next_steps.learnt_by_heart(facts([0.5, 0.7, 0.6, 0.6]))
    assert "best at step 20 (0.7000)" in told
    assert told.endswith("kit challenge m --recipe own --data 'my data' --training.epochs 2")


@pytest.mark.parametrize("values", [[0.5, 0.6, 0.7], [0.5, 0.7, 0.699], [0.7, 0.5], []])
def test_rising_wobbling_and_short_runs_were_not(values):
    assert not next_steps.learnt_by_heart(facts(values))


def test_a_best_step_outside_the_last_ones_interval_was_not_luck():
    assert next_steps.learnt_by_heart(facts([0.5, 0.7, 0.6], interval=Interval(0.5, 0.69, "Wilson")))


def test_a_best_step_within_the_last_ones_interval_was_lucky():
    """Dogs and cats, 280 photographs: 0.9071 at a step and 0.8893 at the end, whose interval reaches 0.9209."""
    values = [0.71, 0.80, 0.86, 0.87, 0.8857, 0.9071, 0.875, 0.8893]
    assert not next_steps.learnt_by_heart(facts(values, interval=Interval(0.8472, 0.9209, "Wilson")))


def test_what_came_after_the_training_can_make_up_for_it():
    assert not next_steps.learnt_by_heart(facts([0.5, 0.7, 0.6], value=0.75))


def test_a_lower_metric_can_be_the_better_one():
    target = Target(metric="top1", value=0.1, source="", protocol="", higher_is_better=False)
    assert "best at step 10" in next_steps.learnt_by_heart(facts([0.2, 0.3, 0.4], target=target))
    assert not next_steps.learnt_by_heart(facts([0.4, 0.3, 0.2], target=target))


def test_what_still_rises_gets_twice_the_epochs():
    told = next_steps.still_rising(facts([0.5, 0.6, 0.7]))
    assert "from 0.6000 to 0.7000" in told
    assert told.endswith("--training.epochs 6")
    assert "target" not in told
    target = Target(metric="top1", value=0.75, source="", protocol="")
    assert "target is that near" in next_steps.still_rising(facts([0.5, 0.6, 0.7], target=target, verdict="missed"))
    assert not next_steps.still_rising(facts([0.5, 0.7, 0.704]))
    assert not next_steps.still_rising(facts([0.7]))
    assert not next_steps.still_rising(facts([0.5, 0.8, 0.6, 0.7]))  # which is told to end at the second


def test_small_objects_are_told_where_there_is_a_way():
    flags = ("--preprocessing.crop", "512", "--preprocessing.resize", "512")
    told = next_steps.small_objects(facts(evidence=Evidence(too_small={"ant": 0.4, "bee": 0.1}, for_smaller=flags)))
    assert told.startswith("40% of ant")
    assert told.endswith("--preprocessing.crop 512 --preprocessing.resize 512")
    assert not next_steps.small_objects(facts(evidence=Evidence(too_small={"ant": 0.1}, for_smaller=flags)))
    assert not next_steps.small_objects(facts(evidence=Evidence(too_small={"ant": 0.9})))


def test_waiting_is_told_but_for_the_first_steps():
    assert "waited for data 50%" in next_steps.waited_for_data(facts(waits=[0.9, 0.5, 0.5, 0.5]))
    assert not next_steps.waited_for_data(facts(waits=[0.9, 0.1, 0.1, 0.1]))
    assert not next_steps.waited_for_data(facts())


def test_three_sentences_at_most_from_a_run(monkeypatch):
    monkeypatch.setattr(next_steps, "RULES", [lambda _, n=n: n for n in ("a", "", "b", "c", "d")])

    class Run:
        def readable_metrics(self):
            return [], [3]

        def description(self):
            return {"model": "m", "recipe": "own", "overrides": ["--x", "1"], "data": {"root": "/d"}}

    assert next_steps.next_steps(Run(), RESULT, Evidence()) == ["a", "b", "c"]
    assert next_steps.again(Run().description(), "d")[-4:] == ("--data", "d", "--x", "1")


def test_a_flag_takes_the_place_of_an_earlier_one():
    earlier = dataclasses.replace(facts(), again=("kit", "challenge", "m", "--a", "1", "--b=2", "--c", "3"))
    assert earlier.command("--a", "5", "--b", "6") == "kit challenge m --c 3 --a 5 --b 6"
