"""Label smoothing, mixup, CutMix and rare classes: the classification loss and the mixed batches it is given."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def cross_entropy(logits: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean cross entropy in float32, with a part `smoothing` of every target spread evenly over all classes.

    logits: (batch, class)
    target: (batch,) int64 class numbers, or (batch, class) float probabilities
    Source: Szegedy et al. 2016, arXiv:1512.00567, section 7.
    """
    return functional.cross_entropy(logits.float(), target, label_smoothing=smoothing)


def adjusted(logits: Tensor, log_prior: Tensor, strength: float) -> Tensor:
    """The logits to train on so that the plain ones answer as if all classes were equally frequent.

    logits:    (batch, class)
    log_prior: (class,), the logarithm of each class's share of the training samples.
    Source:    Menon et al. 2021, arXiv:2007.07314, equation 10, whose tau is `strength`.
    """
    return logits.float() + strength * log_prior


def mixup(
    images: Tensor, label: Tensor, num_classes: int, alpha: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Blend every image and label of a batch with those of a random partner, in one proportion for the whole batch.

    images:    (batch, 3, height, width)
    label:     (batch,) int64
    alpha:     both parameters of the Beta distribution of the proportion.
    generator: on the CPU; it alone decides proportion and partners, whatever device the batch is on.
    returns:   the images in their memory format, and soft targets (batch, class) float32
    Source:    Zhang et al. 2018, arXiv:1710.09412; one proportion per batch as in NVIDIA's 250-epoch recipe.
    """
    share, _ = _proportion("mixup", alpha, generator)
    partner = _partners(images, generator)
    return torch.lerp(images[partner], images, share), _blended(label, partner, num_classes, share)


def cutmix(
    images: Tensor, label: Tensor, num_classes: int, alpha: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Paste a random window of a random partner into every image of a batch, the same one throughout.

    Arguments and what is returned are `mixup`'s; the labels are blended by the window's share of the image.
    Source: Yun et al. 2019, arXiv:1905.04899.
    """
    share, random = _proportion("CutMix", alpha, generator)
    partner = _partners(images, generator)
    height, width = images.shape[-2:]
    half_height, half_width = (side * (1 - share) ** 0.5 / 2 for side in (height, width))
    row, column = random.uniform(0, height), random.uniform(0, width)
    rows = slice(max(0, round(row - half_height)), min(height, round(row + half_height)))
    columns = slice(max(0, round(column - half_width)), min(width, round(column + half_width)))
    mixed = images.clone()
    mixed[..., rows, columns] = images[partner][..., rows, columns]
    pasted = (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
    return mixed, _blended(label, partner, num_classes, 1 - pasted)


def _proportion(method: str, alpha: float, generator: torch.Generator) -> tuple[float, np.random.Generator]:
    """What is left of each image, from Beta(alpha, alpha), and NumPy's generator that drew it."""
    if alpha <= 0:
        raise ValueError(f"{method}'s alpha is {alpha}; it must be above 0 (leave {method} out instead of setting 0)")
    random = np.random.default_rng(int(torch.randint(2**63 - 1, (), generator=generator)))
    return float(random.beta(alpha, alpha)), random


def _partners(images: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randperm(len(images), generator=generator).to(images.device, non_blocking=True)


def _blended(label: Tensor, partner: Tensor, num_classes: int, share: float) -> Tensor:
    target = functional.one_hot(label, num_classes).float()
    return torch.lerp(target[partner], target, share)
