"""Finding the image that an annotation means, also where it spells the file's name otherwise."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from urllib.parse import unquote

from challenges.detection.annotations.table import Finding, plain
from common.language.telling import english
from common.vision.image_folders import Listing, displayed

_LOCAL_FILE = "?d="  # Label Studio: /data/local-files/?d=folder/image.jpg
_UPLOAD = re.compile(r"^[0-9a-f]{8}-(?=.)")  # Label Studio puts it before the name of an uploaded file
_SPLIT = re.compile(r"(?:^|[^a-z])(train|validation|valid|val|test)(?![a-z])", re.IGNORECASE)
_DECODED = 3  # rounds of percent-decoding after which a name is left as it is


class ImageIndex:
    """The image files of a folder by name, and the names that were spelt otherwise than the files."""

    def __init__(self, listing: Listing) -> None:
        self.paths = [file.path for file in listing.files]
        self.respelt: dict[str, str] = {}  # name as annotated -> path

    @cached_property
    def known(self) -> frozenset[str]:
        return frozenset(self.paths)

    @cached_property
    def by_name(self) -> dict[str, list[str]]:
        """File name without folders -> paths."""
        return _grouped(self.paths, base)

    @cached_property
    def by_stem(self) -> dict[str, list[str]]:
        """File name without folders and extension -> paths."""
        return _grouped(self.paths, stem)

    @cached_property
    def _by_spelling(self) -> dict[str, list[str]]:
        return _grouped(self.paths, lambda path: base(folded(path)))

    @cached_property
    def _by_folded_stem(self) -> dict[str, list[str]]:
        return _grouped(self.paths, lambda path: stem(folded(path)))

    def spelt_alike(self, name: str, folder: str = "") -> list[str]:
        """Paths that are the name after percent-decoding, Unicode normalisation and without regard to letter case.

        folder: preferred where several are. A name without, or with another, extension means the image of its stem.
        """
        wanted = folded(name)
        last = base(wanted)
        for found in (
            self._by_spelling.get(last),
            self._by_spelling.get(without_upload(last)),
            self._by_folded_stem.get(stem(last)),
            self._by_folded_stem.get(without_upload(stem(last))),
        ):
            if found:
                return _nearest(found, wanted, folder)
        return []

    def note(self) -> tuple[str, ...]:
        """What to say where names were spelt otherwise, with the first of them."""
        return respelling_note(self.respelt)


def without_upload(name: str) -> str:
    """A file's name as it was before Label Studio's upload."""
    return _UPLOAD.sub("", name)


def respelling_note(respelt: dict[str, str]) -> tuple[str, ...]:
    """A sentence about names that mean files spelt otherwise; respelt: name as annotated -> path of the file."""
    if not respelt:
        return ()
    name, path = map(plain, map(displayed, next(iter(respelt.items()))))
    return (
        f"{len(respelt):,} names are spelt otherwise than the files, such as {name} for {path}: "
        "matched after percent-decoding, Unicode normalisation, and without folders, letter case and extension.",
    )


def _nearest(paths: list[str], wanted: str, folder: str) -> list[str]:
    """The most specific of several paths with the wanted last part: same folders, then the preferred one."""
    for chosen in (
        [path for path in paths if folded(path) == wanted or folded(path).endswith("/" + wanted)],
        [path for path in paths if path.startswith(folder)] if folder else [],
        [path for path in paths if base(decoded(path)).casefold() == base(wanted)],
    ):
        if len(chosen) == 1:
            return chosen
    return paths


def decoded(name: str) -> str:
    """A name with forward slashes, without percent-encoding, in composed Unicode, and without Label Studio's prefix."""
    if _LOCAL_FILE in name:
        name = name.split(_LOCAL_FILE, 1)[1]
    for _ in range(_DECODED):
        plainer = unquote(name, errors="surrogateescape")
        if plainer == name:
            break
        name = plainer
    return unicodedata.normalize("NFC", relative(name))


def folded(name: str) -> str:
    return unicodedata.normalize("NFC", decoded(name).casefold())


def relative(name: str) -> str:
    """A name as written by any system, with forward slashes and without what leads out of the folder."""
    parts = name.replace("\\", "/").split("/")
    return "/".join(part for part in parts if part not in ("", ".", ".."))


def unmentioned(index: ImageIndex, used: Iterable[str], mentioned: Callable[[str], bool]) -> list[Finding]:
    """The images that lie among used ones and that no annotation mentions: whether they show objects is not known."""
    folders = {parent(path) for path in used}
    left = [path for path in index.paths if parent(path) in folders and not mentioned(path)]
    told = english("no annotation mentions the image")
    return [Finding(displayed(path), "no-annotation", told) for path in left]


def _grouped(paths: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in paths:
        found[key(path)].append(path)
    return dict(found)


def base(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def stem(path: str) -> str:
    name = base(path)
    return name.rsplit(".", 1)[0] if "." in name[1:] else name


def parent(path: str) -> str:
    """The folder of a path with its slash, "" at the top."""
    return path[: path.rfind("/") + 1]


def split_named(name: str) -> str:
    """The split that a file or folder name tells: "train", "val", "test" or ""."""
    match = _SPLIT.search(name)
    told = match[1].lower() if match else ""
    return "val" if told.startswith("val") else told


def split_of_folders(path: str) -> str:
    """The split that the outermost folder which tells one tells of a file; "" without one."""
    return next(filter(None, map(split_named, path.split("/")[:-1])), "")


def kept_splits(told: Mapping[str, str]) -> dict[str, str]:
    """What is told to be for training or for validation, or for tests where nothing else validates; none of it where
    not both are there.
    """
    validation = "val" if "val" in told.values() else "test"
    kept = {"train": "train", validation: "val"}
    return (
        {name: kept[split] for name, split in told.items() if split in kept}
        if kept.keys() <= set(told.values())
        else {}
    )
