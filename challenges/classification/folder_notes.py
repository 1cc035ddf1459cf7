"""What is odd about a folder of photographs, seen from its names alone: sentences for the check's warnings."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

from challenges.classification.class_names import alike, copies, difference, side_by_side
from challenges.classification.split_folders import Base, named
from common.vision.image_folders import Listing, displayed

_INDIVIDUAL = re.compile(
    r"(?:patient|subject|subj|case|video|clip|session|scene|sequence|seq|slide|participant|camera|cam|fold|part|batch)"
    r"[ _-]?\d+",
    re.IGNORECASE,
)


def folder_notes(
    listing: Listing, outer: Base, bases: Sequence[Base], spelling: Mapping[str, dict[str, str]], used: Collection[str]
) -> Iterator[str]:
    """Pictures left aside or deeper than their class, classes spelt differently or twice, folders without pictures.

    outer, bases: as `find_bases` tells them. spelling: split -> its name of a class -> training's.
    used:         folders whose pictures have a class.
    """
    yield from _left_aside(listing, outer, bases, used)
    yield from _deeper(listing, bases, used)
    for split, names in spelling.items():
        for theirs, ours in names.items():
            yield (
                f"The {'validation' if split == 'val' else split} folder {theirs!r} is taken for the class {ours!r}: "
                f"the names differ in {difference(theirs, ours)} ({side_by_side(theirs, ours)})."
            )
    classes = {name for base in bases if base.split != "test" for name in base.folder.folders} - set(
        spelling.get("val", {})
    )
    for name, other in alike(classes):
        yield (
            f"{side_by_side(name, other)} are two classes whose names differ in {difference(name, other)} only: "
            "merge the folders if they are one."
        )
    for name, original in copies(classes).items():
        yield f"{name!r} is learnt as a class of its own and is called like a copy of {original!r}: is it one?"
    individuals = sorted(name for name in classes if _INDIVIDUAL.fullmatch(name))
    if 2 * len(individuals) > len(classes):
        yield (
            f"{named(individuals)} are learnt as classes and are called like single patients, videos or the like: "
            "classes are the kinds of things to tell apart."
        )
    empty = _without_pictures(listing, bases)
    if empty:
        yield f"Folders without pictures are no classes: {named(empty)}."


def _left_aside(listing: Listing, outer: Base, bases: Sequence[Base], used: Collection[str]) -> Iterator[str]:
    aside: defaultdict[str, list[str]] = defaultdict(list)
    for file in listing.files:
        if file.folder not in used:
            aside["/".join(file.folder.split("/")[: len(outer.path) + 1])].append(file.path)
    validation = next((base.name for base in bases if base.split == "val"), None)
    for folder, paths in aside.items():
        base = next((base for base in bases if "/".join(base.path[: len(outer.path) + 1]) == folder), None)
        is_used = base is not None
        unknown = {base.class_of(path.rpartition("/")[0]) for path in paths} - {None} if base is not None else set()
        if unknown:
            yield (
                f"{_images(len(paths))} of classes that training does not have ({named(map(str, unknown))}), such as "
                f"{displayed(paths[0])}: left aside."
            )
        elif folder and not is_used:
            why = f": {validation} is used for validation" if validation else ", it holds no folders of known classes"
            yield f"{displayed(folder)}/ is not used{why} ({_images(len(paths))}, such as {displayed(paths[0])})."
        else:
            yield f"{_images(len(paths))} in no class folder, such as {displayed(paths[0])}: left aside."


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"


def _deeper(listing: Listing, bases: Sequence[Base], used: Collection[str]) -> Iterator[str]:
    """A sentence where pictures lie in folders inside a class's folder, whose names may be the classes meant."""
    classes = {
        folder: name
        for folder in used
        for base in bases
        if (name := base.class_of(folder)) is not None and folder.count("/") > len(base.path)
    }
    found = [file for file in listing.files if file.folder in classes]
    if found:
        name, inner = classes[found[0].folder], found[0].folder.rpartition("/")[2]
        lie = "1 picture lies" if len(found) == 1 else f"{len(found):,} pictures lie"
        yield (
            f"{lie} deeper than the folder of their class, such as {displayed(found[0].path)}: "
            f"taken for the class {displayed(name)}, not {displayed(inner)}. "
            "If the inner folders are the classes, move them up one level."
        )


def _without_pictures(listing: Listing, bases: Sequence[Base]) -> list[str]:
    """Folders beside the splits or the classes that hold no picture at any depth."""
    direct = {file.folder for file in listing.files}
    filled = {folder[: end.start()] for folder in direct for end in re.finditer(r"/|$", folder)}
    levels = {"/".join(base.path[:depth]) for base in bases for depth in range(len(base.path) + 1)}
    return [
        folder.rstrip("/")
        for folder in listing.folders
        if folder.rstrip("/") not in filled and folder.rstrip("/").rpartition("/")[0] in levels
    ]
