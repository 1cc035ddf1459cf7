"""Which folders are splits: told from their names and, since names deceive, from what lies inside them."""

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Literal

from challenges.classification.class_names import key
from challenges.classification.mask_folders import refuse_masks
from common.errors import DataError
from common.vision.image_folders import displayed

Role = Literal["train", "val", "test"]
LAYOUTS = (
    "Put one folder per class into it: DATA/<class>/photo.jpg, or DATA/{train,val}/<class>/photo.jpg; or name files "
    "and classes in a table: DATA/labels.csv."
)
_WORDS: dict[Role, str] = {
    "train": r"train|training|trn",
    "val": r"val|valid|validate|validation|dev|eval|evaluation|holdout",
    "test": r"test|tests|testing",
}
_FILLER = r"set|sets|data|dataset|split|folder|images?|imgs?|pictures?|photos?"
COMPARED = 50  # top folders whose subfolders are compared with each other
NAMED = 5
MOST = 0.9  # of all pictures, in a folder that would be one class


@dataclass
class PictureFolder:
    """A folder with pictures somewhere in it. direct: pictures right inside. folders: those with pictures, by name."""

    direct: int = 0
    folders: dict[str, "PictureFolder"] = field(default_factory=dict)

    @property
    def pictures(self) -> int:
        return self.direct + sum(folder.pictures for folder in self.folders.values())

    @property
    def holds_folders(self) -> bool:
        """Whether most of its pictures lie in folders inside it."""
        return bool(self.folders) and 2 * self.direct <= self.pictures


@dataclass(frozen=True)
class Base:
    """A folder whose subfolders are classes.

    path:    its parts below the data's folder. split: "" where none is given.
    is_test: it validates although it is called a test folder.
    """

    path: tuple[str, ...]
    folder: PictureFolder
    split: Literal["train", "val", "test", ""] = ""
    is_test: bool = False

    def class_of(self, folder: str) -> str | None:
        """The class of the pictures in a folder, None where it lies elsewhere or beside the classes."""
        folders = tuple(folder.split("/")) if folder else ()
        depth = len(self.path)
        return folders[depth] if len(folders) > depth and folders[:depth] == self.path else None

    @property
    def name(self) -> str:
        return displayed("/".join(self.path)) + "/" if self.path else "DATA"


def picture_tree(counts: Mapping[str, int]) -> PictureFolder:
    """The tree of folders with pictures. counts: of the pictures right inside each, by path with forward slashes."""
    top = PictureFolder()
    for path, count in counts.items():
        folder = top
        for part in path.split("/") if path else ():
            folder = folder.folders.setdefault(part, PictureFolder())
        folder.direct += count
    return top


def find_bases(root: Path, tree: PictureFolder, known: Collection[str] = ()) -> tuple[Base, list[Base]]:
    """The folder in which everything lies, and those that hold the classes: one, or one for each split.

    Splits are training and validation, and test where there is a folder for it besides. Folders around them that hold
    nothing else are passed through, but not `known` classes.
    Raises DataError where splits are named or nested in a way that leaves open what is meant.
    """
    outer = _innermost(Base((), tree), known)
    roles = {name: _role(name) for name in outer.folder.folders}
    training = [name for name, (role, _) in roles.items() if role == "train"]
    judging = [name for name, (role, _) in roles.items() if role in ("val", "test")]
    if not training or not judging:
        _refuse_lone_split(root, outer, [name for name, (role, exact) in roles.items() if role and exact])
        _refuse_splits_inside(root, outer)
        refuse_shared_subfolders(root, outer)
        _refuse_data_inside(root, outer, known)
        refuse_masks(displayed(root.joinpath(*outer.path)), outer.folder.folders.keys() - known)
        return outer, [outer]
    folders = outer.folder.folders
    if not any(folders[name].holds_folders for name in training):
        exact = {role for role, is_exact in roles.values() if is_exact}
        if len(training) + len(judging) == len(folders) or ("train" in exact and len(exact) > 1):
            _refuse_pictures_in_splits(root, outer, training)
        return outer, [outer]
    train = _base(outer, _only(root, outer, [n for n in training if folders[n].holds_folders], roles), "train")
    refuse_shared_subfolders(root, train)
    refuse_masks(displayed(root.joinpath(*train.path)), train.folder.folders.keys() - known)
    for role in ("val", "test"):
        fitting = [name for name in judging if roles[name][0] == role and _has_classes(outer, name, train)]
        if fitting:
            validation = _base(outer, _only(root, outer, fitting, roles), "val", train.folder.folders)
            refuse_shared_subfolders(root, validation)
            if role == "test":
                return outer, [train, replace(validation, is_test=True)]
            return outer, [train, validation, *_test_base(outer, judging, roles, train)]
        if role == "val" and (direct := [name for name in judging if roles[name] == ("val", True)]):
            _refuse_pictures_in_splits(root, outer, direct)
    return outer, [replace(train, split="")]


