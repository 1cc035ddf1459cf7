"""Learning rates at the points that decide them."""

import pytest

from common.errors import RecipeError
from common.run.recipe import OptimizerConfig
from common.training.schedules import build_schedule, exponential_range


def test_cosine_warms_up_linearly_peaks_and_ends_at_zero():
    lr = build_schedule(OptimizerConfig(peak_lr=1.0, warmup_epochs=2), total_steps=100, steps_per_epoch=5)
    assert [lr(step) for step in (0, 4, 9, 10)] == pytest.approx([0.1, 0.5, 1.0, 1.0])
    assert lr(55) == pytest.approx(0.5)
    assert lr(100) == pytest.approx(0.0, abs=1e-12)


def test_multistep_divides_by_ten_at_each_milestone():
    config = OptimizerConfig(peak_lr=1.0, schedule="multistep", milestones=(43, 54))
    lr = build_schedule(config, total_steps=650, steps_per_epoch=10)
    assert [lr(step) for step in (429, 430, 539, 540)] == pytest.approx([1.0, 0.1, 0.1, 0.01])


def test_one_cycle_rises_then_falls_to_zero():
    lr = build_schedule(OptimizerConfig(peak_lr=1.0, schedule="one-cycle"), total_steps=100, steps_per_epoch=10)
    assert lr(0) == pytest.approx(0.04)
    assert lr(30) == pytest.approx(1.0)
    assert lr(99) < 0.001
    assert max(map(lr, range(100))) == pytest.approx(1.0)


def test_the_sweep_rises_in_equal_ratios():
    sweep = exponential_range(1e-4, 1.0, 5)
    assert [sweep(step) for step in range(5)] == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1.0])


def test_multistep_without_milestones_is_refused():
    with pytest.raises(RecipeError, match="milestones"):
        OptimizerConfig(schedule="multistep")


def test_polynomial_falls_with_the_square_of_what_is_left():
    config = OptimizerConfig(schedule="polynomial", peak_lr=1.0, warmup_epochs=0.2, milestones=(0.5, 1.5))
    schedule = build_schedule(config, 100, 100)
    assert [schedule(step) for step in (9, 19, 49, 50)] == pytest.approx([0.5, 1, 1, 1])
    assert [schedule(step) for step in (100, 125, 150, 170)] == pytest.approx([0.25, 0.0625, 0, 0])


@pytest.mark.parametrize("milestones", [(), (3.0,), (3.0, 2.0), (-1.0, 2.0)])
def test_polynomial_without_two_rising_milestones_is_refused(milestones):
    with pytest.raises(RecipeError, match="two rising epochs"):
        OptimizerConfig(schedule="polynomial", milestones=milestones)
