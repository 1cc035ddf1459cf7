"""ResNet v1.5 with 18 to 152 layers, for images of any size and any number of classes.

Paper: He et al. 2015, arXiv:1512.03385. Parameter names and their order are torchvision's. Deviations:

- a downsampling bottleneck strides in its 3x3 convolution, not in its first 1x1 ("v1.5": about half a point of
  ImageNet accuracy for 5 % of speed); basic blocks (18 and 34 layers) are as published;
- every resizing shortcut is a projection (the paper's option B), also with 18 and 34 layers;
- convolutions start from Kaiming's normal distribution over the fan-in, as NVIDIA's published recipes do
  (torchvision takes the fan-out); the classifier keeps PyTorch's own initialisation;
- the last normalisation of each block can start at zero, so that the block starts as the identity
  (Goyal et al. 2017, arXiv:1706.02677);
- the final average pool takes feature maps of any size.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from common.vision.fused_norm import FusedNorm

Depth = Literal[18, 34, 50, 101, 152]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; the first one strides.

    features: (batch, channel, height, width)
    returns:  (batch, width, height / stride, width / stride)
    """

    expansion = 1

    def __init__(
        self, channels: int, width: int, *, stride: int, downsample: nn.Module | None, fused: bool = False
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = _norm(width, fused)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = _norm(width, fused)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        return self.bn2

    def forward(self, features: Tensor) -> Tensor:
        shortcut = features if self.downsample is None else self.downsample(features)
        features = _activated(self.bn1, self.relu, self.conv1(features))
        return _activated(self.bn2, self.relu, self.conv2(features), shortcut)


class Bottleneck(nn.Module):
    """A 1x1, a 3x3 and a widening 1x1 convolution and a shortcut; the 3x3 one strides.

    features: (batch, channel, height, width)
    returns:  (batch, 4 * width, height / stride, width / stride)
    """

    expansion = 4

    def __init__(
        self, channels: int, width: int, *, stride: int, downsample: nn.Module | None, fused: bool = False
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = _norm(width, fused)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = _norm(width, fused)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = _norm(width * self.expansion, fused)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        return self.bn3

    def forward(self, features: Tensor) -> Tensor:
        shortcut = features if self.downsample is None else self.downsample(features)
        features = _activated(self.bn1, self.relu, self.conv1(features))
        features = _activated(self.bn2, self.relu, self.conv2(features))
        return _activated(self.bn3, self.relu, self.conv3(features), shortcut)


Block = BasicBlock | Bottleneck
ARCHITECTURES: dict[int, tuple[type[Block], tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}
"""depth -> block and blocks per stage (He et al. 2015, table 1)"""


class Trunk(nn.Module):
    """A residual network's stem and stages, from normalised images to feature maps.

    depth:                  of the whole network the stages are taken from.
    strides:                of each stage's first block, one for every stage there is to be.
    gradient_checkpointing: keep only the blocks' inputs for the backward pass and compute the rest again: the same
                            gradients and running statistics in less memory.
    fused:                  train by NVIDIA's kernels for normalisations and what follows them (fused_norm.py).
    """

    def __init__(
        self, *, depth: Depth, strides: Sequence[int], gradient_checkpointing: bool = False, fused: bool = False
    ) -> None:
        super().__init__()
        if depth not in ARCHITECTURES:
            raise ValueError(f"a ResNet has {', '.join(map(str, ARCHITECTURES))} layers, not {depth}")
        block, counts = ARCHITECTURES[depth]
        self.depth = depth
        self.gradient_checkpointing = gradient_checkpointing
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = _norm(64, fused)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.width = 64
        self.stage_names = tuple(f"layer{number}" for number in range(1, len(strides) + 1))
        for number, (name, stride) in enumerate(zip(self.stage_names, strides, strict=True)):
            self.add_module(name, _stage(block, self.width, 64 * 2**number, counts[number], stride=stride, fused=fused))
            self.width = 64 * 2**number * block.expansion

    def feature_map(self, images: Tensor) -> Tensor:
        """What the last stage sees.

        images:  (batch, 3, height, width), normalised
        returns: (batch, self.width, height / stride, width / stride), the stem's stride being 4
        """
        features: Tensor = self.maxpool(_activated(self.bn1, self.relu, self.conv1(images)))
        for name in self.stage_names:
            for block in self.get_submodule(name).children():
                features = self._run(block, features)
        return features

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Name and module of each part from the stem on; together they hold every parameter exactly once."""
        stem = nn.ModuleList([self.conv1, self.bn1])
        return [("stem", stem), *((name, self.get_submodule(name)) for name in self.stage_names)]

    def initialise(self, *, zero_init_last_norm: bool) -> None:
        """Draw the convolutions afresh; with `zero_init_last_norm` every block starts as the identity."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            elif isinstance(module, Block) and zero_init_last_norm:
                nn.init.zeros_(module.last_norm.weight)

    def _run(self, block: nn.Module, features: Tensor) -> Tensor:
        if not (self.gradient_checkpointing and self.training and torch.is_grad_enabled()):
            answer: Tensor = block(features)
        elif torch.compiler.is_compiling():  # a compiled graph writes the running statistics once, whatever it repeats
            answer = checkpoint(block, features, use_reentrant=False, preserve_rng_state=False)
        else:
            answer = checkpoint(
                block,
                features,
                use_reentrant=False,
                preserve_rng_state=False,  # the blocks draw no random numbers
                context_fn=lambda: (contextlib.nullcontext(), _buffers_kept(block)),
            )
        return answer


class ResNet(Trunk):
    """A residual network from normalised images to class logits.

    num_classes:            outputs of the classifier.
    zero_init_last_norm:    start every block as the identity.
    gradient_checkpointing: see Trunk, as for fused.
    """

    def __init__(
        self,
        *,
        depth: Depth,
        num_classes: int,
        zero_init_last_norm: bool,
        gradient_checkpointing: bool = False,
        fused: bool = False,
    ) -> None:
        super().__init__(depth=depth, strides=(1, 2, 2, 2), gradient_checkpointing=gradient_checkpointing, fused=fused)
        if num_classes < 1:
            raise ValueError(f"a classifier needs at least one class, not {num_classes}")
        self.num_classes = num_classes
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(self.width, num_classes)
        self.initialise(zero_init_last_norm=zero_init_last_norm)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores before the softmax.

        images:  (batch, 3, height, width), normalised
        returns: (batch, class)
        """
        logits: Tensor = self.fc(self.features(images))
        return logits

    def features(self, images: Tensor) -> Tensor:
        """The pooled embedding the classifier sees, for visual search.

        images:  (batch, 3, height, width), normalised
        returns: (batch, width), width being 512 for depths 18 and 34, else 2048
        """
        pooled: Tensor = self.avgpool(self.feature_map(images))
        return pooled.flatten(1)

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Name and module of each part from stem to head; together they hold every parameter exactly once."""
        return [*super().stages(), ("fc", self.fc)]


def _norm(channels: int, fused: bool, *, relu: bool = True) -> nn.BatchNorm2d:
    return FusedNorm(channels, relu=relu) if fused else nn.BatchNorm2d(channels)


def _activated(norm: nn.BatchNorm2d, relu: nn.Module, features: Tensor, shortcut: Tensor | None = None) -> Tensor:
    """The normalised features, with the shortcut added where there is one, after ReLU."""
    if isinstance(norm, FusedNorm):
        answer: Tensor = norm(features, shortcut)
        return answer
    normed = norm(features)
    activated: Tensor = relu(normed if shortcut is None else normed + shortcut)
    return activated


def _stage(
    block: type[Block], channels: int, width: int, count: int, *, stride: int, fused: bool = False
) -> nn.Sequential:
    """`count` blocks; the first one strides and takes `channels`, the others take what it gives."""
    wide = width * block.expansion
    downsample = None
    if stride != 1 or channels != wide:
        narrow = nn.Conv2d(channels, wide, 1, stride=stride, bias=False)
        downsample = nn.Sequential(narrow, _norm(wide, fused, relu=False))
    first = block(channels, width, stride=stride, downsample=downsample, fused=fused)
    others = (block(wide, width, stride=1, downsample=None, fused=fused) for _ in range(count - 1))
    return nn.Sequential(first, *others)


@contextlib.contextmanager
def _buffers_kept(block: nn.Module) -> Iterator[None]:
    """Let recomputation write to copies of the buffers: running statistics must not count a batch twice."""
    originals = [
        (module, name, buffer) for module in block.modules() for name, buffer in module.named_buffers(recurse=False)
    ]
    for module, name, buffer in originals:
        setattr(module, name, buffer.clone())
    try:
        yield
    finally:
        for module, name, buffer in originals:
            setattr(module, name, buffer)
