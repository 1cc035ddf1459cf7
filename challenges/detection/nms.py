"""From a detector's answers to detections: scores, a threshold, suppression per class, the best of an image.

The semantics are those of the published evaluation (NVIDIA's DeepLearningExamples, SSD) with torchvision's rule at the
threshold, in this order:

1. scores are the softmax over the classes; the background's is dropped; boxes are clipped to the image;
2. a box counts for every class in which it scores more than `score_threshold`; NaN never does;
3. the best `per_class` of each class stay;
4. of these, the best `candidates` over all classes stay: beyond the reference, since TensorRT's suppression takes at
   most 5,000 per image; 3,000 are 15 classes with 200 boxes each;
5. within its class, a box is dropped if a better one that was kept overlaps it by more than `iou_threshold`; one that
   overlaps by exactly that much stays, as do boxes without an area;
6. the best `per_image` over all classes are the image's detections.

Of equal scores the one of the lower class comes first, within a class the one of the earlier anchor.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from challenges.detection.boxes import decode
from challenges.detection.detections import Detections
from challenges.detection.recipes import NmsConfig
from common.vision.suppression import falling, keep_best, largest, placed, ranks, suppress

SLACK = 1e-3  # on a bound of the score's logarithm, where rounding errors are below 1e-5


@torch.no_grad()
def detect(offsets: Tensor, logits: Tensor, anchors: Tensor, config: NmsConfig) -> Detections:
    """The detections of a batch, by work in proportion to the boxes above the threshold.

    offsets: (batch, anchor, 4)
    logits:  (batch, anchor, class), class 0 being the background
    anchors: (anchor, 4) centre x, centre y, width, height
    """
    batch, _, classes = logits.shape
    foreground = classes - 1
    image, label, scores, boxes = above_threshold(offsets, logits, anchors, config.score_threshold)
    # by image and class, best first; equals keep the anchors' order, in which they come
    key, order = falling(image * foreground + label, scores).sort(stable=True)
    group, scores, boxes = key >> 32, scores.index_select(0, order), boxes.index_select(0, order)
    bounds = torch.searchsorted(group, torch.arange(batch * foreground + 1, device=group.device))
    starts, counts = bounds[:-1], bounds.diff().clamp(max=config.per_class)
    if len(scores) > config.candidates and counts.view(batch, -1).sum(1).amax() > config.candidates:
        enters = torch.arange(len(scores), device=group.device) - starts[group] < config.per_class
        image = (group // foreground).where(enters, batch)
        enters &= ranks(image, scores, batch + 1) < config.candidates
        counts = torch.zeros_like(counts).index_add_(0, group, enters.long())  # the first of each group
    kept = keep_best(boxes, starts, counts, config.iou_threshold).nonzero().squeeze(1)
    group, scores, boxes = (column.index_select(0, kept) for column in (group, scores, boxes))
    image, label = group // foreground, group % foreground + 1
    rank = ranks(image, scores, batch)
    shape = (batch, config.per_image)
    return Detections(*(placed(column, image, rank, shape) for column in (boxes, scores, label)))


def above_threshold(
    offsets: Tensor, logits: Tensor, anchors: Tensor, threshold: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Every pair of a box and a class in which it scores more than `threshold`, in the order of images and anchors.

    A score above t takes a logit above the background's plus log(t / (1 - t)), which few anchors have: the softmax is
    taken of these only.
    returns: image, label from 0 on, score and box (row, 4)
    """
    needed = math.log(threshold / (1 - threshold)) - SLACK if threshold else -math.inf
    logits = logits.float()
    place = (logits[..., 1:].amax(2) - logits[..., 0] > needed).flatten().nonzero().squeeze(1)
    scores = logits.flatten(0, 1).index_select(0, place).softmax(1)[:, 1:]
    anchor = place % len(anchors)
    boxes = decode(offsets.flatten(0, 1).index_select(0, place).float(), anchors[anchor]).clamp(0, 1)
    row, label = (scores > threshold).nonzero().t()
    sound = ~boxes.isnan().any(1)
    if not sound.all():
        row, label = row[sound[row]], label[sound[row]]
    image = (place // len(anchors)).index_select(0, row)
    return image, label, scores[row, label], boxes.index_select(0, row)


class PostProcessing(nn.Module):
    """What `detect` does, with fixed shapes all the way: made to be exported.

    offsets: (batch, anchor, 4)
    logits:  (batch, anchor, class), class 0 being the background
    returns: boxes (batch, per_image, 4), scores (batch, per_image), labels (batch, per_image), as in `Detections`
    """

    def __init__(self, anchors: Tensor, config: NmsConfig) -> None:
        super().__init__()
        self.config = config
        self.anchors: Tensor
        self.register_buffer("anchors", anchors, persistent=False)

    def forward(self, offsets: Tensor, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        config = self.config
        boxes = decode(offsets.float(), self.anchors).clamp(0, 1)
        scores = logits.float().softmax(2)[..., 1:].transpose(1, 2)  # (batch, class, anchor)
        counts = (scores > config.score_threshold) & ~boxes.isnan().any(2).unsqueeze(1)
        classes, anchors = scores.shape[1:]
        per_class = min(config.per_class, anchors)
        scores, anchor = largest(torch.where(counts, scores, 0.0), per_class)
        scores, place = largest(scores.flatten(1), min(config.candidates, classes * per_class))
        labels = torch.div(place, per_class, rounding_mode="trunc")
        boxes = _rows(boxes, anchor.flatten(1).gather(1, place))
        keep = suppress(boxes, scores, labels, classes, per_class, config.iou_threshold)
        scores, place = largest(torch.where(keep, scores, 0.0), min(config.per_image, scores.shape[1]))
        found = scores > 0
        labels = torch.where(found, labels.gather(1, place) + 1, 0)
        boxes = torch.where(found.unsqueeze(2), _rows(boxes, place), 0.0)
        missing = config.per_image - scores.shape[1]
        if missing == 0:
            return boxes, scores, labels
        return F.pad(boxes, (0, 0, 0, missing)), F.pad(scores, (0, missing)), F.pad(labels, (0, missing))


def _rows(boxes: Tensor, index: Tensor) -> Tensor:
    """Of boxes (batch, n, 4), those at index (batch, m)."""
    return boxes.gather(1, index.unsqueeze(2).expand(-1, -1, 4))
