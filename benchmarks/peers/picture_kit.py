"""The kit's side of the comparison: `kit train` with the recipe for data of one's own, and `kit evaluate`.

What the kit asks a user to do once for a folder, `kit check`, is done before the clock starts, as the others are handed
folders that are known to be sound. Everything else that training does (baselines, evaluations, checkpoints, the report)
is part of what it takes.
"""

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot  # noqa: F401  (imports do not count, for any side)
import numpy as np
import nvidia.dali.plugin.pytorch  # noqa: F401
import tensorboard.summary.writer.event_file_writer  # noqa: F401
import torch

from benchmarks.peers.picture_side import Box, Job, Learnt, Meter, SideError, serve
from challenges.__main__ import main
from challenges.classification.challenge import ClassificationChallenge
from challenges.classification.manifest import Manifest
from challenges.detection.challenge import DetectionChallenge
from challenges.detection.detections import DetectionTable
from challenges.detection.scenes import Scenes
from common.challenge import Challenge
from common.run.run_directory import RunDirectory
from common.stages import pace

RECIPES: dict[str, tuple[str, Challenge[Any, Any, Any]]] = {
    "classify": ("photos", ClassificationChallenge()),
    "detect": ("small", DetectionChallenge()),
}
GOES_ON = "finetune"  # the recipe where there are weights to start from
TRIAL_SECONDS = {"classify": 15.0, "detect": 30.0}  # of a training that shows what comes before and after the steps


class Kit:
    """`kit train` with no flag but minutes, seed, threads and weights; its clock is the processor's."""

    package = "challenge-kit"

    def prepare(self, job: Job) -> None:
        """Check the folder, and measure once per set what a training takes besides its minutes."""
        torch.set_num_threads(job.threads)
        pace.clock = Meter()
        _kit("check", job.data, "--model", RECIPES[job.task][1].model)
        kept = Path(job.pace)
        if not kept.is_file():
            meter = Meter()
            _train(job, TRIAL_SECONDS[job.task], Path(job.folder) / "trial")
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps({"seconds": meter() - TRIAL_SECONDS[job.task]}))
        self._besides = float(json.loads(kept.read_text())["seconds"])

    def train(self, job: Job) -> Learnt:
        self._run = _train(job, job.budget - self._besides, Path(job.folder) / "run")
        told = self._run.training()
        batch = self._run.recipe(RECIPES[job.task][1].recipe_class).training.batch_size
        return Learnt(steps=told["steps"], samples=told["steps"] * batch, epochs=told["epochs"])

    def predictions(self, job: Job) -> dict[str, str]:
        validation = Manifest.read(self._run.data / "manifest.csv").subset("val")
        found = self._evaluated()["predicted"].tolist()
        files = [str((validation.root / path).relative_to(job.root("val"))) for path in validation.paths]
        return {file: validation.classes[label] for file, label in zip(files, found, strict=True)}

    def boxes(self, job: Job) -> list[Box]:
        scenes = Scenes.read(self._run.data).subset("val")
        table = DetectionTable.from_columns(self._evaluated())
        files = [str((scenes.root / path).relative_to(job.root("val"))) for path in scenes.paths]
        return [
            (files[image], scenes.classes[label - 1], float(score), *map(float, corners))
            for image, label, score, corners in zip(table.images, table.labels, table.scores, table.boxes, strict=True)
        ]

    def _evaluated(self) -> dict[str, np.ndarray]:
        _kit("evaluate", str(self._run.path))
        with np.load(self._run.predictions_file) as columns:
            return dict(columns)


def _train(job: Job, seconds: float, folder: Path) -> RunDirectory:
    name, challenge = RECIPES[job.task]
    recipe, start = (GOES_ON, ("--weights", job.weights)) if job.weights else (name, ())
    _kit(
        "train", f"{challenge.model}/{recipe}", *start, "--data", job.data, "--run", str(folder), "--device", "cpu",
        "--training.minutes", f"{seconds / 60:.5f}", "--training.seed", str(job.seed),
        "--data.threads", str(job.threads),
    )  # fmt: skip
    return RunDirectory.open(folder)


def _kit(*arguments: str) -> None:
    code = main(arguments)
    if code:
        raise SideError(f"kit {' '.join(arguments)} ended with {code}.")


if __name__ == "__main__":
    serve(Kit())
