"""Triton's model repository: one folder per model, written from Signatures."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from common.errors import ServingError
from common.export.signature import BatchRange, Signature, TensorSpec
from common.files import atomic_writer, write_text
from common.serving.config import (
    DEFAULT_BATCHING,
    DEFAULT_OPTIONS,
    Batching,
    Device,
    Engine,
    EngineOptions,
    add_step,
    add_warmup,
    model_config,
    pb,
    read_config,
    write_config,
)
from common.serving.example import example_image

ARTEFACT_NAMES: dict[Engine, str] = {
    "onnxruntime": "model.onnx",
    "openvino": "model.onnx",
    "tensorrt": "model.plan",
}
ENCODED = TensorSpec("encoded", "uint8", ("bytes",))
"""An image file's bytes; files of one batch are padded with zeros to the longest."""

SIZES = TensorSpec("sizes", "int64", (2,))
"""An image's height and width in pixels, after the orientation that EXIF states."""

BACKENDS = Path(__file__).parent / "backends"


@dataclass(frozen=True, kw_only=True)
class ImageLimits:
    """What is decoded: of one file the bytes, at most, and the number of pixels from which on it is refused.

    maximum_request_bytes, maximum_request_pixels: of all files of one request, the first with their padding.
    """

    maximum_bytes: int = 32 * 1024 * 1024
    maximum_pixels: int = 100_000_000
    maximum_request_bytes: int = 64 * 1024 * 1024
    maximum_request_pixels: int = 200_000_000


DEFAULT_LIMITS = ImageLimits()
NO_LABELS: Mapping[str, Sequence[str]] = {}


