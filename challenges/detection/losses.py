"""What an SSD minimises: boxes on the anchors with objects, classes on these and on the hardest of the others."""

import torch
import torch.nn.functional as F
from torch import Tensor


def multibox_loss(
    offsets: Tensor, logits: Tensor, target_offsets: Tensor, target_labels: Tensor, *, negatives: int = 3
) -> dict[str, Tensor]:
    """Smooth L1 of the positive anchors' offsets plus cross entropy of the positive and the hardest negative anchors.

    Each image is divided by its own positive anchors, so that its share does not depend on what else is in the batch;
    images without any contribute 0, and the mean is over all images. In float32 whatever the inputs' type.

    offsets, target_offsets: (batch, anchor, 4)
    logits:                  (batch, anchor, class), class 0 being the background
    target_labels:           (batch, anchor) int64, 0 on the negative anchors
    negatives:               the most negative anchors counted per positive one
    returns:                 the scalars `localisation`, `classification` and their sum, `loss`
    Source: Liu et al. 2016, arXiv:1512.02325, section 2.2; divided as in NVIDIA's DeepLearningExamples.
    """
    positive = target_labels > 0
    count = positive.sum(1)
    distance = F.smooth_l1_loss(offsets.float(), target_offsets.float(), reduction="none").sum(2)
    entropy = F.cross_entropy(logits.float().flatten(0, 1), target_labels.flatten(), reduction="none")
    entropy = entropy.view_as(target_labels)
    hardest = entropy.masked_fill(positive, -1.0).sort(dim=1, descending=True, stable=True).values
    wanted = torch.minimum(negatives * count, (~positive).sum(1))
    is_wanted = torch.arange(entropy.shape[1], device=entropy.device) < wanted.unsqueeze(1)
    per_image = count.clamp(min=1)
    localisation = ((distance * positive).sum(1) / per_image).mean()
    confused = (entropy * positive).sum(1) + (hardest * is_wanted).sum(1)
    classification = (confused / per_image).mean()
    return {
        "loss": localisation + classification,
        "localisation": localisation,
        "classification": classification,
    }
