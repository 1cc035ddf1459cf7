"""Detections against a slow version in plain loops, in eager mode and as a graph."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.peers.detector_answers import synthetic_heads
from challenges.detection.boxes import SSD300, DefaultBoxes, centres, decode
from challenges.detection.detections import Detections
from challenges.detection.model import SSD
from challenges.detection.nms import PostProcessing, detect
from challenges.detection.recipes import NmsConfig
from common.export.lint import lint
from common.export.onnx import export_onnx
from common.export.runner import OnnxRunner, OpenVinoRunner
from common.export.signature import Signature, TensorSpec
from tests.detection.test_boxes import slow_iou

CONFIGS = (
    NmsConfig(),
    NmsConfig(score_threshold=0.0, iou_threshold=0.3),
    NmsConfig(score_threshold=0.2, per_class=4, per_image=10, candidates=12),
    NmsConfig(score_threshold=0.1, per_class=3, per_image=2, candidates=3),
    NmsConfig(iou_threshold=1.0, per_image=20, candidates=20),
)
CASES = 100  # per configuration and kind of boxes: 1,000 in all


def grid_case(seed):
    """Boxes on a coarse grid, also without an area, and few different scores: every kind of tie, and NaN."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(0, 6, (30, 2), generator=generator)
    last = torch.minimum(first + torch.randint(0, 5, (30, 2), generator=generator), torch.tensor(8))
    anchors = centres(torch.cat([first, last], 1) / 8)
    logits = torch.randint(-2, 4, (CASES, 30, 4), generator=generator).float()
    logits[torch.rand(logits.shape, generator=generator) < 0.02] = math.nan
    offsets = torch.zeros(CASES, 30, 4)
    offsets[torch.rand(offsets.shape, generator=generator) < 0.01] = math.nan
    logits[0, :, 0] = 50  # an image without anything
    return offsets, logits, anchors


def free_case(seed):
    """Boxes anywhere, also beyond the image's border, and scores without ties."""
    generator = torch.Generator().manual_seed(seed)
    anchors = torch.cat([torch.rand(30, 2, generator=generator), 0.1 + torch.rand(30, 2, generator=generator) / 2], 1)
    logits = 2 * torch.randn(CASES, 30, 4, generator=generator)
    return torch.randn(CASES, 30, 4, generator=generator), logits, anchors


def slow_detect(boxes, scores, config):
    """The detections of one image as (score, label, box); boxes: lists of four, scores: per anchor a list by class."""
    candidates = []
    for label in range(1, len(scores[0])):
        own = [
            (-scores[anchor][label], label, anchor)
            for anchor in range(len(boxes))
            if scores[anchor][label] > config.score_threshold and not any(map(math.isnan, boxes[anchor]))
        ]
        candidates += sorted(own)[: config.per_class]
    kept: list = []
    for negative, label, anchor in sorted(candidates)[: config.candidates]:
        rivals = [boxes[other] for _, theirs, other in kept if theirs == label]
        if all(np.float32(slow_iou(rival, boxes[anchor])) <= np.float32(config.iou_threshold) for rival in rivals):
            kept.append((negative, label, anchor))
    return [(-negative, label, boxes[anchor]) for negative, label, anchor in kept[: config.per_image]]


def unpadded(detections, image):
    count = int((detections.labels[image] > 0).sum())
    parts = (detections.scores[image], detections.labels[image], detections.boxes[image])
    assert not any(part[count:].any() for part in parts)
    return list(zip(*(part[:count].tolist() for part in parts), strict=True))


def module_detections(offsets, logits, anchors, config):
    return Detections(*PostProcessing(anchors, config)(offsets, logits))


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("case", [grid_case, free_case])
def test_detections_equal_the_slow_version(case, config):
    offsets, logits, anchors = case(seed=CONFIGS.index(config))
    boxes, scores = decode(offsets, anchors).clamp(0, 1).tolist(), logits.softmax(2).tolist()
    found = detect(offsets, logits, anchors, config)
    assert found.boxes.shape == (CASES, config.per_image, 4)
    assert (found.boxes.dtype, found.scores.dtype, found.labels.dtype) == (torch.float32, torch.float32, torch.int64)
    for image in range(CASES):
        assert unpadded(found, image) == slow_detect(boxes[image], scores[image], config)
    for ours, exported in zip(found, module_detections(offsets, logits, anchors, config), strict=True):
        assert torch.equal(ours, exported)


