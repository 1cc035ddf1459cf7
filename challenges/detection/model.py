"""SSD with a ResNet's first three stages as backbone, for any number of classes.

Paper: Liu et al. 2016, arXiv:1512.02325. Follows NVIDIA's SSD300 v1.1 (DeepLearningExamples), which deviates from it:

- ResNet instead of VGG; its third stage does not stride, so that its maps have 38 x 38 cells at 300 pixels;
- five further blocks, with batch norms, give the smaller maps; their convolutions and the heads' start from Xavier's
  uniform distribution;
- no L2 normalisation of the first map.

Against NVIDIA's: the heads' channels are ordered by shape, then class or coordinate (torchvision's order); NVIDIA's are
the other way round, which costs a strided copy of all logits in the channels-last layout. Its ResNet-18 has a last map
of 128 channels; here all depths have the same blocks.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from challenges.detection.boxes import SSD300, DefaultBoxes
from common.vision.resnet import Depth, Trunk


class SSD(nn.Module):
    """A detector from normalised images to one answer per default box.

    num_classes:            of the foreground; the heads have one more, the background, at 0.
    zero_init_last_norm:    start every block of the backbone as the identity.
    gradient_checkpointing: compute the backbone's blocks again for the backward pass instead of keeping them.
    """

    def __init__(
        self,
        *,
        depth: Depth,
        num_classes: int,
        zero_init_last_norm: bool = False,
        gradient_checkpointing: bool = False,
        default_boxes: DefaultBoxes = SSD300,
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"a detector needs at least one class, not {num_classes}")
        self.depth = depth
        self.num_classes = num_classes
        self.default_boxes = default_boxes
        self.backbone = Trunk(depth=depth, strides=(1, 2, 1), gradient_checkpointing=gradient_checkpointing)
        widths = [self.backbone.width]
        self.extras = nn.ModuleList()
        for position, (cells, fewer) in enumerate(pairwise(default_boxes.maps)):
            middle, width = (256, 512) if position < 2 else (128, 256)
            self.extras.append(_shrink(widths[-1], middle, width, unpadded=fewer == cells - 2))
            widths.append(width)
        shapes = default_boxes.shapes_per_cell
        self.offset_heads, self.class_heads = (
            nn.ModuleList(nn.Conv2d(w, s * size, 3, padding=1) for w, s in zip(widths, shapes, strict=True))
            for size in (4, num_classes + 1)
        )
        self._initialise(zero_init_last_norm)

    def _initialise(self, zero_init_last_norm: bool) -> None:
        self.backbone.initialise(zero_init_last_norm=zero_init_last_norm)
        for part in (self.extras, self.offset_heads, self.class_heads):
            for module in part.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.xavier_uniform_(module.weight)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets from the default boxes, and class scores before the softmax.

        images:  (batch, 3, image_size, image_size), normalised
        returns: offsets (batch, anchor, 4) and logits (batch, anchor, class), class 0 being the background
        """
        size = self.default_boxes.image_size
        if images.ndim != 4 or images.shape[1:] != (3, size, size):
            raise ValueError(
                f"this detector's default boxes fit images of shape (batch, 3, {size}, {size}), "
                f"not {tuple(images.shape)}"
            )
        maps = [self.backbone.feature_map(images)]
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        offsets = [_by_anchor(head(features), 4) for head, features in zip(self.offset_heads, maps, strict=True)]
        classes = self.num_classes + 1
        logits = [_by_anchor(head(features), classes) for head, features in zip(self.class_heads, maps, strict=True)]
        return torch.cat(offsets, 1), torch.cat(logits, 1)

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Name and module of each part from stem to heads; together they hold every parameter exactly once."""
        heads = nn.ModuleList([self.offset_heads, self.class_heads])
        return [*self.backbone.stages(), ("extras", self.extras), ("heads", heads)]


def _shrink(channels: int, middle: int, width: int, *, unpadded: bool) -> nn.Sequential:
    """A narrowing 1x1 and a 3x3 convolution that halves the map's sides, or takes the border's cells off."""
    return nn.Sequential(
        nn.Conv2d(channels, middle, 1, bias=False),
        nn.BatchNorm2d(middle),
        nn.ReLU(inplace=True),
        nn.Conv2d(middle, width, 3, stride=1 if unpadded else 2, padding=0 if unpadded else 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )


def _by_anchor(answers: Tensor, size: int) -> Tensor:
    """A head's map (batch, shape * size, row, column) as (batch, shape * row * column, size)."""
    ordered: Tensor = answers.unflatten(1, (-1, size)).permute(0, 1, 3, 4, 2).flatten(1, 3)
    return ordered
