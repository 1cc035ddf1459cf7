"""NeuMF and MultiVAE of RecBole as a peer: its atomic files, its data loaders and its trainer, as documented.

Its own environment: Python 3.11, recbole==1.2.1 with numpy<2, pandas<2.3, scipy<1.14, and torch==2.13.0, with which
this part of it works as it is; loading its checkpoints, which needs an older torch, is not asked for. An evaluation is
`Trainer.evaluate` in full ranking with two metrics at one cutoff.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.interaction import Interaction
from recbole.utils import get_model, get_trainer, init_seed

from benchmarks.peers.careful import Clock, learn
from benchmarks.peers.peer_process import Job, PeerHistories, serve

MODELS = {"ncf": "NeuMF", "vae_cf": "MultiVAE"}
NAME = "histories"
USERS_AT_ONCE = 64


class RecBolePeer:
    """One of RecBole's models on our training histories."""

    def __init__(self, job: Job, histories: PeerHistories) -> None:
        torch.set_num_threads(job.threads)
        self.version = version("recbole")
        self._job, self._histories = job, histories
        write_atomic_files(histories, Path(job.folder))
        sizes = dict(job.sizes)
        negatives = sizes.pop("negatives", None)
        self._samples_per_row = 1 / (1 + negatives) if negatives else 1.0
        config = Config(
            MODELS[job.model],
            NAME,
            config_dict={
                **sizes,
                "data_path": job.folder,
                "checkpoint_dir": job.folder,
                "benchmark_filename": ["train", "valid", "test"],
                "USER_ID_FIELD": "user",
                "ITEM_ID_FIELD": "item",
                "load_col": {"inter": ["user", "item"]},
                "train_neg_sample_args": {"distribution": "uniform", "sample_num": negatives} if negatives else None,
                "train_batch_size": round(job.batch / self._samples_per_row),
                "learning_rate": job.learning_rate,
                "enable_amp": job.precision == "bf16",
                "metrics": ["Hit", "NDCG"],
                "topk": job.top_k,
                "valid_metric": f"NDCG@{job.top_k}",
                "seed": job.seed,
                "use_gpu": False,
                "show_progress": False,
                "state": "ERROR",
            },
        )
        self._epochs = 0
        init_seed(config["seed"], config["reproducibility"])
        self._train_data, self._valid_data, _ = data_preparation(config, create_dataset(config))
        self._model = get_model(config["model"])(config, self._train_data.dataset).to(config["device"])
        self._trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, self._model)

    def train(self, epochs: int | None, after_batch: Callable[[int], None]) -> None:
        told = Told(self._train_data, lambda rows: after_batch(round(rows * self._samples_per_row)))
        epoch = 0
        while epochs is None or epoch < epochs:
            self._trainer._train_epoch(told, epoch)
            epoch += 1

    def more(self, clock: Clock) -> None:
        with contextlib.suppress(TimeIsOverError):
            self._trainer._train_epoch(Told(self._train_data, lambda _: stop_when_over(clock)), self._epochs)
        self._epochs += 1

    def state(self) -> Any:
        return copy.deepcopy(self._model.state_dict())

    def restore(self, state: Any) -> None:
        self._model.load_state_dict(state)

    def tell(self, histories: PeerHistories) -> None:
        """Whom to rank for; what is known of them stays what was learnt from."""
        self._histories = histories

    def evaluate(self) -> int:
        self._trainer.evaluate(self._valid_data, load_best_model=False)
        return len(self._histories.judged)

    def top_items(self, count: int) -> np.ndarray:
        dataset, histories = self._valid_data.dataset, self._histories
        users = torch.as_tensor(dataset.token2id("user", histories.judged.astype(str)))
        parts = zip(users.split(USERS_AT_ONCE), batched(histories.of_judged(), USERS_AT_ONCE), strict=True)
        best = torch.cat([self._best(asked, told, count) for asked, told in parts])
        return np.where(best.numpy() == 0, "-1", dataset.id2token("item", best.numpy())).astype(np.int64)

    def _best(self, users: torch.Tensor, told: Sequence[np.ndarray], count: int) -> torch.Tensor:
        """(user, count): numbers of items that are not in what the users told, best first, 0 where there are fewer."""
        dataset = self._valid_data.dataset
        scores = self._scores(users, dataset.item_num)
        rows = torch.arange(len(users)).repeat_interleave(torch.tensor([len(items) for items in told]))
        scores[rows, torch.as_tensor(dataset.token2id("item", np.concatenate(told).astype(str)))] = -torch.inf
        scores[:, 0] = -torch.inf
        best, found = scores.topk(min(count, dataset.item_num))
        return torch.where(best == -torch.inf, 0, found)

    @torch.no_grad()
    def _scores(self, users: torch.Tensor, count: int) -> torch.Tensor:
        """(user, item); NeuMF has nothing but a score for a pair."""
        self._model.eval()
        if self._job.model == "ncf":
            pairs = {"user": users.repeat_interleave(count), "item": torch.arange(count).repeat(len(users))}
            scores: torch.Tensor = self._model.predict(Interaction(pairs))
        else:
            scores = self._model.full_sort_predict(Interaction({"user": users}))
        return scores.view(len(users), count)


def batched(values: list[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    return (values[begin : begin + size] for begin in range(0, len(values), size))


class TimeIsOverError(Exception):
    """In the middle of an epoch."""


def stop_when_over(clock: Clock) -> None:
    if clock.is_over:
        raise TimeIsOverError


class Told:
    """A data loader that tells the size of every batch once the next one is asked for, when it was trained on.

    Number 0 is no user: RecBole's loader of users gives it a place in every epoch.
    """

    def __init__(self, loader: Any, call: Callable[[int], None]) -> None:
        self._loader, self._call = loader, call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        for batch in self._loader:
            yield batch
            self._call(int((batch["user"] > 0).sum()))


def write_atomic_files(histories: PeerHistories, folder: Path) -> None:
    """Training interactions, and the held-out ones as validation; the test file, which is not used, repeats them."""
    (folder / NAME).mkdir(exist_ok=True)
    held_out = {"user:token": histories.judged, "item:token": histories.targets}
    told = {"user:token": histories.users, "item:token": histories.items}
    for part, columns in {"train": told, "valid": held_out, "test": held_out}.items():
        pd.DataFrame(columns).to_csv(folder / NAME / f"{NAME}.{part}.inter", sep="\t", index=False)


if __name__ == "__main__":
    serve(RecBolePeer, lambda job: learn(RecBolePeer, job))
