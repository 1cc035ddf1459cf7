"""Weights for detectors: the kit's own, NVIDIA's, those with torchvision's heads; and classifiers' for backbones.

Sources of the names and orders: DeepLearningExamples, PyTorch/Detection/SSD/ssd/model.py, and torchvision,
models/detection/ssd.py. NVIDIA's heads count their channels by class or coordinate, then shape of box; torchvision's
and the kit's by shape, then class or coordinate.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from torch import Tensor

from challenges.detection.data import SceneData
from challenges.detection.model import SSD
from challenges.detection.recipes import DetectionRecipe
from challenges.detection.task import DetectionTask
from common.challenge import Weights
from common.errors import CheckpointError
from common.run.run_directory import RunDirectory
from common.storage.weight_files import read_weights, save_weights, weights_metadata
from common.terminal.console import say
from common.vision.resnet_weights import TrunkReport, fill_counters, load_trunk, rename, require_match

_NVIDIA_TRUNK = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3"}
"""places in torchvision's ResNet, whose children NVIDIA keeps in one container"""
_NVIDIA = re.compile(r"feature_extractor\.feature_(?:provider|extractor)\.([01456])\.(.+)")
_PARTS = (
    (re.compile(r"(?:loc|offset_heads|head\.regression_head\.module_list)\.(\d+\.\w+)"), "offset_heads"),
    (re.compile(r"(?:conf|class_heads|head\.classification_head\.module_list)\.(\d+\.\w+)"), "class_heads"),
    (re.compile(r"(?:additional_blocks|(?:backbone\.)?extras?)\.(\d+\.\d+\.\w+)"), "extras"),
)
"""what NVIDIA, the kit and torchvision call the parts after the backbone"""
_ANCHOR = re.compile(r"(.*?)(conf|class_heads|head\.classification_head\.module_list)\.0\.weight")
"""a name every detector has; what stands before it is the wrapper's prefix (module., model.)"""
_LAYOUTS = {"conf": "NVIDIA", "class_heads": "the kit's", "head.classification_head.module_list": "torchvision"}


@dataclass(frozen=True)
class LoadReport:
    """What was loaded into a detector.

    part:         the checkpoint's entry the weights came from; None for plain weights.
    layout:       who wrote the file, by its names.
    file_classes: foreground classes of the file's heads.
    new_heads:    whether the class heads kept their fresh start because the file's have another number of classes.
    """

    path: Path
    part: str | None
    layout: str
    depth: int
    file_classes: int
    new_heads: bool

    def __str__(self) -> str:
        source = f"{self.path.name}, {self.part}" if self.part else self.path.name
        heads = "with its heads"
        if self.new_heads:
            heads = f"with new class heads in place of {self.file_classes} classes"
        return f"SSD with ResNet-{self.depth} from {source} ({self.layout}), {heads}"


def load_weights(model: SSD, path: Path, *, strict_head: bool = False) -> LoadReport:
    """Load a detector's weights, from a file or a run directory; the model changes only if everything fits.

    Class heads for another number of classes are left out, and the model keeps its own, unless `strict_head`; the heads
    for the boxes know no classes and are loaded all the same.
    Raises CheckpointError when the file cannot be read safely (see read_weights) or its weights are not this model's.
    """
    path = _file(path)
    file = read_weights(path)
    layout, found = _rename(file.tensors, path)
    shapes = model.default_boxes.shapes_per_cell
    rows = found["class_heads.0.weight"].shape[0]
    classes = rows // shapes[0] - 1
    if layout == "NVIDIA":
        for name in [name for name in found if name.startswith(("class_heads.", "offset_heads."))]:
            found[name] = _by_shape(found[name], shapes, int(name.split(".")[1]))
    expected = model.state_dict()
    new_heads = classes != model.num_classes
    if new_heads:
        if strict_head:
            raise CheckpointError(
                f"{path} has heads for {classes} classes, the model for {model.num_classes}.", "They must agree here."
            )
        found |= {name: tensor for name, tensor in expected.items() if name.startswith("class_heads.")}
    fill_counters(found, expected)
    require_match(found, expected, path, f"an SSD with ResNet-{model.depth}", _likely_reason(found))
    model.load_state_dict(found)
    return LoadReport(path, file.part, layout, model.depth, classes, new_heads)


