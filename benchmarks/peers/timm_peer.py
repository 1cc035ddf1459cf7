"""timm's train.py as it is, with its defaults but for network, size, batch, processes and how often it validates.

Its own environment: timm==1.0.28, torch==2.13.0, torchvision==0.28.0, psutil. The script is not in timm's distribution:
`job.model` is its path in a checkout of that version. Its epochs are whole ones.
"""

import csv
import math
import runpy
import sys
from pathlib import Path

import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config

from benchmarks.peers.picture_side import Job, Learnt, affordable, serve

NETWORK, BATCH, EXPERIMENT = "resnet18", 32, "run"
POINTS = (1.0, 2.0)
SELDOM = 10_000  # epochs between validations: it validates after the last one whatever this is


class Timm:
    """The script, run in this process."""

    package = "timm"

    def prepare(self, job: Job) -> None:
        """Find how many epochs the budget pays for."""
        torch.set_num_threads(job.threads)
        self._classes = sorted(folder.name for folder in (Path(job.data) / "train").iterdir())
        self._epochs = max(1, round(affordable(job, POINTS, lambda epochs, folder: self._run(job, epochs, folder))))

    def train(self, job: Job) -> Learnt:
        self._run(job, self._epochs, Path(job.folder) / "train")
        count = len(job.pictures("train"))
        steps = self._epochs * (count // BATCH)
        return Learnt(steps=steps, samples=steps * BATCH, epochs=float(self._epochs))

    def _run(self, job: Job, epochs: float, folder: Path) -> None:
        sys.argv = [
            job.model, "--data-dir", job.data, "--train-split", "train", "--val-split", "val",
            "--model", NETWORK, "--num-classes", str(len(self._classes)), "--img-size", str(job.size),
            "--batch-size", str(BATCH), "--epochs", str(math.ceil(epochs)), "--workers", "1",
            "--val-interval", str(SELDOM), "--seed", str(job.seed), "--device", "cpu",
            "--output", str(folder), "--experiment", EXPERIMENT,
        ]  # fmt: skip
        runpy.run_path(job.model, run_name="__main__")

    @torch.inference_mode()
    def predictions(self, job: Job) -> dict[str, str]:
        model = timm.create_model(
            NETWORK, num_classes=len(self._classes), checkpoint_path=str(_weights(Path(job.folder)))
        )
        model.eval()
        config = resolve_data_config({"input_size": (3, job.size, job.size)}, model=model)
        transform = create_transform(**config)
        root, found = Path(job.data) / "val", {}
        for file in job.pictures("val"):
            with Image.open(file) as image:
                logits = model(transform(image.convert("RGB"))[None])
            found[str(file.relative_to(root))] = self._classes[int(logits.argmax())]
        return found


def _weights(folder: Path) -> Path:
    """The checkpoint of the last epoch, which is the only one that it validated."""
    output = folder / "train" / EXPERIMENT
    with (output / "summary.csv").open() as stream:
        assert list(csv.DictReader(stream)), "train.py wrote no epoch"
    return output / "last.pth.tar"


if __name__ == "__main__":
    serve(Timm())
