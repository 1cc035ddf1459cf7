"""A detector in Triton's model repository: image files in, named boxes in their own pixels out."""

import json
from collections.abc import Sequence
from pathlib import Path

from common.errors import ServingError
from common.export.signature import Signature, TensorSpec
from common.serving.images import ENCODED, SIZES, ImageModel, add_image_model
from common.serving.repository import ModelRepository, Part, PythonStep, require_names

DETECTIONS = Path(__file__).parent / "detections"


def add_detector(repository: ModelRepository, name: str, model: ImageModel, classes: Sequence[str]) -> None:
    """Add the ensemble `name`, from encoded images to named boxes in their own pixels, and its four parts.

    model:   its signature has one input, and the outputs boxes (detection, 4) float32 as shares of the image, scores
             (detection,) float32, and labels (detection,) int64, 0 in the padding; its graph gives SIZES, too.
    classes: names from 1 on.

    The answer: boxes (detection, 4) in pixels, left, top, right, bottom; scores; labels; names, empty in the
    padding; count (1,), the detections before the padding.
    """
    exported = model.exported
    batch = exported.signature.batch
    boxes, scores, numbers = _outputs(name, exported.signature)
    require_names(classes)
    names, count = TensorSpec("names", "bytes", numbers.shape), TensorSpec("count", "int64", (1,))
    shares = {"boxes": "shares", "scores": "scores", "labels": "labels"}
    parts = add_image_model(repository, name, model, shares, with_sizes=True)
    naming = PythonStep(
        folder=DETECTIONS,
        signature=Signature((boxes, numbers, SIZES), (boxes, names, count), batch),
        batching=exported.batching,
        parameters={"classes": json.dumps(list(classes))},
        warmup=(1, batch.maximum),
    )
    repository.add_step(f"{name}_detections", naming)
    named = Part(
        f"{name}_detections",
        {"boxes": "shares", "labels": "labels", "sizes": "sizes"},
        {"boxes": "boxes", "names": "names", "count": "count"},
    )
    answer = Signature((ENCODED,), (boxes, scores, numbers, names, count), batch)
    repository.add_ensemble(name, answer, [*parts, named])


def _outputs(name: str, signature: Signature) -> tuple[TensorSpec, TensorSpec, TensorSpec]:
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
