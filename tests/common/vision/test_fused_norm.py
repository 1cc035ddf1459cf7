"""apex's fused normalisation: the same learning as torch's, whose parts stand beside each other."""

import ast
import copy
import inspect
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from challenges.classification.recipes import RECIPES
from challenges.classification.task import ClassificationTask
from common.errors import DeviceError, RecipeError
from common.run.overrides import apply_overrides
from common.vision import fused_norm
from common.vision.fused_norm import FusedNorm, load_apex, require_apex
from common.vision.resnet import ResNet
from tests import stand_in_apex

APEX = json.loads(Path(__file__).with_name("apex_groupbn.json").read_text())


@pytest.fixture
def apex(monkeypatch):
    stand_in_apex.install(monkeypatch)


def test_what_is_asked_of_apex_is_in_its_source():
    tree = ast.parse(Path(fused_norm.__file__).read_text())
    (told,) = (
        node.iter.elts
        for node in ast.walk(tree)
        if isinstance(node, ast.For) and isinstance(node.iter, ast.Tuple) and "running_var" in ast.unparse(node.iter)
    )
    assert {name.value for name in told} <= set(APEX["attributes"])
    assert list(inspect.signature(stand_in_apex.BatchNorm2d_NHWC).parameters) == APEX["init"]
    assert list(inspect.signature(stand_in_apex.BatchNorm2d_NHWC.forward).parameters)[1:] == APEX["forward"]
    assert APEX["init"][:2] == ["num_features", "fuse_relu"]
    assert [base.__name__ for base in stand_in_apex.BatchNorm2d_NHWC.__bases__] == APEX["bases"]


def network(depth, fused):
    torch.manual_seed(0)
    model = ResNet(depth=depth, num_classes=5, zero_init_last_norm=False, fused=fused)
    for block in model.modules():
        if hasattr(block, "last_norm"):
            nn.init.constant_(block.last_norm.weight, 0.25)  # a network at whose end roundings have not grown
    return model.to(memory_format=torch.channels_last)


def images():
    drawn = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return drawn.contiguous(memory_format=torch.channels_last)


SCALE = 1024.0  # of the loss, whose gradients would vanish in float16


def learnt(model, steps=2, dtype=torch.float16):
    """Logits and gradients of the first step and all state after the last."""
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    first, gradients = torch.empty(0), torch.empty(0)
    for step in range(steps):
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            logits = model.train()(images()).float()
        (SCALE * nn.functional.cross_entropy(logits, torch.arange(8) % 5)).backward()
        for parameter in model.parameters():
            parameter.grad /= SCALE
        if step == 0:
            first = logits.detach()
            gradients = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
        optimizer.step()
        optimizer.zero_grad()
    return first, gradients, model.state_dict()


@pytest.mark.parametrize("depth", [18, pytest.param(50, marks=pytest.mark.slow)])
def test_fused_blocks_learn_what_plain_ones_do(apex, depth):
    """They are as far from float32 as plain ones are in mixed precision, which rounds in other places."""
    plain, fused = network(depth, fused=False), network(depth, fused=True)
    assert sum(isinstance(module, FusedNorm) for module in fused.modules()) == {18: 20, 50: 53}[depth]
    exact, mixed, by_apex = learnt(network(depth, fused=False), dtype=torch.float32), learnt(plain), learnt(fused)
    assert list(exact[2]) == list(mixed[2]) == list(by_apex[2])
    assert int(by_apex[2]["bn1.num_batches_tracked"]) == 2
    answers = [
        (*found[:2], torch.cat([value.flatten().float() for value in found[2].values()]))
        for found in (exact, mixed, by_apex)
    ]
    for true, rounded, fused_too in zip(*answers, strict=True):
        assert 0 < float((fused_too - true).norm()) < 1.5 * float((rounded - true).norm())
        assert float((rounded - true).norm()) < 0.5 * float(true.norm())


