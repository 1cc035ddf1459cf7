"""Masks, which mark what pictures show, beside the pictures: in a folder of their own or in the same one. They are no
pictures of a class, nor is their folder a class.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import permutations

import numpy as np

from common.errors import DataError
from common.language.telling import english
from common.vision.image_folders import Listing, displayed
from common.vision.images import ImageFacts
from common.vision.near_duplicates import SIDE

_SPLIT = r"train(?:ing)?|val(?:id)?(?:ation)?|test(?:ing)?"
_BESIDE = (
    rf"{_SPLIT}|class|object|instance|semantic|binary|colou?r|fine|all|sets?|data|prepped|png|jpe?g|left|right|bit|x"
)
_PICTURE = r"images?|imgs?|photos?|pictures?|originals?|inputs?|frames?|scans?|cxr|raw|rgb"
_MASK = r"masks?|annot(?:ation)?s?|labels?|seg(?:mentation)?(?:map)?s?|groundtruths?|gts?|trimaps?|mattes?"
_MARKED = re.compile(rf"(.+?)[ _-]+(?:{_MASK})(?:[ _-]?\d+)?", re.IGNORECASE | re.DOTALL)
FEWEST = 10  # pairs of files of one name
FLATTER, MOST = 0.2, 0.9  # by which a mask's flatness surpasses its picture's, in so many of the pairs
_PICTURES = re.compile(rf"(?:{_BESIDE})*(?:{_PICTURE})(?:{_BESIDE})*|{_SPLIT}")
_MASKS = re.compile(rf"(?:{_BESIDE}|{_PICTURE})*(?:{_MASK})(?:{_BESIDE}|{_PICTURE})*")


def refuse_masks(where: str, names: Collection[str]) -> None:
    """Raise DataError where what would be classes are called like pictures and like masks of them, all of them."""
    masks, pictures = _parted(names)
    if masks and pictures and len(masks) + len(pictures) == len(names):
        raise DataError(
            f"{_listed(masks)} in {where} {'is' if len(masks) == 1 else 'are'} called like masks of what "
            f"{_listed(pictures)} {'shows' if len(pictures) == 1 else 'show'}: these are no classes.",
            "The kit learns classes, a folder for each, and boxes in files of COCO, Pascal VOC or YOLO, but no masks.",
            "Save boxes around what the masks mark, or put one folder per class into the data's folder.",
        )


def without_mask_folders(listing: Listing) -> tuple[Listing, list[str]]:
    """The listing without folders of masks beside one of pictures, COVID/masks beside COVID/images, and the masks.

    As they are inside classes, two folders or more have both.
    """
    inside: defaultdict[str, list[str]] = defaultdict(list)
    for folder in {file.folder for file in listing.files}:
        parent, _, name = folder.rpartition("/")
        if parent and not re.fullmatch(_SPLIT, _letters(parent.rpartition("/")[2])):
            inside[parent].append(name)
    parted = {parent: _parted(names) for parent, names in inside.items()}
    both = {parent: masks for parent, (masks, pictures) in parted.items() if masks and pictures}
    left = {f"{parent}/{name}" for parent, masks in both.items() if len(both) > 1 for name in masks}
    kept = tuple(file for file in listing.files if file.folder not in left)
    return replace(listing, files=kept), [file.path for file in listing.files if file.folder in left]


def without_paired_masks(facts: Mapping[str, ImageFacts]) -> tuple[dict[str, ImageFacts], list[str]]:
    """The facts, by path, of the files that do not mark what another one shows, and what is said of those that do:
    x_mask.png beside x.png, or x.png beside x.jpg, and nearly flat.

    Of each way of naming masks, told only where most pairs are so.
    """
    stems: defaultdict[str, list[str]] = defaultdict(list)
    for path in facts:
        stems[path.rpartition(".")[0]].append(path)
    pairs: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for stem, paths in stems.items():
        marked = _MARKED.fullmatch(stem)
        if marked and marked[1] in stems:
            pairs["by name"] += [(path, stems[marked[1]][0]) for path in paths]
        for mask, picture in permutations(paths, 2):
            pairs[f"{facts[mask].format} beside {facts[picture].format}"].append((mask, picture))
    masks = {mask for both in pairs.values() if _are_masks(both, facts) for mask, _ in both}
    return {path: fact for path, fact in facts.items() if path not in masks}, told_masks(masks)


def _are_masks(pairs: Sequence[tuple[str, str]], facts: Mapping[str, ImageFacts]) -> bool:
    flatness = np.array([[_flatness(facts[path]) for path in pair] for pair in pairs])
    return len(pairs) >= FEWEST and bool((flatness[:, 0] >= flatness[:, 1] + FLATTER).mean() >= MOST)


def told_masks(masks: Collection[str]) -> list[str]:
    """A sentence about masks that were left aside, where there are any."""
    if not masks:
        return []
    return [
        english(
            "{count:,} images are masks, which mark what the images beside them show, such as {example:s}: left aside.",
            count=len(masks),
            example=displayed(min(masks)),
        )
    ]


def _flatness(fact: ImageFacts) -> float:
    """The share of a thumbnail that its two commonest levels make up."""
    levels = np.frombuffer(fact.thumbnail[: SIDE * SIDE], np.uint8)
    return float(np.sort(np.bincount(levels))[-2:].sum() / max(1, len(levels)))


def _parted(names: Collection[str]) -> tuple[list[str], list[str]]:
    """Those called like masks, and those called like pictures."""
    letters = {name: _letters(name) for name in names}
    masks = [name for name in names if _MASKS.fullmatch(letters[name])]
    return masks, [name for name in names if _PICTURES.fullmatch(letters[name])]


def _letters(name: str) -> str:
    return re.sub(r"[\W\d_]", "", unicodedata.normalize("NFKC", name)).lower()


def _listed(names: Collection[str]) -> str:
    return ", ".join(f"{displayed(name)}/" for name in sorted(names))
