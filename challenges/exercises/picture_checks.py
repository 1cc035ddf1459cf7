"""Checks of classifiers and detectors: how pictures were learnt, and what was done with the model."""

import contextlib
import math
import re

from challenges.classification.search.report import FOLDER, MEASURED
from challenges.exercises.facts import Facts, NotYetError
from common.files import read_csv


def mixed(facts: Facts) -> str:
    strengths = {name: facts.used(name) for name in ("mixup_alpha", "cutmix_alpha")}
    facts.demand(
        any(value > 0 for value in strengths.values()),
        f"{facts.run.path} learnt every picture as it is.",
        "Mixup or CutMix has a strength above 0.",
    )
    return f"With pictures blended the run reached {facts.figure}."


def by_group(facts: Facts) -> str:
    split, pattern = facts.used("data.split"), facts.used("data.group_pattern")
    usable = False
    with contextlib.suppress(re.error):
        usable = bool(pattern) and re.compile(pattern).groups > 0
    facts.demand(
        split == "by-group" and usable,
        f"{facts.run.path} was split with data.split {split} and data.group-pattern {pattern}.",
        "Pictures of one sign stay on one side: by-group, with a pattern whose first group names the sign.",
    )
    return f"With every sign on one side alone the run reached {facts.figure}."


def unmirrored(facts: Facts) -> str:
    flip = facts.used("data.flip")
    facts.demand(
        flip == 0,
        f"{facts.run.path} learnt mirror images, too: data.flip is {flip:g}.",
        "What is written or points somewhere is another thing in a mirror.",
    )
    return "No picture was mirrored."


def searched(facts: Facts) -> str:
    file = facts.run.path / FOLDER / MEASURED
    facts.demand(
        file.is_file(),
        f"{facts.run.path} has no index of pictures.",
        "Search by picture is measured when an index is made.",
        f"Run: kit index {facts.run.path} FOLDER",
    )
    figures = facts.record(file, "figures")["figures"]
    ours, colours = figures["this run"]["recall@5"], figures["colour histogram"]["recall@5"]
    facts.demand(
        ours > colours,
        f"Among five, this run finds one of the class for {ours:.3f} of the pictures, colours for {colours:.3f}.",
        "What the network sees has to find more than colours do.",
        facts.exercise.hint["en"].strip(),
    )
    return f"recall@5 is {ours:.3f}, by colours {colours:.3f}."


def suppressed_otherwise(facts: Facts) -> str:
    own, used = facts.own("nms.iou_threshold"), facts.used("nms.iou_threshold")
    facts.demand(
        used < own,
        f"{facts.run.path} drops boxes that overlap a better one by more than {used:g}.",
        f"A stricter rule than the recipe's {own:g} is asked for.",
    )
    return f"With {used:g} instead of {own:g} the run reached {facts.figure}."


def tiled(facts: Facts) -> str:
    tile = facts.used("data.tile")
    facts.demand(
        tile is not None,
        f"{facts.run.path} looked at whole images alone.",
        "Small objects are searched in tiles besides.",
    )
    return f"Tiles of {tile} pixels were searched as well: {facts.figure}."


def found_small(facts: Facts) -> str:
    value = facts.result.metrics.get("ap_small")
    if value is None or math.isnan(value):
        raise NotYetError(
            f"The validation images of {facts.run.path} have no small objects.",
            "Small ones have fewer than 32 × 32 pixels.",
            f"Try: {facts.exercise.lines[0]}",
        )
    facts.demand(
        value > 0,
        f"{facts.run.path} finds none of the small objects: their AP is {value:.4f}.",
        "Some have to be found.",
        facts.exercise.hint["en"].strip(),
    )
    return f"The AP of small objects is {value:.4f}."


def counted(facts: Facts) -> str:
    file = facts.run.path / "predictions" / "detections.csv"
    rows = len(read_csv(file, guarded=True)) if file.is_file() else 0
    facts.demand(
        rows > 0,
        f"{facts.run.path}/predictions has no table of boxes." if not file.is_file() else f"{file} has no box.",
        "What was found in pictures is counted there.",
        f"Run: {facts.exercise.lines[-1]}",
    )
    return f"{rows:,} boxes were found in pictures."


def watched(facts: Facts) -> str:
    films = sorted((facts.run.path / "predictions").rglob("*.mp4"))
    facts.demand(
        bool(films),
        f"{facts.run.path}/predictions holds no video.",
        "The detector has to have drawn its boxes on one.",
        f"Run: kit predict {facts.run.path} VIDEO.mp4",
    )
    return f"{len(films)} videos have boxes: {films[0].name} and what follows."