def refuse_shared_subfolders(root: Path, base: Base) -> None:
    """Raise DataError where at least half of what would be classes hold the same folders: they are something else."""
    inner = {
        name: {key(inside) for inside in folder.folders}
        for name, folder in islice(sorted(base.folder.folders.items()), COMPARED)
        if folder.holds_folders and len(folder.folders) > 1
    }
    for own in inner.values():
        same = [other for other in inner if len(own & inner[other]) >= max(2, len(own | inner[other]) / 2)]
        if len(same) < 2 or 2 * len(same) < min(len(base.folder.folders), COMPARED):
            continue
        common = set.intersection(own, *(inner[other] for other in same)) or own
        shared = [inside for inside in base.folder.folders[same[0]].folders if key(inside) in common]
        where = displayed(root.joinpath(*base.path))
        raise DataError(
            f"{named(same)} in {where} hold the same subfolders with pictures ({named(shared)}): these are splits, or "
            "another grouping, and not classes.",
            "Splits are called train/ and val/ (or test/), each with one folder per class.",
            f"To use one alone, name it: {where}/{displayed(same[0])}. If these are the classes, "
            "move their pictures up.",
        )


def _test_base(
    outer: Base, judging: Sequence[str], roles: dict[str, tuple[Role | None, bool]], train: Base
) -> list[Base]:
    """The one test folder beside training and validation; with several, the one that is called exactly so."""
    fitting = [name for name in judging if roles[name][0] == "test" and _has_classes(outer, name, train)]
    exact = [name for name in fitting if roles[name][1]] if len(fitting) > 1 else fitting
    return [_base(outer, exact[0], "test", train.folder.folders)] if len(exact) == 1 else []


def _innermost(base: Base, known: Collection[str] = ()) -> Base:
    """Pass through folders that hold nothing but one folder of folders; `known` classes are not passed through."""
    while base.folder.holds_folders and len(base.folder.folders) == 1:
        ((name, folder),) = base.folder.folders.items()
        if not folder.holds_folders or name in known:
            break
        base = replace(base, path=(*base.path, name), folder=folder)
    return base


def _base(outer: Base, name: str, split: Role, known: Collection[str] = ()) -> Base:
    return _innermost(Base((*outer.path, name), outer.folder.folders[name], split), known)


def _has_classes(outer: Base, name: str, train: Base) -> bool:
    """Whether a folder named as a split holds classes, rather than pictures of unknown ones."""
    if not outer.folder.folders[name].holds_folders:
        return False
    inner = _base(outer, name, "val", train.folder.folders).folder.folders
    return len(inner) > 1 or bool({key(inside) for inside in inner} & {key(own) for own in train.folder.folders})


def role_of(name: str) -> Role | None:
    """The split that a name speaks of, and of nothing else that could be a split."""
    return _role(name)[0]


