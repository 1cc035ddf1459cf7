"""Samples that a model is judged on though it has learnt from their like: copies, or others of one patient or scene."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from common.language.telling import english
from common.vision.image_folders import LISTED, displayed
from common.vision.near_duplicates import nearest_copies

KINDS = {  # of counterparts, in the order in which they are told
    "identical": "are identical files",
    "near-identical": "are near-duplicates",
    "group": "share a group by their names",
}

LIKELY_GROUP = re.compile(
    r"^(?!n\d{8}_)"  # ImageNet's names begin with the class, which is no group
    r"(?P<group>"
    r"(?:.*[^a-z])?(?:patient|subject|subj|person|case|video|clip|session|scene|sequence|seq|slide)[ _-]?\d+(?=[^\d.])"
    r"|(?:.*[^a-z])?im-\d{4}(?=-\d{4})"  # how viewers of DICOM export a series
    r"|[a-z _-]*\d{3,}(?=[_-](?:[a-z]|\d{1,2})\.[a-z]+$)"
    r")",
    re.IGNORECASE,
)
"""File names that tell whose picture it is: patient12_img3.jpg, video07-frame0001.png, IMG_0001_a.jpg."""


def groups(paths: list[str], pattern: re.Pattern[str]) -> list[str | None]:
    """The group each file's name tells: the pattern's `group`, else its first group, else all that it matches."""

    def group(path: str) -> str | None:
        match = pattern.search(path.rsplit("/", 1)[-1])
        if match is None:
            return None
        if "group" in pattern.groupindex:
            return match["group"]
        return match[1] if pattern.groups else match[0]

    return [group(path) for path in paths]


@dataclass(frozen=True)
class Pictures:
    """Pictures of a split, by columns (picture,).

    groups:     the group that each file's name tells, and what the group's name is unique in, such as a class.
    thumbnails: as `ImageFacts` has them; none at all where near-duplicates are not looked for.
    """

    paths: Sequence[str]
    digests: Sequence[str]
    groups: Sequence[tuple[str, str] | None]
    thumbnails: Sequence[bytes] = ()


def scoped(names: Sequence[str | None], scopes: Sequence[str]) -> list[tuple[str, str] | None]:
    """Groups as `Pictures` has them."""
    return [None if name is None else (name, scope) for name, scope in zip(names, scopes, strict=True)]


def find_leaks(learnt: Pictures, judged: Pictures) -> dict[str, Any]:
    """How many of `judged` have a counterpart among `learnt`: the same file, nearly the same picture, the same group.

    returns: pictures (all that are judged), affected (by whatever kind), and for each kind the count and the first
             pairs (judged, learnt, group or "").
    """
    copies = dict(zip(learnt.digests, learnt.paths, strict=True))
    members = dict(zip(learnt.groups, learnt.paths, strict=True))
    near = nearest_copies(learnt.thumbnails, judged.thumbnails).tolist() or [-1] * len(judged.paths)
    pairs: dict[str, list[tuple[str, str, str]]] = {kind: [] for kind in KINDS}
    affected = 0
    for path, digest, group, copy in zip(judged.paths, judged.digests, judged.groups, near, strict=True):
        before = sum(map(len, pairs.values()))
        if digest in copies:
            pairs["identical"].append((path, copies[digest], ""))
        elif copy >= 0:
            pairs["near-identical"].append((path, learnt.paths[copy], ""))
        if group is not None and group in members:
            pairs["group"].append((path, members[group], group[0]))
        affected += sum(map(len, pairs.values())) > before
    kinds = {
        kind: {"count": len(found), "pairs": [list(pair) for pair in found[:LISTED]]} for kind, found in pairs.items()
    }
    return {"pictures": len(judged.paths), "affected": affected, "kinds": kinds}


def leak_warnings(leaks: dict[str, Any], split: str, remedy: str, *, is_sure: bool = False) -> list[str]:
    """A sentence about what `find_leaks` found, where it found something.

    split:   what the judged pictures are called, such as "validation". remedy: what to do, as a sentence.
    is_sure: whether the groups are known to show the same thing.
    """
    if not leaks["affected"]:
        return []
    kinds = {kind: found for kind, found in leaks["kinds"].items() if found["count"]}
    parts = [
        english(
            "{count:,} {kind} ({example})", count=found["count"], kind=KINDS[kind], example=_example(*found["pairs"][0])
        )
        for kind, found in kinds.items()
    ]
    condition = "" if is_sure or "group" not in kinds else english("if a group is one patient, scene or video, ")
    told = english(
        "{affected:,} of {pictures:,} {split} pictures have counterparts in training",
        affected=leaks["affected"],
        pictures=leaks["pictures"],
        split=split,
    )
    return [
        english(
            "{told}: {parts}; {condition}the {split} figures are too high. {remedy}",
            told=told,
            parts=", ".join(parts),
            condition=condition,
            split=split,
            remedy=remedy,
        ).strip()
    ]


def _example(path: str, other: str, group: str) -> str:
    same = f"{displayed(path)} = {displayed(other)}"
    return f"{displayed(group)}: {same}" if group else same
