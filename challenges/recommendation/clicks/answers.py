"""Encoded rows as an exported click model takes them, and rows back in words that a server can be asked with."""

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from challenges.recommendation.clicks.hashing import texts_of
from challenges.recommendation.clicks.spec import FIRST, MISSING, FeatureSpec
from challenges.recommendation.clicks.transform import LOG_SHIFT, Encoded
from challenges.recommendation.clicks.vocabulary import vocabulary_file

if TYPE_CHECKING:
    from common.training.task import Batch

PADDING = -1
NEVER_SEEN = "\N{REPLACEMENT CHARACTER}never-seen\N{REPLACEMENT CHARACTER}"
"""A text that no vocabulary has, for the id of rare and unseen values."""


def padded_bags(rows: int, bags: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """(row, multi-hot column, values) int32, each bag left-aligned and filled up with PADDING.

    bags: values (value,) and offsets (row + 1,) of each column.
    """
    width = max([1, *(int(np.diff(offsets).max(initial=0)) for _, offsets in bags)])
    padded = np.full((rows, len(bags), width), PADDING, np.int32)
    for place, (values, offsets) in enumerate(bags):
        lengths = np.diff(offsets)
        row = np.repeat(np.arange(rows), lengths)
        padded[row, place, np.arange(len(values)) - np.repeat(offsets[:-1], lengths)] = values
    return padded


def model_inputs(spec: FeatureSpec, encoded: Encoded) -> dict[str, np.ndarray]:
    """By the names of the exported graph's inputs."""
    bags = [encoded.multi_hot[column.name] for column in spec.multi_hot]
    found = {
        "dense": encoded.dense,
        "categorical": encoded.categorical,
        "multi_hot": padded_bags(len(encoded.dense), bags),
    }
    return {name: array for name, array in found.items() if array.shape[1]}


def batch_inputs(spec: FeatureSpec, batch: "Batch") -> dict[str, np.ndarray]:
    """The same of a batch of prepared rows."""
    arrays = {name: tensor.cpu().numpy() for name, tensor in batch.items()}
    names = [column.name for column in spec.multi_hot]
    bags = {name: (arrays[f"{name}__values"], arrays[f"{name}__offsets"]) for name in names}
    return model_inputs(spec, Encoded(arrays["dense"], arrays["categorical"], bags))


class Words:
    """Texts that lead to the ids that rows have: what rows were prepared from, or as good as that."""

    def __init__(self, spec: FeatureSpec, folder: Path) -> None:
        """folder: holds the vocabulary. A hashed column has none; texts are made up that have its ids' hashes."""
        self._spec = spec
        self._known = [
            None if column.hashed else pl.read_parquet(vocabulary_file(folder, number))["value"]
            for number, column in enumerate(spec.looked_up)
        ]

    def of(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A model's inputs as a request's columns, each (row, 1) of str."""
        spec, columns = self._spec, {}
        for place, dense in enumerate(spec.dense):
            numbers = inputs["dense"][:, place].astype(np.float64)
            raw = np.exp(numbers) - LOG_SHIFT if dense.transform == "log" else numbers
            columns[dense.name] = [repr(float(value)) for value in raw]
        for place, column in enumerate(spec.categorical):
            columns[column.name] = self._texts(place, inputs["categorical"][:, place])
        for place, several in enumerate(spec.multi_hot):
            bags = inputs["multi_hot"][:, place]
            there = bags != PADDING
            texts = iter(self._texts(len(spec.categorical) + place, bags[there]))
            lengths = there.sum(1).tolist()
            columns[several.name] = [several.separator.join(islice(texts, length)) for length in lengths]
        return {name: np.array(values, dtype=object)[:, None] for name, values in columns.items()}

    def _texts(self, number: int, ids: np.ndarray) -> list[str]:
        """(value,) of looked-up column `number`."""
        known, column = self._known[number], self._spec.looked_up[number]
        distinct, where = np.unique(ids, return_inverse=True)
        texts = np.full(len(distinct), NEVER_SEEN, dtype=object)
        texts[distinct == MISSING] = ""
        places = distinct[distinct >= FIRST] - FIRST
        texts[distinct >= FIRST] = (
            texts_of(places, column.cardinality - FIRST) if known is None else known.gather(places).to_list()
        )
        return [str(text) for text in texts[where]]
