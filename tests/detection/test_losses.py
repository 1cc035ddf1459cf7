"""The loss against a version written out anchor by anchor, and its promises."""

import math

import pytest
import torch

from challenges.detection.losses import multibox_loss


def example(batch=4, anchors=40, classes=5, seed=0, positives=6):
    generator = torch.Generator().manual_seed(seed)
    offsets, wanted = torch.randn(2, batch, anchors, 4, generator=generator)
    logits = torch.randn(batch, anchors, classes, generator=generator)
    labels = torch.randint(1, classes, (batch, anchors), generator=generator)
    labels[torch.rand(batch, anchors, generator=generator) > positives / anchors] = 0
    labels[0] = 0
    return offsets, logits, wanted, labels


def slow_loss(offsets, logits, wanted, labels, negatives):
    total = {"localisation": 0.0, "classification": 0.0}
    for image in range(len(labels)):
        anchors = range(len(labels[image]))
        entropy = [
            math.log(sum(math.exp(score) for score in logits[image, a].tolist()))
            - logits[image, a, labels[image, a]].item()
            for a in anchors
        ]
        positive = [a for a in anchors if labels[image, a] > 0]
        others = sorted((entropy[a] for a in anchors if labels[image, a] == 0), reverse=True)
        if not positive:
            continue
        distances = [d for a in positive for d in (offsets[image, a] - wanted[image, a]).abs().tolist()]
        total["localisation"] += sum(d - 0.5 if d >= 1 else d * d / 2 for d in distances) / len(positive)
        counted = sum(entropy[a] for a in positive) + sum(others[: negatives * len(positive)])
        total["classification"] += counted / len(positive)
    return {name: value / len(labels) for name, value in total.items()}


@pytest.mark.parametrize("positives", [1, 6, 30])  # with 30 of 40 there are fewer negatives than wanted
@pytest.mark.parametrize("negatives", [0, 3])
def test_equals_the_slow_version(positives, negatives):
    inputs = example(positives=positives)
    losses = multibox_loss(*inputs, negatives=negatives)
    for name, expected in slow_loss(*inputs, negatives).items():
        assert losses[name].item() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(losses["loss"], losses["localisation"] + losses["classification"])


def test_does_not_depend_on_how_a_batch_is_split():
    inputs = example(batch=6)
    whole = multibox_loss(*inputs)["loss"]
    parts = [multibox_loss(*(tensor[first : first + 2] for tensor in inputs))["loss"] for first in (0, 2, 4)]
    torch.testing.assert_close(whole, torch.stack(parts).mean())


def test_images_without_boxes_contribute_nothing():
    offsets, logits, wanted, labels = example(batch=1)
    logits.requires_grad_()
    losses = multibox_loss(offsets, logits, wanted, labels)
    losses["loss"].backward()
    assert [loss.item() for loss in losses.values()] == [0.0, 0.0, 0.0]
    assert not logits.grad.any()


def test_only_positives_and_hard_negatives_have_gradients():
    offsets, logits, wanted, labels = example(batch=2)
    logits.requires_grad_()
    offsets.requires_grad_()
    multibox_loss(offsets, logits, wanted, labels)["loss"].backward()
    moved = logits.grad[1].abs().sum(1) > 0
    count = int((labels[1] > 0).sum())
    assert moved[labels[1] > 0].all()
    assert moved.sum() == 4 * count
    assert torch.equal(offsets.grad[1].abs().sum(1) > 0, labels[1] > 0)


def test_equal_negatives_are_counted_once_each():
    labels = torch.zeros(1, 20, dtype=torch.int64)
    labels[0, 7] = 1
    loss = multibox_loss(torch.zeros(1, 20, 4), torch.zeros(1, 20, 3), torch.zeros(1, 20, 4), labels)
    assert loss["classification"].item() == pytest.approx(4 * math.log(3))


def test_half_precision_inputs_are_summed_in_float32():
    offsets, logits, wanted, labels = example()
    losses = multibox_loss(offsets.bfloat16(), logits.bfloat16(), wanted, labels)
    expected = multibox_loss(offsets.bfloat16().float(), logits.bfloat16().float(), wanted, labels)
    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, expected[name])
