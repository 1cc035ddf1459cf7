"""Parameter groups, optimizers against written-out updates, and weight averages."""

import copy
import math
import sys
import types

import pytest
import torch
from torch import nn

from benchmarks.reads import Reads
from common.errors import DeviceError, RecipeError
from common.machine.precision import DeviceScaler
from common.run.recipe import OptimizerConfig
from common.training.optimizers import Ftrl, Lamb, build_optimizer, parameter_groups, stage_scales
from common.training.schedules import build_schedule
from common.training.task import ScheduledOptimizer

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 36, 5))


def train(module, optimizer, steps=4, scaler=None, spoil=None):
    """A few steps on fixed data; at step `spoil` the gradients become infinite."""
    random = torch.Generator().manual_seed(1)
    device = next(module.parameters()).device
    for step in range(steps):
        images = torch.randn(6, 3, 8, 8, generator=random).to(device)
        loss = nn.functional.cross_entropy(module(images), torch.arange(6, device=device) % 5)
        loss = loss * torch.inf if step == spoil else loss
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        optimizer.zero_grad()
    return module


def groups_of(module, **options):
    return parameter_groups(module, **({"weight_decay": 1e-2, "decay_norm_and_bias": False} | options))


def assert_same_weights(first, second, **tolerance):
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a, b, **tolerance)


# ---- groups


def test_normalisation_and_biases_are_not_decayed():
    module = network()
    decayed, spared = groups_of(module)
    assert decayed["params"] == [module[0].weight, module[4].weight]
    assert spared["params"] == [module[0].bias, module[2].weight, module[2].bias, module[4].bias]
    assert (decayed["weight_decay"], spared["weight_decay"]) == (1e-2, 0.0)
    assert [group["lr_scale"] for group in (decayed, spared)] == [1.0, 1.0]


def test_everything_is_decayed_when_asked():
    (group,) = groups_of(network(), decay_norm_and_bias=True)
    assert len(group["params"]) == 6
    assert group["weight_decay"] == 1e-2


def test_every_parameter_is_in_exactly_one_group():
    module = nn.ModuleDict({"a": network(), "b": network()})
    module["b"][0].weight = module["a"][0].weight  # shared
    module["a"][4].weight.requires_grad_(False)  # frozen, to be thawed later
    groups = groups_of(module, lr_scales={"a": 0.1, "a.4": 0.5})
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in module.parameters())
    names = [group["name"] for group in groups]
    assert len(set(names)) == len(names)
    assert names == [group["name"] for group in groups_of(module, lr_scales={"a.4": 0.5, "a": 0.1})]


def test_the_longest_matching_name_sets_the_scale():
    module = nn.ModuleDict({"layer1": network(), "layer10": network()})
    scales = {}
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    for group in groups_of(module, lr_scales={"layer1": 0.1, "layer1.4": 0.5}):
        scales |= {names[id(parameter)]: group["lr_scale"] for parameter in group["params"]}
    assert scales["layer1.0.weight"] == 0.1
    assert scales["layer1.4.bias"] == 0.5
    assert scales["layer10.0.weight"] == 1.0


def test_stages_learn_slower_towards_the_stem():
    module = nn.ModuleDict({"model": network()})
    model = module["model"]
    stages = [("stem", nn.ModuleList([model[0], model[2]])), ("head", model[4])]
    scales = stage_scales(module, stages, 0.25)
    assert scales == {
        "model.0.weight": 0.25,
        "model.0.bias": 0.25,
        "model.2.weight": 0.25,
        "model.2.bias": 0.25,
        "model.4.weight": 1.0,
        "model.4.bias": 1.0,
    }
    groups = groups_of(module, lr_scales=scales)
    assert [(group["lr_scale"], len(group["params"])) for group in groups] == [(0.25, 1), (0.25, 3), (1.0, 1), (1.0, 1)]


