"""What the kit's suppression is compared with: a tuned pipeline on torchvision, torchvision's own SSD, a Python loop.

All of them read the same offsets and logits, and give for each image boxes, scores and labels, best first. The first
three need torchvision with its compiled operators, which match one version of torch only.
"""

from typing import Any

import torch
from torch import Tensor

from challenges.detection.boxes import decode
from challenges.detection.nms import above_threshold
from challenges.detection.recipes import NmsConfig
from common.errors import DeviceError

Found = tuple[Tensor, Tensor, Tensor]


def torchvision_boxes() -> Any:
    """torchvision.ops.boxes with its compiled operators.

    Raises DeviceError where they are missing.
    """
    try:
        import torchvision.ops.boxes

        torch.ops.torchvision.nms  # noqa: B018, raises where the compiled part was not loaded
    except (ImportError, AttributeError, RuntimeError) as error:
        raise DeviceError(
            f"torchvision's compiled suppression cannot be used: {error}.",
            "It belongs to one version of torch, such as torch 2.14.1 with torchvision 0.29.1.",
            "Run this with the Python of an environment that has both, beside the kit's own requirements.",
        ) from None
    return torchvision.ops.boxes


def batched_nms(offsets: Tensor, logits: Tensor, anchors: Tensor, config: NmsConfig) -> list[Found]:
    """As one tunes it with torchvision: one softmax, then per image all classes' boxes above the threshold at once.

    It leaves out the limits per class and on candidates, which are work for us.
    """
    suppress = torchvision_boxes().batched_nms
    found = []
    for scores, image_offsets in zip(logits.softmax(2)[..., 1:], offsets, strict=True):
        row, label = (scores > config.score_threshold).nonzero().t()
        boxes, best = decode(image_offsets[row], anchors[row]).clamp(0, 1), scores[row, label]
        kept = suppress(boxes, best, label, config.iou_threshold)[: config.per_image]
        found.append((boxes[kept], best[kept], label[kept] + 1))
    return found


def our_threshold(offsets: Tensor, logits: Tensor, anchors: Tensor, config: NmsConfig) -> list[Found]:
    """The same with our own search for the boxes above the threshold, for the whole batch at once."""
    suppress = torchvision_boxes().batched_nms
    image, label, scores, boxes = above_threshold(offsets, logits, anchors, config.score_threshold)
    found = []
    for rows in image.bincount(minlength=len(logits)).tolist():
        own = [column[:rows] for column in (boxes, scores, label)]
        image, label, scores, boxes = image[rows:], label[rows:], scores[rows:], boxes[rows:]
        kept = suppress(*own, config.iou_threshold)[: config.per_image]
        found.append((own[0][kept], own[1][kept], own[2][kept] + 1))
    return found


def torchvision_ssd(offsets: Tensor, logits: Tensor, anchors: Tensor, config: NmsConfig) -> list[Found]:
    """As torchvision's SSD goes about it: per image and class a threshold and the best, then batched_nms."""
    suppress = torchvision_boxes().batched_nms
    found = []
    for image, image_offsets in zip(logits.softmax(2), offsets, strict=True):
        boxes = decode(image_offsets, anchors).clamp(0, 1)
        parts: list[Found] = []
        for label in range(1, image.shape[1]):
            scores = image[:, label]
            above = scores > config.score_threshold
            scores, own = scores[above], boxes[above]
            scores, best = scores.topk(min(config.per_class, len(scores)))
            parts.append((own[best], scores, torch.full_like(best, label)))
        joined = [torch.cat(column) for column in zip(*parts, strict=True)]
        kept = suppress(*joined, config.iou_threshold)[: config.per_image]
        found.append((joined[0][kept], joined[1][kept], joined[2][kept]))
    return found


def python_loop(offsets: Tensor, logits: Tensor, anchors: Tensor, config: NmsConfig) -> list[Found]:
    """As NVIDIA's reference goes about it: a Python loop over images, classes and kept boxes.

    Every kept box is compared with all that are left, itself included, and its number is fetched from the device.
    """
    found = []
    decoded = decode(offsets, anchors).clamp(0, 1)
    for probabilities, boxes in zip(logits.softmax(2), decoded, strict=True):
        parts: list[Found] = [(boxes[:0], boxes[:0, 0], torch.empty(0, dtype=torch.int64, device=boxes.device))]
        for label in range(1, probabilities.shape[1]):
            scores = probabilities[:, label]
            above = scores > config.score_threshold
            own, scores = boxes[above], scores[above]
            if len(scores) == 0:
                continue
            rows, kept = scores.argsort(descending=True, stable=True)[: config.per_class], []
            while len(rows):
                best = int(rows[0])
                kept.append(best)
                overlaps = _plain_iou(own[rows], own[best : best + 1]).squeeze(1)
                rows = rows[1:][overlaps[1:] <= config.iou_threshold]
            parts.append((own[kept], scores[kept], torch.full((len(kept),), label, device=boxes.device)))
        joined = [torch.cat(column) for column in zip(*parts, strict=True)]
        order = joined[1].argsort(descending=True, stable=True)[: config.per_image]
        found.append((joined[0][order], joined[1][order], joined[2][order]))
    return found


def _plain_iou(first: Tensor, second: Tensor) -> Tensor:
    """Overlaps (n, m) by the textbook: corners of all pairs, both coordinates side by side."""
    near = torch.maximum(first[:, None, :2], second[None, :, :2])
    far = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = (far - near).clamp(min=0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (first, second)]
    return (shared / (areas[0][:, None] + areas[1][None] - shared)).nan_to_num(0.0)


PEERS = {
    "batched_nms": batched_nms,
    "our_threshold_batched_nms": our_threshold,
    "torchvision_ssd": torchvision_ssd,
    "python_loop": python_loop,
}
