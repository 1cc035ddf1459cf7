"""The SSD's size, cost, outputs and start."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from challenges.detection.boxes import BY_IMAGE_SIZE, DefaultBoxes, decode
from challenges.detection.model import SSD

SMALL = DefaultBoxes(
    image_size=64, maps=(8, 4, 2), steps=(8, 16, 32), scales=(10, 20, 35, 50), ratios=((2,), (2, 3), (2,))
)


def empty(depth=50, num_classes=80, **options):
    with torch.device("meta"):
        return SSD(depth=depth, num_classes=num_classes, **options).eval()


def small(seed=0, **options):
    torch.manual_seed(seed)
    return SSD(depth=18, num_classes=3, default_boxes=SMALL, **options)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


# parameters of NVIDIA's SSD300 v1.1 for so many labels, background included
@pytest.mark.parametrize(
    ("labels", "parameters"), [(81, 22_894_902), (91, 24_139_362), (21, 15_428_142), (4, 13_312_560), (2, 13_063_668)]
)
def test_size_is_the_published_one(labels, parameters):
    assert count(empty(num_classes=labels - 1)) == parameters


def test_size_by_part():
    model = empty()
    parts = (model.backbone, model.extras, model.offset_heads, model.class_heads)
    assert [count(part) for part in parts] == [8_543_296, 3_773_696, 497_784, 10_080_126]


@pytest.mark.parametrize(("labels", "gmacs"), [(81, 20.151), (4, 15.037)])
def test_cost_is_the_published_one(labels, gmacs):
    with FlopCounterMode(display=False) as counter:
        empty(num_classes=labels - 1)(torch.empty(1, 3, 300, 300, device="meta"))
    assert counter.get_total_flops() / 2e9 == pytest.approx(gmacs, abs=5e-4)


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_every_depth_answers_for_every_box(depth):
    model = empty(depth=depth, num_classes=2)
    offsets, logits = model(torch.empty(2, 3, 300, 300, device="meta"))
    assert (offsets.shape, logits.shape) == ((2, 8732, 4), (2, 8732, 3))
    assert not [name for name in model.state_dict() if "layer4" in name or "fc." in name]


@pytest.mark.parametrize("size", BY_IMAGE_SIZE)
def test_other_default_boxes_make_other_maps(size):
    default_boxes = BY_IMAGE_SIZE[size]
    offsets, _ = empty(depth=18, default_boxes=default_boxes)(torch.empty(1, 3, size, size, device="meta"))
    assert offsets.shape == (1, default_boxes.count, 4)


def test_stages_hold_every_parameter_once():
    model = empty(depth=18)
    found = [id(parameter) for _, stage in model.stages() for parameter in stage.parameters()]
    assert len(found) == len(set(found))
    assert set(found) == {id(parameter) for parameter in model.parameters()}
    assert [name for name, _ in model.stages()] == ["stem", "layer1", "layer2", "layer3", "extras", "heads"]


@pytest.mark.parametrize("shape", [(1, 3, 64, 65), (1, 1, 64, 64), (3, 64, 64)])
def test_images_of_another_size_are_refused(shape):
    with pytest.raises(ValueError, match=r"\(batch, 3, 64, 64\)"):
        small()(torch.zeros(shape))


def test_a_detector_needs_a_class():
    with pytest.raises(ValueError, match="at least one class"):
        empty(num_classes=0)


def test_answers_belong_to_the_boxes_of_their_place():
    """One cell's features are changed in one map; only boxes of that map around cells nearby answer otherwise."""
    model = small().eval()
    with torch.no_grad():
        for head in (*model.offset_heads, *model.class_heads):
            head.weight.zero_()
            head.bias.copy_(torch.arange(len(head.bias)))
            head.weight[:, :, 1, 1] = 1.0  # the cell itself
        features = torch.zeros(1, model.backbone.width, 8, 8)
        features[0, 0, 2, 5] = 1000.0  # row 2, column 5
        model.backbone.feature_map = lambda images: features
        for extra in model.extras:
            extra.forward = lambda features: torch.zeros(1, 512, *(side // 2 for side in features.shape[2:]))
        offsets, logits = model(torch.zeros(1, 3, 64, 64))
    boxes = SMALL.boxes()
    touched = (logits[0, :, 0] > 900).nonzero().squeeze(1)
    torch.testing.assert_close(boxes[touched, :2] * 64, torch.tensor([[44.0, 20.0]]).expand(4, 2))
    # a channel is shape * classes + class, or shape * 4 + coordinate
    assert (logits[0, touched] - 1000).tolist() == [[4.0 * shape + c for c in range(4)] for shape in range(4)]
    assert (offsets[0, touched] - 1000).tolist() == [[4.0 * shape + c for c in range(4)] for shape in range(4)]
    untouched = logits[0, 1]
    assert untouched.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_memory_layout_changes_nothing():
    model, images = small().eval(), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model(images)
        model = model.to(memory_format=torch.channels_last)
        for ours, theirs in zip(model(images.contiguous(memory_format=torch.channels_last)), expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
            assert ours.is_contiguous()


def test_gradient_checkpointing_changes_nothing():
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    gradients = []
    for model in (small(), small(gradient_checkpointing=True)):
        offsets, logits = model.train()(images)
        (offsets.square().mean() + logits.square().mean()).backward()
        gradients.append([parameter.grad for parameter in model.parameters()] + list(model.buffers()))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_start_is_close_to_guessing():
    torch.manual_seed(0)
    model = SSD(depth=18, num_classes=80, default_boxes=SMALL)
    offsets, logits = model(torch.randn(8, 3, 64, 64))
    labels = torch.randint(0, 81, logits.shape[:2])
    assert F.cross_entropy(logits.flatten(0, 1), labels.flatten()).item() == pytest.approx(math.log(81), abs=1.0)
    boxes = decode(offsets, SMALL.boxes())
    assert boxes.isfinite().all()


def test_heads_and_extras_start_from_xaviers_distribution():
    torch.manual_seed(0)
    model = SSD(depth=18, num_classes=20)
    for weight in (model.class_heads[0].weight, model.extras[0][0].weight):
        outputs, inputs, height, width = weight.shape
        bound = math.sqrt(6 / ((outputs + inputs) * height * width))
        assert weight.abs().max().item() == pytest.approx(bound, rel=1e-2)
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=2e-2)


def test_blocks_can_start_as_the_identity():
    model = small(zero_init_last_norm=True)
    assert all(not block.last_norm.weight.any() for block in model.backbone.layer3)