def test_scales_reach_the_learning_rate():
    config = OptimizerConfig(peak_lr=0.4, schedule="constant")
    optimizer = build_optimizer(config, groups_of(network(), lr_scales={"0": 0.5}), "cpu")
    ScheduledOptimizer(optimizer, build_schedule(config, 10, 10)).set_lr(0)
    assert {group["lr_scale"]: group["lr"] for group in optimizer.param_groups} == {0.5: 0.2, 1.0: 0.4}


@pytest.mark.parametrize(("scales", "match"), [({"layer9": 0.1}, "no parameter does"), ({"0": -1.0}, "negative")])
def test_scales_that_cannot_be_meant_are_refused(scales, match):
    with pytest.raises(RecipeError, match=match):
        groups_of(network(), lr_scales=scales)


# ---- implementations


@pytest.mark.parametrize("implementation", ["auto", "foreach", "fused"])
@pytest.mark.parametrize(
    "config",
    [
        OptimizerConfig(name="sgd", peak_lr=0.1, momentum=0.875),
        OptimizerConfig(name="sgd", peak_lr=0.1, nesterov=True),
        OptimizerConfig(name="adamw", peak_lr=0.01, betas=(0.8, 0.95)),
    ],
    ids=["sgd", "nesterov", "adamw"],
)
def test_every_implementation_equals_pytorchs_plain_loop(config, implementation):
    config = OptimizerConfig(**{**vars(config), "implementation": implementation})
    plain, built = network(), network()
    options = {"lr": config.peak_lr, "foreach": False, "fused": False}
    if config.name == "sgd":
        reference = torch.optim.SGD(groups_of(plain), momentum=config.momentum, nesterov=config.nesterov, **options)
    else:
        reference = torch.optim.AdamW(groups_of(plain), betas=config.betas, **options)
    train(plain, reference)
    train(built, build_optimizer(config, groups_of(built), "cpu"))
    assert_same_weights(built, plain)


