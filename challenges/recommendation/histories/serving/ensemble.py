"""A recommender in Triton's model repository: asked with the data's own names, answering with them."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from challenges.recommendation.histories.top_items import LONGEST
from common.errors import ServingError
from common.export.signature import Signature, TensorSpec
from common.serving.repository import STRINGS, Exported, ModelRepository, Part, PythonStep

STEPS = Path(__file__).parent
UNKNOWN = TensorSpec("unknown", "bytes", ("unknown",))
"""Names that are none of the catalogue's, and empty strings after them."""


@dataclass(frozen=True, kw_only=True)
class HistoryLimits:
    """What a request may hold: names in one history, and bytes of all names, each with 4 for its length."""

    maximum_names: int = LONGEST
    maximum_bytes: int = 8 * 1024 * 1024


@dataclass(frozen=True, eq=False)
class Names:
    """What items and users are called.

    identifiers, titles: of every item, in the order of the model's positions; titles are empty where unknown.
    users:          identifiers of the users that the model knows, in the order of its positions.
    offsets, items: user u had items[offsets[u]:offsets[u + 1]], positions that are not recommended to it again.
    """

    identifiers: Sequence[str]
    titles: Sequence[str]
    users: Sequence[str] = ()
    offsets: np.ndarray | None = None
    items: np.ndarray | None = None


DEFAULT_HISTORY_LIMITS = HistoryLimits()


def add_recommender(
    repository: ModelRepository,
    name: str,
    exported: Exported,
    names: Names,
    *,
    lowest_score: float,
    limits: HistoryLimits = DEFAULT_HISTORY_LIMITS,
) -> None:
    """Add the ensemble `name`, from names to named items, and its three parts.

    exported:     its signature has inputs of positions: `user` (1,) int64 where the model knows users, and one list
                  (any,) int64, padded with -1; outputs items (n,) int64 and scores (n,) float32.
    lowest_score: what scores no more is no recommendation.

    The ensemble takes strings under the same names, identifiers or titles, empty ones as padding, and answers with
    items, scores, identifiers and titles (n,), count (1,), the items before the padding, and unknown (any,).
    """
    signature = exported.signature
    items, scores = signature.outputs
    if (items.name, items.dtype, scores.name) != ("items", "int64", "scores") or len(names.identifiers) != len(
        names.titles
    ):
        raise ServingError(f"{name} gives {signature.outputs}", "a recommender gives items int64 and scores")
    repository.add(f"{name}_model", exported)
    asked = _asked(exported, names, limits)
    repository.add_step(f"{name}_asked", asked)
    naming = _items(exported, names, lowest_score)
    repository.add_step(f"{name}_items", naming)
    answer = naming.signature.outputs
    positions = {spec.name: _positions_of(spec).name for spec in signature.inputs}
    parts = (
        Part(f"{name}_asked", _as_they_are(asked.signature.inputs), _as_they_are(asked.signature.outputs)),
        Part(f"{name}_model", positions, {"items": "positions", "scores": "logits"}),
        Part(f"{name}_items", _as_they_are(naming.signature.inputs), _as_they_are(answer)),
    )
    repository.add_ensemble(name, Signature(asked.signature.inputs, (*answer, UNKNOWN), signature.batch), parts)


def _positions_of(spec: TensorSpec) -> TensorSpec:
    return replace(spec, name="user_position" if spec.name == "user" else f"{spec.name}_positions")


def _as_they_are(tensors: Sequence[TensorSpec]) -> dict[str, str]:
    """Names that the ensemble keeps."""
    return {spec.name: spec.name for spec in tensors}


def _asked(exported: Exported, names: Names, limits: HistoryLimits) -> PythonStep:
    """From names to positions."""
    signature = exported.signature
    inputs = tuple(replace(spec, dtype="bytes") for spec in signature.inputs)
    outputs = (*map(_positions_of, signature.inputs), UNKNOWN)
    files: dict[str, bytes | Path] = {
        "catalogue.json": _json(names.identifiers, names.titles, names.users),
        STRINGS.name: STRINGS,
    }
    if names.users:
        stream = io.BytesIO()
        np.savez(stream, offsets=names.offsets, items=names.items)  # type: ignore[arg-type]
        files["training.npz"] = stream.getvalue()
    return PythonStep(
        folder=STEPS / "asked",
        signature=Signature(inputs, outputs, signature.batch),
        batching=exported.batching,
        parameters=vars(limits),
        files=files,
        ragged=[spec.name for spec in inputs if spec.name != "user"],
        warmup=(1,),
    )


def _items(exported: Exported, names: Names, lowest_score: float) -> PythonStep:
    """From positions to names."""
    (items, scores), batch = exported.signature.outputs, exported.signature.batch
    columns = (TensorSpec(column, "bytes", items.shape) for column in ("identifiers", "titles"))
    return PythonStep(
        folder=STEPS / "items",
        signature=Signature(
            (replace(items, name="positions"), replace(scores, name="logits")),
            (items, scores, TensorSpec("count", "int64", (1,)), *columns),
            batch,
        ),
        batching=exported.batching,
        parameters={"lowest_score": lowest_score},
        files={"catalogue.json": _json(names.identifiers, names.titles)},
        warmup=(1, batch.maximum),
    )


def _json(identifiers: Sequence[str], titles: Sequence[str], users: Sequence[str] = ()) -> bytes:
    catalogue = {"identifiers": list(identifiers), "titles": list(titles), "users": list(users)}
    return json.dumps(catalogue, ensure_ascii=False).encode("utf-8", "backslashreplace")
