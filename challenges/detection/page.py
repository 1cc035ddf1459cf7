"""What a detector's page shows: precision, what was found, and training scenes as the network sees them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from challenges.detection.data import SceneData
from challenges.detection.recipes import DetectionRecipe
from challenges.detection.report import sample_grid, sections
from challenges.detection.scenes import Scenes
from common.challenge import Page
from common.files import atomic_writer
from common.report.elements import Section
from common.run.run_directory import RunDirectory

NUM_SAMPLES = 12  # training samples shown in the report


class DetectionPage(Page[DetectionRecipe, SceneData]):
    """Training samples, precision by class, and what was found where."""

    def keep_samples(self, run: RunDirectory, recipe: DetectionRecipe, data: SceneData) -> None:
        batch = next(data.train_batches(0, min(NUM_SAMPLES, data.num_train), 1))
        images = data.preprocessing.pixels(batch["images"].cpu().numpy())
        with atomic_writer(_samples_file(run)) as stream:
            np.savez_compressed(
                stream, images=images, boxes=batch["boxes"].cpu().numpy(), labels=batch["labels"].cpu().numpy()
            )

    def sections(self, run: RunDirectory, recipe: DetectionRecipe) -> Sequence[Section]:
        scenes = Scenes.read(run.data)
        parts = sections(run, scenes, recipe)
        if _samples_file(run).is_file():
            samples = np.load(_samples_file(run))
            parts.append(sample_grid(samples["images"], samples["boxes"], samples["labels"], scenes.classes))
        return parts


def _samples_file(run: RunDirectory) -> Path:
    return run.report_file.with_name("samples.npz")
