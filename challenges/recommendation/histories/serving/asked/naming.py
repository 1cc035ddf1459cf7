"""From what people call an item to its position in a catalogue, alike for `kit predict` and for a server.

Nothing but the standard library: the file travels into the model repository, beside the step that uses it.
"""

import difflib
from collections.abc import Sequence

SHOWN = 80
"""Characters of a name that a message repeats."""


class Catalogue:
    """Items or users by the names that the training data gives them.

    identifiers: in the order of the positions, different ones.
    titles:      one per identifier, empty where unknown; none at all where there are no titles, as for users.
    """

    def __init__(self, identifiers: Sequence[str], titles: Sequence[str] = ()) -> None:
        self.identifiers, self.titles = list(identifiers), list(titles)
        self._by_identifier = {identifier: position for position, identifier in enumerate(self.identifiers)}
        self._by_title: dict[str, list[int]] = {}
        for position, title in enumerate(self.titles):
            if title:
                self._by_title.setdefault(title.casefold(), []).append(position)

    def __len__(self) -> int:
        return len(self.identifiers)

    def find(self, name: str) -> int | None:
        """The position of an identifier, else of a title in any case that only one item has; None for others."""
        if name in self._by_identifier:
            return self._by_identifier[name]
        bearers = self._by_title.get(name.casefold(), [])
        return bearers[0] if len(bearers) == 1 else None

    def nearest(self, name: str, count: int = 3) -> list[str]:
        """What may have been meant: the identifiers behind a title that several items share, else similar names."""
        bearers = self._by_title.get(name.casefold(), [])
        if bearers:
            return [self.identifiers[position] for position in bearers[:count]]
        near = difflib.get_close_matches(name.casefold(), self._by_title, n=count, cutoff=0.4)
        return [self.titles[self._by_title[title][0]] for title in near]

    def like(self) -> str:
        """How identifiers look, for messages: the first and the last one."""
        ends = dict.fromkeys((self.identifiers[0], self.identifiers[-1]))
        return " or ".join(repr(shortened(identifier)) for identifier in ends)


def shortened(name: str) -> str:
    return name if len(name) <= SHOWN else f"{name[:SHOWN]}…"
