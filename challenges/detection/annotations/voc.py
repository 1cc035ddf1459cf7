"""Reading Pascal VOC's annotations: one XML file per image, corners that count pixels from 1 and include the last.

A box from xmin to xmax becomes the interval from xmin - 1 to xmax: pixel edges that count from 0, right one exclusive.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from challenges.detection.annotations.coco_rows import is_true
from challenges.detection.annotations.foreign import refuse_cvat
from challenges.detection.annotations.names import (
    ImageIndex,
    base,
    folded,
    kept_splits,
    parent,
    split_named,
    stem,
    unmentioned,
)
from challenges.detection.annotations.table import (
    AnnotatedImage,
    Annotations,
    BoxColumns,
    Finding,
    listed,
    number_in,
    plain,
)
from challenges.detection.annotations.text_files import text_of
from common.errors import DataError
from common.language.telling import english
from common.vision.image_folders import Listing, displayed

MAX_BYTES = 16 << 20
LAYOUT = (
    "Pascal VOC: Annotations/*.xml, JPEGImages/ and, where the split is given, ImageSets/Main/{train,val,test}.txt."
)


@dataclass(frozen=True)
class Source:
    """folder: that of Annotations and ImageSets, with its slash. files: paths of the XML files."""

    folder: str
    files: tuple[str, ...]


def find(root: Path, listing: Listing) -> Source | None:
    """The XML files of a folder: those in its one `Annotations`, else all of them; None where there are none.

    Raises DataError when several folders have an `Annotations` of their own.
    """
    files = [file.path for file in listing.annotations if file.path.lower().endswith(".xml")]
    folders = Counter(file[: -len(_inside(file))] for file in files if _inside(file))
    if len(folders) > 1:
        named = ", ".join(str(root / name) for name in sorted(folders)[:4])
        raise DataError(
            f"{root} has several folders with Annotations: {named}.",
            "One is trained on at a time.",
            "Name the one you mean.",
        )
    if folders:
        return Source(next(iter(folders)), tuple(file for file in files if _inside(file)))
    return Source("", tuple(files)) if files else None


def _inside(file: str) -> str:
    """The part of a path from the last folder called Annotations on, "" without one."""
    at = f"/{file}".rfind("/Annotations/")
    return file[at:] if at >= 0 else ""


def read(root: Path, listing: Listing, source: Source) -> Annotations:
    """Read the XML files that `find` found, and the lists of the splits beside them."""
    splits = _splits(root, source)
    findings, notes = list(splits.findings), list(splits.notes)
    index = ImageIndex(listing)
    images: list[AnnotatedImage] = []
    boxes, names = BoxColumns(), []
    for split, path, annotation in _used(root, source, splits, index, findings):
        size = [_size(annotation.findtext(f"size/{side}")) for side in ("width", "height")]
        images.append(AnnotatedImage(path, split, *size))
        for number, name, corners, difficult in _objects(annotation, path, findings):
            boxes.add(len(images) - 1, corners, 0, number, difficult)
            names.append(name)
    if unlisted := sum(splits.of(file) is None for file in source.files):
        notes.append(f"{unlisted} annotation files are in no list of a used split: left aside.")
    annotated = {stem(folded(file)) for file in source.files}
    findings += unmentioned(index, {image.path for image in images}, lambda path: stem(folded(path)) in annotated)
    classes = tuple(sorted(set(names)))
    labels = {name: label for label, name in enumerate(classes, start=1)}
    boxes.labels = [labels[name] for name in names]
    return Annotations(
        kind="voc",
        classes=classes,
        category_ids=tuple(range(1, len(classes) + 1)),
        images=tuple(images),
        **boxes.arrays(),
        noun=english("object"),
        findings=tuple(findings),
        notes=(*notes, *index.note()),
        form="left, top, right, bottom",
        first=1.0,
        understood={
            "format": f"Pascal VOC, {len(source.files):,} XML files (no COCO found)",
            "splits": splits.told,
            "classes": f"{len(classes)} that objects name: {listed(classes)}",
            "numbers": "xmin, ymin, xmax, ymax in pixels that count from 1, the last one included" + _told(boxes),
        },
        sources=(f"{source.folder}Annotations" if source.folder or _inside(source.files[0]) else ".",),
        thinnest=1.0,  # corners that coincide show one pixel: no annotator means that
    )


def _used(
    root: Path, source: Source, splits: "_Splits", index: ImageIndex, findings: list[Finding]
) -> Iterator[tuple[str, str, ElementTree.Element]]:
    """Of each usable file of a used split: the split, its image, and what it says of it; others become findings."""
    taken: dict[str, str] = {}
    for file in source.files:
        split = splits.of(file)
        if split is None:
            continue
        try:
            annotation = parse(root / file)
            path = _image_of(file, annotation, index, source, findings)
        except _CvatError:
            refuse_cvat(root, file)
        except _FileError as error:
            findings.append(Finding(displayed(file), error.code, error.reason))
            continue
        if path in taken:
            reason = english("{file:s} annotates the same image", file=displayed(taken[path]))
            findings.append(Finding(displayed(file), "ambiguous-image", reason))
            continue
        taken[path] = file
        yield split, path, annotation


def _told(boxes: BoxColumns) -> str:
    """How many objects are marked difficult, and what that means."""
    difficult = sum(boxes.ignored)
    return f"; {difficult:,} objects marked difficult are neither learnt nor counted" if difficult else ""


class _FileError(Exception):
    """An annotation file that cannot be used, with the finding's code."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class _CvatError(Exception):
    """The file is CVAT's own XML."""


