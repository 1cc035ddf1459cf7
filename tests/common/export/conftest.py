"""One small convolutional network, exported once in every precision."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from common.export.onnx import export_onnx
from common.export.precisions import convert_precision, quantize_int8
from common.export.signature import BatchRange, Signature, TensorSpec

SIGNATURE = Signature(
    inputs=(TensorSpec("images", "float32", (3, 16, 16)),),
    outputs=(TensorSpec("logits", "float32", (4,)),),
    batch=BatchRange(1, 4, 32),
)


def operators(path: Path) -> dict[str, int]:
    """How often each operator occurs in the graph at `path`, by name."""
    nodes = onnx.load(path, load_external_data=False).graph.node
    return dict(sorted(Counter(node.op_type for node in nodes).items()))


class SmallNet(nn.Module):
    """Convolution, normalisation, a shortcut, a pool and a classifier: a residual network's parts, once each."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        self.block = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16))
        self.fc = nn.Linear(16, 4)

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images)
        features = torch.relu(features + self.block(features))
        return self.fc(features.mean((2, 3)))


@dataclass(frozen=True)
class Exported:
    module: nn.Module
    fp32: Path
    fp16: Path
    bf16: Path
    int8: Path


def batch_of(size: int, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {"images": generator.normal(size=(size, 3, 16, 16)).astype(np.float32)}


@pytest.fixture(scope="session")
def small_net() -> nn.Module:
    """Normalisations with statistics of their own and weights that keep the classes apart, in channels-last memory."""
    torch.manual_seed(0)
    module = SmallNet().to(memory_format=torch.channels_last)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
            nn.init.uniform_(part.weight, 0.5, 2.0)
    with torch.no_grad():
        module.fc.weight.mul_(4)
        module(torch.from_numpy(batch_of(64)["images"]))
    return module.eval()


@pytest.fixture(scope="session")
def exported(small_net, tmp_path_factory) -> Exported:
    folder = tmp_path_factory.mktemp("exported")
    fp32 = export_onnx(small_net, SIGNATURE, folder / "model.fp32.onnx")
    return Exported(
        small_net,
        fp32,
        convert_precision(fp32, folder / "model.fp16.onnx", "fp16"),
        convert_precision(fp32, folder / "model.bf16.onnx", "bf16"),
        quantize_int8(fp32, folder / "model.int8.onnx", [batch_of(16, seed) for seed in range(4)]),
    )
