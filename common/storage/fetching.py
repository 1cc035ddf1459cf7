"""Files from addresses: continued where they were cut off, from the next mirror where one is away, and verified."""

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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


def fetch_verified(addresses: Sequence[str], target: Path, checksum: str | None, count: Count) -> str:
    """Fetch a file from the first address that answers; returns its checksum as `kind:hex`.

    checksum: what it has to be, such as md5:0e33…; None takes any and returns the sha256.
    Raises DataError where no address answers, or where the file is another one, which is deleted then; KitError where
    pooch is not installed.
    """
    pooch = _load_pooch()
    unfinished = target.with_name(f".{target.name}.unfinished")
    problem: DataError | None = None
    for address in addresses:
        try:
            fetch(address, unfinished, count)
            break
        except DataError as error:
            problem = error
    else:
        raise problem or DataError("There is no address to fetch from.")
    kind = (checksum or "sha256:").partition(":")[0]
    found = f"{kind}:{pooch.file_hash(str(unfinished), alg=kind)}"
    if checksum is not None and found != checksum:
        unfinished.unlink()
        raise DataError(
            f"{target.name} arrived with {found}.",
            f"It should have {checksum}.",
            "It was deleted; try again. If that persists, it was changed at its source or on the way.",
        )
    unfinished.replace(target)
    return found


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
