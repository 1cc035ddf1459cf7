"""Videos that people bring: what a run does with one, and where what became of it lies for an hour at most."""

import contextlib
import secrets
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from common.playground.fields import Values

FILMS = "/films"
"""Where the server has the shelf's files."""
MAX_FILM = 500 * 1024 * 1024
"""Bytes of a video that is brought."""
LONGEST = 120.0
"""Seconds of a video that are looked at."""
KEPT_SECONDS, MOST_KEPT = 3600, 8
PREFIX = "film-"


@dataclass(frozen=True)
class Place:
    """A folder for what becomes of one video.

    token: by which its files are asked for; nobody can guess it.
    """

    folder: Path
    token: str

    def address(self, name: str) -> str:
        """Of a file in the folder, on the page's own server."""
        return f"{FILMS}/{self.token}/{name}"


class Shelf:
    """Folders of videos: the newest few, and none for longer than an hour."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def new(self) -> Place:
        self._sweep()
        token = secrets.token_urlsafe(16)
        folder = self._folder / f"{PREFIX}{token}"
        folder.mkdir()
        return Place(folder, token)

    def find(self, token: str, name: str) -> Path | None:
        """A file that lies in the folder of a token; None for whatever does not."""
        folder = next((path for path in self._folder.iterdir() if path.name == f"{PREFIX}{token}"), None)
        if folder is None or _age(folder) > KEPT_SECONDS:
            return None
        return next((path for path in folder.iterdir() if path.name == name and path.is_file()), None)

    def _sweep(self) -> None:
        newest = sorted((path for path in self._folder.iterdir() if path.name.startswith(PREFIX)), key=_age)
        for place, folder in enumerate(newest):
            if place >= MOST_KEPT - 1 or _age(folder) > KEPT_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


class Videos(ABC):
    """What a run does with videos."""

    @abstractmethod
    def annotate(
        self,
        source: Path,
        place: Place,
        controls: Values,
        turn: contextlib.AbstractContextManager[Any],
        progress: Callable[[int, int], None],
    ) -> Any:
        """Look at a video's first LONGEST seconds, and leave a copy with what was found; for `show` alone.

        controls: as they stand now. turn: to be held while the model is asked, and not between.
        progress: called with frames done and frames in all.
        Raises KitError with a sentence for what cannot be read.
        """

    @abstractmethod
    def show(self, answer: Any, controls: Values) -> Markup:
        """What was found as HTML, by the controls as they stand then."""


def _age(folder: Path) -> float:
    with contextlib.suppress(OSError):
        return time.time() - folder.stat().st_mtime
    return float("inf")
