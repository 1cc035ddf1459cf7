"""One optimizer step: precision, scaling, clipping, freezing."""

import contextlib
from dataclasses import replace

import pytest
import torch

from benchmarks.reads import Reads
from common.errors import RecipeError
from common.machine.precision import DeviceScaler, Precision, select_precision
from common.run.recipe import OptimizerConfig
from common.training.averages import MovingAverage
from common.training.step import TrainStep
from common.training.task import StepSettings
from tests.toy import CPU, FP32, ToyData, ToyTask, toy_recipe


def build(precision=FP32, **options):
    recipe = toy_recipe()
    torch.manual_seed(0)
    task = ToyTask(recipe).train()
    return task, TrainStep(task, task.optimizers(100, 10), StepSettings(precision, CPU, **options))


def batch():
    return next(ToyData().train_batches(0, 8, 1))


@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16"])
def test_every_precision_learns_a_repeated_batch(name):
    _, step = build(select_precision(name, CPU))
    losses = [float(step([batch()], i)["loss"]) for i in range(30)]
    assert losses[-1] < 0.5 * losses[0]


def test_half_precision_losses_stay_near_full_precision():
    full = float(build()[1]([batch()], 0)["loss"])
    for dtype in (torch.bfloat16, torch.float16):
        assert float(build(Precision("x", dtype))[1]([batch()], 0)["loss"]) == pytest.approx(full, rel=0.02)


def test_gradients_are_clipped_and_their_norm_reported():
    task, step = build(clip_norm=1e-3)
    before = [p.detach().clone() for p in task.parameters()]
    report = step([batch()], 50)
    assert float(report["gradient_norm"]) > 1e-3
    moved = torch.cat([(p.detach() - b).flatten() for p, b in zip(task.parameters(), before, strict=True)]).norm()
    assert 0 < float(moved) <= 2e-3 * 0.1  # the learning rate times the clipped norm, and a little decay


def test_clipping_equals_torch_without_a_scaler():
    task, step = build(clip_norm=0.1)
    reference, _ = build()
    step([batch()], 50)
    optimizer = reference.optimizers(100, 10)[0]
    optimizer.set_lr(50)
    reference.loss(batch())["loss"].backward()
    torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.1)
    optimizer.optimizer.step()
    for ours, theirs in zip(task.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_fp16_overflow_lowers_the_scale_and_skips_the_step():
    task, step = build(select_precision("fp16", CPU))
    before = [p.detach().clone() for p in task.parameters()]
    huge = {**batch(), "features": batch()["features"] * 1e30}
    scale = step.scaler.get_scale()
    step([huge], 0)
    assert step.scaler.get_scale() < scale
    assert all(torch.equal(p, b) for p, b in zip(task.parameters(), before, strict=True))


def test_frozen_parameters_do_not_move():
    task, step = build()
    task.model[0].requires_grad_(False)
    step.rebuild()
    before = task.model[0].weight.detach().clone()
    step([batch()], 5)
    assert torch.equal(task.model[0].weight, before)


@pytest.mark.parametrize("name", ["sgd", "lamb"])
def test_a_step_with_clipping_and_an_average_never_asks_the_device(name):
    """As on a GPU, whose scaler is the one here."""
    recipe = replace(toy_recipe(), optimizer=OptimizerConfig(name=name, peak_lr=0.01))
    task = ToyTask(recipe).train()
    average = MovingAverage(task, 0.9)
    step = TrainStep(task, task.optimizers(100, 10), StepSettings(FP32, CPU, clip_norm=1.0, average=average))
    step.scaler = DeviceScaler("cpu", init_scale=1.0, growth_interval=2**31 - 1)
    batches = [batch() for _ in range(3)]
    with Reads() as counted:
        for number, given in enumerate(batches):
            step([given], number)
    assert counted.count == 0


def test_a_capture_lets_other_threads_allocate_and_takes_one_shape(monkeypatch):
    """With torch.cuda's part played here: what is captured, how, and with what inputs it is replayed."""
    modes = []

    class Graph:
        def replay(self):
            modes.append("replayed")

    class Stream:
        def wait_stream(self, other): ...

    def graph(_, *, capture_error_mode="global"):
        modes.append(capture_error_mode)
        return contextlib.nullcontext()

    for name, part in {
        "CUDAGraph": Graph, "Stream": Stream, "current_stream": Stream, "graph": graph,
        "stream": lambda _: contextlib.nullcontext(),
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, part)
    task, step = build(use_cuda_graphs=True)
    statistics = task.model[1].running_mean.clone()
    step([batch()], 0)
    assert modes == ["thread_local", "replayed"]
    assert torch.equal(task.model[1].running_mean, statistics)  # a replay, which does nothing here, would move them
    with pytest.raises(RecipeError, match=r"\(4, 8\) after \(8, 8\)"):
        step([{name: value[:4] for name, value in batch().items()}], 1)


@pytest.mark.gpu
def test_a_captured_step_equals_an_eager_one_on_a_gpu():
    device = torch.device("cuda")
    results = []
    for captured in (False, True):
        torch.manual_seed(0)
        task = ToyTask(toy_recipe()).to(device).train()
        step = TrainStep(task, task.optimizers(100, 10), StepSettings(FP32, device, use_cuda_graphs=captured))
        data = ToyData().train_batches(0, 8, 1)
        for index in range(5):
            step([{name: value.to(device) for name, value in next(data).items()}], index)
        results.append([p.detach().clone() for p in task.state_dict().values()])
    for eager, replayed in zip(*results, strict=True):
        torch.testing.assert_close(eager, replayed)