@pytest.mark.parametrize("name", ["adamw", "sgd", "adagrad"])
@pytest.mark.parametrize("gradient_layout", [torch.channels_last, torch.contiguous_format])
def test_fused_kernels_pair_each_channels_last_weight_with_its_own_gradient(name, gradient_layout):
    """torch's kernel reads memory from end to end, whatever the strides of the two say."""
    start, gradient = torch.randn(2, 8, 4, 3, 3).unbind()
    weights = []
    for implementation, weight_layout in (("fused", torch.channels_last), ("foreach", torch.contiguous_format)):
        weight = torch.nn.Parameter(start.clone(memory_format=weight_layout))
        config = OptimizerConfig(name=name, peak_lr=0.01, implementation=implementation)
        optimizer = build_optimizer(config, [{"params": [weight], "weight_decay": 0.05}], "cpu")
        for step in range(1, 4):
            weight.grad = (step * gradient).contiguous(memory_format=gradient_layout)
            optimizer.step()
        if name == "adamw":
            assert optimizer.state[weight]["exp_avg"].stride() == weight.stride()
        weights.append(weight.detach())
    torch.testing.assert_close(*weights)


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb"])
def test_automatic_choice_is_deterministic(name):
    config = OptimizerConfig(name=name, peak_lr=0.01)
    runs = [network(), network()]
    for module in runs:
        train(module, build_optimizer(config, groups_of(module), "cpu"))
    assert_same_weights(*runs, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb"])
def test_a_step_with_infinite_gradients_changes_nothing(name):
    def run(steps, spoil):
        module = network()
        optimizer = build_optimizer(OptimizerConfig(name=name, peak_lr=0.01), groups_of(module), "cpu")
        return train(module, optimizer, steps, torch.amp.GradScaler("cpu", init_scale=4.0), spoil)

    assert_same_weights(run(1, spoil=None), run(2, spoil=1), rtol=0, atol=0)
    clean = network()
    train(clean, build_optimizer(OptimizerConfig(name=name, peak_lr=0.01), groups_of(clean), "cpu"), 1)
    assert_same_weights(run(1, spoil=None), clean)


@pytest.mark.parametrize("implementation", ["fused", "foreach"])
@pytest.mark.parametrize("kind", [torch.amp.GradScaler, DeviceScaler])
def test_a_first_step_with_infinite_gradients_leaves_momentum_at_rest(monkeypatch, kind, implementation):
    """torch's fused kernel takes the first momentum from memory that nobody wrote: here it holds the worst."""
    config = OptimizerConfig(name="sgd", peak_lr=0.1, momentum=0.9, implementation=implementation)
    modules = [network(), network()]
    train(modules[0], build_optimizer(config, groups_of(modules[0]), "cpu"), 3)
    whole = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda tensor, **options: whole(tensor, **options).fill_(1e37))
    spoilt = build_optimizer(config, groups_of(modules[1]), "cpu")
    scaler = kind("cpu", init_scale=2.0**16)
    weights = copy.deepcopy(modules[1].state_dict())
    train(modules[1], spoilt, 1, scaler, spoil=0)
    assert all(torch.equal(weights[name], value) for name, value in modules[1].named_parameters())
    modules[1].load_state_dict(weights)
    train(modules[1], spoilt, 3, scaler)
    assert_same_weights(*modules, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "implementation"),
    [
        *[("sgd", "fused"), ("adamw", "fused"), ("adagrad", "fused"), ("lamb", "auto"), ("ftrl", "auto")],
        *[("sgd", "foreach"), ("adamw", "foreach"), ("adagrad", "foreach"), ("rmsprop", "auto")],
    ],
)
def test_a_scaler_on_a_gpu_skips_steps_and_never_asks_the_device(name, implementation):
    """On the CPU as on a GPU; counters of torch's foreach AdamW and Adagrad are on the host, as there."""
    config = OptimizerConfig(name=name, peak_lr=0.01, implementation=implementation)
    modules, reads = [], []
    for kind in (torch.amp.GradScaler, DeviceScaler):
        module = network()
        optimizer, scaler = build_optimizer(config, groups_of(module), "cpu"), kind("cpu", init_scale=4.0)
        with Reads() as counted:
            train(module, optimizer, 4, scaler)
        reads.append(counted.count)
        before = copy.deepcopy((list(module.parameters()), optimizer.state_dict()))
        module.eval()
        train(module, optimizer, 1, scaler, spoil=0)
        after = (list(module.parameters()), optimizer.state_dict())
        assert_same_state(before, after, counters=kind is not DeviceScaler)
        modules.append(module)
    assert_same_weights(*modules, rtol=0, atol=0)
    assert reads[0] - reads[1] == (0 if implementation == "fused" else 4)
    assert reads[1] == 0 or (implementation == "foreach" and name in ("adamw", "adagrad"))


