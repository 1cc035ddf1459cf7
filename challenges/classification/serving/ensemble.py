"""A classifier in Triton's model repository: image files in, a score per class out, or the best classes by name."""

from collections.abc import Sequence

from challenges.classification.serving import EMBEDDING
from common.export.signature import Signature
from common.serving.images import ENCODED, ImageModel, add_image_model
from common.serving.repository import ModelRepository


def add_classifier(
    repository: ModelRepository, name: str, model: ImageModel, classes: Sequence[str], *, scores: str | None = None
) -> None:
    """Add the ensemble `name`, from encoded images to scores, and its three parts.

    scores: the output with one number per class that the ensemble gives; the first by default. A model's embedding is
            given after it.

    Class names leave through Triton's classification extension: a client asks for the k best of the output and
    gets `score:index:name` from the labels of the model inside. So no step after the model is needed, and the
    scores themselves stay available to a client that asks for the plain output.
    """
    signature = model.exported.signature
    output = next(spec for spec in signature.outputs if scores in (None, spec.name))
    given = (output, *(spec for spec in signature.outputs if spec.name == EMBEDDING))
    names = {spec.name: spec.name for spec in given}
    parts = add_image_model(repository, name, model, names, labels={output.name: classes})
    repository.add_ensemble(name, Signature((ENCODED,), given, signature.batch), parts)
