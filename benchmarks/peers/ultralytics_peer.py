"""YOLO11n of ultralytics from its description, no weights loaded, trained with its defaults but for what is named.

Named are the picture's size, the device, the seed, no loader processes, no plots, no validation before the last epoch,
and the epochs, whole ones that two short trainings say the budget pays for: its own option `time` rounds them up. Its
own environment: ultralytics==8.4.190, torch==2.13.0, torchvision==0.28.0, psutil.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from ultralytics import YOLO
from ultralytics.data import utils as data_sets

from benchmarks.peers.picture_side import Box, Job, Learnt, affordable, serve

DESCRIPTIONS = {"classify": "yolo11n-cls.yaml", "detect": "yolo11n.yaml"}
SIDES = {"classify": 96, "detect": 320}  # its sides are multiples of 32
LOWEST_SCORE = 0.001  # what its own validation takes
POINTS = (1.0, 2.0)  # epochs


class Ultralytics:
    """`YOLO(description).train`."""

    package = "ultralytics"

    def prepare(self, job: Job) -> None:
        """Find how many epochs the budget pays for."""
        torch.set_num_threads(job.threads)
        data_sets.check_font = lambda _: None  # it would be fetched for plots, of which none is made
        if not Path(job.pace).is_file():
            self._fit(job, 1.0, Path(job.folder) / "first")  # what is imported with it would count as an epoch's
        self._epochs = max(1.0, round(affordable(job, POINTS, lambda epochs, folder: self._fit(job, epochs, folder))))

    def train(self, job: Job) -> Learnt:
        return self._fit(job, self._epochs, Path(job.folder) / "train")

    def _fit(self, job: Job, epochs: float, folder: Path) -> Learnt:
        told: dict[str, Any] = {}
        model = YOLO(DESCRIPTIONS[job.task], verbose=False)
        model.add_callback("on_train_epoch_end", lambda at: told.update(loader=at.train_loader))
        model.train(
            data=job.data if job.task == "classify" else str(Path(job.data) / "data.yaml"), imgsz=SIDES[job.task],
            epochs=int(epochs), device="cpu", seed=job.seed, workers=0, val=False, plots=False,
            project=str(folder.parent), name=folder.name, exist_ok=True, pretrained=False, verbose=False,
        )  # fmt: skip
        loader, whole = told["loader"], int(epochs)
        return Learnt(steps=whole * len(loader), samples=whole * len(loader.dataset), epochs=epochs)

    def predictions(self, job: Job) -> dict[str, str]:
        return {file: result.names[result.probs.top1] for file, result in self._results(job)}

    def boxes(self, job: Job) -> list[Box]:
        return [
            (file, result.names[int(label)], float(score), *map(float, corners))
            for file, result in self._results(job, conf=LOWEST_SCORE)
            for corners, label, score in zip(result.boxes.xyxy, result.boxes.cls, result.boxes.conf, strict=True)
        ]

    def _results(self, job: Job, **options: float) -> Iterator[tuple[str, Any]]:
        """What the last weights find in every validation picture."""
        model = YOLO(Path(job.folder) / "train" / "weights" / "last.pt")
        for file in job.pictures("val"):
            found = model.predict(file, imgsz=SIDES[job.task], device="cpu", verbose=False, **options)
            yield str(file.relative_to(job.root("val"))), found[0]


if __name__ == "__main__":
    serve(Ultralytics())
