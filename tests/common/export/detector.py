"""One small detector from images to boxes, scores and labels, exported once in every precision."""

import numpy as np
import torch
from torch import Tensor, nn

from challenges.detection.nms import PostProcessing
from challenges.detection.recipes import NmsConfig
from common.export.signature import BatchRange, Signature, TensorSpec

PLACES, CLASSES, SHAPES = 20, 3, 2
SIGNATURE = Signature(
    inputs=(TensorSpec("images", "float32", (3, 32, 32)),),
    outputs=(
        TensorSpec("boxes", "float32", (PLACES, 4)),
        TensorSpec("scores", "float32", (PLACES,)),
        TensorSpec("labels", "int64", (PLACES,)),
    ),
    batch=BatchRange(1, 4, 8),
)


class SmallDetector(nn.Module):
    """Two maps, each with a head for offsets and one for classes, decoded and suppressed."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _convolution(3, 16, stride=2)
        self.block = _convolution(16, 16)
        self.shrink = _convolution(16, 32, stride=2)
        self.offset_heads, self.class_heads = (
            nn.ModuleList(nn.Conv2d(width, SHAPES * size, 3, padding=1) for width in (16, 32)) for size in (4, CLASSES)
        )
        self.post_processing = PostProcessing(_anchors(), NmsConfig(per_image=PLACES, per_class=50, candidates=100))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        first = self.stem(images)
        first = first + self.block(first)
        maps = (first, self.shrink(first))
        offsets, logits = (
            torch.cat([_rows(head(features), size) for head, features in zip(heads, maps, strict=True)], 1)
            for heads, size in ((self.offset_heads, 4), (self.class_heads, CLASSES))
        )
        return self.post_processing(offsets, logits)


def images_of(size: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Noise, smoothed so that neighbouring boxes agree."""
    noise = np.random.default_rng(seed).normal(size=(size, 3, 11, 11))
    return {"images": np.kron(noise, np.ones((3, 3)))[..., :32, :32].astype(np.float32)}


def small_detector() -> nn.Module:
    """Normalisations with statistics of their own, and scores spread over their whole range."""
    torch.manual_seed(0)
    module = SmallDetector()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    with torch.no_grad():
        for head in module.class_heads:
            head.weight.mul_(4)
        module.train()(torch.from_numpy(images_of(64)["images"]))
    return module.eval()


def _convolution(channels: int, width: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
    )


def _rows(features: Tensor, size: int) -> Tensor:
    """(batch, shape * size, height, width) -> (batch, anchor, size)."""
    batch, _, height, width = features.shape
    return features.view(batch, SHAPES, size, height * width).transpose(2, 3).reshape(batch, -1, size)


def _anchors() -> Tensor:
    """(anchor, 4) centre x, centre y, width, height; two squares around every cell of 16 x 16 and 8 x 8."""
    parts = []
    for cells in (16, 8):
        centres = (torch.arange(cells) + 0.5) / cells
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        for side in (2 / cells, 3 / cells):
            parts.append(torch.stack([x.flatten(), y.flatten(), *(torch.full((cells * cells,), side),) * 2], 1))
    return torch.cat(parts)
