"""Reading YOLO's annotations: a text file per image, a line per box: class, centre and size as shares of the image."""

from collections import Counter
from pathlib import Path

from challenges.detection.annotations.class_names import class_names, keypoint_values, other_names
from challenges.detection.annotations.foreign import refuse_texts
from challenges.detection.annotations.names import parent, respelling_note, split_of_folders
from challenges.detection.annotations.table import (
    AnnotatedImage,
    Annotations,
    BoxColumns,
    Finding,
    UnusableError,
    listed,
    plain,
)
from challenges.detection.annotations.text_files import lines_of
from challenges.detection.annotations.yolo_files import Source, find
from challenges.detection.annotations.yolo_lists import listed_splits, stated_splits
from challenges.detection.annotations.yolo_rows import Columns, Row, RowError, columns_of, parse, spelling
from common.language.telling import english
from common.vision.image_folders import Listing, displayed

LAYOUT = "YOLO: images/ and labels/ with the same names inside, and data.yaml or classes.txt with the classes."
_SHIFTED = 10  # rows from which on numbers that never are 0 and reach one beyond the names say that they count from 1

__all__ = ["LAYOUT", "find", "read"]


def read(root: Path, listing: Listing, source: Source) -> Annotations:
    """Read the label files that `find` found; images without one show no object, unless label files are left over.

    Raises DataError when the classes' names cannot be read, when no label file belongs to an image or holds a row, and
    when the classes seem to be counted from 1.
    """
    refuse_texts(root, [*source.labels.values(), *source.left])
    _refuse_strangers(root, source)
    names, names_file = class_names(root, listing)
    reading = _Reading(root, source, names)
    splits, told_splits, left = stated_splits(root, listing, names_file)
    reading.notes += filter(None, [left])
    if not splits:
        splits = _splits([file.path for file in listing.files], source.labels, reading.notes)
        told_splits = "by the folders' names"
    if set(splits.values()) == {""}:
        in_lists, told_splits, left = listed_splits(root, listing, source.labels.values())
        splits = in_lists or splits
        reading.notes += filter(None, [left])
    for path, split in splits.items():
        reading.take(path, split)
    reading.tell_left()
    reading.refuse_empty()
    _refuse_shifted(root, names, names_file, reading.rows)
    columns = columns_of(reading.rows, keypoint_values(root, names_file))
    reading.add_boxes(columns)
    if names is not None:
        reading.notes += filter(None, [other_names(root, listing, names, names_file)])
    else:
        names = {number: str(number) for number in sorted(set(reading.boxes.labels))}
        reading.notes.append("No data.yaml or classes.txt names the classes: they are called by their numbers.")
    ids = tuple(sorted(names))
    positions = {number: label for label, number in enumerate(ids, start=1)}
    reading.boxes.labels = [positions[number] for number in reading.boxes.labels]
    classes = tuple(names[number] for number in ids)
    whence = f"of {plain(displayed(names_file))}" if names_file else "numbers without names"
    folders = sorted({parent(name) for name in source.labels.values()})
    return Annotations(
        kind="yolo",
        classes=classes,
        category_ids=ids,
        images=tuple(reading.images),
        **reading.boxes.arrays(),
        noun=english("line"),
        findings=tuple(reading.findings),
        notes=(*reading.notes, *respelling_note(source.respelt)),
        sources=tuple(filter(None, (names_file, *folders[:8]))),
        form="centre and size",
        understood={
            "format": f"YOLO, {len(source.labels):,} label files (no COCO or Pascal VOC found)",
            "splits": told_splits,
            "classes": f"{len(ids)} {whence}: {listed(classes)}{reading.told_spelling()}",
            "columns": columns.meaning,
            "numbers": "centre and size, as shares of the image's width and height",
        },
        relative=True,
    )


