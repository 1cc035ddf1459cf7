"""The moving average of weights: what it follows, how it begins, and that the start of a run never ships."""

import copy

import pytest
import torch
from torch import nn

from benchmarks.reads import Reads
from common.errors import RecipeError
from common.training.averages import MovingAverage


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def moved(module):
    """The module after a step in a random direction, statistics and counter included."""
    module(torch.randn(8, 3))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += torch.randn_like(parameter)
    return module


def test_the_average_is_the_written_out_sum():
    module, expected = network(), None
    average = MovingAverage(module, decay=0.6)
    for update in range(30):
        average.update(moved(module))
        share = min(0.6, update / (update + 9))
        now = [tensor.detach().clone() for tensor in (module[0].weight, module[1].running_mean)]
        expected = now if expected is None else [
            share * old + (1 - share) * new for old, new in zip(expected, now, strict=True)
        ]  # fmt: skip
    torch.testing.assert_close([average.module[0].weight, average.module[1].running_mean], expected)
    assert int(average.module[1].num_batches_tracked) == 30
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert not any(parameter.requires_grad for parameter in average.parameters())


@pytest.mark.parametrize("decay", [0.9, 0.99, 0.999, 0.9999])
@pytest.mark.parametrize("steps", [30, 100, 300, 3000])
def test_the_first_step_hardly_counts_at_the_end_of_any_run(steps, decay):
    module = nn.Linear(1, 1, bias=False)
    average = MovingAverage(module, decay)
    for step in range(steps):
        nn.init.constant_(module.weight, float(step == 0))
        average.update(module)
    assert 0 <= float(average.module.weight) < 0.01


def test_a_resumed_average_goes_on_bit_for_bit():
    module = network()
    whole = MovingAverage(module, 0.9)
    for _ in range(5):
        whole.update(moved(module))
    resumed = MovingAverage(network(), 0.9)
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    moved(module)
    whole.update(module)
    resumed.update(module)
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, resumed.module.state_dict()[name]), name


def test_shared_weights_are_averaged_once():
    module = network()
    module[2].weight = nn.Parameter(torch.ones(2, 4))
    module.append(nn.Linear(4, 2))[3].weight = module[2].weight
    average = MovingAverage(module, 0.5)
    average.update(module)
    with torch.no_grad():
        module[2].weight.fill_(2.0)
    average.update(module)
    assert average.module[3].weight is average.module[2].weight
    torch.testing.assert_close(average.module[2].weight.detach(), torch.full((2, 4), 1.9))


@pytest.mark.parametrize("decay", [0.0, 1.0, 1.5])
def test_impossible_decays_are_refused(decay):
    with pytest.raises(RecipeError, match="ema-decay"):
        MovingAverage(network(), decay)


def test_an_update_never_asks_the_device_and_is_two_calls():
    module = network()
    average = MovingAverage(module, 0.9)
    with Reads() as counted:
        average.update(module)
    assert counted.count == 0
    assert counted.names == ["_foreach_lerp_", "_foreach_copy_"]
