"""NeuMF and MultiVAE of RecBole as a peer: its atomic files, its data loaders and its trainer, as documented.

Its own environment: Python 3.11, recbole==1.2.1 with numpy<2, pandas<2.3, scipy<1.14, and torch==2.13.0, with which
this part of it works as it is; loading its checkpoints, which needs an older torch, is not asked for. An evaluation is
`Trainer.evaluate` in full ranking with two metrics at one cutoff.
"""

from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed
from recbole.utils.case_study import full_sort_topk

from benchmarks.peer_process import Job, PeerHistories, serve

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
                "use_gpu": False,
                "show_progress": False,
                "state": "ERROR",
            },
        )
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

    def evaluate(self) -> int:
        self._trainer.evaluate(self._valid_data, load_best_model=False)
        return len(self._histories.judged)

    def top_items(self, count: int) -> np.ndarray:
        dataset = self._valid_data.dataset
        users = dataset.token2id("user", self._histories.judged.astype(str))
        parts = np.split(users, range(USERS_AT_ONCE, len(users), USERS_AT_ONCE))
        best = torch.cat([full_sort_topk(part, self._model, self._valid_data, count)[1] for part in parts])
        return np.where(best.numpy() == 0, "-1", dataset.id2token("item", best.numpy())).astype(np.int64)


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
    serve(RecBolePeer)
