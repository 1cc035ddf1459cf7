"""Data that no recipe was tuned for: generated photographs of several sizes and kinds, and real ones parted once.

A set of pictures is a folder {train,val}/<class>/<file>; a set of scenes is one of images with boxes as YOLO has them.
Names: `dogs_cats`, `bccd` or any other that lies in a folder of the user's; `balanced-500`, and so on for every kind
and count; `scenes-100`, drawn objects to be found on drawn floors.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console

from challenges.choosing import choose_model
from challenges.classification.layout import find_layout, list_photographs
from challenges.detection import demo
from challenges.detection.challenge import DetectionChallenge
from challenges.detection.scenes import Scenes
from common.errors import DataError
from common.files import write_json, write_text
from common.storage.generated_folder import generate_folder, make_files
from common.vision.drawing.scene import render

Task = Literal["classify", "detect"]
KINDS = ("balanced", "skewed", "gray", "large")
COUNTS = (100, 500, 2_000)
SCENES, SCENE_COUNTS = "scenes", (100, 500)
SCENES_SEED = 1_000  # added to the set's own: recipes may have been chosen on scenes of low seeds
SCENES_VALIDATION = 100
CLASSES = ("bottle", "bowl", "lamp", "mug", "teapot")
SIDE, LARGE_SIDE = 160, 800  # pixels around which a picture's sides vary
SKEW = 5.0  # the most frequent class over the rarest; the others lie between in equal ratios
VALIDATION_PER_CLASS = 60
VALIDATION_SHARE = 0.2  # of real photographs that come without a split
REAL = ("dogs_cats", "bccd")  # the real sets that are always compared
MARKER = "set.json"


@dataclass(frozen=True)
class OwnSet:
    """One set: where it lies once `prepare` has made it, what is to be learnt from it, and from which weights."""

    name: str
    folder: Path
    task: Task
    weights: Path | None = None
    is_real: bool = False

    @property
    def told(self) -> str:
        return self.name if self.weights is None else f"{self.name} from {self.weights.stem}"


@dataclass(frozen=True)
class _Recipe:
    """What a generated set depends on; the marker's content."""

    kind: str
    train: int
    seed: int
    version: int = 1  # another number means other pictures for the same seed


@dataclass(frozen=True)
class _Order:
    """One picture to be made."""

    file: Path
    shown: str
    kind: str
    seed: tuple[int, ...]


def names() -> tuple[str, ...]:
    generated = [*((kind, COUNTS) for kind in KINDS), (SCENES, SCENE_COUNTS)]
    return (*REAL, *(f"{kind}-{count}" for kind, counts in generated for count in counts))


def prepare(name: str, cache: Path, real: Path | None, *, seed: int = 0, workers: int | None = None) -> OwnSet:
    """Make a set below `cache`, or find it there.

    real: the folder that holds real sets, by name. seed: of generated pictures and of the split of real ones.
    Raises DataError for an unknown name, and for a real set without its folder.
    """
    folder = cache / (name if seed == 0 else f"{name}-seed{seed}")
    if real is not None and (real / name).is_dir():
        return _real(real / name, folder, seed)
    if name in REAL:
        raise DataError(f"The set {name} is asked for, and {real} does not hold it.", "Give its parent as --real.")
    kind, _, count = name.rpartition("-")
    if kind not in (*KINDS, SCENES) or not count.isdecimal() or int(count) < len(CLASSES):
        raise DataError(
            f"There is no set {name}.",
            f"Known: {', '.join(names())}; any other count will do, too, and any folder of --real.",
        )
    if kind == SCENES:
        drawn = demo.generate(
            folder.with_name(f"{folder.name}-drawn"), images=(int(count), SCENES_VALIDATION), seed=SCENES_SEED + seed,
            workers=workers,
        )  # fmt: skip
        return OwnSet(name, as_yolo(drawn, folder), "detect")
    return OwnSet(name, generate(folder, kind, int(count), seed, workers), "classify")


def _real(source: Path, folder: Path, seed: int) -> OwnSet:
    """A set of the user's: of boxes where the kit finds some; photographs in their own split where they have one."""
    if choose_model(source).model == DetectionChallenge.model:
        return OwnSet(source.name, as_yolo(source, folder), "detect", is_real=True)
    has_split = all((source / part).is_dir() for part in ("train", "val"))
    return OwnSet(source.name, source if has_split else part_once(source, folder, seed), "classify", is_real=True)


