"""Ids of users and items: what one looks like, and their numbers from 0 on."""

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from challenges.recommendation.files.problems import Problem
from challenges.recommendation.files.times import is_missing

_NEGATIVE = re.compile(r"-\d+(\.0*)?")


class UnusableError(Exception):
    """Something in a block is wrong; a text file is then searched for its line."""


class IdNumbers:
    """Numbers ids from 0 on by first appearance: memory grows with how many there are, never with how large."""

    def __init__(self, role: str, numeric: bool, ids: Iterable[str] = ()) -> None:
        self.role, self.numeric = role, numeric
        self.numbers = {name: number for number, name in enumerate(ids)}

    def add(self, column: pa.Array) -> np.ndarray:
        if column.null_count:
            raise UnusableError(f"{_article(self.role)} is missing, in {column.null_count:,} of {len(column):,} rows")
        encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        numbers = np.asarray([self._number(value) for value in encoded.dictionary.to_pylist()], np.int32)
        found: np.ndarray = numbers[encoded.indices.to_numpy()]
        return found

    def _number(self, value: Any) -> int:
        name = value.strip() if isinstance(value, str) else _id_text(value, self.role)
        number = self.numbers.get(name)
        if number is None:
            problem = id_problem(name, self.role, self.numeric)
            if problem:
                raise UnusableError(problem.told)
            number = self.numbers[name] = len(self.numbers)
        return number


def _article(role: str) -> str:
    return f"{'an' if role == 'item' else 'a'} {role}"


def _id_text(value: Any, role: str) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise UnusableError(f"the {role} {value!r} is neither a number nor text")
    if value != value:
        raise UnusableError(f"{_article(role)} is missing (nan)")
    if isinstance(value, float | Decimal) and value != value // 1:
        raise UnusableError(f"the {role} {value} is no whole number")
    return str(int(value))


def id_problem(name: str, role: str, numeric: bool) -> Problem | None:
    """What is wrong with an id, or None."""
    if name.isdecimal():
        return None  # most are
    if not name:
        return Problem("missing", f"the {role} is empty")
    if is_missing(name):
        return Problem("missing", f"the {role} is missing ({name!r})")
    if _NEGATIVE.fullmatch(name):
        return Problem("negative", f"the {role} {name} is negative")
    if numeric:
        return Problem("text", f"the {role} {name[:40]!r} is no whole number")
    return None