@dataclass(frozen=True)
class ModelRepository:
    """A folder that Triton serves.

    device: what the models run on; the same calls write the repository of the CPU and of the GPU.
    """

    path: Path
    device: Device = "cpu"

    def models(self) -> list[str]:
        """Names of the models in the folder, sorted."""
        return sorted(config.parent.name for config in self.path.glob("*/config.pbtxt"))

    def config(self, name: str) -> pb.ModelConfig:
        path = self.path / name / "config.pbtxt"
        if not path.is_file():
            raise ServingError(f"no model {name} in {self.path}", f"known: {', '.join(self.models()) or 'none'}")
        return read_config(path)

    def served(self) -> list[str]:
        """Names of the models that clients call: those that are no step of an ensemble."""
        configs = [self.config(name) for name in self.models()]
        parts = {step.model_name for config in configs for step in config.ensemble_scheduling.step}
        return [config.name for config in configs if config.name not in parts]

    def ensembles_of(self, part: str) -> list[str]:
        """Names of the ensembles that the model is a step of."""
        steps = {name: self.config(name).ensemble_scheduling.step for name in self.models()}
        return [name for name, parts in steps.items() if part in (step.model_name for step in parts)]

    def add(
        self,
        name: str,
        artefact: Path,
        signature: Signature,
        engine: Engine,
        *,
        labels: Mapping[str, Sequence[str]] = NO_LABELS,
        options: EngineOptions = DEFAULT_OPTIONS,
        batching: Batching = DEFAULT_BATCHING,
        version: int = 1,
        verify: Callable[[Path], object] | None = None,
    ) -> None:
        """Add or replace the model `name`, which runs `artefact` (an ONNX file or a TensorRT plan).

        labels: by output, the class name of every index; clients then may ask for the best classes by name.
        verify: raises the kit's error if the artefact must not run here, such as a plan built for another GPU; by
                default a plan is held against this machine.
        """
        self._refuse(engine == "tensorrt" and self.device == "cpu", "a TensorRT plan", "serve it with device gpu")
        self._refuse(engine == "openvino" and self.device == "gpu", "OpenVINO", "use onnxruntime or tensorrt there")
        if not artefact.is_file() or not artefact.stat().st_size:
            raise ServingError(f"there is no engine at {artefact}", remedy="export the run first: kit export RUN")
        if verify is None and engine == "tensorrt":
            from common.export.tensorrt import check_plan as verify
        if verify:
            verify(artefact)
        config = model_config(name, engine, signature, self.device, instances=options.instances, batching=batching)
        config.default_model_filename = ARTEFACT_NAMES[engine]
        for key, value in options.parameters(engine).items():
            config.parameters[key].string_value = value
        for output, names in labels.items():
            self._add_labels(config, output, names)
        add_warmup(config, (1, signature.batch.optimum, signature.batch.maximum))
        self.write(config, version, {ARTEFACT_NAMES[engine]: artefact})

    def add_preprocessing(
        self,
        name: str,
        graph: bytes,
        outputs: tuple[TensorSpec, ...],
        batch: BatchRange,
        *,
        batching: Batching = DEFAULT_BATCHING,
        version: int = 1,
    ) -> None:
        """Add a serialised DALI pipeline whose only input is the external source `encoded`, (bytes,) per sample."""
        signature = Signature((ENCODED,), outputs, batch)
        config = model_config(name, "dali", signature, self.device, batching=batching)
        config.input[0].allow_ragged_batch = True  # files of different length may share a batch
        config.default_model_filename = "model.dali"
        self._add_example_warmup(config)
        self.write(config, version, {"model.dali": graph})

    def add_check(
        self,
        name: str,
        batch: BatchRange,
        *,
        limits: ImageLimits = DEFAULT_LIMITS,
        batching: Batching = DEFAULT_BATCHING,
    ) -> None:
        """Add the step that refuses files by their header, so that no bad one shares a batch with good ones."""
        signature = Signature((ENCODED,), (replace(ENCODED, name="checked"),), batch)
        config = model_config(name, "python", signature, "cpu", batching=replace(batching, delay_us=0))
        config.input[0].allow_ragged_batch = True
        for key, value in vars(limits).items():
            config.parameters[key].string_value = str(value)
        self._add_example_warmup(config)
        self.write(config, 1, {"model.py": BACKENDS / "check" / "model.py"})

    def add_image_classifier(
        self,
        name: str,
        artefact: Path,
        signature: Signature,
        engine: Engine,
        graph: bytes,
        labels: Sequence[str],
        *,
        options: EngineOptions = DEFAULT_OPTIONS,
        batching: Batching = DEFAULT_BATCHING,
        scores: str | None = None,
        limits: ImageLimits = DEFAULT_LIMITS,
        verify: Callable[[Path], object] | None = None,
    ) -> None:
        """Add the ensemble `name`, from encoded images to scores, and its three parts.

        scores: the output with one number per class that the ensemble gives; the first by default.

        Class names leave through Triton's classification extension: a client asks for the k best of the output and
        gets `score:index:name` from the labels of the model inside. So no step after the model is needed, and the
        scores themselves stay available to a client that asks for the plain output.
        """
        output = next(spec for spec in signature.outputs if scores in (None, spec.name))
        labelled = {output.name: labels}
        config = self._image_ensemble(
            name, artefact, signature, engine, graph, (output,), labels=labelled, options=options, batching=batching,
            limits=limits, verify=verify,
        )  # fmt: skip
        add_step(config, f"{name}_model", {signature.inputs[0].name: "images"}, {output.name: output.name})
        self.write(config, 1, {})

    def add_image_detector(
        self,
        name: str,
        artefact: Path,
        signature: Signature,
        engine: Engine,
        graph: bytes,
        labels: Sequence[str],
        *,
        options: EngineOptions = DEFAULT_OPTIONS,
        batching: Batching = DEFAULT_BATCHING,
        limits: ImageLimits = DEFAULT_LIMITS,
        verify: Callable[[Path], object] | None = None,
    ) -> None:
        """Add the ensemble `name`, from encoded images to named boxes in their own pixels, and its four parts.

        signature: one input, and the outputs boxes (detection, 4) float32 as shares of the image, scores (detection,)
                   float32, and labels (detection,) int64, 0 in the padding.
        graph:     two outputs: the images, and their sizes as SIZES has them.
        labels:    names of the classes from 1 on.

        The answer: boxes (detection, 4) in pixels, left, top, right, bottom; scores; labels; names, empty in the
        padding; count (1,), the detections before the padding.
        """
        boxes, scores, numbers = _detector_outputs(name, signature)
        _check_names(labels)
        names, count = TensorSpec("names", "bytes", numbers.shape), TensorSpec("count", "int64", (1,))
        config = self._image_ensemble(
            name, artefact, signature, engine, graph, (boxes, scores, numbers, names, count), with_sizes=True,
            options=options, batching=batching, limits=limits, verify=verify,
        )  # fmt: skip
        add_step(
            config,
            f"{name}_model",
            {signature.inputs[0].name: "images"},
            {"boxes": "shares", "scores": "scores", "labels": "labels"},
        )
        step = Signature((boxes, numbers, SIZES), (boxes, names, count), signature.batch)
        detections = model_config(f"{name}_detections", "python", step, "cpu", batching=replace(batching, delay_us=0))
        detections.parameters["classes"].string_value = json.dumps(list(labels))
        add_warmup(detections, (1, signature.batch.maximum))
        self.write(detections, 1, {"model.py": BACKENDS / "detections" / "model.py"})
        add_step(
            config,
            detections.name,
            {"boxes": "shares", "labels": "labels", "sizes": "sizes"},
            {"boxes": "boxes", "names": "names", "count": "count"},
        )
        self.write(config, 1, {})

    def _image_ensemble(
        self,
        name: str,
        artefact: Path,
        signature: Signature,
        engine: Engine,
        graph: bytes,
        outputs: tuple[TensorSpec, ...],
        *,
        options: EngineOptions,
        batching: Batching,
        limits: ImageLimits,
        verify: Callable[[Path], object] | None,
        labels: Mapping[str, Sequence[str]] = NO_LABELS,
        with_sizes: bool = False,
    ) -> pb.ModelConfig:
        """Add check, preprocessing and model; returns the ensemble so far: `images`, and `sizes` where asked for."""
        if len(signature.inputs) != 1:
            raise ServingError(f"{name} takes {len(signature.inputs)} inputs", "a model of images takes one: images")
        batch = signature.batch
        self.add(
            f"{name}_model", artefact, signature, engine, labels=labels, options=options, batching=batching,
            verify=verify,
        )  # fmt: skip
        prepared = (replace(signature.inputs[0], name="images"), *((SIZES,) if with_sizes else ()))
        self.add_preprocessing(f"{name}_preprocessing", graph, prepared, batch, batching=batching)
        self.add_check(f"{name}_check", batch, limits=limits, batching=batching)
        config = model_config(name, "ensemble", Signature((ENCODED,), outputs, batch), self.device)
        add_step(config, f"{name}_check", {"encoded": "encoded"}, {"checked": "checked"})
        add_step(config, f"{name}_preprocessing", {"encoded": "checked"}, {spec.name: spec.name for spec in prepared})
        return config

    def _refuse(self, condition: bool, what: str, remedy: str) -> None:
        if condition:
            raise ServingError(f"{what} cannot run in a repository for the {self.device}", remedy=remedy)

    def _add_labels(self, config: pb.ModelConfig, output: str, names: Sequence[str]) -> None:
        tensor = next(tensor for tensor in config.output if tensor.name == output)
        if list(tensor.dims) != [len(names)]:
            raise ServingError(f"{len(names)} class names for the output {output} of shape {list(tensor.dims)}")
        _check_names(names)
        tensor.label_filename = f"{output}.txt"
        write_text(self.path / config.name / tensor.label_filename, "\n".join(names) + "\n")

    def _add_example_warmup(self, config: pb.ModelConfig) -> None:
        """A picture instead of random bytes, which no decoder takes."""
        image = example_image()
        entry = config.model_warmup.add(name="example", batch_size=1).inputs["encoded"]
        entry.data_type = pb.TYPE_UINT8
        entry.dims.append(len(image))
        entry.input_data_file = "example.png"
        with atomic_writer(self.path / config.name / "warmup" / "example.png") as stream:
            stream.write(image)

    def write(self, config: pb.ModelConfig, version: int, files: dict[str, Path | bytes]) -> None:
        """Write one model; the configuration comes last, so that a half-written model has none and is not served."""
        folder = self.path / config.name / str(version)
        folder.mkdir(parents=True, exist_ok=True)
        for filename, content in files.items():
            with atomic_writer(folder / filename) as stream:
                if isinstance(content, bytes):
                    stream.write(content)
                else:
                    with content.open("rb") as source:
                        shutil.copyfileobj(source, stream)
        write_config(config, self.path / config.name / "config.pbtxt")


def _check_names(names: Sequence[str]) -> None:
    broken = [name for name in names if not name.strip() or "\n" in name or "\r" in name]
    if broken:
        raise ServingError(f"the class name {broken[0]!r} cannot stand on a line of its own", remedy="rename it")


def _detector_outputs(name: str, signature: Signature) -> tuple[TensorSpec, TensorSpec, TensorSpec]:
    """boxes, scores and labels; ServingError where the signature has others."""
    found = {spec.name: (spec.dtype, spec.shape) for spec in signature.outputs}
    number = found.get("scores", ("", (0,)))[1][0]
    wanted = (
        TensorSpec("boxes", "float32", (number, 4)),
        TensorSpec("scores", "float32", (number,)),
        TensorSpec("labels", "int64", (number,)),
    )
    if any(found.get(spec.name) != (spec.dtype, spec.shape) for spec in wanted):
        raise ServingError(
            f"{name} gives {found}", "a detector gives boxes float32 (n, 4), scores float32 (n,), labels int64 (n,)"
        )
    return wanted
