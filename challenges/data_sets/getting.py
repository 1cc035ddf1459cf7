"""Data sets by name: where each is, how large, under which terms, and which recipes read it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from common.errors import DataError
from common.files import read_json, write_json
from common.storage.archives import unpack
from common.storage.fetching import fetch_verified
from common.storage.generated_folder import generate_folder
from common.terminal.console import say
from common.terminal.progress import counting

MARKER = "data-set.json"
PINS = "pins.json"
ASKED_ABOVE = 1000  # megabytes to be fetched


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """One entry.

    urls:      of the archive, the publisher's first, then mirrors.
    checksum:  `kind:hex`, or None where nobody publishes one: the first download's sha256 is kept and held to.
    published: who publishes the checksum.
    megabytes: of the archive, about. unpacked: of its files, at most.
    licence:   its name and what it forbids. must_accept: whether one has to agree to it.
    layout:    how the files lie. root: the folder in the archive that a recipe is given. recipes: that read it.
    """

    what: str
    urls: tuple[str, ...]
    checksum: str | None
    published: str
    megabytes: int
    unpacked: int
    licence: str
    citation: str
    layout: str
    root: str
    recipes: tuple[str, ...]
    must_accept: bool = False

    @property
    def must_ask(self) -> bool:
        return self.must_accept or self.megabytes > ASKED_ABOVE


def _movielens(archive: str, md5: str, megabytes: int, unpacked: int, recipes: tuple[str, ...]) -> DataSet:
    return DataSet(
        what=f"MovieLens, {archive.removeprefix('ml-')} of ratings",
        urls=(f"https://files.grouplens.org/datasets/movielens/{archive}.zip",),
        checksum=f"md5:{md5}",
        published="GroupLens",
        megabytes=megabytes,
        unpacked=unpacked,
        licence="GroupLens' own: research, acknowledged; no redistribution, no commercial use without permission",
        citation="Harper and Konstan 2015, doi 10.1145/2827872",
        layout="MovieLens",
        root=archive,
        recipes=recipes,
        must_accept=True,
    )


_HISTORIES = ("ncf/own", "vae_cf/own", "bert4rec/own")
DATA_SETS: Mapping[str, DataSet] = {
    "imagenette": DataSet(
        what="ten easy classes of ImageNet, 13,394 photographs of 160 pixels",
        urls=("https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-160.tgz",),
        checksum="md5:e793b78cc4c9e9a4ccc0c1155377a412",
        published="torchvision",
        megabytes=99,
        unpacked=250,
        licence="Apache-2.0 for the list; the photographs are ImageNet's: research, no redistribution",
        citation="Howard 2019, github.com/fastai/imagenette",
        layout="train and val folders of classes",
        root="imagenette2-160",
        recipes=("resnet50/photos", "resnet50/finetune"),
    ),
    "voc2007": DataSet(
        what="Pascal VOC 2007, training and validation: 5,011 images with boxes of 20 classes",
        urls=("http://host.robots.ox.ac.uk/pascal/VOC/voc2007/VOCtrainval_06-Nov-2007.tar",),
        checksum="md5:c52e279531787c972589f7e41ab4ae64",
        published="torchvision",
        megabytes=460,
        unpacked=700,
        licence="Flickr's terms of use: research; no redistribution of the images",
        citation="Everingham et al. 2010, doi 10.1007/s11263-009-0275-4",
        layout="Pascal VOC",
        root="VOCdevkit/VOC2007",
        recipes=("ssd300/small", "ssd300/finetune"),
        must_accept=True,
    ),
    "ml-100k": _movielens("ml-100k", "0e33842e24a9c977be4e0107933c0723", 5, 30, _HISTORIES),
    "ml-1m": _movielens("ml-1m", "c4d9eecfca2ab87c1945afe126590906", 6, 40, (*_HISTORIES, "vae_cf/ml-1m")),
    "ml-20m": _movielens("ml-20m", "cd245b17a1ae2cc31bb14903e1204af3", 199, 1200, (*_HISTORIES, "vae_cf/ml-20m")),
    "ml-25m": _movielens("ml-25m", "6b51fb2759a8657d3bfcbfc42b592ada", 262, 1500, _HISTORIES),
}


def find(name: str) -> DataSet:
    """Raises DataError with the known names."""
    if name not in DATA_SETS:
        raise DataError(f"There is no data set {name!r}.", f"Known are {', '.join(DATA_SETS)}.", "See kit data list")
    return DATA_SETS[name]


def get(name: str, folder: Path, console: Console, *, accepted: bool = False, entry: DataSet | None = None) -> Path:
    """Fetch a data set into `folder`/`name`, or find it there; returns what a recipe is given as its data.

    accepted: whether its terms and size were agreed to. entry: another than the table's.
    Raises DataError where agreement lacks, and as `fetch_verified` and `unpack` do.
    """
    entry = entry or find(name)
    target = folder.absolute() / name
    if not _is_whole(target, entry):
        say(console, f"{name}: {entry.what}. Licence: {entry.licence}. Cite: {entry.citation}")
        if entry.must_ask and not accepted:
            raise DataError(
                f"{name} is {entry.megabytes:,} MB under this licence: {entry.licence}.",
                "Nothing is fetched before you agree.",
                f"kit data get {name} --accept",
            )

    def fill(fresh: Path) -> None:
        archive = target.with_name(f".{name}.archive")
        with counting(f"downloading {name}", console) as count:
            found = fetch_verified(entry.urls, archive, entry.checksum or _pin(folder, name), count)
        if entry.checksum is None:
            _keep_pin(folder, name, found)
            say(console, f"{name}: nobody publishes a checksum; from now on only {found} is taken.")
        try:
            unpack(archive, fresh, entry.unpacked * 1_000_000)
        finally:
            archive.unlink()
        write_json(fresh / MARKER, {"name": name, "checksum": found, "licence": entry.licence, "cite": entry.citation})

    size = entry.megabytes + entry.unpacked
    generate_folder(target, MARKER, f"files of {name}", size, lambda: _is_whole(target, entry), fill)
    return target / entry.root


def _is_whole(target: Path, entry: DataSet) -> bool:
    """Whether it was unpacked, which a marker says that is written last."""
    try:
        known = read_json(target / MARKER)["checksum"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return (entry.checksum is None or known == entry.checksum) and (target / entry.root).exists()


def _pin(folder: Path, name: str) -> str | None:
    file = folder / PINS
    return read_json(file).get(name) if file.is_file() else None


def _keep_pin(folder: Path, name: str, checksum: str) -> None:
    file = folder / PINS
    write_json(file, {**(read_json(file) if file.is_file() else {}), name: checksum})
