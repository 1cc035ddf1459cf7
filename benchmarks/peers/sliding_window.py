"""The way before SSD: a classifier slid over the image, beside a detector on the same images.

    python -m benchmarks.peers.sliding_window crops DETECTOR_RUN FOLDER        what to train the classifier on
    kit train resnet50/photos --data FOLDER --model.depth 18 --preprocessing.mode squash
                                                                         the classifier, with a class `background`
    python -m benchmarks.peers.sliding_window measure DETECTOR_RUN CLASSIFIER_RUN

A baseline, and labelled as such: windows of a few sizes and shapes, judged one by one, then the detector's own
suppression. The record says how much slower and how much worse it is.
"""

import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from rich.console import Console
from torch import Tensor

from benchmarks.command import run_command
from benchmarks.compare import publish
from benchmarks.detection_stages import PIXELS_INPUT, resizing
from benchmarks.measure import Step, interleave
from benchmarks.record import DataKind, ProtocolUsed, Record, Workload, environment_of, new_record
from benchmarks.validity import judge
from challenges.classification.challenge import CHALLENGE as CLASSIFICATION
from challenges.classification.task import ClassificationTask
from challenges.detection.boxes import iou
from challenges.detection.challenge import CHALLENGE as DETECTION
from challenges.detection.demo import is_demo
from challenges.detection.detections import Detections, DetectionTable
from challenges.detection.drawing import read_picture
from challenges.detection.evaluation import evaluate
from challenges.detection.scenes import Scenes
from challenges.detection.task import DetectionTask
from common.challenge import Trained
from common.errors import KitError
from common.machine.precision import Precision, select_precision
from common.run.run_directory import RunDirectory
from common.vision.preprocessing import ImagePreprocessing
from common.vision.suppression import keep_best

BACKGROUND = "background"
SIDES, SHAPES, STRIDE = (0.12, 0.2, 0.35, 0.6), (0.75, 1.0, 1.33), 0.4  # of the image's shorter side; of a window
CLEAR = 0.3  # IoU with any object above which a window is not background
WINDOWS_AT_ONCE = 256
SEEN_SCORE = 0.05  # as the detector's


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much to measure."""

    images: int = 24
    """Validation images, at most."""
    rounds: int = 5
    output: Path | None = None


def windows(width: int, height: int) -> np.ndarray:
    """(window, 4) float32 pixels: every size and shape at every place."""
    found = []
    for side in SIDES:
        for shape in SHAPES:
            across, down = (side * min(width, height) * factor for factor in (shape**0.5, shape**-0.5))
            left, top = _places(width, across), _places(height, down)
            corners = np.stack(np.meshgrid(left, top), -1).reshape(-1, 2)
            found.append(np.concatenate([corners, corners + np.array([across, down])], 1))
    boxes: np.ndarray = np.clip(np.concatenate(found), 0, [width, height, width, height]).astype(np.float32)
    return boxes


def _places(length: int, side: float) -> np.ndarray:
    """Where windows begin along a length in pixels, from one end to the other."""
    free = max(0.0, length - side)
    return np.linspace(0, free, 1 + int(np.ceil(free / (STRIDE * side))))


def cut(picture: Tensor, boxes: np.ndarray, size: int) -> Tensor:
    """Windows (window, 4) of a picture (3, height, width) as (window, 3, size, size), bilinear."""
    _, height, width = picture.shape
    scale = torch.tensor([width, height, width, height], dtype=torch.float32)
    left, top, right, bottom = (torch.from_numpy(boxes) / scale * 2 - 1).unbind(1)
    steps = (torch.arange(size) + 0.5) / size
    across = left[:, None] + (right - left)[:, None] * steps
    down = top[:, None] + (bottom - top)[:, None] * steps
    grid = torch.stack(torch.broadcast_tensors(across[:, None], down[:, :, None]), -1)
    return F.grid_sample(picture.expand(len(boxes), -1, -1, -1), grid, align_corners=False, padding_mode="border")


class SlidingWindow:
    """A classifier that looks at every window of an image.

    labels: per class of the classifier, the detector's label; 0 for background.
    """

    def __init__(self, task: ClassificationTask, preprocessing: ImagePreprocessing, labels: Sequence[int]) -> None:
        self.task, self.preprocessing, self.labels = task, preprocessing, torch.tensor(labels)
        self._mean = torch.tensor(preprocessing.mean).view(3, 1, 1)
        self._std = torch.tensor(preprocessing.std).view(3, 1, 1)
        self._precision = select_precision("auto", torch.device("cpu"))

    @torch.inference_mode()
    def __call__(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What is found in a picture (3, height, width) of 0..255.

        returns: boxes (n, 4) in pixels, scores (n,) and labels (n,), best first
        """
        boxes = windows(picture.shape[2], picture.shape[1])
        normalised = (picture - self._mean) / self._std
        scores = torch.cat(
            [
                self._scores(cut(normalised, boxes[begin : begin + WINDOWS_AT_ONCE], self.preprocessing.crop))
                for begin in range(0, len(boxes), WINDOWS_AT_ONCE)
            ]
        )
        score, best = scores.max(1)
        label = self.labels[best]
        kept = torch.nonzero((label > 0) & (score > SEEN_SCORE))[:, 0]
        order = kept[score[kept].argsort(descending=True, stable=True)]
        order = order[label[order].argsort(stable=True)]  # by label, best first
        counts = torch.bincount(label[order], minlength=int(self.labels.max()) + 1)
        keep = keep_best(torch.from_numpy(boxes)[order], counts.cumsum(0) - counts, counts, 0.5)
        found = order[keep]
        found = found[torch.argsort(-score[found])]
        return torch.from_numpy(boxes)[found], score[found], label[found]

    def _scores(self, crops: Tensor) -> Tensor:
        with self._precision.context(torch.device("cpu")):
            logits: Tensor = self.task.model(crops.to(memory_format=torch.channels_last))
        return logits.float().softmax(1)


def write_crops(scenes: Scenes, folder: Path) -> int:
    """Cut every training object, and as many windows without one, into folder/<class>/; returns how many."""
    random = np.random.default_rng(0)
    written = 0
    for image, path in enumerate(scenes.paths.tolist()):
        own = slice(scenes.offsets[image], scenes.offsets[image + 1])
        boxes, labels = scenes.boxes[own], scenes.labels[own]
        everywhere = windows(int(scenes.widths[image]), int(scenes.heights[image]))
        overlap = iou(torch.from_numpy(everywhere), torch.from_numpy(boxes)).numpy()
        clear = np.flatnonzero(overlap.max(1, initial=0) < CLEAR)
        chosen = everywhere[random.permutation(clear)[: max(1, len(boxes))]]
        picture = read_picture(scenes.root / path)
        names = [*(scenes.classes[label - 1] for label in labels.tolist()), *[BACKGROUND] * len(chosen)]
        for box, name in zip(np.concatenate([boxes, chosen]), names, strict=True):
            target = folder / name / f"{written:06d}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            picture.crop(tuple(np.rint(box).astype(int))).save(target, "JPEG", quality=95)
            written += 1
    return written


def compare(detector: Trained[Any, Any, Any], classifier: Trained[Any, Any, Any], settings: Settings) -> Record:
    """Both on the same validation images: average precision, and images per second, one at a time, from decoded pixels
    to boxes, each in the precision in which it is timed.
    """
    task, slider = detector.task, _slider(classifier, detector.data.scenes.classes)
    assert isinstance(task, DetectionTask)
    scenes = detector.data.validation.select(np.arange(min(settings.images, len(detector.data.validation))))
    pixels = [np.array(read_picture(scenes.root / path)) for path in scenes.paths]
    pictures = [torch.from_numpy(picture).permute(2, 0, 1).float() for picture in pixels]
    precision = select_precision("auto", torch.device("cpu"))
    look = _detector(task.place(torch.device("cpu")).eval(), detector.recipe.preprocessing, precision)
    slid = DetectionTable.join([_table(image, *slider(picture)) for image, picture in enumerate(pictures)])
    ours = DetectionTable.join([_of_image(image, picture.shape, look(picture)) for image, picture in enumerate(pixels)])
    measured = interleave(
        {"ssd": _in_turn(look, pixels), "sliding window": _in_turn(slider, pictures)},
        warmup_seconds=2.0,
        rounds=settings.rounds,
        block_seconds=3.0,
    )
    details = {"images": float(len(scenes)), "windows_of_an_image": float(len(windows(*pictures[0].shape[:0:-1])))}
    for name, table in (("ssd", ours), ("sliding_window", slid)):
        scores = evaluate(scenes, table, resamples=0).metrics
        details |= {f"{name} ap": scores["ap"], f"{name} ap50": scores["ap50"]}
    data: DataKind = "demo" if is_demo(detector.data.scenes.root) else "real"
    environment = environment_of(device="cpu", precision=precision.name)
    ratios = {"ssd/sliding window": measured.ratio("ssd", "sliding window")}
    return new_record(
        kind="comparison",
        name="sliding-window",
        workload=Workload(
            challenge="detection",
            model=f"{DETECTION.model}/{detector.run.description()['recipe']}",
            engine="torch",
            batch=1,
            input_shape=(3, detector.recipe.preprocessing.crop, detector.recipe.preprocessing.crop),
            precision=precision.name,  # type: ignore[arg-type]  # one of precision.py's names
            sample_unit="image",
            data=data,
            dataset=detector.data.scenes.root.name,
            memory_format="channels_last",
        ),
        protocol=ProtocolUsed(
            name="interleaved", version=1, warmup_seconds=2.0, windows=settings.rounds, window_seconds=3.0
        ),
        measurements=measured.sides,
        ratios=ratios,
        details=details,
        validity=judge(measured.sides, environment=environment, data=data, ratios=ratios),
        command=("python", "-m", "benchmarks.peers.sliding_window", *sys.argv[1:]),
        environment=environment,
    )


