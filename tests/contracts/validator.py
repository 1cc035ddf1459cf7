"""Whether a model repository holds together, as a server would find out on loading it."""

from typing import Any

from tritonclient.grpc import model_config_pb2 as pb

from common.export.signature import Signature
from common.serving.config import data_type, dimensions
from common.serving.repository import ModelRepository

Kinds = dict[str, tuple[int, list[int]]]
"""Tensor -> its type and sizes after the batch."""


def kinds(tensors: Any) -> Kinds:
    return {tensor.name: (tensor.data_type, list(tensor.dims)) for tensor in tensors}


def problems_of(repository: ModelRepository, signature: Signature | None = None) -> list[str]:
    """What does not fit, in words; every config.pbtxt is parsed as protobuf text, which raises for unknown fields.

    signature: of the exported model, whose names, sizes and largest batch its configuration must have.
    """
    found = []
    for name in repository.models():
        config = repository.config(name)
        if config.name != name or config.max_batch_size < 1:
            found.append(f"{name} is called {config.name}, with batches up to {config.max_batch_size}")
        if config.platform == "ensemble":
            found += _of_ensemble(repository, config)
        else:
            found += _of_part(repository, config)
    if signature is not None:
        (model,) = (repository.config(name) for name in repository.models() if name.endswith("_model"))
        found += _of_signature(model, signature)
    return found


def _of_part(repository: ModelRepository, config: pb.ModelConfig) -> list[str]:
    found, folder = [], repository.path / config.name
    file = folder / "1" / (config.default_model_filename or "model.py")
    if not (file.is_file() and file.stat().st_size):
        found.append(f"{config.name} has no {file.name}")
    plan = config.platform == "tensorrt_plan"
    groups = {group.kind for group in config.instance_group}
    if plan and (config.backend or groups != {pb.ModelInstanceGroup.KIND_GPU}):
        found.append(f"{config.name} is a plan and runs on {groups} by {config.backend}")
    if not plan and not config.backend:
        found.append(f"{config.name} names neither backend nor platform")
    given = kinds(config.input)
    for warmup in config.model_warmup:
        for name, entry in warmup.inputs.items():
            fits = name in given and entry.data_type == given[name][0] and _is_of(entry.dims, given[name][1])
            if not fits or not 1 <= warmup.batch_size <= config.max_batch_size:
                found.append(f"{config.name} warms up {name} {list(entry.dims)} in a batch of {warmup.batch_size}")
    for tensor in config.output:
        labels = (folder / tensor.label_filename).read_text().splitlines() if tensor.label_filename else []
        if tensor.label_filename and [len(labels)] != list(tensor.dims):
            found.append(f"{config.name} has {len(labels)} labels for {tensor.name} {list(tensor.dims)}")
    return found


def _is_of(sizes: Any, dims: list[int]) -> bool:
    return len(sizes) == len(dims) and all(wanted in (-1, size) for size, wanted in zip(sizes, dims, strict=True))


def _of_ensemble(repository: ModelRepository, config: pb.ModelConfig) -> list[str]:
    """Every tensor that a step takes is there before it, of the type and sizes that it takes."""
    found, known, taken = [], kinds(config.input), set()
    for step in config.ensemble_scheduling.step:
        if step.model_name not in repository.models():
            found.append(f"{config.name} has a step {step.model_name}, which is not there")
            continue
        part = repository.config(step.model_name)
        takes, gives = kinds(part.input), kinds(part.output)
        if part.max_batch_size < config.max_batch_size:
            found.append(
                f"{part.name} takes batches up to {part.max_batch_size}, {config.name} {config.max_batch_size}"
            )
        if {inner: known.get(outer) for inner, outer in step.input_map.items()} != takes:
            found.append(f"{part.name} takes {takes}, which {config.name} does not have by then: {known}")
        if not step.output_map.keys() <= gives.keys():
            found.append(f"{part.name} gives {list(gives)}, of which {config.name} takes {list(step.output_map)}")
        taken.update(step.input_map.values())
        known |= {outer: gives[inner] for inner, outer in step.output_map.items() if inner in gives}
    if unused := kinds(config.input).keys() - taken:
        found.append(f"{config.name} takes {sorted(unused)}, and no step does")
    if (given := kinds(config.output)) != {name: known.get(name) for name in given}:
        found.append(f"{config.name} gives {given}, its steps {known}")
    return found


def _of_signature(model: pb.ModelConfig, signature: Signature) -> list[str]:
    found = []
    for side, specs in ((model.input, signature.inputs), (model.output, signature.outputs)):
        wanted = {spec.name: (data_type(spec), dimensions(spec)) for spec in specs}
        if kinds(side) != wanted:
            found.append(f"{model.name} has {kinds(side)}, the signature {wanted}")
    if model.max_batch_size != signature.batch.maximum:
        found.append(f"{model.name} takes batches up to {model.max_batch_size}, the signature {signature.batch}")
    return found
