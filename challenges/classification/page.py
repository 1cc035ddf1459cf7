"""What a classifier's page shows: accuracy, mistakes, and training photographs as the network sees them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from challenges.classification.data import PhotographData
from challenges.classification.manifest import Manifest
from challenges.classification.recipes import ClassificationRecipe
from challenges.classification.report import sample_grid, sections
from challenges.classification.search.report import FOLDER, MEASURED, similar_section
from common.challenge import Page
from common.files import atomic_writer
from common.report.elements import Section
from common.run.run_directory import RunDirectory

NUM_SAMPLES = 24  # training samples shown in the report


class ClassificationPage(Page[ClassificationRecipe, PhotographData]):
    """Training samples, accuracy by class, and what was mistaken for what."""

    def keep_samples(self, run: RunDirectory, recipe: ClassificationRecipe, data: PhotographData) -> None:
        batch = next(data.train_batches(0, min(NUM_SAMPLES, data.num_train), 1))
        images = data.preprocessing.pixels(batch["images"].cpu().numpy())
        with atomic_writer(_samples_file(run)) as stream:
            np.savez_compressed(stream, images=images, labels=batch["label"].cpu().numpy())

    def sections(self, run: RunDirectory, recipe: ClassificationRecipe) -> Sequence[Section]:
        manifest = Manifest.read(run.data / "manifest.csv")
        parts = sections(run, manifest)
        if _samples_file(run).is_file():
            samples = np.load(_samples_file(run))
            parts.append(sample_grid(samples["images"], samples["labels"], manifest.classes))
        return [*parts, *similar_section(run.path / FOLDER / MEASURED)]


def _samples_file(run: RunDirectory) -> Path:
    return run.report_file.with_name("samples.npz")
