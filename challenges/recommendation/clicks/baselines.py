"""What simpler models reach on a click log in seconds: the rate, logistic regression, a factorisation machine."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from challenges.recommendation.clicks.metrics import log_losses, summary
from challenges.recommendation.clicks.numbers import ScaledNumbers
from challenges.recommendation.clicks.sparse_optimizers import RowwiseAdagrad
from challenges.recommendation.clicks.spec import FeatureSpec
from challenges.recommendation.clicks.tables import Bag, FusedTable
from common.language.telling import english
from common.training.task import Batch

MOST_ROWS = 3_000_000
"""Of training, so that a baseline of Criteo's size stays a matter of seconds to minutes."""
FACTORS, SPREAD = 8, 0.01
LR, NUMBERS_LR = 0.1, 0.01


@dataclass(frozen=True)
class Baseline:
    """factors: width of the factorisation machine's rows; 0 is logistic regression."""

    name: str
    factors: int


BASELINES = (Baseline(english("logistic regression"), 0), Baseline(english("factorisation machine"), FACTORS))


class FactorisationMachine(nn.Module):
    """A weight for every id and number, and the products of every two columns' factors.

    Source: Rendle 2010, "Factorization machines".
    """

    def __init__(self, spec: FeatureSpec, factors: int) -> None:
        super().__init__()
        self.spec, self.factors = spec, factors
        rows = [column.cardinality for column in spec.looked_up]
        self.numbers = ScaledNumbers(spec.dense)
        self.weights = FusedTable(rows, 1, bags=len(spec.multi_hot), spread=0.0)
        self.table = FusedTable(rows, factors, bags=len(spec.multi_hot), spread=SPREAD) if factors else None
        self.by_number = nn.Linear(len(spec.dense), 1)
        nn.init.zeros_(self.by_number.weight)
        nn.init.zeros_(self.by_number.bias)

    def forward(self, batch: Batch) -> Tensor:
        """(batch,) logits."""
        bags = [Bag(batch[f"{one.name}__values"], batch[f"{one.name}__offsets"]) for one in self.spec.multi_hot]
        ids = batch["categorical"]
        logit: Tensor = self.by_number(self.numbers(batch["dense"])) + self.weights(ids, bags).sum(1)
        if self.table is not None:
            rows = self.table(ids, bags)
            logit = logit + 0.5 * (rows.sum(1).square() - rows.square().sum(1)).sum(1, keepdim=True)
        return logit.squeeze(1)


def baselines(
    spec: FeatureSpec,
    train: Callable[[], Iterable[Batch]],
    validation: Callable[[], Iterable[Batch]],
    *,
    epochs: int = 2,
    seed: int = 0,
) -> Mapping[str, Mapping[str, float]]:
    """Name -> metric -> value on the validation rows.

    train, validation: give the rows once, in batches on a CPU, every time that they are called.
    """
    kept = list(validation())
    label = np.concatenate([batch["label"].numpy() for batch in kept])
    found: dict[str, Mapping[str, float]] = {english("rate"): _rate(train, label)}
    for one in BASELINES:
        if one.factors == 0 or len(spec.looked_up) > 1:
            logits = _trained(spec, one, lambda: _first(train(), MOST_ROWS), epochs, seed)
            found[one.name] = summary(label, np.concatenate([logits(batch) for batch in kept]))
    return found


def _trained(
    spec: FeatureSpec, one: Baseline, train: Callable[[], Iterable[Batch]], epochs: int, seed: int
) -> Callable[[Batch], np.ndarray]:
    """Row-wise Adagrad for ids, Adam for numbers; returns what gives a batch's logits."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = FactorisationMachine(spec, one.factors)
    tables = [table.weight for table in (model.weights, model.table) if table is not None]
    optimizers = (RowwiseAdagrad(tables, lr=LR), torch.optim.Adam(model.by_number.parameters(), lr=NUMBERS_LR))
    for _ in range(epochs):
        for batch in train():
            functional.binary_cross_entropy_with_logits(model(batch), batch["label"]).backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()

    def logits(batch: Batch) -> np.ndarray:
        with torch.no_grad():
            answer: np.ndarray = model(batch).numpy()
        return answer

    return logits


def _rate(train: Callable[[], Iterable[Batch]], label: np.ndarray) -> dict[str, float]:
    """Of always answering the training rows' rate: no ranking at all."""
    clicks = rows = 0.0
    for batch in _first(train(), MOST_ROWS):
        clicks, rows = clicks + float(batch["label"].sum()), rows + len(batch["label"])
    logit = np.full(len(label), np.log(max(clicks, 0.5) / max(rows - clicks, 0.5)))
    return {"auc": 0.5, "log_loss": float(log_losses(label, logit).mean())}


def _first(batches: Iterable[Batch], rows: int) -> Iterator[Batch]:
    """Batches until there are so many rows."""
    seen = 0
    for batch in batches:
        yield batch
        seen += len(batch["label"])
        if seen >= rows:
            return
