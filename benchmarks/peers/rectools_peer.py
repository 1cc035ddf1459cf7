"""BERT4Rec and SASRec of RecTools as a peer: its models, its data loaders and its Lightning trainer, as documented.

Its own environment: Python 3.11, rectools[torch]==0.19.0 and torch==2.13.0. It takes the newest items of every history
as the only sequence, in training too. An evaluation is `recommend`, without any metric.
"""

import copy
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import BERT4RecModel, SASRecModel

from benchmarks.peers.careful import Clock, learn
from benchmarks.peers.peer_process import Job, PeerHistories, serve

MODELS = {"bert4rec": BERT4RecModel, "sasrec": SASRecModel}


class AfterBatch(Callback):  # type: ignore[misc]  # which is there in its own environment only
    """Calls a function, which a copy of this callback shares, with the number of sequences of every batch."""

    def __init__(self, call: Callable[[int], None]) -> None:
        self._call = call

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:  # type: ignore[no-untyped-def]
        self._call(len(batch["x"]))


class UntilOver(Callback):  # type: ignore[misc]  # as above
    """Ends a training with the batch in which the time is over."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:  # type: ignore[no-untyped-def]
        trainer.should_stop = trainer.should_stop or self._clock.is_over


class RecToolsPeer:
    """One of RecTools' transformers on our training histories."""

    _model: Any = None

    def __init__(self, job: Job, histories: PeerHistories) -> None:
        torch.set_num_threads(job.threads)
        seed_everything(job.seed)
        self.version = version("rectools")
        self._job = job
        self.tell(histories)

    def tell(self, histories: PeerHistories) -> None:
        """What is known of the users when they are ranked for, and whom to rank for."""
        self._histories = histories
        columns = {
            Columns.User: histories.users,
            Columns.Item: histories.items,
            Columns.Weight: 1.0,
            Columns.Datetime: pd.to_datetime(histories.places, unit="s"),
        }
        self._dataset = Dataset.construct(pd.DataFrame(columns))

    def train(self, epochs: int | None, after_batch: Callable[[int], None]) -> None:
        self._build(AfterBatch(lambda samples: after_batch(samples)), -1 if epochs is None else epochs)
        self._model.fit(self._dataset)

    def more(self, clock: Clock) -> None:
        if self._model is None:
            self._build(UntilOver(clock), -1)
        self._model.fit_partial(self._dataset, min_epochs=0, max_epochs=1)

    def state(self) -> Any:
        return copy.deepcopy(self._model.torch_model.state_dict())

    def restore(self, state: Any) -> None:
        self._model.torch_model.load_state_dict(state)

    def _build(self, callback: Callback, epochs: int) -> None:
        def trainer() -> Trainer:  # the library's own but for the callback, so that a step can be waited for
            return Trainer(
                max_epochs=epochs, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False,
                enable_model_summary=False, enable_checkpointing=False, callbacks=[callback],
            )  # fmt: skip

        self._model = MODELS[self._job.model](
            **self._job.sizes,
            lr=self._job.learning_rate,
            batch_size=self._job.batch,
            get_trainer_func=trainer,
            recommend_torch_device="cpu",
        )

    def evaluate(self) -> int:
        self._recommend(self._job.top_k)
        return len(self._histories.judged)

    def top_items(self, count: int) -> np.ndarray:
        found = self._recommend(count)
        table = np.full((len(self._histories.offsets) - 1, count), -1, np.int64)
        table[found[Columns.User], found[Columns.Rank] - 1] = found[Columns.Item]
        rows: np.ndarray = table[self._histories.judged]
        return rows

    def _recommend(self, count: int) -> pd.DataFrame:
        return self._model.recommend(self._histories.judged, self._dataset, k=count, filter_viewed=True)


if __name__ == "__main__":
    serve(RecToolsPeer, lambda job: learn(RecToolsPeer, job))
