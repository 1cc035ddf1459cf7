"""The classification loss against PyTorch's own and a written-out one; mixup and CutMix against their formulas."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from challenges.classification.losses import adjusted, cross_entropy, cutmix, mixup


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def logits_and_labels(batch=16, classes=7):
    return torch.randn(batch, classes, generator=generator()), torch.randint(classes, (batch,), generator=generator(1))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_hard_and_one_hot_targets_equal_pytorchs_loss(smoothing):
    logits, label = logits_and_labels()
    expected = nn.CrossEntropyLoss(label_smoothing=smoothing)(logits, label)
    torch.testing.assert_close(cross_entropy(logits, label, smoothing), expected)
    torch.testing.assert_close(cross_entropy(logits, functional.one_hot(label, 7).float(), smoothing), expected)


def test_soft_targets_equal_the_written_out_loss():
    logits, _ = logits_and_labels()
    target = torch.rand(16, 7, generator=generator(2)).softmax(1)
    spread = 0.9 * target + 0.1 / 7
    expected = -(spread * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(cross_entropy(logits, target, 0.1), expected)


def test_smoothing_cannot_be_trained_below_its_floor():
    classes, smoothing = 10, 0.1
    right = 1 - smoothing + smoothing / classes
    target = torch.tensor([right, *[smoothing / classes] * (classes - 1)])
    floor = -(target * target.log()).sum()
    torch.testing.assert_close(cross_entropy(target.log()[None], torch.tensor([0]), smoothing), floor)


def test_loss_is_taken_in_float32():
    logits, label = logits_and_labels()
    assert cross_entropy(logits.bfloat16(), label, 0.1).dtype == torch.float32


def test_mixup_blends_images_and_labels_alike():
    classes = 5
    label = torch.arange(classes)
    images = functional.one_hot(label, classes).float()[:, None, None, :].expand(-1, 3, 2, -1)
    mixed, target = mixup(images, label, classes, 0.4, generator())
    torch.testing.assert_close(mixed[:, 0, 0], target)
    torch.testing.assert_close(target.sum(1), torch.ones(classes))
    largest = torch.stack([row[row > 0].max() for row in target if (row > 0).sum() == 2])
    assert len(largest) > 0
    torch.testing.assert_close(largest, largest[:1].expand_as(largest))  # one proportion for the whole batch


@pytest.mark.parametrize("seed", range(8))
def test_cutmix_blends_labels_by_the_pixels_of_each_picture(seed):
    """Pictures of one value per class: the share of every value in a picture is that of its class in the target."""
    classes = 5
    label = torch.arange(classes)
    images = functional.one_hot(label, classes).float()[:, :, None, None].expand(-1, -1, 12, 20)
    mixed, target = cutmix(images, label, classes, 1.0, generator(seed))
    torch.testing.assert_close(mixed.mean((2, 3)), target)
    assert set(mixed.unique().tolist()) <= {0.0, 1.0}
    pasted = (mixed != images).any(1)
    for window in pasted[pasted.flatten(1).any(1)]:
        rows, columns = window.any(1), window.any(0)
        assert torch.equal(window, rows[:, None] & columns)


def test_cutmix_leaves_half_of_the_pixels_on_average():
    random, label = generator(), torch.arange(2)
    found = [cutmix(torch.zeros(2, 3, 32, 32), label, 2, 1.0, random)[1] for _ in range(400)]
    other = [1 - target[0, 0].item() for target in found if target[0, 0] != 1]
    assert 0.25 < np.mean(other) < 0.5  # windows are cut off at the border


@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_mixing_depends_on_its_generator_alone(mix):
    images, label = torch.randn(8, 3, 4, 4), torch.arange(8)
    torch.manual_seed(1)
    first = mix(images, label, 8, 0.2, generator(3))
    torch.manual_seed(2)
    np.random.seed(2)
    second = mix(images, label, 8, 0.2, generator(3))
    other = mix(images, label, 8, 0.2, generator(5))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_mixing_leaves_inputs_and_memory_format_alone(mix):
    images = torch.randn(6, 3, 8, 8).to(memory_format=torch.channels_last)
    before = images.clone()
    mixed, target = mix(images, torch.zeros(6, dtype=torch.int64), 3, 0.2, generator())
    assert torch.equal(images, before)
    assert mixed.is_contiguous(memory_format=torch.channels_last)
    assert target.dtype == torch.float32


def test_mixup_proportions_follow_the_beta_distribution():
    random = generator()
    label = torch.arange(2)
    shares = []
    while len(shares) < 300:
        _, target = mixup(torch.zeros(2, 3, 1, 1), label, 2, 0.2, random)
        if target[0, 0] != 1:  # otherwise each image was its own partner
            shares.append(target[0, 0].item())
    assert np.mean(shares) == pytest.approx(0.5, abs=0.08)
    assert np.std(shares) == pytest.approx(np.sqrt(1 / (4 * (2 * 0.2 + 1))), abs=0.05)


@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_mixing_without_strength_is_refused(mix):
    with pytest.raises(ValueError, match="above 0"):
        mix(torch.zeros(2, 3, 1, 1), torch.zeros(2, dtype=torch.int64), 2, 0.0, generator())


def test_adjusted_logits_are_learnt_as_if_classes_were_equally_frequent():
    """Where training shares are the prior, the loss is least at the logits of likelihoods: posterior over prior."""
    prior, posterior = torch.tensor([0.8, 0.15, 0.05]), torch.tensor([0.5, 0.3, 0.2])
    logits = (posterior / prior).log().requires_grad_()
    loss = cross_entropy(adjusted(logits[None], prior.log(), 1.0), posterior[None])
    loss.backward()
    torch.testing.assert_close(logits.grad, torch.zeros(3), atol=1e-6, rtol=0)
    assert int(posterior.argmax()) == 0
    assert int(logits.argmax()) == 2