def _role(name: str) -> tuple[Role | None, bool]:
    """The one split that a name speaks of, and whether it speaks of nothing else: seg_train, train_set, Testing."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFKC", name))
    words = [word.lower() for word in re.findall(r"[^\W\d_]+", spaced)]
    spoken = {
        word: role
        for word in words
        for role, known in _WORDS.items()
        if re.fullmatch(f"(?:{known})(?:{_FILLER})?", word)
    }
    if len(set(spoken.values())) != 1:
        return None, False
    others = [word for word in words if word not in spoken and not re.fullmatch(_FILLER, word)]
    return next(iter(spoken.values())), not others


def _only(root: Path, outer: Base, names: Sequence[str], roles: dict[str, tuple[Role | None, bool]]) -> str:
    """The one folder of a role: with several, the one that is called exactly so."""
    exact = [name for name in names if roles[name][1]] if len(names) > 1 else list(names)
    if len(exact) == 1:
        return exact[0]
    raise DataError(
        f"{named(names)} in {displayed(root.joinpath(*outer.path))} are all called like the same split.",
        "One folder is used for training and one for validation.",
        "Call these two train/ and val/, and take the others out of the folder.",
    )


def _refuse_lone_split(root: Path, outer: Base, names: Sequence[str]) -> None:
    for name in names:
        folder = outer.folder.folders[name]
        if folder.holds_folders and len(folder.folders) > 1:
            where = root.joinpath(*outer.path)
            others = named([other for other in outer.folder.folders if other != name])
            raise DataError(
                f"{displayed(where / name)} is called like a split and holds folders ({named(folder.folders)}), "
                f"but nothing beside it ({others}) is its counterpart.",
                "Splits are called train/ and val/ (or test/), each with one folder per class.",
                f"Rename the counterpart, or name {displayed(where / name)} to use it alone.",
            )


def _refuse_splits_inside(root: Path, outer: Base) -> None:
    for name, folder in outer.folder.folders.items():
        inside = {role: other for other in folder.folders if (role := _role(other)[0]) and _role(other)[1]}
        if "train" in inside and len(inside) > 1:
            where = root.joinpath(*outer.path)
            deeper = any(folder.folders[other].holds_folders for other in inside.values())
            raise DataError(
                f"{displayed(where / name)} holds folders that are called like splits ({named(inside.values())}), and "
                f"is not the only folder in {displayed(where)}.",
                "Splits are called train/ and val/ (or test/), each with one folder per class.",
                f"Name {displayed(where / name)} to use it alone."
                if deeper
                else f"Turn them round: {displayed(where)}/train/{displayed(name)}/photo.jpg",
            )


def _refuse_data_inside(root: Path, outer: Base, known: Collection[str]) -> None:
    """Raise DataError where one folder would be a class and is all of the data, or a second copy of it; `known`
    classes are none of this.
    """
    folders = outer.folder.folders
    for name, folder in folders.items():
        others = {other: beside for other, beside in folders.items() if other != name}
        copied = {key(inside) for inside in folder.folders} & {key(other) for other in others}
        is_all = folder.pictures >= MOST * outer.folder.pictures and not any(o.folders for o in others.values())
        if name in known or folder.direct or len(folder.folders) < 2 or not (len(copied) > 1 or is_all):
            continue
        where = displayed(root.joinpath(*outer.path))
        inside = f"{displayed(name)} in {where} holds folders with pictures ({named(folder.folders)})"
        beside = f"the folders beside it ({named(others)})"
        raise DataError(
            f"{inside} that are called like {beside}: it is a copy or another part of the data, and not a class."
            if len(copied) > 1
            else f"{inside}, {folder.pictures:,} pictures of {outer.folder.pictures:,}, and {beside} hold no "
            "folders: it may be all of the data, and not a class.",
            LAYOUTS,
            f"To use it alone, name it: {where}/{displayed(name)}. To leave it out, take it out of the folder. "
            "If it is a class, move its pictures up.",
        )


def _refuse_pictures_in_splits(root: Path, outer: Base, names: Sequence[str]) -> None:
    name = sorted(names)[0]
    count = outer.folder.folders[name].pictures
    where = displayed(root.joinpath(*outer.path, name))
    raise DataError(
        f"{where} holds {count:,} images directly, without folders of classes, and is called like a split.",
        LAYOUTS,
        "Put its pictures into folders of classes, or take it out of the folder.",
    )


def named(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - NAMED} more" if len(ordered) > NAMED else ""
    return ", ".join(displayed(name) for name in ordered[:NAMED]) + more
