"""What one must know of a data set before it is fetched."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from common.terminal.progress import Counter

Arrange = Callable[[Path, Counter], None]
"""Turns the files of a fresh folder into a layout that the kit reads, and counts."""

ASKED_ABOVE = 1000  # megabytes to be fetched


@dataclass(frozen=True, kw_only=True)
class Part:
    """One file of a data set.

    urls:     the publisher's first, then mirrors.
    on_aws:   a copy of the file in AWS' Open Data, empty for none.
    checksum: `kind:hex`, or None where nobody publishes one: the first download's sha256 is kept and held to.
    into:     the folder where it is laid. packed: whether it is an archive, which is unpacked there.
    """

    urls: tuple[str, ...]
    checksum: str | None
    into: str = ""
    packed: bool = True
    on_aws: str = ""

    def addresses(self, is_on_aws: bool) -> tuple[str, ...]:
        """In the order in which they are asked; what answers is held to the checksum.

        is_on_aws: whether this machine is in AWS, whose own copy is the near one then.
        """
        return (self.on_aws, *self.urls) if is_on_aws and self.on_aws else self.urls

    @property
    def file(self) -> str:
        return PurePosixPath(urlsplit(self.urls[0]).path).name


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """One entry.

    published: who publishes the checksums; empty where nobody does.
    megabytes: of what is fetched, about. unpacked: of its files, at most.
    licence:   its name and what it forbids. must_accept: whether one has to agree to it.
    layout:    how the files lie. root: the folder or file that a recipe is given. recipes: that read it.
    arrange:   what brings the files into that layout, where the publisher's is another.
    """

    what: str
    parts: tuple[Part, ...]
    published: str
    megabytes: int
    unpacked: int
    licence: str
    citation: str
    layout: str
    root: str
    recipes: tuple[str, ...]
    must_accept: bool = False
    arrange: Arrange | None = None

    @property
    def must_ask(self) -> bool:
        return self.must_accept or self.megabytes > ASKED_ABOVE
