"""A click model in Triton's model repository: raw values in, the probability of a click out."""

from pathlib import Path

from challenges.recommendation.clicks.spec import FILE as SPEC_FILE
from challenges.recommendation.clicks.spec import FeatureSpec
from challenges.recommendation.clicks.vocabulary import FOLDER as VOCABULARY
from common.export.signature import Signature, TensorSpec
from common.serving.repository import STRINGS, Exported, ModelRepository, Part, PythonStep

STEP = Path(__file__).parent / "features"
MAXIMUM_BYTES = 1 << 20
"""Of one column's values in a request."""


def add_click_model(repository: ModelRepository, name: str, exported: Exported, folder: Path) -> None:
    """Add the ensemble `name`, from raw values to a probability and its logit (1,), and its two parts.

    exported: its signature has the inputs and outputs of clicks/task.py.
    folder:   holds the feature spec and the vocabulary.

    The ensemble takes a text (1,) for each of the spec's columns, numbers written out and several values with the
    column's separator between; an empty one is a missing value.
    """
    spec, signature = FeatureSpec.read(folder), exported.signature
    repository.add(f"{name}_model", exported)
    raw = tuple(TensorSpec(column, "bytes", (1,)) for column in spec.raw_columns)
    vocabulary = {f"{VOCABULARY}/{path.name}": path for path in sorted((folder / VOCABULARY).glob("*.parquet"))}
    step = PythonStep(
        folder=STEP,
        signature=Signature(raw, signature.inputs, signature.batch),
        batching=exported.batching,
        parameters={"maximum_bytes": MAXIMUM_BYTES},
        files={SPEC_FILE: folder / SPEC_FILE, STRINGS.name: STRINGS, **vocabulary},
        warmup=(1,),
        needs=("polars",),
    )
    repository.add_step(f"{name}_features", step)
    parts = (
        Part(f"{name}_features", _as_they_are(raw), _as_they_are(signature.inputs)),
        Part(f"{name}_model", _as_they_are(signature.inputs), _as_they_are(signature.outputs)),
    )
    repository.add_ensemble(name, Signature(raw, signature.outputs, signature.batch), parts)


def _as_they_are(tensors: tuple[TensorSpec, ...]) -> dict[str, str]:
    return {spec.name: spec.name for spec in tensors}
