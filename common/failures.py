"""What the system refuses, as errors of the kit: full disks, closed folders, too little memory, names it cannot take.

The one place where such errors become messages: the command line asks it about whatever else went wrong.
"""

import errno
import re
import sys
import zipfile
from collections.abc import Iterator

from common.errors import CheckpointError, DataError, KitError, TrainingError
from common.files import cache_folder

FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your quota of the disk is used up",
    errno.EFBIG: "files may not become that large here (see ulimit -f)",
}
CLOSED = {
    errno.EACCES: "permission denied",
    errno.EPERM: "the system does not permit it",
    errno.EROFS: "the file system is read-only",
}
IN_THE_WAY = {
    errno.ENOTDIR: "a part of the path is a file and no folder",
    errno.EEXIST: "a file of that name is in the way",
    errno.EISDIR: "it is a folder and no file",
}
DAMAGED_DISK = (errno.EIO, errno.ESTALE, errno.EUCLEAN)
OUT_OF_MEMORY = (
    *("out of memory", "can't allocate memory", "cannot allocate memory", "bad_alloc", "bad allocation"),
    *("cudaerrormemoryallocation", "alloc_failed", "std::length_error"),
)
"""Words by which torch, CUDA, DALI, ONNX Runtime and Arrow say so, in lower case."""

GIBIBYTES = {"KiB": 2.0**-20, "MiB": 2.0**-10, "GiB": 1.0}


def explain(error: BaseException) -> KitError | None:
    """The error as one of the kit's, or None where it is nobody's but the kit's own."""
    chain = list(_chain(error))
    for one in chain:
        if isinstance(one, OSError) and one.errno in FULL:
            return _full(one)
    if isinstance(error, KitError):
        return error
    if any(isinstance(one, MemoryError) or _speaks_of_memory(one) for one in chain):
        return _memory(error)
    if isinstance(error, OSError):
        return _refused(error)
    if isinstance(error, UnicodeError):
        return _encoding(error)
    if isinstance(error, zipfile.BadZipFile | EOFError):
        remedy = "Delete predictions.npz of the run, then evaluate the run again."
        return CheckpointError(f"A file of arrays is empty or damaged: {error}", remedy=remedy)
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and those it came from: a writer in C++ tells of its own trouble, and the disk's stands behind it."""
    known: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in known:
        known.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _full(error: OSError) -> TrainingError:
    return TrainingError(
        f"{_name(error)} cannot be written: {FULL[error.errno or 0]}.",
        "What was written before is whole and stays.",
        f"Make room, or choose another disk ({_choice(error)}), and run the same command again: it goes on from there.",
    )


def _refused(error: OSError) -> KitError:
    name, code = _name(error), error.errno
    if code in CLOSED:
        remedy = f"Change its permissions, or choose another folder ({_choice(error)})."
        return KitError(f"{name} cannot be read or cannot be written: {CLOSED[code]}.", remedy=remedy)
    if code in IN_THE_WAY:
        remedy = f"Move what is in the way, or choose another folder ({_choice(error)})."
        return KitError(f"{name} cannot be written: {IN_THE_WAY[code]}.", remedy=remedy)
    if code == errno.ENAMETOOLONG:
        allowed = "Names have at most 255 bytes, paths 4,095."
        return KitError(f"A name is too long: {name}", allowed, f"Choose a shorter one ({_choice(error)}).")
    if code == errno.ENOENT:
        return KitError(f"There is no file {name}.", "It may have been moved or deleted meanwhile.", "Check the path.")
    if code in (errno.EMFILE, errno.ENFILE):
        return KitError("Too many files are open.", "This shell allows too few.", "Try: ulimit -n 65536")
    if code in DAMAGED_DISK:
        remedy = "Look at the disk's health (dmesg, smartctl), and at the mount if it is remote."
        return CheckpointError(f"{name} cannot be read or written: the disk reports an error.", remedy=remedy)
    if code is None and error.filename is None:
        return KitError(f"The system refused: {error}", remedy="Run the command again with --debug for the traceback.")
    return KitError(f"{name}: {error.strerror or error}.", remedy=f"Check it, or choose another ({_choice(error)}).")


def _memory(error: BaseException) -> TrainingError:
    told = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    torch = sys.modules.get("torch")
    on_gpu = torch is not None and isinstance(error, torch.cuda.OutOfMemoryError)
    whose = "The GPU has" if on_gpu else "This machine has"
    return TrainingError(
        f"{whose} too little memory{_needed(str(error))}{': ' if told else '.'}{told[:300]}",
        "In a training, --training.micro-batch cuts a batch into parts that fit and changes no result but rounding.",
        "Give it more memory, end other programs, or lower --training.micro-batch or --training.batch-size.",
    )


def _needed(text: str) -> str:
    """What torch was asked for on top of what it had, where it says so."""
    tried = re.search(r"Tried to allocate ([\d.]+) ([KMG]iB)", text)
    held = re.search(r"this process has ([\d.]+) ([KMG]iB) memory in use", text)
    total = re.search(r"total capacity of ([\d.]+ [KMG]iB)", text)
    if not (tried and held and total):
        return ""
    needed = sum(float(match[1]) * GIBIBYTES[match[2]] for match in (tried, held))
    return f" ({needed:.2f} GiB were needed at this point, of {total[1]})"


def _encoding(error: UnicodeError) -> DataError | None:
    if not isinstance(error, UnicodeEncodeError):
        return None
    return DataError(
        f"A name cannot be written as {error.encoding}: {error.object[:200]!r}.",
        "Names of files and folders are UTF-8.",
        "Rename it, such as with: convmv -f latin1 -t utf-8 --notest FOLDER",
    )


def _speaks_of_memory(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error).lower() if isinstance(error, RuntimeError) else ""
    return any(words in text for words in OUT_OF_MEMORY)


def _name(error: OSError) -> str:
    return str(error.filename) if error.filename is not None else "A file"


def _choice(error: OSError) -> str:
    """The option that moves what could not be written."""
    try:
        in_cache = error.filename is not None and str(error.filename).startswith(str(cache_folder()))
    except KitError:
        in_cache = False
    return "set CHALLENGE_KIT_CACHE" if in_cache else "--run, --output or CHALLENGE_KIT_CACHE"


def first_line(error: Exception) -> str:
    """What an error says first, or its kind where it says nothing."""
    told = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return told or type(error).__name__