class _Reading:
    """Images and rows read so far."""

    def __init__(self, root: Path, source: Source, names: dict[int, str] | None) -> None:
        self.root, self.source, self.names = root, source, names
        self.images: list[AnnotatedImage] = []
        self.rows: list[Row] = []
        self.boxes = BoxColumns()
        self.findings: list[Finding] = []
        self.notes: list[str] = []
        self._bare: list[str] = []
        self._spellings: Counter[str] = Counter()

    def take(self, path: str, split: str) -> None:
        """Take an image and the rows of its label file."""
        label = self.source.labels.get(path)
        if label is None:
            self._bare.append(path)
            if self.source.left:
                told = english("the image has no label file, and label files are left over")
                self.findings.append(Finding(displayed(path), "no-annotation", told))
                return
        else:
            try:
                lines = lines_of(self.root / label)
            except (OSError, ValueError) as error:
                why = plain(getattr(error, "strerror", None) or error)
                told = english("{file:s} cannot be read: {why}", file=displayed(label), why=why)
                self.findings.append(Finding(displayed(path), "annotation-unreadable", told))
                return
            for number, line in lines:
                self._take_line(line, number, path)
        self.images.append(AnnotatedImage(path, split))

    def _take_line(self, line: str, number: int, path: str) -> None:
        try:
            category, values = parse(line, self.names)
        except RowError as error:
            self.findings.append(_at_line(displayed(path), number, error))
            return
        kind = spelling(line)
        if kind:
            self._spellings[kind] += 1
        self.rows.append(Row(len(self.images), number, category, values))

    def told_spelling(self) -> str:
        """How lines write their class where not as a whole number, with a comma before."""
        return "".join(f", written {kind} in {count:,} lines" for kind, count in self._spellings.items())

    def tell_left(self) -> None:
        """Say which label files have no image, and what became of the images without a label file."""
        left, bare = self.source.left, len(self._bare)
        for name in left:
            self.findings.append(_without_image(name))
        if left:
            told = f"{len(left):,} label files belong to no image, such as {displayed(left[0])}"
            also = f"; so {bare:,} images without a label file are left out, such as {displayed(self._bare[0])}"
            self.notes.append(f"{told}{also if bare else ''}.")
        elif bare:
            self.notes.append(f"{bare} images have no label file: taken as images without objects.")

    def refuse_empty(self) -> None:
        """Raise DataError where label files were read and none holds anything."""
        unread = any(finding.code == "annotation-unreadable" for finding in self.findings)
        if self.images and not self.rows and not unread and not any(_is_row_fault(one) for one in self.findings):
            raise UnusableError(
                f"{self.root}: every label file is empty ({len(self.source.labels):,} of them), "
                "so there is no box to learn from.",
                "Exporters write empty files for what they leave out: CVAT's YOLO 1.1, for one, holds rectangles only, "
                "polygons are not exported.",
                "Export the annotations as COCO 1.0, whose polygons are read, or as YOLO segmentation.",
                self.findings,
            )

    def add_boxes(self, columns: Columns) -> None:
        """Turn the rows into boxes."""
        for row in self.rows:
            path = displayed(self.images[row.owner].path)
            if self.names is not None and row.category not in self.names:
                error = RowError("unknown-category", english("class {name:s}", name=str(row.category)))
                self.findings.append(_at_line(path, row.number, error))
                continue
            try:
                corners, measured = columns.corners(row.values)
            except RowError as error:
                self.findings.append(_at_line(path, row.number, error))
                continue
            self.boxes.add(row.owner, corners, row.category, row.number, extent=measured)


def _at_line(path: str, number: int, error: RowError) -> Finding:
    return Finding(path, error.code, english("line {number}: {reason}", number=number, reason=error.reason))


def _without_image(label: str) -> Finding:
    return Finding(displayed(label), "label-without-image", english("no image has its name"))


def _is_row_fault(finding: Finding) -> bool:
    return finding.reason.startswith("line ")


def _refuse_strangers(root: Path, source: Source) -> None:
    if not source.labels:
        raise UnusableError(
            f"{root}: none of {len(source.left):,} label files belongs to an image; the first is "
            f"{displayed(source.left[0])}.",
            "A label file is called as its image, photo.txt for photo.jpg, beside it or in labels/ for images/.",
            "Rename the label files after the images.",
            [_without_image(name) for name in source.left],
        )


def _refuse_shifted(root: Path, names: dict[int, str] | None, names_file: str, rows: list[Row]) -> None:
    """Raise DataError where every class would silently be taken for the next one's name."""
    if names is None or sorted(names) != list(range(len(names))) or len(rows) < _SHIFTED:
        return
    used = Counter(row.category for row in rows)
    if used[0] or used[len(names)] < len(rows) / 100 or max(used) > len(names):
        return
    raise UnusableError(
        f"{root}: the label files use the classes 1 to {len(names)}, {displayed(names_file)} names 0 to "
        f"{len(names) - 1}: they seem to be counted from 1, and every box would get the wrong name.",
        "YOLO counts classes from 0.",
        f"Subtract 1 from the first number of every line, or put a name for class 0 first in {displayed(names_file)}.",
    )


def _splits(paths: list[str], labels: dict[str, str], notes: list[str]) -> dict[str, str]:
    """The split of every image by its folders' names, "" for all where they tell no train and validation."""
    told = {path: split_of_folders(path) for path in paths}
    annotated = {told[path] for path in labels}
    validation = "val" if "val" in annotated else "test"
    if not {"train", validation} <= annotated:
        return dict.fromkeys(paths, "")
    kept = {"train": "train", validation: "val"}
    left = sum(split not in kept for split in told.values())
    if left:
        notes.append(f"{left} images are in no folder of a used split: left aside.")
    return {path: kept[split] for path, split in told.items() if split in kept}