def assert_same_state(before, after, *, counters):
    """Weights and an optimizer's state, whose counters may go on."""
    torch.testing.assert_close(after[0], before[0], rtol=0, atol=0)
    for parameter, state in before[1]["state"].items():
        for key, value in state.items():
            if counters or key != "step":
                torch.testing.assert_close(after[1]["state"][parameter][key], value, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb"])
def test_a_restored_optimizer_goes_on_exactly(name):
    module = network()
    config = OptimizerConfig(name=name, peak_lr=0.01)
    optimizer = build_optimizer(config, groups_of(module), "cpu")
    train(module, optimizer)
    other = copy.deepcopy(module)
    restored = build_optimizer(config, groups_of(other), "cpu")
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(module, optimizer)
    train(other, restored)
    assert_same_weights(module, other, rtol=0, atol=0)


def test_frozen_parameters_stay_and_can_be_thawed():
    module = network()
    before = module[0].weight.clone()
    optimizer = build_optimizer(OptimizerConfig(name="lamb", peak_lr=0.01), groups_of(module), "cpu")
    module[0].requires_grad_(False)
    train(module, optimizer)
    assert torch.equal(module[0].weight, before)
    module[0].requires_grad_(True)
    train(module, optimizer, steps=1)
    assert not torch.equal(module[0].weight, before)
    assert {state["step"] for state in optimizer.state.values()} == {1, 5}


def written_out_lamb(weight, gradients, lr, betas, eps, decay):
    """Algorithm 2 of the paper, one tensor in float64."""
    weight = weight.double().clone()
    first, second = torch.zeros_like(weight), torch.zeros_like(weight)
    for step, gradient in enumerate(gradients, start=1):
        gradient = gradient.double()
        first = betas[0] * first + (1 - betas[0]) * gradient
        second = betas[1] * second + (1 - betas[1]) * gradient**2
        update = (first / (1 - betas[0] ** step)) / ((second / (1 - betas[1] ** step)).sqrt() + eps)
        ratio = 1.0
        if decay:
            update = update + decay * weight
            if weight.norm() > 0 and update.norm() > 0:
                ratio = (weight.norm() / update.norm()).item()
        weight = weight - lr * ratio * update
    return weight


@pytest.mark.parametrize("decay", [0.0, 0.02])
@pytest.mark.parametrize("zero", [False, True])
def test_lamb_equals_the_written_out_algorithm(decay, zero):
    random = torch.Generator().manual_seed(0)
    weights = [torch.randn(shape, generator=random) * (not zero) for shape in ((7, 5), (11,), (2, 3, 4))]
    gradients = [[torch.randn(weight.shape, generator=random) for _ in range(5)] for weight in weights]
    parameters = [nn.Parameter(weight.clone()) for weight in weights]
    optimizer = Lamb([{"params": parameters, "weight_decay": decay}], lr=0.03, betas=(0.8, 0.9))
    for step in range(5):
        for parameter, own in zip(parameters, gradients, strict=True):
            parameter.grad = own[step].clone()
        optimizer.step()
    for parameter, weight, own in zip(parameters, weights, gradients, strict=True):
        expected = written_out_lamb(weight, own, 0.03, (0.8, 0.9), 1e-6, decay)
        torch.testing.assert_close(parameter.detach().double(), expected, rtol=1e-5, atol=1e-6)


def test_combinations_that_do_not_exist_are_refused():
    with pytest.raises(RecipeError, match="fused was chosen for lamb"):
        build_optimizer(OptimizerConfig(name="lamb", implementation="fused"), groups_of(network()), "cpu")
    with pytest.raises(RecipeError, match="momentum"):
        build_optimizer(OptimizerConfig(nesterov=True, momentum=0.0), groups_of(network()), "cpu")


# ---- for click models


@pytest.mark.parametrize("l1", [0.0, 0.05])
def test_ftrl_equals_a_written_out_one(l1):
    weight = nn.Parameter(torch.tensor([0.5, -0.2, 0.0]))
    optimizer = Ftrl([weight], lr=0.1, l1=l1, weight_decay=0.01)
    gradients = torch.tensor([[0.3, -0.1, 0.01], [0.1, 0.2, -0.01], [-0.4, 0.1, 0.02]])
    expected = []
    for place, value in enumerate([0.5, -0.2, 0.0]):
        squares, linear = 0.1, 0.0
        for gradient in gradients[:, place].tolist():
            grown = squares + gradient**2
            linear += gradient - (grown**0.5 - squares**0.5) / 0.1 * value
            squares = grown
            reach = max(0.0, abs(linear) - l1)
            value = -math.copysign(reach, linear) / (squares**0.5 / 0.1 + 2 * 0.01)
        expected.append(value)
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.tensor(expected))
    assert (weight == 0).sum() == (1 if l1 else 0)