def crowded(batch, **options):
    """Answers of a detector's kind, and one image without any."""
    offsets, logits = synthetic_heads(batch, **options)
    logits[0, :, 0] = 40
    return offsets, logits, SSD300.boxes()


@pytest.mark.parametrize("config", [NmsConfig(), NmsConfig(score_threshold=0.01, candidates=700, per_class=100)])
def test_both_ways_agree_at_full_size(config):
    offsets, logits, anchors = crowded(2, objects=20)
    found, exported = detect(offsets, logits, anchors, config), module_detections(offsets, logits, anchors, config)
    assert (found.labels > 0).sum(1)[0] == 0
    assert (found.labels > 0).sum(1)[1] > 20
    for ours, theirs in zip(found, exported, strict=True):
        assert torch.equal(ours, theirs)


def test_an_images_detections_do_not_depend_on_the_batch():
    offsets, logits, anchors = crowded(3, seed=4)
    whole = detect(offsets, logits, anchors, NmsConfig())
    for image in range(3):
        alone = detect(offsets[image : image + 1], logits[image : image + 1], anchors, NmsConfig())
        for ours, theirs in zip(alone, whole, strict=True):
            assert torch.equal(ours[0], theirs[image])


def test_an_empty_batch_and_empty_images():
    anchors = SSD300.boxes()
    for batch in (0, 2):
        logits = torch.zeros(batch, 8732, 3)
        logits[..., 0] = 30
        found = detect(torch.zeros(batch, 8732, 4), logits, anchors, NmsConfig())
        assert found.boxes.shape == (batch, 200, 4)
        assert not found.labels.any()


def test_every_box_can_score():
    """An untrained detector of two classes: the most boxes there can be."""
    offsets, logits = torch.randn(2, 8732, 4), 0.1 * torch.randn(2, 8732, 3)
    found = detect(offsets, logits, SSD300.boxes(), NmsConfig())
    assert (found.labels > 0).all(1).tolist() == [True, True]
    exported = module_detections(offsets, logits, SSD300.boxes(), NmsConfig())
    assert all(torch.equal(*pair) for pair in zip(found, exported, strict=True))


def test_half_precision_answers():
    offsets, logits, anchors = crowded(2, classes=6)
    found = detect(offsets.bfloat16(), logits.bfloat16(), anchors, NmsConfig())
    expected = detect(offsets.bfloat16().float(), logits.bfloat16().float(), anchors, NmsConfig())
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.gpu
def test_a_gpu_finds_the_same():
    offsets, logits, anchors = crowded(4)
    expected = detect(offsets, logits, anchors, NmsConfig())
    found = detect(offsets.cuda(), logits.cuda(), anchors.cuda(), NmsConfig())
    assert torch.equal(found.labels.cpu(), expected.labels)
    torch.testing.assert_close(found.boxes.cpu(), expected.boxes, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.scores.cpu(), expected.scores, atol=1e-5, rtol=0)


def signature_of(inputs, count):
    outputs = (
        TensorSpec("boxes", "float32", (count, 4)),
        TensorSpec("scores", "float32", (count,)),
        TensorSpec("labels", "int64", (count,)),
    )
    return Signature(inputs=inputs, outputs=outputs)


def assert_agree(answers, expected, *, tolerance=1e-5):
    assert (answers["labels"] == expected.labels.numpy()).all()
    for name in ("boxes", "scores"):
        np.testing.assert_allclose(answers[name], getattr(expected, name).numpy(), atol=tolerance, rtol=0)


