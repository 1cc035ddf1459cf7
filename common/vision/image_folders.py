"""What checking any folder of images needs: listing it, probing its files, telling copies, keeping the answer."""

import errno
import hashlib
import os
import shlex
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from common.errors import DataError
from common.files import read_csv, read_json, stamps_digest, write_csv, write_json
from common.language.telling import english
from common.terminal.progress import counting
from common.text import printable
from common.vision.image_kinds import REMEDIES
from common.vision.images import EXTENSIONS, NOTES, ImageFacts, ImageProblem, probe_all
from common.vision.kept_probes import KeptProbes

DRAWING = ("seed", "validation_fraction")  # a check's arguments that only matter where a split is drawn
IMBALANCE = 5  # largest class over smallest from which on a warning is given
FEW = 20  # training examples of a class below which a warning is given
NAMED = 3  # examples in a warning; check.json has up to LISTED
NAMED_KINDS = 8  # kinds of files that a sentence counts one by one
LISTED = 200
IDENTICAL = english("Identical files inside a split ({count} sets), such as {example}.")
UNREAD_PHOTOGRAPHS = (
    *(".heic", ".heif", ".avif", ".jp2", ".jxl", ".psd", ".dcm", ".nii", ".npy", ".mat"),
    *(".raw", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".dng"),
)
PACKED = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")
LEFTOVERS = (
    "__macosx",
    "thumbs.db",
    "desktop.ini",
    "@eadir",
    "$recycle.bin",
    "system volume information",
    "lost+found",
)
"""What systems leave in folders, in any case, beside hidden files; @eaDir holds a NAS's small copies of pictures."""


@dataclass(frozen=True)
class ListedFile:
    """path: relative to the folder, with forward slashes. size: bytes."""

    path: str
    size: int
    mtime_ns: int

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]


