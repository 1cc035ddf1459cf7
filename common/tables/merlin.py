"""The same batches from NVIDIA's merlin-dataloader, in an environment of its own (containers/merlin.txt).

Merlin needs NumPy 1 and an old pandas; on a GPU it needs cudf of the same age, which NVIDIA's own images bring. Here it
reads on the CPU. Its rows come in its own order: of the same seed, epochs hold the same rows, not the same batches.
"""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import DataError
from common.machine.distributed import ALONE, World
from common.tables.loader import Batch, TableConfig, TableLoader


class MerlinLoader(TableLoader):
    """merlin.dataloader behind the kit's interface, for one process; resuming skips batches by reading them."""

    def __init__(
        self,
        files: tuple[Path, ...],
        config: TableConfig,
        world: World = ALONE,
    ) -> None:
        super().__init__(files, config, world)
        if world.size > 1:
            raise DataError(
                f"merlin-dataloader would share {len(files)} file(s) among {world.size} processes.",
                "It deals out whole partitions, so that processes get different numbers of batches and wait for ever.",
                "Use the kit's own loader, common.tables.parquet.ParquetLoader.",
            )
        self._dataset = _dataset(files, config.columns)
        self.num_rows = self._dataset.num_rows

    def epoch(self, number: int, first_batch: int = 0) -> Iterator[Batch]:
        for place, batch in enumerate(self._loader(number)):
            if first_batch <= place < self.batches_per_epoch:
                yield {name: values.reshape(-1) for name, values in batch.items()}

    def _loader(self, number: int) -> Iterator[dict[str, Any]]:
        from merlin.dataloader.torch import Loader

        config = self.config
        seed = int(np.random.SeedSequence([config.seed, number]).generate_state(1)[0] % 2**31)
        loader = Loader(
            self._dataset,
            batch_size=self.local_batch,
            shuffle=config.shuffle,
            seed_fn=lambda: seed,
            drop_last=config.drop_last,
            device="cpu",
        )
        for inputs, _ in loader:
            yield inputs


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
