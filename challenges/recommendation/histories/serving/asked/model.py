"""Turn what a recommender is asked with into positions of its catalogue, or refuse it, before it meets other requests.

Runs in images that have Triton's Python backend and nothing of this kit, too; naming.py and strings.py lie beside it.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from naming import Catalogue, shortened  # which lies beside this file, as strings does
from strings import RefusedError, input_strings

try:
    from common.serving.backends.tensors import output_tensor, string_tensor
except ImportError:  # Triton's own image, whose stub and NumPy fit each other

    def output_tensor(name: str, array: np.ndarray) -> Any:
        return pb_utils.Tensor(name, array)  # the stub puts Tensor there after it has imported this file

    string_tensor = output_tensor  # type: ignore[assignment]


NARROWEST = 8  # columns of positions; wider ones are powers of two, so that histories of many lengths share a batch


class TritonPythonModel:
    """From names to positions of the catalogue."""

    def initialize(self, args: dict[str, str]) -> None:
        """catalogue.json beside this file: `identifiers` and `titles` of the items, and `users` where they are known.

        training.npz beside it: `offsets` (user + 1,) and `items`, what every known user had.
        """
        config = json.loads(args["model_config"])
        limits = {name: int(value["string_value"]) for name, value in config["parameters"].items()}
        self.maximum_names, self.maximum_bytes = limits["maximum_names"], limits["maximum_bytes"]
        self.history = next(tensor["name"] for tensor in config["input"] if tensor["name"] != "user")
        folder = Path(args["model_repository"], args["model_version"])
        catalogue = json.loads((folder / "catalogue.json").read_text(encoding="utf-8"))
        self.items = Catalogue(catalogue["identifiers"], catalogue["titles"])
        self.users = Catalogue(catalogue["users"]) if catalogue["users"] else None
        if self.users:
            with np.load(folder / "training.npz") as arrays:
                self.offsets, self.training = arrays["offsets"], arrays["items"]

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            rows = self._strings(request, self.history)
            users = [row[0] for row in self._strings(request, "user")] if self.users else None
            return pb_utils.InferenceResponse(self._tensors(rows, users))
        except RefusedError as reason:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(reason), pb_utils.TritonError.INVALID_ARG))

    def _strings(self, request: Any, name: str) -> list[list[str]]:
        """An input (batch, any) as text."""
        number, width = (int(size) for size in pb_utils.get_input_tensor_by_name(request, name).shape())
        if width > self.maximum_names:
            raise RefusedError(f"{name} has {width:,} entries, at most {self.maximum_names:,} are taken")
        texts = input_strings(request, name, self.maximum_bytes)
        if len(texts) != number * width or not width:
            raise RefusedError(f"{name} holds {len(texts)} strings for the shape ({number}, {width})")
        return [texts[start : start + width] for start in range(0, len(texts), width)]

    def _tensors(self, rows: list[list[str]], users: list[str] | None) -> list[Any]:
        found, unknown = [], []
        for number, row in enumerate(rows):
            positions, strangers = self._positions(row)
            if strangers and not positions and users is None:
                raise RefusedError(self._no_item(strangers, f"{number + 1} of {len(rows)}"))
            found.append(positions)
            unknown.append(strangers)
        tensors = []
        if users is not None:
            owners = [self._user(name, f"{number + 1} of {len(users)}") for number, name in enumerate(users)]
            found = [self._had(owner, positions) for owner, positions in zip(owners, found, strict=True)]
            tensors.append(output_tensor("user_position", np.array([[owner or 0] for owner in owners], np.int64)))
        tensors.append(output_tensor(f"{self.history}_positions", _padded(found)))
        return [*tensors, string_tensor("unknown", _filled(unknown))]

    def _positions(self, row: list[str]) -> tuple[list[int], list[str]]:
        """Of the known names, in their order, and the unknown ones; empty names fill up."""
        positions, strangers = [], []
        for name in row:
            position = self.items.find(name) if name else None
            if position is not None:
                positions.append(position)
            elif name:
                strangers.append(name)
        return positions, strangers

    def _user(self, name: str, which: str) -> int | None:
        """None for an empty name, which is nobody's and asks only whether the server answers."""
        assert self.users is not None, "only called where users are known"
        position = self.users.find(name) if name else None
        if name and position is None:
            raise RefusedError(
                f"user {which}, {shortened(name)!r}, is none of the {len(self.users):,} that were trained on; "
                f"their identifiers look like {self.users.like()}"
            )
        return position

    def _had(self, user: int | None, more: list[int]) -> list[int]:
        """Positions not to recommend, each once, the newest last; everything to nobody, who so gets nothing."""
        if user is None:
            return list(range(len(self.items)))
        had = self.training[self.offsets[user] : self.offsets[user + 1]].tolist()
        return list(dict.fromkeys([*reversed(more), *reversed(had)]))[::-1]

    def _no_item(self, strangers: list[str], which: str) -> str:
        named = ", ".join(repr(shortened(name)) for name in strangers[:3])
        return (
            f"no item of {self.history} {which} is known: {named}{', …' if len(strangers) > 3 else ''}; the catalogue "
            f"has {len(self.items):,} items, named by title or by identifiers like {self.items.like()}"
        )


def _padded(rows: list[list[int]]) -> np.ndarray:
    """(row, width) int64, left-aligned and filled up with -1."""
    longest = max(len(row) for row in rows)
    table = np.full((len(rows), max(NARROWEST, 1 << (longest - 1).bit_length())), -1, np.int64)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return table


def _filled(rows: list[list[str]]) -> np.ndarray:
    """(row, width) of str, left-aligned and filled up with empty ones; at least one column."""
    width = max(1, *(len(row) for row in rows))
    return np.array([row + [""] * (width - len(row)) for row in rows], dtype=object)