def listed_file(root: Path, path: str) -> ListedFile:
    """A file by its path below `root`; raises OSError."""
    status = (root / path).stat()
    return ListedFile(path, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class Listing:
    """The image files of a folder and the annotation files asked for, by path; the others are counted by extension.

    folders:   every folder that was looked into, with forward slashes.
    leftovers: hidden files and folders, and what systems leave, none of which is looked at; folders end in a slash.
    """

    files: tuple[ListedFile, ...]
    others: dict[str, int]
    annotations: tuple[ListedFile, ...] = ()
    folders: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Hex digest over every file's path, size and modification time."""
        return stamps_digest((file.path, file.size, file.mtime_ns) for file in (*self.files, *self.annotations))


def list_images(root: Path, layouts: str, annotation_suffixes: Collection[str] = ()) -> Listing:
    """Every file under `root` with an image's or an annotation's extension, leftovers apart, links followed.

    layouts: what such a folder looks like, in a sentence for errors.
    Nothing is opened. Raises DataError when the folder is missing, is a file or cannot be listed, naming what is in
    the way.
    """
    if not root.exists():
        raise DataError(f"{displayed(root)} does not exist.", layouts, _nearest(root))
    if not root.is_dir():
        raise DataError(f"{displayed(root)} is a file.", "A folder of photographs is needed.", layouts)
    images: list[ListedFile] = []
    annotations: list[ListedFile] = []
    others: Counter[str] = Counter()
    folders: list[str] = []
    leftovers: list[str] = []
    for path, entry in _walk(root, "", ()):
        if _is_leftover(entry.name) or entry.is_dir():
            (leftovers if _is_leftover(entry.name) else folders).append(f"{path}/" if entry.is_dir() else path)
            continue
        suffix = os.path.splitext(entry.name)[1].lower()
        if suffix not in EXTENSIONS and suffix not in annotation_suffixes:
            others[suffix or "without extension"] += 1
            continue
        kind = images if suffix in EXTENSIONS else annotations
        try:
            status = entry.stat()
            kind.append(ListedFile(path, status.st_size, status.st_mtime_ns))
        except OSError:
            kind.append(ListedFile(path, -1, -1))  # a broken link: reading it will say so
    images.sort(key=lambda file: file.path)
    annotations.sort(key=lambda file: file.path)
    counted = dict(others.most_common())
    return Listing(tuple(images), counted, tuple(annotations), tuple(sorted(folders)), tuple(sorted(leftovers)))


def _is_leftover(name: str) -> bool:
    return name.startswith(".") or name.casefold() in LEFTOVERS


def _walk(folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every file and folder inside with its path; leftover folders are named and not entered."""
    try:
        status = folder.stat()
        identity = (status.st_dev, status.st_ino)
        entries = [] if identity in above else list(os.scandir(folder))  # a link to a folder above would never end
    except OSError as error:
        reason = (error.strerror or errno.errorcode.get(error.errno or 0, "unknown error")).lower()
        raise DataError(
            f"The folder {displayed(folder)} cannot be listed: {reason}.",
            "Every folder of the photographs must be readable.",
            f"Try: chmod -R u+rX {shlex.quote(displayed(folder))}",
        ) from None
    for entry in entries:
        yield prefix + entry.name, entry
        if entry.is_dir() and not _is_leftover(entry.name):
            yield from _walk(folder / entry.name, f"{prefix}{entry.name}/", (*above, identity))


def _nearest(root: Path) -> str:
    parent = next(parent for parent in root.absolute().parents if parent.exists())
    try:
        names = sorted(entry.name for entry in os.scandir(parent) if entry.is_dir() and entry.name[0] != ".")[:8]
    except OSError:
        names = []
    told = ", ".join(displayed(name) for name in names)
    return f"{displayed(parent)} has the folders: {told}." if names else f"{displayed(parent)} holds no folder."


def refuse_without_images(root: Path, listing: Listing, layouts: str) -> None:
    """Raise DataError, saying what is there instead, where a listing has no image."""
    if listing.files:
        return
    found = ", ".join(f"{count} x {displayed(suffix)}" for suffix, count in list(listing.others.items())[:NAMED_KINDS])
    kinds = ", ".join(suffix for suffix in EXTENSIONS if suffix != ".gif")
    remedy = layouts
    if any(suffix in PACKED for suffix in listing.others):
        remedy = f"Unpack the archives first. {layouts}"
    elif any(suffix in UNREAD_PHOTOGRAPHS for suffix in listing.others):
        remedy = f"Convert them to JPEG or PNG first. {layouts}"
    raise DataError(
        f"{displayed(root)} holds no images. Found: {found or 'nothing'}.",
        f"Images end in {kinds}, in any case.",
        remedy,
    )


def probe_listed(
    root: Path,
    paths: Iterable[str],
    workers: int | None,
    progress: Console | Callable[[int, int], None] | None,
    output: Path,
) -> tuple[dict[str, ImageFacts], list[ImageProblem]]:
    """Probe files by their paths relative to `root`: usable ones by path, in order, and the others by path.

    What is found out is kept in `output`, as far as it got where it is interrupted, and files that are as they were are
    not opened again.
    workers:  processes, as `probe_all` takes them.
    progress: where it is shown, standard error by default, or what is called with (done, in all) instead.
    """
    problems: list[ImageProblem] = []
    paths = set(paths)
    named = sorted(path for path in paths if is_unicode(path))
    for path in sorted(paths - set(named)):
        problems.append(ImageProblem(Path(displayed(path)), "unreadable", english("the file's name is not UTF-8")))
    kept = KeptProbes(root, output)
    found = {path: facts for path in named if (facts := kept.unchanged(path)) is not None}
    opened = [root / path for path in named if path not in found]
    try:
        with _counter(progress) as count:
            for result in probe_all(opened, workers, count):
                relative = result.path.relative_to(root)
                if isinstance(result, ImageFacts):
                    found[relative.as_posix()] = result
                else:
                    problems.append(ImageProblem(relative, result.code, result.reason))
    finally:
        if opened:
            kept.write(found)
    problems.sort(key=lambda problem: problem.path)
    return {path: found[path] for path in sorted(found)}, problems


@contextmanager
def _counter(progress: Console | Callable[[int, int], None] | None) -> Iterator[Callable[[int, int], None]]:
    if progress is None or isinstance(progress, Console):
        with counting("checking photographs", progress) as count:
            yield count
    else:
        yield progress


def is_unicode(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def displayed(path: str | Path) -> str:
    """A file's name with the bytes that are no UTF-8, and what a terminal would obey, spelt out."""
    return printable(str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))


def units_of(paths: Sequence[str], digests: Sequence[str], *grouped: Sequence[str | None]) -> list[str]:
    """A name for each file's set of files that must not be parted: identical bytes, or the same group of any kind."""
    parent: dict[str, str] = {}

    def top(name: str) -> str:
        while (above := parent.setdefault(name, name)) != name:
            parent[name] = name = parent[above]
        return name

    for kind, names in (("digest", digests), *((f"group {kind}", names) for kind, names in enumerate(grouped))):
        for path, name in zip(paths, names, strict=True):
            if name is not None:
                parent[top(f"{kind}:{name}")] = top(f"path:{path}")
    first: dict[str, str] = {}
    return [first.setdefault(top(f"path:{path}"), path) for path in paths]


def hash_order(units: Iterable[str], seed: int) -> list[str]:
    """The units in an order that depends on each one's name and the seed alone: a new one leaves the others' order."""
    return sorted(units, key=lambda unit: hashlib.sha256(f"{seed}:{unit}".encode("utf-8", "replace")).digest())


def identical_files(digests: np.ndarray) -> list[list[int]]:
    """Rows of files with the same bytes, as sets of two and more."""
    same: defaultdict[str, list[int]] = defaultdict(list)
    for row, digest in enumerate(digests.tolist()):
        same[digest].append(row)
    return [rows for rows in same.values() if len(rows) > 1]


def listed_sets(sets: dict[str, list[list[str]]]) -> dict[str, Any]:
    """Sets of files as check.json keeps them: how many there are, and the first of them."""
    return {name: {"count": len(found), "files": found[:LISTED]} for name, found in sets.items()}


def duplicate_warnings(duplicates: dict[str, Any], meanings: dict[str, str]) -> list[str]:
    """One sentence for each kind of `listed_sets` that occurs; `meanings` has places for the count and an example."""
    return [
        meaning.format(count=duplicates[name]["count"], example=" = ".join(duplicates[name]["files"][0][:NAMED]))
        for name, meaning in meanings.items()
        if duplicates[name]["count"]
    ]


def facts_record(root: Path, facts: Sequence[ImageFacts], problems: Sequence[ImageProblem]) -> dict[str, Any]:
    """What probing found, for check.json: problems, formats, colour modes, notes, and files with notes."""
    noted: defaultdict[str, list[str]] = defaultdict(list)
    for fact in facts:
        for note in fact.notes:
            if len(noted[note]) < LISTED:
                noted[note].append(fact.path.relative_to(root).as_posix())
    return {
        "problems": dict(Counter(problem.code for problem in problems).most_common()),
        "formats": dict(Counter(fact.format for fact in facts).most_common()),
        "modes": dict(Counter(fact.mode for fact in facts).most_common()),
        "notes": dict(Counter(note for fact in facts for note in fact.notes).most_common()),
        "noted_files": dict(noted),
    }


def told_facts(record: Mapping[str, Any]) -> Iterator[str]:
    """A `facts_record` in lines: how many files of each format and mode, and how many are odd, and what that means."""
    for name in ("formats", "modes"):
        if record[name]:
            yield f"{name}: " + ", ".join(f"{kind} {count:,}" for kind, count in record[name].items())
    for note, count in record["notes"].items():
        yield f"{note} {count:,}: {NOTES[note]}"


def spread(values: np.ndarray) -> dict[str, int]:
    return {"smallest": int(values.min()), "median": int(np.median(values)), "largest": int(values.max())}


def unread_warnings(others: dict[str, int]) -> list[str]:
    """A sentence about photographs of kinds that are not read, where there are any."""
    photographs = {suffix: others[suffix] for suffix in UNREAD_PHOTOGRAPHS if suffix in others}
    if not photographs:
        return []
    told = ", ".join(f"{count} {suffix}" for suffix, count in photographs.items())
    return [english("Photographs of other formats are not read ({told}): convert them to JPEG.", told=told)]


def told_leftovers(listing: Listing) -> str:
    """What a folder holds beside images and annotations, in words; empty where there is nothing."""
    parts = [f"{count:,} {displayed(suffix)}" for suffix, count in list(listing.others.items())[:NAMED_KINDS]]
    if more := sum(list(listing.others.values())[NAMED_KINDS:]):
        parts.append(f"{more:,} of other kinds")
    if listing.leftovers:
        named = ", ".join(displayed(path) for path in listing.leftovers[:NAMED])
        parts.append(f"{len(listing.leftovers)} hidden or left by a system, such as {named}")
    return "; ".join(parts)


def named_classes(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{'Class' if len(names) == 1 else 'Classes'} {', '.join(displayed(name) for name in names[:5])}{more}"


def store_refusal(output: Path, quarantined: Iterable[tuple[str, str, str]]) -> Path:
    """Keep why each file of a folder that is about to be refused was left out; returns the list's path."""
    output.mkdir(parents=True, exist_ok=True)
    (output / "check.json").unlink(missing_ok=True)
    write_csv(output / "quarantine.csv", ("path", "code", "reason"), quarantined, guarded=True)
    return output / "quarantine.csv"


def with_reasons(error: DataError, problems: Sequence[ImageProblem], listed: Path) -> DataError:
    """The same refusal with its files' reasons: the first of the commonest code, what to do, and where the list is."""
    ((code, count),) = Counter(problem.code for problem in problems).most_common(1)
    first = next(problem for problem in problems if problem.code == code)
    same = f"The first of {count} {code}" if count > 1 else "Left out"
    return DataError(
        error.given,
        f"{same}: {displayed(first.path)}: {printable(first.reason)}. {REMEDIES[code]}".strip(),
        f"{error.allowed} Every file and its reason: {displayed(listed)}".strip(),
    )


def store_check(
    output: Path, record: dict[str, Any], quarantined: Iterable[tuple[str, str, str]], write: Callable[[Path], None]
) -> None:
    """Store what a check found; check.json comes last: where it is whole, the other files are.

    quarantined: path, code and reason. write: writes the check's other files into the folder.
    """
    output.mkdir(parents=True, exist_ok=True)
    (output / "check.json").unlink(missing_ok=True)
    write(output)
    write_csv(output / "quarantine.csv", ("path", "code", "reason"), quarantined, guarded=True)
    write_json(output / "check.json", record)


def stored_check(
    output: Path, format_number: int, fingerprint: str, arguments: dict[str, Any]
) -> tuple[dict[str, Any], list[dict[str, str]]] | None:
    """An earlier check's record and quarantined files, if nothing has changed since; None also where it is damaged.

    A record that says of its split that it was not `drawn` holds for all arguments of drawing one.
    """
    try:
        record = read_json(output / "check.json")
        if "drawn" in record and not record["drawn"]:
            arguments = arguments | {name: record["arguments"][name] for name in DRAWING}
        if (record["format"], record["fingerprint"], record["arguments"]) != (format_number, fingerprint, arguments):
            return None
        rows = read_csv(output / "quarantine.csv", guarded=True)
        return record, [{name: row[name] for name in ("path", "code", "reason")} for row in rows]
    except (OSError, ValueError, KeyError, TypeError):
        return None