def load_backbone(model: SSD, path: Path) -> TrunkReport:
    """Load a classifier's or a detector's weights into the backbone alone, from a file or a run directory.

    Raises CheckpointError as `load_weights` does.
    """
    return load_trunk(model.backbone, _file(path))


def _file(path: Path) -> Path:
    return RunDirectory(path).weights_file if path.is_dir() else path


def _rename(tensors: Mapping[str, Tensor], path: Path) -> tuple[str, dict[str, Tensor]]:
    """Who wrote the file, and the kit's names for its tensors."""
    anchor = next((match for name in tensors if (match := _ANCHOR.fullmatch(name))), None)
    if anchor is None:
        raise CheckpointError(
            f"{path} holds no detector: none of its tensors is a head of an SSD.",
            "Detectors of the kit, of NVIDIA's DeepLearningExamples and with torchvision's heads are read.",
            "A classifier's weights belong to --backbone.",
        )
    found, trunk = {}, {}
    for name in (name.removeprefix(anchor[1]) for name in tensors if name.startswith(anchor[1])):
        tensor = tensors[anchor[1] + name]
        part = next(((new, match[1]) for old, new in _PARTS if (match := old.fullmatch(name))), None)
        if part:
            found[".".join(part)] = tensor
        elif nvidia := _NVIDIA.fullmatch(name):
            trunk[f"{_NVIDIA_TRUNK[nvidia[1]]}.{nvidia[2]}"] = tensor
        elif name.startswith("backbone."):
            trunk[name.removeprefix("backbone.")] = tensor
    return _LAYOUTS[anchor[2]], found | {f"backbone.{name}": tensor for name, tensor in rename(trunk).items()}


def _by_shape(tensor: Tensor, shapes: tuple[int, ...], position: int) -> Tensor:
    """A head's weight or bias with its channels ordered by shape, then class or coordinate, instead of the reverse."""
    if position >= len(shapes) or tensor.shape[0] % shapes[position]:
        return tensor  # another detector's; its shape is reported
    ordered: Tensor = tensor.unflatten(0, (-1, shapes[position])).transpose(0, 1).flatten(0, 1).contiguous()
    return ordered


def _likely_reason(found: Mapping[str, Tensor]) -> str:
    if "backbone.conv1.weight" not in found:
        return "Its backbone is not a ResNet (torchvision's own SSD has a VGG16)."
    middle, last = found.get("backbone.layer1.0.conv3.weight"), found.get("extras.4.3.weight")
    if last is not None and last.shape[0] == 128:
        return "NVIDIA's SSD with ResNet-18 has a last map of 128 channels; the kit's has 256."
    blocks = [
        sum(bool(re.fullmatch(rf"backbone\.layer{n}\.\d+\.conv1\.weight", name)) for name in found) for n in (1, 2, 3)
    ]
    return f"Its backbone has {', '.join(map(str, blocks))} {'basic blocks' if middle is None else 'bottlenecks'}."


class DetectionWeights(Weights[DetectionRecipe, SceneData, DetectionTask]):
    """A backbone's weights, or a whole detector's."""

    def start(self, task: DetectionTask, data: SceneData, recipe: DetectionRecipe, console: Console) -> None:
        if recipe.backbone is not None:
            say(console, f"backbone: {load_backbone(task.model, recipe.backbone)}")
        if recipe.weights is not None:
            say(console, f"weights: {load_weights(task.model, recipe.weights)}")

    def save(self, task: DetectionTask, data: SceneData, recipe: DetectionRecipe, path: Path) -> None:
        metadata = weights_metadata(data.scenes.classes, recipe.preprocessing.to_plain())
        ids = {"category_ids": str(list(data.scenes.category_ids))}
        save_weights(task.model.state_dict(), path, metadata | ids)

    def load(self, task: DetectionTask, path: Path) -> None:
        load_weights(task.model, path, strict_head=True)