@pytest.fixture(scope="module")
def small_graph(tmp_path_factory):
    """The post-processing of 30 boxes and three classes, with limits that bite."""
    config = NmsConfig(score_threshold=0.1, per_class=8, per_image=10, candidates=12)
    inputs = (TensorSpec("offsets", "float32", (30, 4)), TensorSpec("logits", "float32", (30, 4)))
    path = tmp_path_factory.mktemp("small") / "post.onnx"
    anchors = grid_case(0)[2]
    return export_onnx(PostProcessing(anchors, config), signature_of(inputs, 10), path), anchors, config


def one_class_each(logits):
    """Keep only each anchor's best logit, of few levels: engines then agree on every score, and so on every tie."""
    logits = logits.nan_to_num(0.0).round()
    best = logits[..., 1:].argmax(2, keepdim=True) + 1
    spread = torch.full_like(logits, -40.0).scatter_(2, best, logits.gather(2, best))
    spread[..., 0] = 0.0
    return spread


def test_graphs_break_ties_as_we_do(small_graph):
    """In ONNX Runtime, which keeps the standard's order of equals; OpenVINO and TensorRT do not."""
    path, anchors, config = small_graph
    offsets, logits, _ = grid_case(7)
    offsets, logits = offsets.nan_to_num(0.0), one_class_each(logits)
    with OnnxRunner(path) as runner:
        answers = runner({"offsets": offsets.numpy(), "logits": logits.numpy()})
    expected = detect(offsets, logits, anchors, config)
    assert (expected.scores[:, 1:] == expected.scores[:, :-1]).float().mean() > 0.5
    assert_agree(answers, expected)


def test_graphs_leave_nan_out(small_graph):
    path, anchors, config = small_graph
    offsets, logits, _ = grid_case(8)
    logits = torch.where(logits.isnan(), logits, one_class_each(logits))
    with OnnxRunner(path) as runner:
        answers = runner({"offsets": offsets.numpy(), "logits": logits.numpy()})
    assert_agree(answers, detect(offsets, logits, anchors, config))


SMALL = DefaultBoxes(
    image_size=64, maps=(8, 4, 2), steps=(8, 16, 32), scales=(10, 20, 35, 50), ratios=((2,), (2, 3), (2,))
)


class Detector(nn.Module):
    """A small untrained detector with opinions, which finds nothing in a black image."""

    def __init__(self, config):
        super().__init__()
        torch.manual_seed(5)
        self.model = SSD(depth=18, num_classes=5, default_boxes=SMALL).eval().requires_grad_(False)
        for head in (*self.model.class_heads, *self.model.offset_heads):
            head.weight.mul_(0.1)
            head.bias.zero_()
        for head in self.model.class_heads:
            head.bias[::6] = 4.0
        self.post_processing = PostProcessing(SMALL.boxes(), config)

    def forward(self, images):
        return self.post_processing(*self.model(images))


@pytest.fixture(scope="module")
def detector_graph(tmp_path_factory):
    module = Detector(NmsConfig(score_threshold=0.5))
    signature = signature_of((TensorSpec("images", "float32", (3, 64, 64)),), 200)
    return export_onnx(module, signature, tmp_path_factory.mktemp("detector") / "model.onnx"), module


def test_a_detectors_graph_is_sound(detector_graph):
    path, _ = detector_graph
    assert lint(path) == []


@pytest.mark.parametrize("engine", [OnnxRunner, OpenVinoRunner])
def test_a_detectors_graph_answers_as_we_do_at_any_batch_size(detector_graph, engine):
    path, module = detector_graph
    images = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    images[1] = 0
    with engine(path) as runner:
        for batch in (images[:1], images[1:2], images[:3], images):
            expected = detect(*module.model(batch), SMALL.boxes(), module.post_processing.config)
            found = (expected.labels > 0).sum(1)
            assert (found > 3).eq(batch.flatten(1).any(1)).all()
            assert_agree(runner({"images": batch.numpy()}), expected, tolerance=1e-3)
