"""What finds objects without looking at a picture: the commonest boxes of training, the same ones in every image.

Every trained detector is shown beside them. Where objects lie in the middle or fill the picture, as in photographs of
one thing each, they find many.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from challenges.detection.boxes import iou
from challenges.detection.detections import DetectionTable
from challenges.detection.evaluation import IOU_THRESHOLDS, MOST, evaluate
from challenges.detection.scenes import Scenes
from common.language.telling import english
from common.positions import evenly_spread

LEARNT = 1000  # boxes of a class that are looked at: seconds, however large the data is
JUDGED = 1000  # images that are searched


def figures(train: Scenes, validation: Scenes) -> Mapping[str, Mapping[str, float]]:
    """Name -> metric -> value on validation images, at most `JUDGED`; as `evaluate`, without what no box defines."""
    judged = validation.select(evenly_spread(len(validation), JUDGED))
    metrics = evaluate(judged, commonest_boxes(train, judged), resamples=0).metrics
    return {english("commonest boxes"): {name: value for name, value in metrics.items() if not math.isnan(value)}}


def commonest_boxes(train: Scenes, asked: Scenes) -> DetectionTable:
    """The same boxes, as shares of the image, in every asked one; of each class alike many, together at most `MOST`."""
    sizes = np.stack([train.widths, train.heights] * 2, axis=1)[train.image_of_box()]
    shares = torch.from_numpy(train.boxes / sizes.astype(np.float32))
    boxes, scores, labels = [], [], []
    for label in range(1, len(train.classes) + 1):
        rows = np.flatnonzero((train.labels == label) & ~train.ignored)
        chosen, likeness = typical(shares[rows[evenly_spread(len(rows), LEARNT)]], max(1, MOST // len(train.classes)))
        boxes.append(chosen)
        scores.append(likeness)
        labels.append(torch.full_like(likeness, label, dtype=torch.int64))
    order = torch.cat(scores).argsort(descending=True, stable=True)[:MOST]
    found = [torch.cat(parts)[order].numpy() for parts in (boxes, scores, labels)]
    count = len(asked)
    repeated = [np.repeat(part[None], count, axis=0) for part in found]
    return DetectionTable.from_batch(np.arange(count), asked.widths, asked.heights, repeated)


def typical(boxes: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Those of `boxes` (box, 4) that lie closest to all: each is chosen for what the ones before it miss.

    How close is the share of COCO's thresholds that the IoU reaches, as its average precision counts.
    returns: (chosen, 4), and (chosen,) what each adds, falling
    """
    thresholds = torch.from_numpy(IOU_THRESHOLDS).float()
    close = torch.bucketize(iou(boxes, boxes), thresholds, right=True) / len(thresholds)
    best, chosen, scores = torch.zeros(len(boxes)), [], []
    for _ in range(min(most, len(boxes))):
        score, row = (close - best).clamp_(min=0).mean(1).max(0)
        if not score:
            break
        chosen.append(int(row))
        scores.append(float(score))
        best = torch.maximum(best, close[row])
    return boxes[chosen], torch.tensor(scores)
