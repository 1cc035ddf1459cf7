"""Weights of ResNets from torchvision, timm, NVIDIA's DeepLearningExamples and this kit, under one set of names."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from common.errors import CheckpointError
from common.storage.weight_files import read_metadata, read_weights, save_weights, weights_metadata
from common.vision.resnet import ARCHITECTURES, Bottleneck, ResNet, Trunk

__all__ = [
    "LoadReport",
    "TrunkReport",
    "depth_of",
    "fill_counters",
    "load_trunk",
    "load_weights",
    "read_metadata",
    "rename",
    "require_match",
    "save_weights",
    "weights_metadata",
]

_ANCHOR = re.compile(r"(.*?)layer(?:1|s\.0)\.0\.conv1\.weight")
"""a name every ResNet has; what stands before it is the wrapper's prefix (module., model., _orig_mod., backbone.)"""
_NVIDIA_STAGE = re.compile(r"layers\.(\d+)\.")
_HEADS = ("head.fc.", "classifier.")  # what timm and others call fc
_SHOWN = 3  # names an error lists per kind


@dataclass(frozen=True)
class LoadReport:
    """What was loaded into a model.

    part:         the checkpoint's entry the weights came from, such as `state_dict_ema`; None for plain weights.
    file_classes: classes of the file's classifier; None where the file has none.
    new_head:     whether the classifier kept its fresh start because the file's has another number of classes.
    verified:     whether the file's name carries the start of its sha256, and it is right.
    """

    path: Path
    part: str | None
    depth: int
    file_classes: int | None
    new_head: bool
    verified: bool

    def __str__(self) -> str:
        source = f"{self.path.name}, {self.part}" if self.part else self.path.name
        head = "with its classifier"
        if self.new_head:
            head = f"with a new classifier in place of {self.file_classes or 'no'} classes"
        return f"ResNet-{self.depth} weights from {source}{', checksum verified' if self.verified else ''}, {head}"


@dataclass(frozen=True)
class TrunkReport:
    """What was loaded into a trunk; the fields are those of LoadReport."""

    path: Path
    part: str | None
    depth: int
    verified: bool

    def __str__(self) -> str:
        source = f"{self.path.name}, {self.part}" if self.part else self.path.name
        return f"ResNet-{self.depth} backbone from {source}{', checksum verified' if self.verified else ''}"


def load_weights(
    model: ResNet, path: Path, *, strict_head: bool = False, classes: Sequence[str] | None = None
) -> LoadReport:
    """Load a file of weights into a model; the model changes only if everything fits.

    A classifier of another number of classes is left out, and the model keeps its own, unless `strict_head`; so is one
    that the file tells to be of others than `classes`, in this order.
    Raises CheckpointError when the file cannot be read safely (see read_weights) or its weights are not this model's.
    """
    file = read_weights(path)
    found = rename(file.tensors)
    expected = model.state_dict()
    head = found.get("fc.weight")
    count = head.shape[0] if head is not None and head.ndim == 2 else None
    known = read_metadata(path).get("class_names") if classes is not None else None
    new_head = count != model.num_classes or (known is not None and json.loads(known) != list(classes or ()))
    if new_head:
        if strict_head:
            raise CheckpointError(
                f"{path} has a classifier for {count or 'no'} classes, the model one for {model.num_classes}.",
                "They must agree here.",
            )
        found |= {name: expected[name] for name in ("fc.weight", "fc.bias")}
    fill_counters(found, expected)
    require_match(found, expected, path, f"a ResNet-{model.depth}", _likely_reason(found, model.depth))
    model.load_state_dict(found)
    return LoadReport(path, file.part, model.depth, count, new_head, file.verified)


def load_trunk(trunk: Trunk, path: Path) -> TrunkReport:
    """Load the stem and the stages a trunk has from a file of a whole network's weights, or of a detector's.

    Raises CheckpointError as `load_weights` does; the trunk changes only if everything fits.
    """
    file = read_weights(path)
    renamed = rename(file.tensors)
    expected = trunk.state_dict()
    stages = {f"layer{number}" for number in range(1, 5)} - set(trunk.stage_names)
    found = {name: tensor for name, tensor in renamed.items() if name.split(".")[0] not in {"fc", *stages}}
    fill_counters(found, expected)
    require_match(found, expected, path, f"a ResNet-{trunk.depth}", _likely_reason(renamed, trunk.depth))
    trunk.load_state_dict(found)
    return TrunkReport(path, file.part, trunk.depth, file.verified)


