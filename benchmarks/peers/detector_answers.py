"""What an SSD300 answers for a batch: made up in the way of a trained one, or saved by one."""

from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from challenges.detection.boxes import SSD300, corners, encode, iou
from common.errors import DataError


def synthetic_heads(batch: int, *, classes: int = 81, objects: int = 16, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Clusters of similar boxes around random objects, each seen as two classes: some 600 boxes above 0.05 per image.

    classes: with the background
    returns: offsets (batch, 8732, 4) and logits (batch, 8732, class)
    """
    generator = torch.Generator().manual_seed(seed)
    anchors = SSD300.boxes()
    sizes = 0.06 + 0.7 * torch.rand(batch, objects, 2, generator=generator) ** 2
    first = torch.rand(batch, objects, 2, generator=generator) * (1 - sizes)
    boxes = torch.cat([first, first + sizes], dim=2)
    # few classes have most objects, as people among COCO's
    labels = 1 + (torch.rand(batch, objects, generator=generator) ** 3 * (classes - 1)).long()
    overlap, nearest = iou(boxes, corners(anchors)).max(1)
    own = labels.gather(1, nearest).unsqueeze(2)
    strength = ((overlap > 0.25) * (3.0 + 12 * (overlap - 0.25))).unsqueeze(2)
    logits = 0.7 * torch.randn(batch, len(anchors), classes, generator=generator)
    logits[..., 0] += 7
    logits.scatter_add_(2, own, strength).scatter_add_(2, own % (classes - 1) + 1, 0.8 * strength)
    wanted = encode(boxes.gather(1, nearest.unsqueeze(2).expand(-1, -1, 4)), anchors)
    offsets = torch.where(overlap.unsqueeze(2) > 0.15, 0.8 * wanted, 0)
    return offsets + 0.5 * torch.randn(wanted.shape, generator=generator), logits


def saved_heads(path: Path) -> tuple[Tensor, Tensor]:
    """The tensors `offsets` and `logits` of a safetensors file.

    Raises DataError where they are not an SSD300's.
    """
    found = safetensors.torch.load_file(path)
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    offsets, logits = found.get("offsets"), found.get("logits")
    count = SSD300.count
    if offsets is None or logits is None or offsets.shape != (len(logits), count, 4) or logits.shape[1] != count:
        raise DataError(
            f"{path} holds {shapes}.",
            f"Wanted are offsets (image, {count}, 4) and logits (image, {count}, class).",
        )
    return offsets.float(), logits.float()