@pytest.mark.parametrize(
    ("config", "plain"),
    [
        (OptimizerConfig(name="adagrad", peak_lr=0.1), torch.optim.Adagrad),
        (OptimizerConfig(name="rmsprop", peak_lr=0.1, momentum=0.0, betas=(0.9, 0.5)), torch.optim.RMSprop),
    ],
    ids=["adagrad", "rmsprop"],
)
def test_the_others_equal_pytorchs_plain_loop(config, plain):
    ours, theirs = network(), network()
    options = {"alpha": 0.5} if plain is torch.optim.RMSprop else {}
    train(ours, build_optimizer(config, groups_of(ours, weight_decay=0.0), "cpu"))
    train(theirs, plain(theirs.parameters(), lr=0.1, foreach=False, **options))
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("name", "implementation", "device"),
    [("ftrl", "foreach", "cpu"), ("rmsprop", "fused", "cpu"), ("adagrad", "apex", "cpu"), ("adagrad", "fused", "cuda")],
)
def test_implementations_that_do_not_exist_are_refused(name, implementation, device):
    with pytest.raises(RecipeError, match="it is there as auto"):
        build_optimizer(OptimizerConfig(name=name, implementation=implementation), groups_of(network()), device)


# ---- apex


def test_apex_needs_a_gpu():
    with pytest.raises(DeviceError, match="the device is cpu"):
        build_optimizer(OptimizerConfig(implementation="apex"), groups_of(network()), "cpu")


def package(name, **attributes):
    module = types.ModuleType(name)
    vars(module).update(attributes)
    return module


@pytest.mark.parametrize("installed", [None, package("apex.optimizers")], ids=["absent", "unrelated"])
def test_missing_apex_is_told_from_the_unrelated_package(monkeypatch, installed):
    monkeypatch.setitem(sys.modules, "apex", package("apex"))
    monkeypatch.setitem(sys.modules, "apex.optimizers", installed)
    with pytest.raises(DeviceError, match="unrelated software") as caught:
        build_optimizer(OptimizerConfig(implementation="apex"), groups_of(network()), "cuda")
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(("name", "kind"), [("sgd", "FusedSGD"), ("adamw", "FusedAdam"), ("lamb", "FusedLAMB")])
def test_apex_gets_the_recipes_values(monkeypatch, name, kind):
    calls = {}
    fakes = {
        kind: lambda groups, kind=kind, **options: calls.update({kind: options})
        for kind in ("FusedSGD", "FusedAdam", "FusedLAMB")
    }
    monkeypatch.setitem(sys.modules, "apex", package("apex"))
    monkeypatch.setitem(sys.modules, "apex.optimizers", package("apex.optimizers", **fakes))
    config = OptimizerConfig(name=name, implementation="apex", peak_lr=0.3, momentum=0.8, betas=(0.7, 0.8))
    build_optimizer(config, groups_of(network()), "cuda")
    assert list(calls) == [kind]
    assert calls[kind]["lr"] == 0.3
    assert calls[kind].get("momentum", 0.8) == 0.8
    assert calls[kind].get("betas", (0.7, 0.8)) == (0.7, 0.8)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb"])
def test_apex_equals_torch(name):
    pytest.importorskip("amp_C", reason="needs NVIDIA's apex with its CUDA kernels")
    modules = [network().cuda(), network().cuda()]
    for module, implementation in zip(modules, ("apex", "auto"), strict=True):
        config = OptimizerConfig(name=name, peak_lr=0.01, implementation=implementation)
        train(module, build_optimizer(config, groups_of(module), "cuda"), steps=20)
    assert_same_weights(*modules, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb"])
def test_gpu_equals_cpu(name):
    modules = [network(), network().cuda()]
    for module, device in zip(modules, ("cpu", "cuda"), strict=True):
        train(module, build_optimizer(OptimizerConfig(name=name, peak_lr=0.01), groups_of(module), device))
    assert_same_weights(modules[0], modules[1].cpu(), rtol=1e-3, atol=1e-4)
