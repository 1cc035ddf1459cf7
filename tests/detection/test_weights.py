"""Detectors' weights in every layout the kit knows, and classifiers' for the backbone."""

import collections
import re

import pytest
import torch

from challenges.detection.boxes import DefaultBoxes
from challenges.detection.model import SSD
from challenges.detection.weights import load_backbone, load_weights
from common.errors import CheckpointError
from common.storage.weight_files import save_weights
from common.vision.resnet import ResNet

BOXES = DefaultBoxes(
    image_size=64, maps=(8, 4, 2), steps=(8, 16, 32), scales=(10, 20, 35, 50), ratios=((2,), (2, 3), (2,))
)
SHAPES = (4, 6, 4)
CLASSES = 3


def build(seed=0, *, num_classes=CLASSES, depth=18):
    torch.manual_seed(seed)
    return SSD(depth=depth, num_classes=num_classes, default_boxes=BOXES).eval()


@pytest.fixture(scope="module")
def source():
    """A detector whose every number, statistics included, differs from a fresh one's."""
    model = build(seed=7)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(0.1 * torch.rand(tensor.shape).to(tensor.dtype) if tensor.is_floating_point() else 5)
    return model.requires_grad_(False)


def nvidia_head(tensor, place):
    """Channels by class or coordinate, then shape: what a view as (batch, class, shape * cell) needs."""
    return tensor.unflatten(0, (SHAPES[place], -1)).transpose(0, 1).flatten(0, 1)


def nvidia_names(state, *, container="feature_provider", prefix=""):
    """DeepLearningExamples' names and order."""
    children = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6}
    names = {}
    for name, tensor in state.items():
        part, rest = name.split(".", 1)
        if part == "backbone":
            child, rest = rest.split(".", 1)
            names[f"{prefix}feature_extractor.{container}.{children[child]}.{rest}"] = tensor
        elif part == "extras":
            names[f"{prefix}additional_blocks.{rest}"] = tensor
        else:
            head = {"offset_heads": "loc", "class_heads": "conf"}[part]
            names[f"{prefix}{head}.{rest}"] = nvidia_head(tensor, int(rest.split(".")[0]))
    return names


def torchvision_names(state):
    """torchvision's names for an SSD of one's own with this backbone."""
    heads = {"offset_heads": "head.regression_head", "class_heads": "head.classification_head"}
    for part, name in heads.items():
        state = {key.replace(f"{part}.", f"{name}.module_list."): tensor for key, tensor in state.items()}
    state = {re.sub(r"^backbone\.", "backbone.body.", key): tensor for key, tensor in state.items()}
    return {re.sub(r"^extras\.", "backbone.extra.", key): tensor for key, tensor in state.items()}


