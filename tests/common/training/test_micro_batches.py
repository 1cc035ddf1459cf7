"""The largest micro-batch that fits, found on a device with as little memory as a test says."""

import copy

import pytest
import torch

from common.errors import RecipeError, TrainingError
from common.failures import explain
from common.machine.distributed import ALONE
from common.training.micro_batches import accumulation, fewest_parts
from tests.toy import CPU, FP32, ToyData, ToyTask, toy_recipe

REFUSED = (
    "CUDA out of memory. Tried to allocate 512.00 MiB. GPU 0 has a total capacity of 14.56 GiB of which 105.81 MiB is "
    "free. Including non-PyTorch memory, this process has 14.45 GiB memory in use."
)


class SmallDevice(ToyTask):
    """Holds so many samples, the optimizer's state beside them."""

    def __init__(self, room: int) -> None:
        super().__init__(toy_recipe())
        self.room, self.tried = room, []

    def loss(self, batch):
        self.tried.append(len(batch["label"]))
        if len(batch["label"]) > self.room:
            raise torch.OutOfMemoryError(REFUSED)
        return super().loss({**batch, "features": torch.nn.functional.dropout(batch["features"], 0.1)})


@pytest.mark.parametrize(
    ("room", "tried"), [(24, [24]), (12, [24, 12]), (7, [24, 12, 8, 6]), (2, [24, 12, 8, 6, 4, 3, 2])]
)
def test_the_largest_part_that_fits_is_found_and_nothing_else_changes(room, tried):
    task = SmallDevice(room)
    before, state = copy.deepcopy(task.state_dict()), torch.get_rng_state()
    parts = fewest_parts(task, ToyData(), toy_recipe(batch_size=24).training, ALONE, CPU, FP32)
    assert task.tried == tried
    assert parts == 24 // tried[-1]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
    assert all(parameter.grad is None for parameter in task.parameters())


def test_where_nothing_fits_it_is_told_how_much_was_needed():
    with pytest.raises(TrainingError, match=r"14\.95 GiB were needed at this point, of 14\.56 GiB"):
        fewest_parts(SmallDevice(1), ToyData(), toy_recipe(batch_size=8).training, ALONE, CPU, FP32)


def test_another_error_is_not_taken_for_too_little_memory():
    task = SmallDevice(24)
    task.loss = lambda batch: 1 / 0
    with pytest.raises(ZeroDivisionError):
        fewest_parts(task, ToyData(), toy_recipe(batch_size=8).training, ALONE, CPU, FP32)


def test_a_cpu_takes_the_whole_and_a_given_size_is_kept():
    for micro_batch, parts in (("auto", 1), (None, 1), (2, 4)):
        training = toy_recipe(micro_batch=micro_batch).training
        assert accumulation(SmallDevice(1), ToyData(), training, ALONE, CPU, FP32) == parts
    with pytest.raises(RecipeError, match="start at 1"):
        toy_recipe(micro_batch=0)


class Joined(SmallDevice):
    """One whose pass forward takes the other processes."""

    passes_alone = False


def test_what_takes_other_processes_is_not_tried_out():
    task = Joined(1)
    assert accumulation(task, ToyData(), toy_recipe().training, ALONE, torch.device("cuda"), FP32) == 1
    assert not task.tried


def test_the_error_of_a_full_gpu_adds_up_what_it_held_and_was_asked_for():
    assert "(14.95 GiB were needed at this point, of 14.56 GiB)" in str(explain(torch.OutOfMemoryError(REFUSED)))
