"""One model on a little of what its demo is made of, a few steps far: what the contracts are held against."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from challenges.registry import MODELS
from common.challenge import Challenge, Trained
from common.export.onnx import export_onnx
from common.run.recipe import Recipe
from common.run.run_directory import RunDirectory
from common.serving.repository import Exported, ModelRepository
from common.stages.request import Request
from common.stages.training_stage import train
from common.stages.workflow import evaluate
from common.terminal.console import SafeConsole

STEPS, BATCH = 4, 4
CONSOLE = SafeConsole(quiet=True)
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Line:
    """A model, its demo recipe cut short, its sample data, and a folder for its runs."""

    challenge: Challenge[Any, Any, Any]
    recipe: Recipe
    root: Path
    folder: Path

    @classmethod
    def of(cls, model: str, folder: Path) -> "Line":
        challenge = MODELS[model].load()
        demo = challenge.recipes["demo"]
        training = replace(demo.training, batch_size=BATCH, precision="fp32", patience=None)
        uncut = cls(challenge, replace(demo, training=training), challenge.sample_data(CONSOLE), folder)
        epochs = STEPS * BATCH / uncut.data().num_train
        return replace(uncut, recipe=replace(demo, training=replace(training, epochs=epochs, evaluate_every=epochs)))

    def data(self, **options: Any) -> Any:
        """The checked sample data; options: those of `open_data`."""
        checked = self.folder / "check"
        checked.mkdir(parents=True, exist_ok=True)
        self.challenge.check(self.root, self.recipe, checked, CONSOLE)
        return self.challenge.open_data(self.recipe, checked, CPU, **options)

    def train(self, name: str) -> RunDirectory:
        request = Request(self.challenge, "demo", self.recipe, self.root, self.folder / name, "cpu")
        return train(request, CONSOLE)

    @cached_property
    def run(self) -> RunDirectory:
        """Trained and evaluated."""
        found = self.train("whole")
        evaluate(self.challenge, found, CONSOLE, device="cpu")
        return found

    @cached_property
    def trained(self) -> Trained[Any, Any, Any]:
        return Trained.load(self.challenge, self.run)

    @cached_property
    def graph(self) -> Path:
        """The model as an fp32 ONNX file."""
        task = self.trained.task
        signature = task.signature()
        arrays, _ = next(iter(self.trained.inputs("val", signature.batch.optimum)))
        example = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return export_onnx(task.inference_module().eval(), signature, self.folder / "model.fp32.onnx", example=example)

    def add_to(self, repository: ModelRepository) -> None:
        """Put the model there under its own name, as `kit serve` does."""
        trained, served = self.trained, self.challenge.served
        exported = Exported(artefact=self.graph, signature=trained.task.signature(), engine="onnxruntime")
        _, class_names = served.contract(trained.recipe, trained.data)
        served.add_to_repository(repository, self.challenge.model, exported, class_names, self.run)