def training_checkpoint(state):
    """NVIDIA's, with the states of optimizer and schedule, and the labels."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[43, 54])
    assert isinstance(schedule.state_dict()["milestones"], collections.Counter)
    return {
        "epoch": 65,
        "iteration": 240_000,
        "optimizer": optimizer.state_dict(),
        "scheduler": schedule.state_dict(),
        "label_map": {1: "person"},
        "model": nvidia_names(state, prefix="module."),
    }


LAYOUTS = {
    "plain": (lambda s: s, "the kit's", None),
    "in a task": (
        lambda s: {"task": {f"model.{k}": v for k, v in s.items()} | {"mean": torch.zeros(3)}},
        "the kit's",
        "task",
    ),
    "NVIDIA": (nvidia_names, "NVIDIA", None),
    "NVIDIA's newer name": (lambda s: nvidia_names(s, container="feature_extractor"), "NVIDIA", None),
    "NVIDIA training": (training_checkpoint, "NVIDIA", "model"),
    "torchvision": (torchvision_names, "torchvision", None),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_loads_exactly(source, tmp_path, layout):
    wrap, name, part = LAYOUTS[layout]
    torch.save(wrap(source.state_dict()), tmp_path / "weights.pth")
    model = build()
    report = load_weights(model, tmp_path / "weights.pth", strict_head=True)
    expected = source.state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in model.state_dict().items())
    assert (report.layout, report.part, report.new_heads, report.file_classes) == (name, part, False, CLASSES)
    assert "\n" not in str(report)


def test_nvidias_network_answers_the_same(source, tmp_path):
    """Its heads, viewed as it views them, against ours after loading."""
    state = nvidia_names(source.state_dict())
    torch.save(state, tmp_path / "nvidia.pt")
    model = build()
    load_weights(model, tmp_path / "nvidia.pt")
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        maps = [source.backbone.feature_map(images)]
        for extra in source.extras:
            maps.append(extra(maps[-1]))
        parts = []
        for place, features in enumerate(maps):
            answers = torch.conv2d(features, state[f"conf.{place}.weight"], state[f"conf.{place}.bias"], padding=1)
            parts.append(answers.reshape(2, CLASSES + 1, -1))
        _, logits = model(images)
    torch.testing.assert_close(logits, torch.cat(parts, 2).transpose(1, 2), atol=1e-4, rtol=1e-4)


def test_a_run_directory_is_read(source, tmp_path):
    save_weights(source.state_dict(), tmp_path / "weights.safetensors", {})
    model = build()
    assert load_weights(model, tmp_path).file_classes == CLASSES
    assert torch.equal(model.class_heads[0].weight, source.class_heads[0].weight)
    backbone = build(seed=1)
    load_backbone(backbone, tmp_path)
    assert torch.equal(backbone.backbone.conv1.weight, source.backbone.conv1.weight)
    assert not torch.equal(backbone.class_heads[0].weight, source.class_heads[0].weight)


@pytest.mark.parametrize("wrap", [lambda state: state, nvidia_names, torchvision_names])
def test_other_classes_get_new_class_heads(source, tmp_path, wrap):
    torch.save(wrap(source.state_dict()), tmp_path / "weights.pth")
    model = build(num_classes=5)
    fresh = model.class_heads[1].weight.clone()
    report = load_weights(model, tmp_path / "weights.pth")
    assert torch.equal(model.class_heads[1].weight, fresh)
    assert torch.equal(model.offset_heads[1].weight, source.offset_heads[1].weight)
    assert torch.equal(model.backbone.layer3[0].conv1.weight, source.backbone.layer3[0].conv1.weight)
    assert report.new_heads
    assert "new class heads in place of 3 classes" in str(report)
    with pytest.raises(CheckpointError, match="heads for 3 classes, the model for 5"):
        load_weights(model, tmp_path / "weights.pth", strict_head=True)


def classifier(seed=3, depth=18):
    torch.manual_seed(seed)
    return ResNet(depth=depth, num_classes=4, zero_init_last_norm=False)


@pytest.mark.parametrize("folder", [True, False])
def test_a_classifiers_weights_become_the_backbone(tmp_path, folder):
    network = classifier()
    save_weights(network.state_dict(), tmp_path / "weights.safetensors", {})
    model = build()
    report = load_backbone(model, tmp_path if folder else tmp_path / "weights.safetensors")
    expected = network.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.backbone.state_dict().items())
    assert str(report) == "ResNet-18 backbone from weights.safetensors"


def test_nvidias_classifier_becomes_the_backbone(tmp_path):
    state = classifier().state_dict()
    names = {re.sub(r"^layer(\d)", lambda match: f"layers.{int(match[1]) - 1}", name): t for name, t in state.items()}
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in names.items()}}, tmp_path / "nvidia.pth")
    model = build()
    load_backbone(model, tmp_path / "nvidia.pth")
    assert torch.equal(model.backbone.layer3[1].conv2.weight, state["layer3.1.conv2.weight"])


def test_files_that_do_not_fit_are_refused_and_nothing_changes(source, tmp_path):
    model = build()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    path = tmp_path / "weights.pth"
    torch.save(classifier().state_dict(), path)
    with pytest.raises(CheckpointError, match="--backbone"):
        load_weights(model, path)
    torch.save(classifier(depth=34).state_dict(), path)
    with pytest.raises(CheckpointError, match="ResNet-34 weights"):
        load_backbone(model, path)
    torch.save(build(depth=34).state_dict(), path)
    with pytest.raises(CheckpointError, match="3, 4, 6 basic blocks"):
        load_weights(model, path)
    vgg = {
        re.sub(r"^backbone\.", "backbone.features.", name): t
        for name, t in source.state_dict().items()
        if "layer" not in name
    }
    torch.save(torchvision_names(vgg), path)
    with pytest.raises(CheckpointError, match="not a ResNet"):
        load_weights(model, path)
    broken = dict(source.state_dict())
    broken["offset_heads.0.bias"] = torch.full_like(broken["offset_heads.0.bias"], torch.nan)
    torch.save(broken, path)
    with pytest.raises(CheckpointError, match="not finite"):
        load_weights(model, path)
    with pytest.raises(CheckpointError, match="no file of weights"):
        load_weights(model, tmp_path / "absent")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
