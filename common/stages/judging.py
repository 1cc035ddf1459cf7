"""Judging trained weights on a checked folder, and keeping what came out until weights, data or precision change."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.challenge import Challenge
from common.files import atomic_writer, file_stamp, write_json
from common.machine.device import DeviceChoice, select_device
from common.machine.precision import select_precision
from common.run.recipe import Recipe
from common.run.run_directory import RunDirectory
from common.training.task import DataModule, Evaluation


def judge(
    challenge: Challenge[Any, Any, Any],
    recipe: Recipe,
    run: RunDirectory,
    checked: Path,
    device: DeviceChoice,
    precision: str,
) -> Evaluation:
    """Evaluate a run's weights on every validation sample of the data whose check lies in `checked`."""
    place = select_device(device)
    data = challenge.open_data(recipe, checked, place)
    task = challenge.build_task(recipe, data)
    challenge.weights.load(task, run.weights_file)
    task.place(place).eval()
    with torch.no_grad(), select_precision(precision, place).context(place):
        found: Evaluation = task.evaluate(data.validation_batches())
    return found


def keep_evaluation(
    run: RunDirectory, predictions: Path, record: Path, evaluation: Evaluation, precision: str, **facts: Any
) -> None:
    """Write the two files of an evaluation of the run's weights. facts: what else the record is to hold."""
    with atomic_writer(predictions) as stream:
        np.savez_compressed(stream, allow_pickle=False, **evaluation.predictions)
    write_json(
        record,
        {
            "metrics": evaluation.metrics,
            "intervals": evaluation.intervals,
            "interval_method": evaluation.interval_method,
            "step": run.training()["steps"],
            "precision": precision,
            "weights": list(file_stamp(run.weights_file)),
            **facts,
        },
    )


def is_of_weights(run: RunDirectory, evaluation: dict[str, Any], precision: str) -> bool:
    """Whether an evaluation's record is of the run's weights as they are, in this precision."""
    return bool(evaluation["precision"] == precision and evaluation["weights"] == list(file_stamp(run.weights_file)))


def can_be_read(predictions: Path) -> bool:
    """Whether the file of predictions is there and whole; one that is damaged is evaluated anew."""
    return predictions.is_file() and zipfile.is_zipfile(predictions)


def baselines(challenge: Challenge[Any, Any, Any], recipe: Recipe, run: RunDirectory, data: DataModule) -> Any:
    """Name -> metric -> value of what the run is held against, computed once."""
    if not run.baselines_file.is_file():
        write_json(run.baselines_file, challenge.judgement.baselines(recipe, data))
    return run.baselines()