def parse(path: Path) -> ElementTree.Element:
    """The file's `annotation` element. Declarations of document types, and with them entities, are refused."""
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _refuse_document_type
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _FileError("annotation-unreadable", english("more than {size} MiB of XML", size=MAX_BYTES >> 20))
        encoded = path.read_bytes()
        if not encoded.strip():
            raise _FileError("annotation-empty", english("the file is empty"))
        parser.Parse(encoded, True)
    except OSError as error:
        raise _FileError("annotation-unreadable", (error.strerror or str(error)).lower()) from None
    except (expat.ExpatError, ValueError, LookupError) as error:
        told = english("cut, wrongly encoded or no XML: {error:s}", error=plain(error))
        raise _FileError("annotation-unreadable", told) from None
    element = builder.close()
    if element.tag == "annotations" and (element.find("image") is not None or element.find("track") is not None):
        raise _CvatError
    if element.tag != "annotation":
        told = english("it holds <{tag:s}>, not <annotation>", tag=plain(element.tag, 40))
        raise _FileError("annotation-malformed", told)
    return element


def _refuse_document_type(*_declaration: object) -> None:
    told = english("it declares a document type, which annotations have no use for")
    raise _FileError("annotation-malformed", told)


def _objects(
    annotation: ElementTree.Element, path: str, findings: list[Finding]
) -> Iterator[tuple[int, str, tuple[float, float, float, float], bool]]:
    """Number from 1, class name, corners and whether it is difficult, of every object with a box."""
    for number, element in enumerate(annotation.iterfind("object"), start=1):
        name, box = plain(element.findtext("name") or ""), element.find("bndbox")
        if not name or box is None:
            message = english("object {number}: no bndbox") if name else english("object {number}: no class name")
            findings.append(Finding(displayed(path), "malformed-box", english(message, number=number)))
            continue
        written = [box.findtext(side) for side in ("xmin", "ymin", "xmax", "ymax")]
        try:
            left, top, right, bottom = (number_in(text) for text in written)
        except ValueError:
            told = english(
                "object {number} ({name:s}): corners {corners:s}",
                number=number,
                name=name,
                corners=", ".join(plain(text, 24) for text in written),
            )
            findings.append(Finding(displayed(path), "not-a-number", told))
            continue
        difficult = is_true(element.findtext("difficult"))
        yield number, name, (left - 1, top - 1, right, bottom), difficult


def _size(text: str | None) -> int:
    try:
        value = number_in(text)
    except ValueError:
        return 0
    return int(value) if 0 < value < 2**31 and value == int(value) else 0


