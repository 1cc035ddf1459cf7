"""The same rows from NVIDIA's merlin-dataloader, in an environment of its own (containers/merlin.txt).

Merlin needs NumPy 1 and an old pandas; on a GPU it needs cudf of the same age, which NVIDIA's own images bring. Here it
reads on the CPU. Its rows come in its own order: epochs hold the rows that those of stream.py hold, in other batches.
"""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from common.errors import DataError


class MerlinLoader:
    """Epochs of {column: (row, ...) tensor}, ragged columns as values and offsets.

    For one process: Merlin deals out whole partitions, so that several would get different numbers of batches and wait
    for ever.

    columns: names, all by default. drop_last: leave out the last, smaller batch.
    """

    def __init__(
        self, files: tuple[Path, ...], *, batch_size: int, columns: tuple[str, ...] | None = None, shuffle: bool = True,
        seed: int = 0, drop_last: bool = True,
    ) -> None:  # fmt: skip
        self._dataset = _dataset(files, columns)
        self._settings = {"batch_size": batch_size, "shuffle": shuffle, "drop_last": drop_last, "device": "cpu"}
        self._seed = seed
        rows: int = self._dataset.num_rows
        self.batches_per_epoch = rows // batch_size if drop_last else -(-rows // batch_size)

    def epoch(self, number: int, first_batch: int = 0) -> Iterator[dict[str, Tensor]]:
        """The batches of an epoch from `first_batch` on; those before it are read, too."""
        from merlin.dataloader.torch import Loader

        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0] % 2**31)
        for place, (batch, _) in enumerate(Loader(self._dataset, seed_fn=lambda: seed, **self._settings)):
            if first_batch <= place < self.batches_per_epoch:
                yield {name: values.reshape(-1) for name, values in batch.items()}


def _dataset(files: tuple[Path, ...], columns: tuple[str, ...] | None) -> Any:
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about TensorFlow and cudf, which are not wanted
            import merlin.dataloader.torch  # noqa: F401
            from merlin.io import Dataset
    except ImportError as error:
        raise DataError(
            f"merlin-dataloader cannot be imported: {error}.",
            "It needs an environment of its own, with Python 3.11 and NumPy 1.",
            "Make one: python3.11 -m venv merlin && merlin/bin/pip install -r containers/merlin.txt",
        ) from None
    dataset = Dataset([str(path) for path in files], engine="parquet", cpu=True)
    if columns is None:
        return dataset
    schema = dataset.schema.select_by_name(list(columns))
    return Dataset(dataset.to_ddf()[list(columns)], schema=schema, cpu=True)
