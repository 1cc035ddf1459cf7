"""Fetching a data set by its name, or finding it fetched."""

import difflib
import functools
import shutil
import time
from pathlib import Path

from rich.console import Console

from challenges.data_sets.entry import DataSet, Part
from challenges.data_sets.table import DATA_SETS
from common.errors import DataError, KitError
from common.files import read_json, write_json
from common.machine.amazon import on_amazon
from common.storage.archives import unpack
from common.storage.fetching import fetch_verified
from common.storage.generated_folder import generate_folder
from common.storage.run_lock import hold
from common.terminal.agreement import agreed
from common.terminal.console import say
from common.terminal.progress import counting

FOLDER = Path("data")
"""Where data sets lie unless another folder is named."""
MARKER = "data-set.json"
PINS = "pins.json"
FETCHING = ".fetching"
"""What has arrived of files that are not whole yet, a folder for each data set."""
LOOK_AGAIN_S = 0.5


def find(name: str) -> DataSet:
    """Raises DataError with the known names and the nearest spelling."""
    if name not in DATA_SETS:
        near = nearest(name)
        raise DataError(
            f"There is no data set {name!r}.",
            f"Known are {', '.join(DATA_SETS)}.",
            f"Did you mean {near}?" if near else "See kit data list",
        )
    return DATA_SETS[name]


def nearest(name: str) -> str | None:
    """The known name that is spelt most alike, if one is."""
    found = difflib.get_close_matches(name.lower(), DATA_SETS, n=1)
    return found[0] if found else None


def get(name: str, folder: Path, console: Console, *, accepted: bool = False, entry: DataSet | None = None) -> Path:
    """Fetch a data set into `folder`/`name`, or find it there; returns what a recipe is given as its data.

    accepted: whether its terms and size were agreed to; else they are asked about. entry: another than the table's.
    Waits for a process that fetches it. Raises DataError where agreement lacks, and as `fetch_verified`, `unpack`
    and the entry's `arrange` do.
    """
    entry = entry or find(name)
    target = folder.absolute() / name
    if is_whole(target, entry):
        return _root(target, entry)
    say(console, f"{name}: {entry.what}. Licence: {entry.licence}. Cite: {entry.citation}")
    _require_agreement(name, entry, accepted)
    arriving = folder.absolute() / FETCHING / name
    arriving.mkdir(parents=True, exist_ok=True)

    def fill(fresh: Path) -> None:
        fresh.mkdir(parents=True)
        checksums = [_lay(part, name, entry, arriving, fresh, console) for part in entry.parts]
        if entry.arrange is not None:
            with counting(f"arranging {name}", console) as count:
                entry.arrange(fresh, count)
        write_json(
            fresh / MARKER,
            {
                "name": name,
                "checksums": checksums,
                "root": entry.root,
                "licence": entry.licence,
                "cite": entry.citation,
            },
        )

    with hold(arriving, "data get", waiting=functools.partial(say, console)):
        size = entry.megabytes + entry.unpacked
        generate_folder(target, MARKER, f"files of {name}", size, lambda: is_whole(target, entry), fill)
    return _root(target, entry)


def await_whole(name: str, folder: Path, entry: DataSet | None = None) -> Path:
    """What `get` returns, once another process of this machine has fetched it."""
    entry = entry or find(name)
    while not is_whole(folder.absolute() / name, entry):
        time.sleep(LOOK_AGAIN_S)
    return _root(folder.absolute() / name, entry)


def is_whole(target: Path, entry: DataSet) -> bool:
    """Whether it was unpacked, which a marker says that is written last."""
    try:
        record = read_json(target / MARKER)
        known = record["checksums"] if "checksums" in record else [record["checksum"]]  # one part, as it once was
    except (OSError, ValueError, KeyError, TypeError):
        return False
    wanted = [part.checksum for part in entry.parts]
    same = len(known) == len(wanted) and all(one in (None, found) for one, found in zip(wanted, known, strict=True))
    return same and _root(target, entry).exists()


def _root(target: Path, entry: DataSet) -> Path:
    return target / entry.root


def _require_agreement(name: str, entry: DataSet, accepted: bool) -> None:
    if not entry.must_ask or accepted:
        return
    refusal = DataError(
        f"{name} is {entry.megabytes:,} MB under this licence: {entry.licence}.",
        "Nothing is fetched before you agree.",
        f"kit data get {name} --accept",
    )
    if not agreed(f"Fetch {entry.megabytes:,} MB under these terms? [y/N] ", refusal):
        raise refusal


def _lay(part: Part, name: str, entry: DataSet, arriving: Path, fresh: Path, console: Console) -> str:
    """Fetch a part and lay it into the fresh folder; returns its checksum."""
    pin = name if len(entry.parts) == 1 else f"{name}/{part.file}"
    pins = arriving.parent.parent / PINS
    addresses, checksum = part.addresses(on_amazon()), part.checksum or _pinned(pins, pin)
    with counting(f"downloading {part.file}", console) as count:
        found = fetch_verified(addresses, arriving / part.file, checksum, count, lambda told: say(console, told))
    if part.checksum is None:
        write_json(pins, {**_pins(pins), pin: found})
        say(console, f"{part.file}: nobody publishes a checksum; from now on only {found} is taken.")
    target = fresh / part.into
    if part.packed:
        try:
            unpack(arriving / part.file, target, entry.unpacked * 1_000_000)
        finally:
            (arriving / part.file).unlink()
    else:
        target.mkdir(parents=True, exist_ok=True)
        shutil.move(arriving / part.file, target / part.file)
    return found


def _pinned(file: Path, pin: str) -> str | None:
    return _pins(file).get(pin)


def _pins(file: Path) -> dict[str, str]:
    """Checksums of first downloads, by data set and part. Raises KitError where the file is no such list."""
    if not file.is_file():
        return {}
    found = read_json(file)
    if not isinstance(found, dict):
        raise KitError(f"{file} holds no checksums.", "The kit wrote names and checksums there.", "Move it elsewhere.")
    return found