def _image_of(
    file: str, annotation: ElementTree.Element, index: ImageIndex, source: Source, findings: list[Finding]
) -> str:
    """The image with the annotation file's own name: in JPEGImages, beside the file, else the only one there is."""
    written = plain(annotation.findtext("filename") or "").replace("\\", "/").rsplit("/", 1)[-1]
    own = stem(file)
    same = [path for path in index.by_stem.get(own, []) if path.startswith(source.folder)]
    for folder in (f"{source.folder}JPEGImages/", parent(file)):
        inside = [path for path in same if parent(path) == folder]
        if inside:
            same = inside
            break
    if len(same) > 1:
        same = [path for path in same if base(path) == written] or same
    if not same:
        same = index.spelt_alike(file, source.folder)
        if len(same) == 1:
            index.respelt[file] = same[0]
            return same[0]
    if not same:
        told = english("no image is called {name:s}", name=displayed(own))
        if written and stem(written) != own:
            told = english(
                "no image is called {name:s}; <filename> says {written:s}", name=displayed(own), written=written
            )
        raise _FileError("missing-image", told)
    if len(same) > 1:
        told = english("images with its name: {names:s}", names=", ".join(map(displayed, same[:3])))
        raise _FileError("ambiguous-image", told)
    if written and stem(written) != own:
        told = english("<filename> says {written:s}", written=written)
        findings.append(Finding(displayed(file), "name-mismatch", told))
    return same[0]


@dataclass(frozen=True)
class _Splits:
    """The split of every annotation file by its name, and that of those in no list: None leaves them aside."""

    named: Mapping[str, str]
    others: str | None
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    told: str = ""

    def of(self, file: str) -> str | None:
        return self.named.get(stem(file), self.others)


def _splits(root: Path, source: Source) -> _Splits:
    """ImageSets/Main: train on trainval (or train and val) and hold out test; without test.txt, train and val.

    Without lists the folders' names tell, where they say train and validation; else a split has to be drawn.
    """
    known = {stem(file) for file in source.files}
    folder = root / source.folder / "ImageSets" / "Main"
    lists = {name: _names(folder / f"{name}.txt", known) for name in ("train", "val", "trainval", "test")}
    notes = []
    if lists["test"] and known.isdisjoint(lists["test"]):
        notes.append("The images of ImageSets/Main/test.txt have no annotations: the list is left aside.")
        lists["test"] = []
    all_training = [*lists["trainval"], *lists["train"], *lists["val"]]
    if lists["test"]:
        train, validation = all_training, lists["test"]
    elif lists["train"] and lists["val"]:
        train, validation = lists["train"], lists["val"]
    elif all_training:
        train, validation = [], []
    else:
        return _splits_by_folder(source)
    named = dict.fromkeys(train, "train") | dict.fromkeys(validation, "val") or dict.fromkeys(all_training, "")
    both = sorted(set(train) & set(validation))
    missing = sorted(named.keys() - known)
    where = f"{displayed(source.folder)}ImageSets/Main"
    twice = english("{folder:s} lists it for both", folder=where)
    absent = english("{folder:s} lists it, Annotations has no such file", folder=where)
    findings = [Finding(displayed(name), "in-both-splits", twice) for name in both]
    findings += [Finding(displayed(name), "no-annotation", absent) for name in missing]
    told = f"by the lists of {where}" if set(named.values()) != {""} else ""
    return _Splits(named, None if all_training else "train", tuple(findings), tuple(notes), told)


def _splits_by_folder(source: Source) -> _Splits:
    told = {file: split_named(parent(file).rstrip("/").rsplit("/", 1)[-1]) for file in source.files}
    kept = kept_splits(told)
    if not kept:
        return _Splits({}, "")
    return _Splits({stem(file): split for file, split in kept.items()}, None, told="by the folders' names")


def _names(path: Path, known: set[str]) -> list[str]:
    """The names a list holds, one a line; what follows a name, as in the lists of single classes, is dropped."""
    try:
        lines = text_of(path).splitlines()
    except OSError:
        return []
    except ValueError:  # names of files that are no UTF-8 are compared as they are
        lines = path.read_bytes().decode("utf-8", "surrogateescape").splitlines()
    names = []
    for line in filter(None, map(str.strip, lines)):
        candidates = (line, line.split()[0], stem(line), stem(line.split()[0]))
        names.append(next((name for name in candidates if name in known), line.split()[0]))
    return names
