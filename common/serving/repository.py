"""Triton's model repository: one folder per model, written from Signatures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tritonclient.grpc import model_config_pb2 as pb

from common.errors import ServingError
from common.export.signature import Signature
from common.export.weights import files_of
from common.files import atomic_writer, copy_file, link_file
from common.serving.config import (
    DEFAULT_BATCHING,
    DEFAULT_OPTIONS,
    Batching,
    Device,
    Engine,
    EngineOptions,
    add_example,
    add_step,
    add_warmup,
    model_config,
    read_config,
    write_config,
)
from common.serving.releases import LOCAL, Release

ARTEFACT_NAMES: dict[Engine, str] = {
    "onnxruntime": "model.onnx",
    "openvino": "model.onnx",
    "tensorrt": "model.plan",
}
LINKED_BYTES = 1 << 28
"""From this size on a file has a second name in the repository instead of a copy: the kit only ever replaces files."""
NEEDS = "needs"
Files = Mapping[str, Path | bytes]
NO_FILES: Files = {}
NO_LABELS: Mapping[str, Sequence[str]] = {}


@dataclass(frozen=True, kw_only=True)
class Exported:
    """An exported model, and how it is run.

    artefact: an ONNX file or a TensorRT plan.
    verify:   raises the kit's error if the artefact must not run here, such as a plan built for another GPU; by
              default a plan is held against this machine.
    """

    artefact: Path
    signature: Signature
    engine: Engine
    options: EngineOptions = DEFAULT_OPTIONS
    batching: Batching = DEFAULT_BATCHING
    verify: Callable[[Path], object] | None = None


STRINGS = Path(__file__).parent / "backends" / "strings.py"
"""A module for steps that are asked with strings, to lie beside their model.py."""


@dataclass(frozen=True, kw_only=True)
class PythonStep:
    """A step of an ensemble that is written in Python; it runs on the CPU and waits for no company.

    folder:     all its Python modules travel into the repository; Triton begins in model.py.
    parameters: what the step reads in its configuration, as texts.
    files:      what else it reads, by name, beside model.py.
    ragged:     inputs that need not be of one length to share a batch.
    warmup:     batch sizes of the runs at load time, on zeros.
    example:    what the only input gets at load time instead of zeros, as uint8.
    needs:      packages that it imports and NVIDIA's Triton image lacks.
    """

    folder: Path
    signature: Signature
    batching: Batching = DEFAULT_BATCHING
    parameters: Mapping[str, object]
    files: Files = field(default_factory=dict)
    ragged: Sequence[str] = ()
    warmup: tuple[int, ...] = ()
    example: bytes = b""
    needs: Sequence[str] = ()


@dataclass(frozen=True)
class Part:
    """A model inside an ensemble; inputs, outputs: the model's tensor name -> the ensemble's."""

    model: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class ModelRepository:
    """A folder that Triton serves.

    device:  what the models run on; the same calls write the repository of the CPU and of the GPU.
    release: the server that it is for.
    """

    path: Path
    device: Device = "cpu"
    release: Release = LOCAL

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

    def size_bytes(self) -> int:
        """Of all files of the models."""
        return sum(path.stat().st_size for path in self.path.glob("*/*/**/*") if path.is_file())

    def needs(self) -> dict[str, str]:
        """Model -> the packages that its step imports and NVIDIA's Triton image lacks."""
        parameters = {name: self.config(name).parameters for name in self.models()}
        return {name: found[NEEDS].string_value for name, found in parameters.items() if NEEDS in found}

    def add(self, name: str, exported: Exported, *, labels: Mapping[str, Sequence[str]] = NO_LABELS) -> None:
        """Add or replace the model `name`.

        labels: by output, the class name of every index; clients then may ask for the best classes by name.
        """
        engine, batch = exported.engine, exported.signature.batch
        self._require_engine(exported)
        config = model_config(
            name,
            engine,
            exported.signature,
            self.device,
            instances=exported.options.instances,
            batching=exported.batching,
        )
        config.default_model_filename = ARTEFACT_NAMES[engine]
        if exported.options.graphs:
            config.optimization.cuda.graphs = True
        for key, value in exported.options.parameters(engine).items():
            config.parameters[key].string_value = value
        named = _add_labels(config, labels)
        add_warmup(config, (1, batch.optimum, batch.maximum))
        graph, *data = files_of(exported.artefact)
        self.write(config, {ARTEFACT_NAMES[engine]: graph, **{path.name: path for path in data}}, named)

    def add_step(self, name: str, step: PythonStep) -> None:
        """Add or replace the Python step `name`."""
        batching = replace(step.batching, delay_us=0)
        config = model_config(name, "python", step.signature, "cpu", batching=batching)
        for tensor in config.input:
            tensor.allow_ragged_batch = tensor.name in step.ragged
        for key, value in step.parameters.items():
            config.parameters[key].string_value = str(value)
        if step.needs:
            config.parameters[NEEDS].string_value = ", ".join(step.needs)
        add_warmup(config, step.warmup)
        beside = add_example(config, step.example) if step.example else NO_FILES
        modules = {path.name: path for path in step.folder.glob("*.py") if path.name != "__init__.py"}
        self.write(config, {**modules, **step.files}, beside)

    def add_ensemble(self, name: str, signature: Signature, parts: Sequence[Part]) -> None:
        """Add or replace what clients call: models that were added, one after the other, without a copy in between."""
        config = model_config(name, "ensemble", signature, self.device)
        for part in parts:
            add_step(config, part.model, part.inputs, part.outputs)
        self.write(config, NO_FILES)

    def write(self, config: pb.ModelConfig, files: Files, beside: Files = NO_FILES) -> None:
        """Write one model; the configuration comes last, so that a half-written model has none and is not served.

        files:  of the model's only version, by name.
        beside: of the model, such as labels.
        """
        folder = self.path / config.name
        (folder / "1").mkdir(parents=True, exist_ok=True)
        for path, content in [*((f"1/{name}", content) for name, content in files.items()), *beside.items()]:
            if isinstance(content, Path):
                put = link_file if content.stat().st_size >= LINKED_BYTES else copy_file
                put(content, folder / path)
            else:
                with atomic_writer(folder / path) as stream:
                    stream.write(content)
        write_config(config, folder / "config.pbtxt")

    def _require_engine(self, exported: Exported) -> None:
        """Raise where the artefact cannot be run here."""
        engine, artefact, verify = exported.engine, exported.artefact, exported.verify
        self._refuse(engine == "tensorrt" and self.device == "cpu", "a TensorRT plan", "serve it with device gpu")
        self._refuse(engine == "openvino" and self.device == "gpu", "OpenVINO", "use onnxruntime or tensorrt there")
        if not artefact.is_file() or not artefact.stat().st_size:
            raise ServingError(f"there is no engine at {artefact}", remedy="export the run first: kit export RUN")
        if verify is None and engine == "tensorrt":
            from common.export.tensorrt import check_plan as verify
        if verify:
            verify(artefact)

    def _refuse(self, condition: bool, what: str, remedy: str) -> None:
        if condition:
            raise ServingError(f"{what} cannot run in a repository for the {self.device}", remedy=remedy)


def require_names(names: Sequence[str]) -> None:
    """Raise ServingError where a class name is nothing to read or more than a line."""
    broken = [name for name in names if not name.strip() or "\n" in name or "\r" in name]
    if broken:
        raise ServingError(f"the class name {broken[0]!r} cannot stand on a line of its own", remedy="rename it")


def _add_labels(config: pb.ModelConfig, labels: Mapping[str, Sequence[str]]) -> Files:
    """The files of the outputs' class names."""
    files = {}
    for output, names in labels.items():
        tensor = next(tensor for tensor in config.output if tensor.name == output)
        if list(tensor.dims) != [len(names)]:
            raise ServingError(f"{len(names)} class names for the output {output} of shape {list(tensor.dims)}")
        require_names(names)
        tensor.label_filename = f"{output}.txt"
        files[tensor.label_filename] = ("\n".join(names) + "\n").encode("utf-8", "surrogatepass")
    return files
