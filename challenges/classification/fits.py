"""What a recipe for photographs of one's own takes from them: rules from the check's facts to fields, with reasons."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from challenges.classification.manifest import Manifest
from challenges.classification.recipes import ClassificationRecipe, starts_as_identity
from common.run.fitting import Fit
from common.vision.preprocessing import ImagePreprocessing

SMALL_NETWORK = 5_000  # training photographs below which 50 layers learn no more than 18, at several times the work
SIDES = {65: 64, 0: 96}  # from scratch: median shorter side in pixels below which the input is so large
BATCHES = {300: 8, 1_000: 16, 0: 32}  # training photographs below which a batch is so large: few still make many steps
SCRATCH_PASSES = {SMALL_NETWORK: 140_000, 0: 70_000}  # training photographs below which a run sees so many in all
SCRATCH_EPOCHS = (12, 150)  # between which its epochs lie
FINETUNE_PASSES, FINETUNE_EPOCHS = {0: 15_000}, (5, 60)
SGD_RATE = 0.01 / 64  # with starting weights, for each photograph of a batch; AdamW's steps do not grow with gradients
SKEWED = 2.0  # largest class over smallest from which on rare classes are answered as if they were frequent
RESIZE = 1.15  # of the validation's shorter side over its crop, as 256 over 224


def fits(recipe: ClassificationRecipe, manifest: Manifest, record: Mapping[str, Any]) -> list[Fit]:
    """The values for this data; `record` is check.json's content."""
    train = manifest.subset("train")
    count = f"there are {len(train):,} training photographs"
    found = [*_length(recipe, len(train), count), *_balance(train), *_mirrored_and_coloured(recipe)]
    if recipe.weights is not None:
        found += _of_weights(recipe.weights)
    else:
        depth = 18 if len(train) < SMALL_NETWORK else 50
        found += [Fit("model.depth", depth, f"since {count}"), _start(recipe, depth), _size(train)]
        found += _scans(train, record)
    return found


def _length(recipe: ClassificationRecipe, count: int, told: str) -> Iterator[Fit]:
    """Batch, epochs and, where sgd goes on from weights, its rate: a few photographs are seen more often."""
    batch = _at(BATCHES, count)
    passes, (fewest, most) = (
        (SCRATCH_PASSES, SCRATCH_EPOCHS) if recipe.weights is None else (FINETUNE_PASSES, FINETUNE_EPOCHS)
    )
    epochs = float(min(most, max(fewest, round(_at(passes, count) / count))))
    yield Fit("training.batch_size", batch, f"since {told}")
    yield Fit("training.epochs", epochs, f"since {told}: {round(epochs * count / batch):,} steps of {batch}")
    yield Fit("training.evaluate_every", max(1.0, epochs / 8), "an eighth of the run")
    if recipe.weights is not None:
        yield Fit("training.micro_batch", None, "such a batch needs no cutting")
        if recipe.optimizer.name == "sgd":
            yield Fit("optimizer.peak_lr", SGD_RATE * batch, f"{SGD_RATE:.2g} a photograph of the batch suits sgd")


def _of_weights(path: Path) -> Iterator[Fit]:
    """The network that the weights are of, and the pictures that they know, where the file tells; a wrong file is told
    of by whoever loads it.
    """
    from common.errors import CheckpointError
    from common.vision.resnet_weights import depth_of, read_metadata

    try:
        depth, metadata = depth_of(path), read_metadata(path)
    except CheckpointError:
        return
    if depth is not None:
        yield Fit("model.depth", depth, f"since {path.name} is of {depth} layers")
    if "preprocessing" in metadata:
        plain: dict[str, Any] = json.loads(metadata["preprocessing"])
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()
        }
        yield Fit("preprocessing", ImagePreprocessing(**known), f"since {path.name} was trained so")


def _start(recipe: ClassificationRecipe, depth: int) -> Fit:
    identity = starts_as_identity(depth, recipe.optimizer.name)
    reason = f"since blocks that start {'as the identity' if identity else 'whole'} are learnt sooner in {depth} layers"
    return Fit("model.zero_init_last_norm", identity, reason)


def _size(train: Manifest) -> Fit:
    side = int(np.median(np.minimum(train.heights, train.widths)))
    crop = _at(SIDES, side)
    preprocessing = ImagePreprocessing(resize=round(RESIZE * crop), crop=crop)
    return Fit("preprocessing", preprocessing, f"since the median shorter side is {side:,} pixels")


def _scans(train: Manifest, record: Mapping[str, Any]) -> Iterator[Fit]:
    """Gray pictures of one size were taken by a machine that frames them alike: crops stay near the whole."""
    modes = record["modes"]
    gray = sum(count for mode, count in modes.items() if mode in ("1", "L", "LA", "I", "I;16"))
    framed = len({*zip(train.heights.tolist(), train.widths.tolist(), strict=True)}) == 1
    if gray == sum(modes.values()) and framed:
        yield Fit("data.area", (0.6, 1.0), "since all are gray and of one size, as scans are")


def _mirrored_and_coloured(recipe: ClassificationRecipe) -> Iterator[Fit]:
    """Not guessed: only whoever knows the pictures knows whether their mirror images or other light occur."""
    reason = "right for most objects; for letters, or where left and right differ, give --data.flip 0"
    yield Fit("data.flip", recipe.data.flip, reason)
    if recipe.data.colour:
        reason = "right for most photographs; where shades tell classes apart, give --data.colour 0"
        yield Fit("data.colour", recipe.data.colour, reason)


def _balance(train: Manifest) -> Iterator[Fit]:
    counts = np.bincount(train.labels, minlength=len(train.classes))
    ratio = counts.max() / max(1, counts.min())
    if ratio >= SKEWED:
        reason = f"since the largest class is {ratio:.1f} times the smallest; balanced_top1 is the figure"
        yield Fit("balance", 1.0, reason)


def _at(steps: Mapping[int, int], number: int) -> int:
    """The value of the first bound that `number` is below; 0 stands for no bound."""
    return next(value for bound, value in steps.items() if number < bound or not bound)
