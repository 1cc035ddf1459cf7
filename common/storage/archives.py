"""Archives of others, unpacked so that nothing leaves the folder: no path outside, no link, no more than announced."""

import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from common.errors import DataError

PIECE = 1 << 20
MOST_FILES = 2_000_000


class Member(NamedTuple):
    """A file of an archive: its name there, and what reads it."""

    name: str
    stream: IO[bytes]


def unpack(archive: Path, folder: Path, most_bytes: int) -> int:
    """Write an archive's regular files below `folder`, over none that is there; returns how many bytes they have.

    most_bytes: that come out at most. Raises DataError for what is no whole zip or tar, names a path outside or a link,
    or holds more; what was written by then stays, so unpack into a folder that is thrown away.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    try:
        with _members(archive) as members:
            for number, member in enumerate(members):
                if number >= MOST_FILES:
                    raise _too_much(archive, f"more than {MOST_FILES:,} files")
                target = folder / _inside(archive, member.name)
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as stream:
                    while piece := member.stream.read(PIECE):
                        written += len(piece)
                        if written > most_bytes:
                            raise _too_much(archive, f"more than the {most_bytes / 1e6:,.0f} MB that were announced")
                        stream.write(piece)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, FileExistsError, NotImplementedError) as error:
        raise _refused(archive, str(error) or "it is cut off") from None
    except (RuntimeError, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's trouble, not the archive's
        raise _refused(archive, str(error)) from None
    return written


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[Member]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            yield _of_zip(archive, zipped)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tarred:
            yield _of_tar(archive, tarred)
    else:
        raise _refused(archive, "it is neither a zip nor a tar archive, or it is cut off")


def _of_zip(archive: Path, zipped: zipfile.ZipFile) -> Iterator[Member]:
    for one in zipped.infolist():
        if (one.external_attr >> 16) & 0o170000 == 0o120000:
            raise _refused(archive, f"{one.filename[:100]!r} is a link")
        if not one.is_dir():
            with zipped.open(one) as stream:
                yield Member(one.filename, stream)


def _of_tar(archive: Path, tarred: tarfile.TarFile) -> Iterator[Member]:
    for one in tarred:
        if one.isdir():
            continue
        stream = tarred.extractfile(one) if one.isreg() else None
        if stream is None:
            raise _refused(archive, f"{one.name[:100]!r} is a link or a device")
        with stream:
            yield Member(one.name, stream)


def _inside(archive: Path, name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or ":" in name or not path.parts:
        raise _refused(archive, f"{name[:100]!r} lies outside of it")
    return path


def _refused(archive: Path, reason: str) -> DataError:
    return DataError(
        f"{archive.name} is not unpacked: {reason}.", "An archive holds plain files, each inside it.",
        "Delete it and fetch it again; if that persists, it is not what it should be.",
    )  # fmt: skip


def _too_much(archive: Path, what: str) -> DataError:
    return DataError(f"{archive.name} is not unpacked: it holds {what}.", "Archives are unpacked up to that size.")