def generate(folder: Path, kind: str, train: int, seed: int, workers: int | None = None) -> Path:
    """Make folder/{train,val}/<class>/<number>.jpg with `train` pictures to learn from, or find it whole."""
    recipe = _Recipe(kind, train, seed)

    def fill(new: Path) -> None:
        make_files(_make, list(_orders(new, recipe)), workers, nullcontext(lambda *_: None))
        write_json(new / MARKER, asdict(recipe))

    side = _side(kind)
    megabytes = (train + VALIDATION_PER_CLASS * len(CLASSES)) * side * side * 0.35 / 1e6
    return generate_folder(folder, MARKER, "pictures", megabytes, (folder / MARKER).is_file, fill)


def counts(kind: str, train: int) -> tuple[int, ...]:
    """Training pictures of every class; they add up to `train`."""
    steps = np.linspace(0, 1 if kind == "skewed" else 0, len(CLASSES))
    shares = SKEW**-steps
    ends = np.round(np.cumsum(shares) / shares.sum() * train).astype(int)
    return tuple(np.diff(ends, prepend=0).tolist())


def part_once(source: Path, folder: Path, seed: int) -> Path:
    """Copy pictures as {train,val}/<class>, by the classes and splits that the kit finds; where there are no splits, a
    fifth of each class, chosen by the seed, is for validation.
    """

    def fill(new: Path) -> None:
        layout = find_layout(source, list_photographs(source))
        rows = list(zip((file.path for file in layout.files), layout.classes, layout.splits, strict=True))
        for label, name in enumerate(sorted(set(layout.classes))):
            mine = [(path, split) for path, own, split in rows if own == name and split != "test"]
            order = np.random.default_rng([seed, label]).permutation(len(mine))
            drawn = set(order[: round(VALIDATION_SHARE * len(mine))].tolist()) if layout.kind == "flat" else set()
            for number, (path, split) in enumerate(mine):
                target = new / ("val" if number in drawn else split or "train") / name.replace("/", "-")
                target.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / path, target / path.removeprefix(f"{name}/").replace("/", "-"))
        write_json(new / MARKER, {"source": source.name, "seed": seed})

    return generate_folder(folder, MARKER, "photographs", 100, (folder / MARKER).is_file, fill)


def as_yolo(source: Path, folder: Path) -> Path:
    """What the kit reads of annotated images, and its split, as folder/{images,labels}/{train,val} and data.yaml."""

    def fill(new: Path) -> None:
        scenes = scenes_of(source)
        for row, path in enumerate(scenes.paths):
            name, size = Path(path), (scenes.widths[row], scenes.heights[row])
            boxes = slice(scenes.offsets[row], scenes.offsets[row + 1])
            left, top, right, bottom = (scenes.boxes[boxes] / np.tile(size, 2)).T
            columns = (scenes.labels[boxes] - 1, (left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
            lines = ["{:.0f} {:.6f} {:.6f} {:.6f} {:.6f}\n".format(*line) for line in zip(*columns, strict=True)]
            for kind in ("images", "labels"):
                (new / kind / scenes.splits[row]).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(scenes.root / name, new / "images" / scenes.splits[row] / name.name)
            write_text(new / "labels" / scenes.splits[row] / f"{name.stem}.txt", "".join(lines))
        classes = "".join(f"  {number}: {name}\n" for number, name in enumerate(scenes.classes))
        parts = f"path: {folder.absolute()}\ntrain: images/train\nval: images/val\n"
        write_text(new / "data.yaml", f"{parts}names:\n{classes}")
        write_json(new / MARKER, {"source": source.name})

    return generate_folder(folder, MARKER, "scenes", 100, (folder / MARKER).is_file, fill)


def scenes_of(root: Path) -> Scenes:
    """The images with boxes under `root`, as the kit's check reads them."""
    challenge = DetectionChallenge()
    with tempfile.TemporaryDirectory() as checked:
        challenge.check(root, challenge.recipes["small"], Path(checked), Console(quiet=True))
        return Scenes.read(Path(checked))


def _side(kind: str) -> int:
    return LARGE_SIDE if kind == "large" else SIDE


def _orders(folder: Path, recipe: _Recipe) -> Iterator[_Order]:
    splits = {"train": counts(recipe.kind, recipe.train), "val": (VALIDATION_PER_CLASS,) * len(CLASSES)}
    for position, (split, numbers) in enumerate(splits.items()):
        for label, name in enumerate(CLASSES):
            for number in range(numbers[label]):
                file = folder / split / name / f"{number:04d}.jpg"
                yield _Order(file, name, recipe.kind, (recipe.seed, position, label, number))


def _make(order: _Order) -> None:
    random = np.random.default_rng(order.seed)
    picture = render(order.shown, random, _side(order.kind))
    if order.kind == "gray":
        picture = picture.convert("L")
    picture.save(order.file, "JPEG", quality=int(random.integers(62, 94)))