def _detector(
    task: DetectionTask, preprocessing: ImagePreprocessing, precision: Precision
) -> Callable[[np.ndarray], Detections]:
    """What an SSD does with one picture's pixels, (height, width, 3) bytes."""
    pipeline = resizing(preprocessing, 1)

    def look(pixels: np.ndarray) -> Detections:
        pipeline.feed_input(PIXELS_INPUT, [pixels])
        images = torch.from_dlpack(pipeline.run()[0].as_tensor())
        with torch.inference_mode(), precision.context(torch.device("cpu")):
            return task.detect(images.contiguous(memory_format=torch.channels_last))

    return look


def _in_turn(look: Callable[[Any], object], pictures: Sequence[Any]) -> Step:
    """A step that looks at the next picture, round and round."""
    turns = itertools.cycle(pictures)

    def step() -> int:
        look(next(turns))
        return 1

    return step


def _slider(classifier: Trained[Any, Any, Any], classes: Sequence[str]) -> SlidingWindow:
    known = classifier.data.manifest.classes
    missing = {*classes, BACKGROUND} - set(known)
    if missing:
        raise KitError(
            f"The classifier does not know {', '.join(sorted(missing))}.",
            f"It was trained on {', '.join(known)}.",
            "Cut its training data with: python -m benchmarks.peers.sliding_window crops DETECTOR_RUN FOLDER",
        )
    labels = [0 if name == BACKGROUND else classes.index(name) + 1 for name in known]
    assert isinstance(classifier.task, ClassificationTask)
    return SlidingWindow(classifier.task.place(torch.device("cpu")).eval(), classifier.recipe.preprocessing, labels)


def _of_image(image: int, shape: tuple[int, ...], found: Detections) -> DetectionTable:
    """The detections of one picture of a shape (height, width, 3)."""
    height, width = (np.array([side]) for side in shape[:2])
    return DetectionTable.from_batch(np.array([image]), width, height, [part.numpy() for part in found])


def _table(image: int, boxes: Tensor, scores: Tensor, labels: Tensor) -> DetectionTable:
    return DetectionTable(np.full(len(boxes), image, np.int64), labels.numpy(), scores.numpy(), boxes.numpy())


def main(
    what: Annotated[Literal["crops", "measure"], tyro.conf.Positional],
    detector: Annotated[Path, tyro.conf.Positional],
    other: Annotated[Path, tyro.conf.Positional],
    settings: Settings,
) -> int:
    """Cut training data for the classifier, or measure it against the detector.

    Args:
        what: crops, or measure.
        detector: run of a trained detector.
        other: folder for the crops, which must not exist, or run of the classifier.
    """
    console = Console()
    trained = Trained.load(DETECTION, RunDirectory.open(detector))
    if what == "crops":
        if other.exists():
            raise KitError(f"{other} exists.", "Crops are written to a new folder.")
        console.print(f"{write_crops(trained.data.train, other)} crops: {other}", soft_wrap=True)
        return 0
    record = compare(trained, Trained.load(CLASSIFICATION, RunDirectory.open(other)), settings)
    console.print(", ".join(f"{name} {value:.3f}" for name, value in record.details.items()), soft_wrap=True)
    publish(record, settings.output, console)
    return 0


if __name__ == "__main__":
    run_command(main)
