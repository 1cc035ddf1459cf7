"""Reading boxes from tables, a row for each, as TensorFlow's tutorials and competitions have them."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from challenges.detection.annotations.names import (
    ImageIndex,
    kept_splits,
    parent,
    split_named,
    split_of_folders,
    stem,
    unmentioned,
)
from challenges.detection.annotations.table import (
    AnnotatedImage,
    Annotations,
    BoxColumns,
    Finding,
    Form,
    listed,
    number_in,
    plain,
)
from common.delimited import find_tables, read_columns, read_table
from common.errors import DataError
from common.language.telling import english
from common.vision.image_folders import ListedFile, Listing, displayed, listed_file
from common.vision.images import EXTENSIONS

LAYOUT = "A table: labels.csv with a row for each box and the columns filename, class, xmin, ymin, xmax, ymax."
SUFFIXES = (".csv",)
NAMES: Mapping[str, Sequence[str]] = {
    "image": ("filename", "file", "filepath", "path", "image", "imagename", "imageid", "img", "frame", "id"),
    "class": ("class", "classname", "label", "labelname", "name", "category", "categoryname", "object", "classid"),
    "left": ("xmin", "x1", "left", "bboxx", "xleft", "bboxxmin", "bboxx1", "x"),
    "top": ("ymin", "y1", "top", "bboxy", "ytop", "bboxymin", "bboxy1", "y"),
    "right": ("xmax", "x2", "right", "xright", "bboxxmax", "bboxx2"),
    "bottom": ("ymax", "y2", "bottom", "ybottom", "bboxymax", "bboxy2"),
    "width": ("width", "w", "bboxwidth", "bboxw"),
    "height": ("height", "h", "bboxheight", "bboxh"),
    "box": ("bbox", "box", "boundingbox"),
}
"""What a column holds -> its names without blanks and signs, the surest first."""
CORNERS: tuple[str, ...] = ("left", "top", "right", "bottom")
SIZED: tuple[str, ...] = ("left", "top", "width", "height")
UNNAMED = ("image", "x1", "y1", "x2", "y2", "class")
"""The columns of a table whose first row is a box already, as keras-retinanet and its followers have them."""
NOTHING = {"", "nan", "none", "null", "[]"}
ONLY = "object"  # the class where no column names one


@dataclass(frozen=True)
class Source:
    """A table of boxes. columns: what it holds -> the column; names: those of one whose first row has none."""

    path: str
    columns: Mapping[str, str]
    names: tuple[str, ...] | None = None

    @property
    def roles(self) -> tuple[str, ...]:
        """Of the columns that hold a box's numbers."""
        return next((roles for roles in (CORNERS, SIZED) if set(roles) <= self.columns.keys()), ("box",))

    @property
    def form(self) -> Form:
        return "left, top, right, bottom" if self.roles == CORNERS else "left, top and size"


def find(root: Path) -> list[Source]:
    """The tables here or one folder deeper whose columns are those of boxes."""
    return [source for path in find_tables(root, SUFFIXES) if (source := _source(path, _first_row(root / path)))]


def listed_tables(root: Path) -> tuple[ListedFile, ...]:
    """The same as files of a listing."""
    return tuple(listed_file(root, source.path) for source in find(root))


def _first_row(path: Path) -> tuple[str, ...]:
    try:
        return read_columns(path)
    except (OSError, csv.Error):
        return ()


def _source(path: str, first: Sequence[str]) -> Source | None:
    """What a table of this first row is; None where it is not one of boxes."""
    if columns := _columns(first):
        return Source(path, columns)
    return Source(path, _columns(UNNAMED), UNNAMED) if _is_box(first) else None


def _is_box(row: Sequence[str]) -> bool:
    """Whether a row is a box of an image, or an image without any, in the order of `UNNAMED`."""
    if len(row) != len(UNNAMED) or not row[0].lower().endswith(tuple(EXTENSIONS)):
        return False
    *numbers, name = row[1:]
    try:
        return len([number_in(number) for number in numbers]) == len(CORNERS) and bool(name.strip())
    except ValueError:
        return not any(row[1:])


def _columns(header: Sequence[str]) -> dict[str, str]:
    """What columns of these names hold; empty where they are not those of boxes in images."""
    names = {re.sub(r"[\W_]", "", name).lower(): name for name in reversed(header)}
    found = {role: next((names[name] for name in known if name in names), "") for role, known in NAMES.items()}
    found = {role: name for role, name in found.items() if name}
    is_whole = any(set(roles) <= found.keys() for roles in (CORNERS, SIZED, ("box",)))
    return found if is_whole and "image" in found else {}