def fill_counters(found: dict[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Add the model's own counters of batches where a file from before torch 0.4.1 lacks them; nothing reads them."""
    counters = [name for name in expected if name.endswith("num_batches_tracked") and name not in found]
    found |= {name: expected[name] for name in counters}


def rename(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Torchvision's names for a file's tensors.

    NVIDIA counts its stages from zero inside one container: layers.0.2.conv1 is layer1.2.conv1. Tensors outside the
    network's prefix, such as an average's counter, are left out.
    """
    prefix = next((match[1] for name in tensors if (match := _ANCHOR.fullmatch(name))), "")
    renamed = {}
    for full_name, tensor in tensors.items():
        head = next((head for head in _HEADS if full_name.removeprefix(prefix).startswith(head)), None)
        if head is None and not full_name.startswith(prefix):
            continue
        name = full_name.removeprefix(prefix)
        name = f"fc.{name.removeprefix(head)}" if head else name
        renamed[_NVIDIA_STAGE.sub(lambda match: f"layer{int(match[1]) + 1}.", name)] = tensor
    return renamed


def require_match(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path, model: str, reason: str
) -> None:
    """Raise CheckpointError unless names, shapes and finite numbers fit; `reason` says what the file may be instead."""
    missing = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected]
    reshaped = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    if missing or unknown or reshaped:
        kinds = (("missing", missing), ("unknown", unknown), ("of another shape", reshaped))
        raise CheckpointError(
            f"{path} does not fit {model}: {'; '.join(_summary(*kind) for kind in kinds if kind[1])}.",
            reason,
            f"Give weights of {model}, or choose the depth that fits the file.",
        )
    broken = [name for name, tensor in found.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise CheckpointError(
            f"{path} holds numbers that are not finite: {_summary('tensors', broken)}.",
            remedy="The training that wrote it went astray: take an earlier file.",
        )


def _summary(kind: str, names: list[str]) -> str:
    rest = ", ..." if len(names) > _SHOWN else ""
    return f"{len(names)} {kind} ({', '.join(names[:_SHOWN])}{rest})"


def _likely_reason(found: Mapping[str, Tensor], depth: int) -> str:
    """Name the network that a file's weights seem to belong to."""
    middle = found.get("layer1.0.conv2.weight")
    if middle is None or middle.ndim != 4:
        return "These are not the weights of a ResNet."
    if "conv1.weight" not in found:
        return "These are weights of a ResNet with another stem (such as ResNet-D)."
    if any(".se." in name or ".squeeze." in name for name in found):
        return "These are weights of a ResNet with squeeze-and-excitation."
    if middle.shape[0] != 64 or middle.shape[1] != 64:
        return "These are weights of a ResNet with wide or grouped convolutions (Wide ResNet, ResNeXt)."
    other = _depth(found)
    if other is not None:
        return f"These are ResNet-{other} weights{', of which a few are off' if other == depth else ''}."
    return f"These are weights of a ResNet with {', '.join(map(str, _blocks(found)))} blocks per stage."


def depth_of(path: Path) -> int | None:
    """The depth of the ResNet whose weights a file holds; None where they are no ResNet's that is known.

    Raises CheckpointError as `read_weights` does.
    """
    return _depth(rename(read_weights(path).tensors))


def _depth(found: Mapping[str, Tensor]) -> int | None:
    blocks, is_bottleneck = _blocks(found), "layer1.0.conv3.weight" in found
    fitting = (
        depth
        for depth, (block, counts) in ARCHITECTURES.items()
        if counts == blocks and (block is Bottleneck) == is_bottleneck
    )
    return next(fitting, None)


def _blocks(found: Mapping[str, Tensor]) -> tuple[int, ...]:
    """How many a file's network has in each of its four stages."""
    return tuple(sum(bool(re.fullmatch(rf"layer{n}\.\d+\.conv1\.weight", name)) for name in found) for n in range(1, 5))
