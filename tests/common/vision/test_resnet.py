"""The ResNet against torchvision's published figures and its own promises."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from common.vision.resnet import ResNet

# torchvision's documentation of its weights: parameters and GMACs at 224 pixels, 1000 classes
TORCHVISION = {
    18: (11_689_512, 1.814),
    34: (21_797_672, 3.664),
    50: (25_557_032, 4.089),
    101: (44_549_160, 7.801),
    152: (60_192_808, 11.514),
}


def build(depth=18, num_classes=10, zero_init_last_norm=False, seed=0, **options):
    torch.manual_seed(seed)
    return ResNet(depth=depth, num_classes=num_classes, zero_init_last_norm=zero_init_last_norm, **options)


def build_empty(depth=50, num_classes=1000):
    with torch.device("meta"):
        return ResNet(depth=depth, num_classes=num_classes, zero_init_last_norm=False)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def gmacs(model, size):
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, size, size, device="meta"))
    return counter.get_total_flops() / 2 / 1e9


def images(batch=2, size=32):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("depth", TORCHVISION)
def test_size_and_cost_are_torchvisions(depth):
    model = build_empty(depth)
    parameters, cost = TORCHVISION[depth]
    assert count(model) == parameters
    assert gmacs(model, 224) == pytest.approx(cost, abs=6e-4)


@pytest.mark.parametrize(
    ("size", "cost"),
    [(128, 1.3366), (160, 2.0873), (176, 2.6081), (192, 3.0048), (224, 4.0892), (256, 5.3403), (288, 6.7583)],
)
def test_resnet50_is_version_one_and_a_half(size, cost):
    assert gmacs(build_empty(), size) == pytest.approx(cost, abs=5e-5)  # version 1 would need 3.8580 at 224


def test_resnet50_parameters_by_kind():
    modules = list(build_empty().modules())
    kinds = {kind: sum(count(m) for m in modules if isinstance(m, kind)) for kind in (nn.Conv2d, nn.BatchNorm2d)}
    assert kinds == {nn.Conv2d: 23_454_912, nn.BatchNorm2d: 53_120}


@pytest.mark.parametrize(
    ("classes", "parameters"), [(2, 23_512_130), (3, 23_514_179), (4, 23_516_228), (10, 23_528_522), (37, 23_583_845)]
)
def test_resnet50_with_other_class_counts(classes, parameters):
    assert count(build_empty(num_classes=classes)) == parameters


def test_state_keys_are_torchvisions_in_its_order():
    keys = list(build_empty().state_dict())
    norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    expected = ["conv1.weight", *(f"bn1.{name}" for name in norm)]
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            for layer in (1, 2, 3):
                prefix = f"layer{stage}.{block}"
                expected += [f"{prefix}.conv{layer}.weight", *(f"{prefix}.bn{layer}.{name}" for name in norm)]
            if block == 0:
                expected += [f"{prefix}.downsample.0.weight", *(f"{prefix}.downsample.1.{name}" for name in norm)]
    assert keys == [*expected, "fc.weight", "fc.bias"]
    assert len(keys) == 320


@pytest.mark.parametrize(("depth", "width"), [(18, 512), (50, 2048)])
def test_logits_are_the_classifier_on_the_embedding(depth, width):
    model = build(depth).eval()
    with torch.inference_mode():
        embedding = model.features(images())
        logits = model(images())
        assert torch.equal(logits, model.fc(embedding))
    assert embedding.shape == (2, width) == (2, model.width)
    assert logits.shape == (2, 10)


def test_stages_hold_every_parameter_once_from_stem_to_head():
    model = build()
    stages = model.stages()
    assert [name for name, _ in stages] == ["stem", "layer1", "layer2", "layer3", "layer4", "fc"]
    held = [id(parameter) for _, stage in stages for parameter in stage.parameters()]
    assert held == [id(parameter) for parameter in model.parameters()]
    assert len(list(model.children())) == 10  # asking for the stages registers nothing


@pytest.mark.parametrize("depth", [18, 50])
def test_zero_initialised_norms_make_blocks_the_identity(depth):
    model = build(depth, zero_init_last_norm=True)
    block = model.layer2[1]
    features = torch.rand(2, block.conv1.in_channels, 8, 8)
    assert torch.equal(block(features), features)
    assert not torch.equal(build(depth).layer2[1](features), features)


def test_convolutions_start_from_the_fan_in():
    weight = build(50).layer3[0].conv2.weight
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (256 * 9)), rel=0.01)


@pytest.mark.parametrize("zero", [False, True])
def test_first_loss_is_that_of_guessing(zero):
    model = build(50, num_classes=1000, zero_init_last_norm=zero)
    loss = nn.functional.cross_entropy(model(images(batch=8, size=64)), torch.arange(8))
    assert loss.item() == pytest.approx(math.log(1000), abs=0.5)


def test_channels_last_changes_only_rounding():
    model = build().eval()
    with torch.inference_mode():
        plain = model(images())
        last = copy.deepcopy(model).to(memory_format=torch.channels_last)(
            images().to(memory_format=torch.channels_last)
        )
    torch.testing.assert_close(last, plain)


@pytest.mark.parametrize("depth", [18, 50])
def test_gradient_checkpointing_changes_nothing(depth):
    plain, checkpointed = build(depth), build(depth, gradient_checkpointing=True)
    for model in (plain, checkpointed):
        model.train()(images()).square().mean().backward()
    for first, second in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        assert torch.equal(first.grad, second.grad)
    for first, second in zip(plain.buffers(), checkpointed.buffers(), strict=True):
        assert torch.equal(first, second)
    assert checkpointed.layer4[0].bn1.num_batches_tracked == 1


def test_gradient_checkpointing_keeps_less():
    def kept(model):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: (sizes.append(t.numel()), t)[1], lambda t: t):
            model(images(batch=4))
        return sum(sizes)

    assert kept(build(50, gradient_checkpointing=True)) < 0.5 * kept(build(50))


def test_gradient_checkpointing_with_frozen_normalisation():
    plain, checkpointed = build(), build(gradient_checkpointing=True)
    for model in (plain, checkpointed):
        model.train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        model(images()).square().mean().backward()
    assert torch.equal(plain.conv1.weight.grad, checkpointed.conv1.weight.grad)


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
def test_compiles_as_one_graph(checkpointing):
    plain, compiled = build(), build(gradient_checkpointing=checkpointing)
    graph = torch.compile(compiled, fullgraph=True, backend="aot_eager")
    for model in (plain, graph):
        model(images()).square().mean().backward()
    torch.testing.assert_close(compiled.conv1.weight.grad, plain.conv1.weight.grad)
    torch.testing.assert_close(compiled.state_dict(), plain.state_dict())


def test_exports_with_a_free_batch():
    model = build(zero_init_last_norm=False).eval()
    shapes = {"images": {0: torch.export.Dim("batch", min=1, max=64)}}
    program = torch.export.export(model, (images(),), dynamic_shapes=shapes).module()
    torch.testing.assert_close(program(images(batch=5)), model(images(batch=5)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # inside torch's exporter
def test_onnx_gives_the_same_logits(tmp_path):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    model = build().eval()
    shapes = {"images": {0: torch.export.Dim("batch", min=1, max=64)}}
    file = tmp_path / "model.onnx"
    torch.onnx.export(model, (images(),), file, dynamic_shapes=shapes, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"images": images(batch=3).numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), model(images(batch=3)).detach(), atol=1e-4, rtol=1e-4)


def test_unknown_depth_and_class_count_are_refused():
    with pytest.raises(ValueError, match="18, 34, 50, 101, 152 layers, not 20"):
        build(20)
    with pytest.raises(ValueError, match="at least one class"):
        build(num_classes=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_cpu_and_gpu_agree():
    model = build(50).eval()
    with torch.inference_mode():
        on_cpu = model(images())
        on_gpu = model.cuda()(images().cuda()).cpu()
    torch.testing.assert_close(on_gpu, on_cpu, atol=1e-3, rtol=1e-3)