def test_evaluated_and_copied_they_are_torchs_own(apex):
    plain, fused = network(18, fused=False).eval(), network(18, fused=True)
    learnt(fused, steps=1)
    plain.load_state_dict(fused.state_dict())
    with torch.inference_mode():
        expected = plain(images())
        assert torch.equal(fused.eval()(images()), expected)
        assert torch.equal(copy.deepcopy(fused)(images()), expected)
    fused.train()
    for parameter in fused.parameters():
        parameter.requires_grad_(False)
    with torch.autocast("cpu", torch.float16):
        assert fused(images()).isfinite().all()


def test_one_kernel_takes_the_shortcut_and_relu(apex):
    norm = FusedNorm(4).train()
    features = torch.randn(2, 4, 3, 3).half().requires_grad_()
    shortcut = torch.randn(2, 4, 3, 3).half().requires_grad_()
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.uniform_(-1, 1)
    reference = copy.deepcopy(norm).float()
    answer = norm(features, shortcut)
    expected = nn.functional.relu(nn.BatchNorm2d.forward(reference, features.float()) + shortcut.float())
    torch.testing.assert_close(answer.float(), expected, atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(norm.running_var, reference.running_var)
    answer.mean((2, 3)).sum().backward()  # a gradient without strides of its own
    assert features.grad.isfinite().all()
    assert torch.equal(shortcut.grad != 0, answer > 0)


@pytest.mark.parametrize(
    "flags",
    [
        ("--training.precision", "bf16"),
        ("--training.precision", "fp16", "--training.compile"),
        ("--training.precision", "fp16", "--training.no-channels-last"),
        ("--training.precision", "fp16", "--training.sync-batchnorm"),
    ],
)
def test_what_the_kernels_do_not_take_is_refused(flags):
    with pytest.raises(RecipeError, match=r"model\.normalisation apex was chosen.*training\.precision"):
        apply_overrides(RECIPES["demo"], ("--model.normalisation", "apex", *flags), "kit train")


def test_a_cpu_and_a_missing_apex_are_told_before_anything_is_trained(apex, monkeypatch):
    recipe = apply_overrides(
        RECIPES["demo"], ("--model.normalisation", "apex", "--training.precision", "fp16"), "kit train"
    )
    task = ClassificationTask(recipe, [1, 1])
    with pytest.raises(DeviceError, match=r"model\.normalisation apex was chosen, and the device is cpu"):
        task.optimizers(10, 1.0)
    require_apex(torch.device("cuda"))
    without = ModuleType("apex.contrib.groupbn")  # as apex is where its extension was not built
    for absent in (None, without):
        monkeypatch.setitem(sys.modules, "apex.contrib.groupbn", absent)
        with pytest.raises(DeviceError, match="its extension bnp"):
            load_apex()


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # apex still asks for saved_variables
def test_apexs_own_kernels_learn_what_torchs_operators_do():
    try:
        load_apex()
    except DeviceError as error:
        pytest.skip(str(error))
    drawn = torch.Generator("cuda").manual_seed(0)
    features, shortcut = (torch.randn(16, 64, 14, 14, device="cuda", generator=drawn) for _ in range(2))
    sides = []
    for norm, dtype in (
        (FusedNorm(64).cuda().train(), torch.float16),
        (nn.BatchNorm2d(64).cuda().train(), torch.float32),
    ):
        given = [
            tensor.to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
            for tensor in (features, shortcut)
        ]
        answer = norm(*given) if isinstance(norm, FusedNorm) else (norm(given[0]) + given[1]).relu()
        answer.float().square().mean((2, 3)).sum().backward()
        sides.append(
            [answer, norm.running_mean, norm.running_var, *(one.grad for one in (*given, norm.weight, norm.bias))]
        )
    for ours, expected in zip(*sides, strict=True):
        torch.testing.assert_close(ours.float(), expected, atol=0.01 * float(expected.abs().max()), rtol=0.01)
