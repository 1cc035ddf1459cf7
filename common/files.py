"""Files that are either whole or absent: write beside, flush to disk, rename."""

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from common.errors import DamagedFileError, KitError

FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")  # as OWASP lists them, also behind apostrophes, to be undone exactly
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
NAME_BYTES = 255  # of a file's name, on the file systems of Linux and macOS
_LEFTOVER = re.compile(r"\..+\.[a-z0-9_]{8}\.part")  # the temporary names of `atomic_writer`, and no others


@contextlib.contextmanager
def atomic_writer(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary neighbour of `path` for writing bytes; it takes the name `path` when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path):
        prefix = f".{cut_name(path.name, 2 + 8 + len('.part'))}."
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=".part")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        sync_folder(path.parent)


def copy_file(source: Path, target: Path) -> None:
    """Copy the content of `source`, whole or not at all."""
    with source.open("rb") as stream, atomic_writer(target) as written:
        shutil.copyfileobj(stream, written, 1 << 20)


def link_file(source: Path, target: Path) -> None:
    """Give the file `source` a second name in place of whatever `target` is, or copy it where it can have none.

    Both names are the same bytes on the disk: for large files that are only ever replaced as a whole.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".link-") as folder:
        second = Path(folder, "file")
        try:
            os.link(source.resolve(), second)
        except OSError:  # another disk, another owner's file, or a file system without second names
            copy_file(source, target)
            return
        os.replace(second, target)
    sync_folder(target.parent)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an OSError of the block `path` as its file, where it has none or a temporary one: `write` names no file.

    The OSError may stand behind another error, such as that of a writer in C++.
    """
    try:
        yield
    except Exception as error:
        cause = error if isinstance(error, OSError) else error.__context__
        if isinstance(cause, OSError) and (cause.filename is None or _is_temporary(cause.filename)):
            cause.filename, cause.filename2 = str(path), None
        raise


def cut_name(name: str, room: int) -> str:
    """The name, or as much of its beginning as leaves `room` of the bytes that a file's name may have."""
    content = os.fsencode(name)
    fits = NAME_BYTES - room
    return name if len(content) <= fits else content[:fits].decode("utf-8", "ignore")


def _is_temporary(name: Any) -> bool:
    return isinstance(name, str) and _LEFTOVER.fullmatch(os.path.basename(name)) is not None


def remove_leftovers(folder: Path) -> None:
    """Delete what kills in the middle of `atomic_writer` left anywhere below `folder`; links are not followed."""
    for parent, _, names in os.walk(folder):
        for name in filter(_LEFTOVER.fullmatch, names):
            with contextlib.suppress(OSError):
                Path(parent, name).unlink()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8; names of files that are none have halves of surrogate pairs, which are kept."""
    with atomic_writer(path) as stream:
        stream.write(text.encode("utf-8", "surrogatepass"))


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """The value a JSON file holds; raises DamagedFileError, a ValueError too, where it is empty, cut off or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedFileError(path) from error


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_stamp(path: Path) -> tuple[int, int]:
    """Size in bytes and time of the last change in nanoseconds: other content has another one."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def stamps_digest(stamps: Iterable[tuple[str, int, int]]) -> str:
    """Hex digest over files' names, sizes and times of change."""
    digest = hashlib.sha256()
    for name, size, time_ns in stamps:
        digest.update(f"{name}\0{size}\0{time_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def cache_folder() -> Path:
    """Where generated and downloaded data is kept: $CHALLENGE_KIT_CACHE, else the user's cache folder."""
    chosen = os.environ.get("CHALLENGE_KIT_CACHE")
    if chosen:
        return Path(chosen)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "challenge-kit"
    except RuntimeError:  # neither $HOME nor an entry for this user
        raise KitError(
            "This user has no home folder, so there is no place for the kit's cache.",
            remedy="Set CHALLENGE_KIT_CACHE to a writable folder.",
        ) from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]], *, guarded: bool = False) -> None:
    """Write a table atomically.

    guarded: for people, who may open it in a spreadsheet, which would run a cell like =1+1: an apostrophe before each
    such cell makes it text. `read_csv` takes it away again.
    """
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    with_returns = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in rows:
        cells = [_guard(cell) for cell in row] if guarded else row
        # before Python 3.13 a carriage return is not quoted by itself, and reads as the row's end
        has_return = any(isinstance(cell, str) and "\r" in cell for cell in cells)
        (with_returns if has_return else table).writerow(cells)
    write_text(path, text.getvalue())


def read_csv(path: Path, *, guarded: bool = False) -> list[dict[str, str]]:
    """The rows of a table, exactly as they were given to `write_csv`; `guarded` as there."""
    with path.open(encoding="utf-8", errors="surrogatepass", newline="") as stream:
        rows = list(csv.DictReader(stream, strict=True))
    return [{name: _unguard(cell) for name, cell in row.items()} for row in rows] if guarded else rows


def _guard(cell: object) -> object:
    if isinstance(cell, str) and FORMULA.match(cell) and not NUMBER.fullmatch(cell):
        return f"'{cell}"
    return cell


def _unguard(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell
