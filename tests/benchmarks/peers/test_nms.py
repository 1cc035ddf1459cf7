"""The peers of our suppression find what it finds."""

import importlib.util

import pytest
import safetensors.torch
import torch

from benchmarks.peers.detector_answers import saved_heads, synthetic_heads
from benchmarks.peers.nms import Settings, agreement, compare
from benchmarks.peers.nms_peers import PEERS, python_loop, torchvision_boxes
from challenges.detection.boxes import SSD300
from challenges.detection.nms import detect
from challenges.detection.recipes import NmsConfig
from common.errors import DataError, DeviceError

HAS_TORCHVISION = importlib.util.find_spec("torchvision") is not None


@pytest.fixture(scope="module")
def inputs():
    return (*synthetic_heads(2, classes=5, objects=6), SSD300.boxes(), NmsConfig())


def test_made_up_answers_are_like_a_trained_detectors():
    offsets, logits = synthetic_heads(8)
    above = (logits.softmax(2)[..., 1:] > NmsConfig().score_threshold).sum((1, 2))
    assert 200 < above.min() < above.max() < 2000
    found = detect(offsets, logits, SSD300.boxes(), NmsConfig())
    assert ((found.labels > 0).sum(1) < 200).any()


@pytest.mark.parametrize("name", PEERS)
def test_peers_find_the_same(name, inputs):
    if name != "python_loop" and not HAS_TORCHVISION:
        pytest.skip("torchvision is not installed")
    assert agreement(detect(*inputs), PEERS[name](*inputs)) > 0.995


def test_agreement_counts_what_differs(inputs):
    ours, theirs = detect(*inputs), python_loop(*inputs)
    boxes, scores, labels = theirs[0]
    fewer = [(boxes[:-5], scores[:-5], labels[:-5]), theirs[1]]
    total = sum(len(found[2]) for found in theirs)
    assert agreement(ours, fewer) == pytest.approx(1 - 5 / total)


def test_images_without_detections_have_peers_too():
    logits = torch.zeros(1, 8732, 3)
    logits[..., 0] = 30
    ((boxes, scores, labels),) = python_loop(torch.zeros(1, 8732, 4), logits, SSD300.boxes(), NmsConfig())
    assert (boxes.shape, scores.shape, labels.shape) == ((0, 4), (0,), (0,))


@pytest.mark.skipif(HAS_TORCHVISION, reason="torchvision is installed")
def test_a_missing_torchvision_is_named():
    with pytest.raises(DeviceError, match="torchvision 0"):
        torchvision_boxes()


def test_saved_answers_are_checked(tmp_path):
    path = tmp_path / "heads.safetensors"
    safetensors.torch.save_file({"offsets": torch.zeros(2, 8732, 4), "logits": torch.zeros(2, 8732, 7)}, path)
    assert [tuple(tensor.shape) for tensor in saved_heads(path)] == [(2, 8732, 4), (2, 8732, 7)]
    safetensors.torch.save_file({"offsets": torch.zeros(2, 8732, 4), "logits": torch.zeros(1, 8732, 7)}, path)
    with pytest.raises(DataError, match="Wanted are offsets"):
        saved_heads(path)


def test_a_record_holds_both_sides(inputs, monkeypatch):
    monkeypatch.setattr("benchmarks.peers.nms.PEERS", {"python_loop": python_loop})
    settings = Settings(rounds=2, block_seconds=0.05, warmup_seconds=0.02)
    record = compare(*inputs[:2], settings, torch.device("cpu"), ("python",))
    assert list(record.measurements) == ["ours", "python_loop"]
    assert record.ratios["ours/python_loop"].median > 1
    assert record.details["python_loop_agreement"] > 0.995
