"""What stands before a served model of images: a step that refuses bad files, and DALI's graph that decodes others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from common.errors import ServingError
from common.export.signature import BatchRange, Signature, TensorSpec
from common.machine.environment import package_versions
from common.machine.processes import usable_cores
from common.serving.config import DEFAULT_BATCHING, Batching, Device, add_example, model_config
from common.serving.example import example_image
from common.serving.repository import NO_LABELS, Exported, ModelRepository, Part, PythonStep
from common.vision.preprocessing import ImagePreprocessing

ENCODED = TensorSpec("encoded", "uint8", ("bytes",))
"""An image file's bytes; files of one batch are padded with zeros to the longest."""

SIZES = TensorSpec("sizes", "int64", (2,))
"""An image's height and width in pixels, after the orientation that EXIF states."""

CHECK = Path(__file__).parent / "backends" / "check"


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


@dataclass(frozen=True, kw_only=True)
class ImageModel:
    """An exported model with one input of images, and what makes these of files.

    graph: a serialised DALI pipeline whose only input is the external source `encoded`, (bytes,) per sample.
    """

    exported: Exported
    graph: bytes
    limits: ImageLimits = DEFAULT_LIMITS

    @classmethod
    def of(
        cls, exported: Exported, preprocessing: ImagePreprocessing, device: Device, *, with_sizes: bool = False
    ) -> "ImageModel":
        """With the graph of a preprocessing; with_sizes: that gives SIZES, too."""
        from common.vision.dali.images import serving_pipeline

        pipeline = serving_pipeline(
            preprocessing,
            batch_size=exported.signature.batch.maximum,
            num_threads=usable_cores(),
            device_id=0 if device == "gpu" else None,
            with_sizes=with_sizes,
        )
        return cls(exported=exported, graph=pipeline.serialize())


def add_image_model(
    repository: ModelRepository,
    name: str,
    model: ImageModel,
    outputs: Mapping[str, str],
    *,
    labels: Mapping[str, Sequence[str]] = NO_LABELS,
    with_sizes: bool = False,
) -> tuple[Part, Part, Part]:
    """Add NAME_model and the two models that come before it; returns the three as parts of an ensemble.

    outputs:    the model's output -> what the ensemble calls it.
    labels:     of the model's outputs, as ModelRepository.add takes them.
    with_sizes: the graph gives SIZES, too, and so has the ensemble.
    """
    exported = model.exported
    signature, batching = exported.signature, exported.batching
    if len(signature.inputs) != 1:
        raise ServingError(f"{name} takes {len(signature.inputs)} inputs", "a model of images takes one: images")
    images = signature.inputs[0]
    prepared = (replace(images, name="images"), *((SIZES,) if with_sizes else ()))
    repository.add(f"{name}_model", exported, labels=labels)
    add_preprocessing(
        repository, f"{name}_preprocessing", model.graph, Signature((ENCODED,), prepared, signature.batch), batching
    )
    add_check(repository, f"{name}_check", signature.batch, model.limits, batching)
    return (
        Part(f"{name}_check", {"encoded": "encoded"}, {"checked": "checked"}),
        Part(f"{name}_preprocessing", {"encoded": "checked"}, {spec.name: spec.name for spec in prepared}),
        Part(f"{name}_model", {images.name: "images"}, outputs),
    )


def add_preprocessing(
    repository: ModelRepository, name: str, graph: bytes, signature: Signature, batching: Batching = DEFAULT_BATCHING
) -> None:
    """Add a pipeline that this machine's DALI serialised, from ENCODED to the signature's outputs.

    Raises ServingError where the server is not known to read it.
    """
    repository.release.require_graphs_of(package_versions()["dali"])
    config = model_config(name, "dali", signature, repository.device, batching=batching)
    config.input[0].allow_ragged_batch = True  # files of different length may share a batch
    config.default_model_filename = "model.dali"
    example = add_example(config, example_image())
    repository.write(config, {"model.dali": graph}, example)


def add_check(
    repository: ModelRepository,
    name: str,
    batch: BatchRange,
    limits: ImageLimits = DEFAULT_LIMITS,
    batching: Batching = DEFAULT_BATCHING,
) -> None:
    """Add the step that refuses files by their header, so that no bad one shares a batch with good ones."""
    step = PythonStep(
        folder=CHECK,
        signature=Signature((ENCODED,), (replace(ENCODED, name="checked"),), batch),
        batching=batching,
        parameters=vars(limits),
        ragged=[ENCODED.name],
        example=example_image(),
    )
    repository.add_step(name, step)
