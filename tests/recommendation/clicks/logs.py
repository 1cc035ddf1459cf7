"""Small click logs with a planted truth, for the tests of click models."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch

from challenges.recommendation.clicks.spec import Categorical, Cross, Dense, FeatureSpec, MultiHot
from common.machine.distributed import ALONE, World
from common.training.randomness import shuffled_shares
from common.training.task import Batch, DataModule

SIZES, KINDS = (40, 12, 6), 9


def spec(dense: int = 2, sizes: tuple[int, ...] = SIZES, multi_hot: bool = True, crosses: int = 60) -> FeatureSpec:
    return FeatureSpec(
        dense=tuple(Dense(name=f"n{i}", transform="none", edges=(-3.0, -1.0, 0.0, 1.0, 3.0)) for i in range(dense)),
        categorical=tuple(Categorical(name=f"c{i}", cardinality=size) for i, size in enumerate(sizes)),
        multi_hot=(MultiHot(name="kinds", cardinality=KINDS),) if multi_hot else (),
        group="page",
        crosses=(Cross(columns=("c1", "c2"), buckets=crosses),) if crosses else (),
    )


def rows(described: FeatureSpec, count: int, seed: int = 0) -> Batch:
    """Clicks that depend on ids, on a pair of them, and on a number."""
    random = np.random.default_rng(seed)
    truth = np.random.default_rng(99)
    ids = np.stack([random.integers(0, column.cardinality, count) for column in described.categorical], 1)
    dense = random.normal(size=(count, len(described.dense))).astype(np.float32)
    logit = sum(truth.normal(size=column.cardinality)[ids[:, i]] for i, column in enumerate(described.categorical))
    if described.dense:
        logit = logit + dense[:, 0]
    batch = {
        "dense": torch.as_tensor(dense),
        "categorical": torch.as_tensor(ids.astype(np.int32)),
        "label": torch.as_tensor((random.random(count) < 1 / (1 + np.exp(-logit))).astype(np.float32)),
        "group": torch.as_tensor(random.integers(0, max(2, count // 8), count)),
        "row": torch.arange(count),
    }
    for column in described.multi_hot:
        lengths = random.integers(0, 4, count)
        batch[f"{column.name}__values"] = torch.as_tensor(
            random.integers(0, column.cardinality, lengths.sum()).astype(np.int32)
        )
        batch[f"{column.name}__offsets"] = torch.as_tensor(np.concatenate([[0], lengths.cumsum()]))
    return batch


def taken(batch: Batch, which: torch.Tensor) -> Batch:
    """Some rows of a batch."""
    chosen = {name: values[which] for name, values in batch.items() if "__" not in name}
    for name in batch:
        if name.endswith("__offsets"):
            parts = [batch[name.replace("offsets", "values")][a:b] for a, b in _spans(batch[name], which)]
            chosen[name.replace("offsets", "values")] = torch.cat(parts)
            chosen[name] = torch.tensor([0, *np.cumsum([len(part) for part in parts])])
    return {**chosen, "row": torch.arange(len(which))}


def _spans(offsets: torch.Tensor, which: torch.Tensor) -> list[tuple[int, int]]:
    return [(int(offsets[i]), int(offsets[i + 1])) for i in which]


def padded_bags(batch: Batch, longest: int = 4) -> torch.Tensor:
    offsets, values = batch["kinds__offsets"], batch["kinds__values"]
    bags = torch.full((len(offsets) - 1, 1, longest), -1, dtype=torch.int32)
    for row in range(len(bags)):
        own = values[offsets[row] : offsets[row + 1]]
        bags[row, 0, : len(own)] = own
    return bags


class ClickRows(DataModule):
    sample_unit = "row"

    def __init__(self, described: FeatureSpec, count: int = 1200, held_out: int = 600, world: World = ALONE) -> None:
        self.train, self.validation = rows(described, count), rows(described, held_out, seed=1)
        self.num_train, self.num_validation = count, held_out
        self.world = world

    def train_batches(self, first_step: int, batch_size: int, accumulation: int) -> Iterator[Batch]:
        shares = shuffled_shares(
            self.num_train, batch_size, first_step, seed=0, world=self.world, accumulation=accumulation
        )
        for share in shares:
            yield {**taken(self.train, torch.from_numpy(share.samples)), "row": torch.from_numpy(share.rows)}

    def validation_batches(self) -> Iterable[Batch]:
        return [taken(self.validation, part) for part in torch.arange(self.num_validation).split(256)]
