"""Prepared clicks as batches, named as in clicks/spec.py."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import torch

from challenges.recommendation.clicks.prepared import Prepared
from challenges.recommendation.clicks.spec import FeatureSpec, require_same
from common.errors import DataError
from common.files import read_json
from common.machine.device import moved
from common.machine.distributed import ALONE, World
from common.tables.stream import TableStream
from common.training.task import Batch, DataModule

CPU = torch.device("cpu")
EVALUATION_BATCH = 16_384


class ClickData(DataModule):
    """The train split in an order that seed and step decide, and one judged split.

    judged: left out, the prepared folder's own.
    """

    sample_unit = "click"

    def __init__(
        self,
        prepared: Prepared,
        *,
        device: torch.device,
        world: World = ALONE,
        seed: int = 0,
        judged: Literal["validation", "test"] | None = None,
        evaluation_batch: int = EVALUATION_BATCH,
    ) -> None:
        self.prepared, self.spec = prepared, prepared.spec
        self.judged = judged or prepared.judged
        for split in ("train", self.judged):
            if split not in prepared.rows:
                raise DataError(
                    f"{prepared.folder} has no {split} split.",
                    f"It has {', '.join(prepared.rows)}.",
                    "Prepare it with one.",
                )
        self._device, self.world, self._seed = device, world, seed
        self._evaluation_batch = evaluation_batch
        self.num_train, self.num_validation = prepared.rows["train"], prepared.rows[self.judged]

    @classmethod
    def of_check(cls, checked: Path, *, device: torch.device = CPU, world: World = ALONE, seed: int = 0) -> "ClickData":
        """The rows that a check was of; DataError where they have other columns by now."""
        folder = Path(read_json(checked / "check.json")["prepared"])
        prepared = Prepared.open(folder)
        require_same(FeatureSpec.read(checked), prepared.spec, str(folder))
        return cls(prepared, device=device, world=world, seed=seed)

    def train_batches(self, first_step: int, batch_size: int, accumulation: int) -> Iterator[Batch]:
        local = batch_size // self.world.size
        micro = local // accumulation
        for number, batch in enumerate(self._stream("train").batches(first_step, batch_size, accumulation)):
            begin = self.world.rank * local + number % accumulation * micro
            yield self._moved({**batch, "row": torch.arange(begin, begin + micro)})

    def validation_batches(self) -> Iterable[Batch]:
        for batch in self._stream(self.judged).once(self._evaluation_batch):
            yield self._moved(batch)

    def tuning(self) -> "ClickData | None":
        if self.judged == "validation" or "validation" not in self.prepared.rows:
            return None
        return ClickData(
            self.prepared,
            device=self._device,
            world=self.world,
            seed=self._seed,
            judged="validation",
            evaluation_batch=self._evaluation_batch,
        )

    def describe(self) -> dict[str, object]:
        return {
            **super().describe(),
            "name": self.prepared.name,
            "judged_split": self.judged,
            "rows": dict(self.prepared.rows),
            "positives": dict(self.prepared.positives),
            "fingerprint": self.prepared.plan["source"],
            "facts": dict(self.prepared.facts),
        }

    def _stream(self, split: str) -> TableStream:
        spec = self.spec
        columns = ["label", *(name for name in ("dense", "categorical") if getattr(spec, name))]
        columns += [*(column.name for column in spec.multi_hot), *(["group"] if spec.group else [])]
        return TableStream(self.prepared.split(split), tuple(columns), seed=self._seed, world=self.world)

    def _moved(self, batch: Batch) -> Batch:
        for name, kind in (("dense", torch.float32), ("categorical", torch.int32)):
            if name not in batch:
                batch[name] = torch.zeros((len(batch["label"]), 0), dtype=kind)
        return {name: moved(values, self._device) for name, values in batch.items()}
