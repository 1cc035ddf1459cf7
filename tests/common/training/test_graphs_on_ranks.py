"""CUDA graphs under data parallelism: each process replays its own pass, and the gradients meet outside of it."""

import pytest
import torch

from common.errors import RecipeError
from common.machine.distributed import World, from_all_ranks
from common.run.recipe import TrainingConfig
from common.training import step as step_module
from common.training.step import TrainStep
from common.training.task import StepSettings
from tests.ranks import on_ranks
from tests.toy import CPU, FP32, ToyData, ToyTask, toy_recipe


class Replayed:
    """What a captured pass does on a GPU: the same work on other values, into the gradients that there are."""

    def __init__(self, run, task, batch, share):
        self._run, self._task = run, task

    def __call__(self, batch, share):
        for parameter in self._task.parameters():
            if parameter.grad is not None:
                parameter.grad.zero_()
        return self._run(batch, share)


def weights_after(world: World, captured: bool, clip_norm: float | None) -> list[torch.Tensor]:
    torch.manual_seed(world.rank)  # processes that start apart: the main one's weights count
    task = ToyTask(toy_recipe()).train()
    settings = StepSettings(FP32, CPU, world.size, clip_norm, use_cuda_graphs=captured)
    step = TrainStep(task, task.optimizers(100, 10), settings)
    batches = ToyData().train_batches(0, 8, 1)
    for number in range(5):
        batch = {name: value[world.rank :: world.size] for name, value in next(batches).items()}
        if number == 3:  # one process's gradients are not finite: no process updates
            batch["features"] = batch["features"] * (float("nan") if world.rank else 1.0)
        step([batch], number)
    return [parameter.detach() for parameter in task.parameters()]


def both_ways(world: World, clip_norm: float | None) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step_module, "_CapturedPass", Replayed)
        eager, captured = (weights_after(world, way, clip_norm) for way in (False, True))
    for other in from_all_ranks(captured):
        torch.testing.assert_close(other, captured, rtol=0, atol=0)
    torch.testing.assert_close(captured, eager)
    assert all(weight.isfinite().all() for weight in captured)


@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_two_processes_learn_by_captured_passes_what_they_learn_without(clip_norm):
    on_ranks(2, both_ways, clip_norm)


def test_what_a_capture_cannot_hold_is_refused_with_its_reason():
    assert TrainingConfig(cuda_graphs=True, micro_batch=128).accumulation(2) == 1
    with pytest.raises(RecipeError, match=r"cuda-graphs was chosen with 2 micro-batches"):
        TrainingConfig(cuda_graphs=True, micro_batch=64).accumulation(2)
    with pytest.raises(RecipeError, match=r"sync-batchnorm and 2 processes"):
        TrainingConfig(cuda_graphs=True, sync_batchnorm=True).accumulation(2)
    assert TrainingConfig(cuda_graphs=True, sync_batchnorm=True).accumulation(1) == 1
