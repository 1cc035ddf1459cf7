"""A recommender in Triton's model repository: asked with the data's own names, answering with them."""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from common.errors import ServingError
from common.export.signature import BatchRange, Signature, TensorSpec
from common.serving.config import (
    DEFAULT_BATCHING,
    DEFAULT_OPTIONS,
    Batching,
    Engine,
    EngineOptions,
    add_step,
    add_warmup,
    model_config,
)
from common.serving.repository import ModelRepository

STEPS = Path(__file__).parent
UNKNOWN = TensorSpec("unknown", "bytes", ("unknown",))
"""Names that are none of the catalogue's, and empty strings after them."""


@dataclass(frozen=True, kw_only=True)
class HistoryLimits:
    """What a request may hold: names in one history, and bytes of all names, each with 4 for its length."""

    maximum_names: int = 10_000
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
    artefact: Path,
    signature: Signature,
    engine: Engine,
    names: Names,
    *,
    lowest_score: float,
    options: EngineOptions = DEFAULT_OPTIONS,
    batching: Batching = DEFAULT_BATCHING,
    limits: HistoryLimits = DEFAULT_HISTORY_LIMITS,
    verify: Callable[[Path], object] | None = None,
) -> None:
    """Add the ensemble `name`, from names to named items, and its three parts.

    signature:    inputs of positions: `user` (1,) int64 where the model knows users, and one list (any,) int64, padded
                  with -1; outputs items (n,) int64 and scores (n,) float32.
    lowest_score: what scores no more is no recommendation.

    The ensemble takes strings under the same names, identifiers or titles, empty ones as padding, and answers with
    items, scores, identifiers and titles (n,), count (1,), the items before the padding, and unknown (any,).
    """
    items, scores = signature.outputs
    if (items.name, items.dtype, scores.name) != ("items", "int64", "scores") or len(names.identifiers) != len(
        names.titles
    ):
        raise ServingError(f"{name} gives {signature.outputs}", "a recommender gives items int64 and scores")
    repository.add(f"{name}_model", artefact, signature, engine, options=options, batching=batching, verify=verify)
    batching = replace(batching, delay_us=0)
    _write_asked(repository, f"{name}_asked", signature, names, limits, batching)
    answer = _write_items(repository, f"{name}_items", (items, scores), signature.batch, names, lowest_score, batching)
    inputs = tuple(replace(spec, dtype="bytes") for spec in signature.inputs)
    config = model_config(name, "ensemble", Signature(inputs, (*answer, UNKNOWN), signature.batch), repository.device)
    positions = {spec.name: _positions_of(spec).name for spec in signature.inputs}
    asked = {**{name: name for name in positions.values()}, UNKNOWN.name: UNKNOWN.name}
    add_step(config, f"{name}_asked", {spec.name: spec.name for spec in inputs}, asked)
    add_step(config, f"{name}_model", positions, {"items": "positions", "scores": "logits"})
    named = {spec.name: spec.name for spec in answer}
    add_step(config, f"{name}_items", {"positions": "positions", "logits": "logits"}, named)
    repository.write(config, 1, {})


def _positions_of(spec: TensorSpec) -> TensorSpec:
    return replace(spec, name="user_position" if spec.name == "user" else f"{spec.name}_positions")


def _write_asked(
    repository: ModelRepository,
    name: str,
    signature: Signature,
    names: Names,
    limits: HistoryLimits,
    batching: Batching,
) -> None:
    """The step from names to positions."""
    inputs = tuple(replace(spec, dtype="bytes") for spec in signature.inputs)
    outputs = (*map(_positions_of, signature.inputs), UNKNOWN)
    config = model_config(name, "python", Signature(inputs, outputs, signature.batch), "cpu", batching=batching)
    for tensor in config.input:
        tensor.allow_ragged_batch = tensor.name != "user"
    for key, value in vars(limits).items():
        config.parameters[key].string_value = str(value)
    add_warmup(config, (1,))
    files: dict[str, Path | bytes] = {file: STEPS / "asked" / file for file in ("model.py", "naming.py")}
    files["catalogue.json"] = _json(names.identifiers, names.titles, names.users)
    if names.users:
        stream = io.BytesIO()
        np.savez(stream, offsets=names.offsets, items=names.items)  # type: ignore[arg-type]
        files["training.npz"] = stream.getvalue()
    repository.write(config, 1, files)


def _write_items(
    repository: ModelRepository,
    name: str,
    found: tuple[TensorSpec, TensorSpec],
    batch: BatchRange,
    names: Names,
    lowest_score: float,
    batching: Batching,
) -> tuple[TensorSpec, ...]:
    """The step from positions to names; returns its outputs."""
    items, scores = found
    inputs = (replace(items, name="positions"), replace(scores, name="logits"))
    columns = (TensorSpec(column, "bytes", items.shape) for column in ("identifiers", "titles"))
    outputs = (items, scores, TensorSpec("count", "int64", (1,)), *columns)
    config = model_config(name, "python", Signature(inputs, outputs, batch), "cpu", batching=batching)
    config.parameters["lowest_score"].string_value = str(lowest_score)
    add_warmup(config, (1, batch.maximum))
    catalogue = _json(names.identifiers, names.titles)
    repository.write(config, 1, {"model.py": STEPS / "items" / "model.py", "catalogue.json": catalogue})
    return outputs


def _json(identifiers: Sequence[str], titles: Sequence[str], users: Sequence[str] = ()) -> bytes:
    catalogue = {"identifiers": list(identifiers), "titles": list(titles), "users": list(users)}
    return json.dumps(catalogue, ensure_ascii=False).encode("utf-8", "backslashreplace")
