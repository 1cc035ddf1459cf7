"""Files from addresses: continued where they were cut off, verified, from the next one where one is away or wrong."""

import http.client
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from common.errors import DataError, KitError

TIMEOUT_S = 30
PIECE = 1 << 20
Count = Callable[[int, int], None]


def fetch(address: str, target: Path, count: Count) -> None:
    """Append what is missing of a file, or begin anew where the server cannot continue.

    count: called with (bytes done, in all). Raises DataError where the server is away or hangs up; what came is kept.
    """
    have = target.stat().st_size if target.exists() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            continued = answer.status == 206
            done = have if continued else 0
            total = done + int(answer.headers.get("Content-Length", 0))
            with target.open("ab" if continued else "wb") as stream:
                while piece := answer.read(PIECE):
                    stream.write(piece)
                    done += len(piece)
                    count(done, total)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 416:  # 416: nothing is missing
            raise _unreachable(address, f"the server says {error.code} {error.reason}") from None
        return
    except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise _unreachable(address, str(getattr(error, "reason", error)).lower()) from None
    if done < total:
        raise _unreachable(address, f"the connection ended after {done:,} of {total:,} bytes")


def fetch_verified(
    addresses: Sequence[str], target: Path, checksum: str | None, count: Count, say: Callable[[str], None]
) -> str:
    """Fetch a file from the first address that has it; returns its checksum as `kind:hex`.

    checksum: what it has to be, such as md5:0e33…; None takes any and returns the sha256.
    say:      called with a sentence where an address is away or has another file, and the next one is asked.
    Raises DataError where no address answers, or where the file is another one, which is deleted then; KitError where
    pooch is not installed.
    """
    pooch = _load_pooch()
    unfinished = target.with_name(f".{target.name}.unfinished")
    kind = (checksum or "sha256:").partition(":")[0]
    left, problem = deque(addresses), DataError("There is no address to fetch from.")
    while left:
        address, continued = left.popleft(), unfinished.exists()
        try:
            fetch(address, unfinished, count)
        except DataError as error:
            problem = error
        else:
            found = f"{kind}:{pooch.file_hash(str(unfinished), alg=kind)}"
            if checksum in (None, found):
                unfinished.replace(target)
                return found
            unfinished.unlink()
            problem = _another(target.name, address, found, checksum)
            if continued:  # the part that was there may be another address'
                left.appendleft(address)
        if left:
            say(f"{problem.given} Asking {urlsplit(left[0]).hostname} next.")
    raise problem


def _another(name: str, address: str, found: str, checksum: str | None) -> DataError:
    return DataError(
        f"{name} of {urlsplit(address).hostname} arrived with {found}.",
        f"It should have {checksum}.",
        "It was deleted; try again. If that persists, it was changed at its source or on the way.",
    )


def _unreachable(address: str, reason: str) -> DataError:
    return DataError(
        f"{address} cannot be downloaded: {reason}.",
        "What has arrived is kept, and the next attempt continues it.",
        "Try again with a connection, or fetch the archive elsewhere, unpack it and name its folder: DATA=<folder>",
    )


def _load_pooch() -> Any:
    try:
        import pooch
    except ModuleNotFoundError as error:
        if error.name != "pooch":
            raise
        raise KitError("pooch is not installed.", "Data sets are fetched with it.", "pip install '.[data]'") from None
    return pooch