def read(root: Path, listing: Listing, sources: Sequence[Source]) -> Annotations:
    """Read the tables that `find` found; raises DataError where one cannot be read."""
    index, findings = ImageIndex(listing), list[Finding]()
    rows = [row for source in sources for row in _rows(root, source, index, findings)]
    named = {row.path: _split_of(row.source) or split_of_folders(row.path) for row in rows}
    splits = kept_splits(named) or dict.fromkeys(named, "")
    images = {row.path: AnnotatedImage(row.path, splits[row.path], *row.size) for row in rows if row.path in splits}
    places = {path: place for place, path in enumerate(images)}
    boxes, names = BoxColumns(), []
    for row in rows:
        if row.path not in places:
            continue
        try:
            corners = row.corners()
        except ValueError:
            told = english("row {number}: {cells:s}", number=row.number, cells=plain(", ".join(row.numbers), 60))
            findings.append(Finding(displayed(row.path), "not-a-number", told))
            continue
        if corners:
            boxes.add(places[row.path], corners, 0, row.number)
            names.append(plain(row.cells.get("class") or ONLY))
    classes = tuple(sorted(set(names)))
    labels = {name: label for label, name in enumerate(classes, start=1)}
    boxes.labels = [labels[name] for name in names]
    mentioned = {row.path for row in rows}
    findings += unmentioned(index, images, mentioned.__contains__)
    first = sources[0]
    return Annotations(
        kind="table",
        classes=classes,
        category_ids=tuple(range(1, len(classes) + 1)),
        images=tuple(images.values()),
        **boxes.arrays(),
        noun=english("row"),
        findings=tuple(findings),
        notes=index.note(),
        form=first.form,
        understood={
            "format": f"boxes in {listed([displayed(source.path) for source in sources])}, a row for each"
            + ("" if first.names is None else ", whose columns have no names"),
            "splits": "by the tables' or the folders' names" if any(splits.values()) else "",
            "classes": f"{len(classes)} that rows name: {listed(classes)}",
            "numbers": f"{', '.join(first.columns[role].strip() for role in first.roles)}: {first.form} in pixels",
        },
        sources=tuple(source.path for source in sources),
    )


@dataclass(frozen=True)
class _Row:
    """A row of a table whose image is known. cells: what it holds -> text."""

    path: str
    source: Source
    number: int
    cells: Mapping[str, str]

    @property
    def size(self) -> tuple[int, int]:
        """Of the image, where the table has columns for it beside the corners; 0 where not."""
        sides = [self.cells.get(side, "") for side in ("width", "height")]
        known = self.source.roles == CORNERS and all(side.isdecimal() for side in sides)
        return (int(sides[0]), int(sides[1])) if known else (0, 0)

    @property
    def numbers(self) -> list[str]:
        if self.source.roles == ("box",):
            return re.split(r"[,;\s]+", self.cells["box"].strip("[](){} "))
        return [self.cells[role] for role in self.source.roles]

    def corners(self) -> list[float]:
        """Left, top, right and bottom, nothing for an image without objects; raises ValueError."""
        if all(text.lower() in NOTHING for text in self.numbers):
            return []
        left, top, *others = map(number_in, self.numbers)
        third, fourth = others
        return [left, top, third, fourth] if self.source.roles == CORNERS else [left, top, left + third, top + fourth]


def _rows(root: Path, source: Source, index: ImageIndex, findings: list[Finding]) -> Iterator[_Row]:
    """A table's rows with the one image that each means; others become findings."""
    try:
        _, rows = read_table(root / source.path, source.names)
    except (OSError, csv.Error) as error:
        raise DataError(f"{displayed(root / source.path)} cannot be read: {plain(error)}.", LAYOUT) from None
    for number, row in enumerate(rows, start=2 if source.names is None else 1):
        cells = {role: row.get(name, "").strip() for role, name in source.columns.items()}
        name = cells["image"].replace("\\", "/")
        same = [name] if name in index.known else index.spelt_alike(name, parent(source.path))
        if len(same) > 1 and (split := _split_of(source)):
            same = [path for path in same if split_of_folders(path) == split] or same
        if len(same) == 1:
            yield _Row(same[0], source, number, cells)
            continue
        code, message = "missing-image", english("row {number}: no image is called {name:s}")
        if same:
            code, message = "ambiguous-image", english("row {number}: several images are called {name:s}")
        reason = english(message, number=number, name=plain(name, 60))
        findings.append(Finding(displayed(source.path), code, reason))


def _split_of(source: Source) -> str:
    return split_named(stem(source.path)) or split_named(parent(source.path))
