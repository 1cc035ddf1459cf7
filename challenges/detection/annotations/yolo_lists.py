"""Splits that lists of images tell, train.txt and val.txt, as darknet's and Ultralytics' data sets have them."""

import os
import re
from collections.abc import Collection
from pathlib import Path

from challenges.detection.annotations.names import ImageIndex, base, relative, split_named, stem
from challenges.detection.annotations.text_files import lines_of, text_of
from common.vision.image_folders import Listing, displayed
from common.vision.images import EXTENSIONS


def listed_splits(root: Path, listing: Listing, labels: Collection[str]) -> tuple[dict[str, str], str, str]:
    """(image -> "train" or "val", how that was taken, what was left aside); all empty where no lists tell both.

    labels: files that are known to hold labels. The test list validates where there is no other; an image in both lists
    validates.
    """
    index = ImageIndex(listing)
    found: dict[str, dict[str, str]] = {}  # split -> image -> list
    strangers = 0
    for file in listing.annotations:
        split = split_named(stem(file.path)) if file.path.lower().endswith(".txt") else ""
        names = _images_named(root / file.path) if split and file.path not in labels else []
        for name in names:
            same = index.spelt_alike(name)
            if len(same) == 1:
                found.setdefault(split, {})[same[0]] = file.path
            strangers += len(same) != 1
    validation = "val" if "val" in found else "test"
    if not {"train", validation} <= found.keys():
        return {}, "", ""
    splits = dict.fromkeys(found["train"], "train") | dict.fromkeys(found[validation], "val")
    if "train" not in splits.values():
        return {}, "", "The lists of training and validation name the same images: a split is drawn."
    used = sorted({*found["train"].values(), *found[validation].values()})
    both = len(found["train"].keys() & found[validation].keys())
    counts = {
        "images are in no list of a used split: left aside": len(index.paths) - len(splits),
        "names in the lists belong to no image, or to several": strangers,
        "images are in both lists: they validate": both,
    }
    notes = " ".join(f"{count:,} {told}." for told, count in counts.items() if count)
    return splits, f"by the lists {' and '.join(displayed(base(name)) for name in used)}", notes


def stated_splits(root: Path, listing: Listing, file: str) -> tuple[dict[str, str], str, str]:
    """As `listed_splits`, from the folders that a data.yaml calls train and val, wherever it thinks the data lies.

    All empty but the last where it names none, or others than there are.
    """
    if not file.lower().endswith((".yaml", ".yml")):
        return {}, "", ""
    told = dict(re.findall(r"^(train|val)[ \t]*:[ \t]*([^\[#\n]+)", text_of(root / file), re.MULTILINE))
    folders = {split: relative(given.strip().strip("\"'")) for split, given in told.items()}
    if len(folders) < 2 or not all(folders.values()):
        return {}, "", ""
    if folders["train"] == folders["val"]:
        return {}, "", f"{displayed(file)} gives training and validation the same folder, {displayed(folders['val'])}."
    inside = {
        split: [image.path for image in listing.files if f"/{folder}/" in f"/{image.folder}/"]
        for split, folder in folders.items()
    }
    splits = {path: split for split, paths in inside.items() for path in paths}
    if not all(inside.values()) or len(splits) < sum(map(len, inside.values())):
        return {}, "", ""
    left = len(listing.files) - len(splits)
    names = " and ".join(f"{split} in {displayed(folder)}" for split, folder in folders.items())
    note = f"{left:,} images are in no folder of a used split: left aside." if left else ""
    return splits, f"as {displayed(file)} has it, {names}", note


def _images_named(path: Path) -> list[str]:
    """The images that a list names, one a line; none where it is no list of images."""
    try:
        names = [line.strip() for _, line in lines_of(path)]
    except (OSError, ValueError):
        return []
    are_images = all(os.path.splitext(name)[1].lower() in EXTENSIONS for name in names)
    return names if are_images else []
