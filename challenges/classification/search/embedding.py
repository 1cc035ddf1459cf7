"""Pictures as vectors: what an exported classifier computes before its last layer, of length one."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from challenges.classification.data import PhotographData
from challenges.classification.serving import EMBEDDING
from challenges.classification.serving.asking import embed
from common.challenge import Trained
from common.errors import ServingError
from common.export.artefact import read_sidecar
from common.export.exported import artefact
from common.export.runner import OnnxRunner
from common.run.run_directory import RunDirectory

if TYPE_CHECKING:
    from common.serving.client import Client

LAST = "logits"


def write_embedding_graph(source: Path, target: Path) -> int:
    """Write an exported classifier without its last layer, with the output `embedding` (batch, width); returns width.

    Raises ServingError where the graph's logits come from no layer of weights.
    """
    import onnx

    model = onnx.load(source)
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    last = next((node for node in graph.node if LAST in node.output), None)
    if last is None or last.op_type not in ("Gemm", "MatMul") or last.input[1] not in weights:
        raise ServingError(
            f"{source.name} has no last layer that could be left out.", remedy="Export the run again: kit export RUN"
        )
    is_transposed = any(attribute.name == "transB" and attribute.i for attribute in last.attribute)
    width = int(weights[last.input[1]].dims[1 if is_transposed else 0])
    kept = [node for node in graph.node if not {LAST, "probabilities"} & set(node.output)]
    kept.append(onnx.helper.make_node("Identity", [last.input[0]], [EMBEDDING]))
    used = {name for node in kept for name in node.input}
    del graph.node[:], graph.output[:]
    graph.node.extend(kept)
    graph.output.append(onnx.helper.make_tensor_value_info(EMBEDDING, onnx.TensorProto.FLOAT, ["batch", width]))
    for name in weights.keys() - used:
        graph.initializer.remove(weights[name])
    onnx.checker.check_model(model)
    onnx.save(model, target)
    return width


def graph_of(run: RunDirectory) -> tuple[Path, str]:
    """The run's exported graph in float32 and its sha256; ServingError where there is none, or it is damaged."""
    source = artefact(run, "fp32")
    return source, read_sidecar(source).sha256


class Embedder:
    """A run's graph without its last layer, or one that gives the embedding itself, over files that DALI reads."""

    def __init__(self, trained: Trained[Any, Any, Any], graph: Path) -> None:
        self._data = trained.data
        self._runner = OnnxRunner(graph)

    def __call__(self, paths: Sequence[Path]) -> np.ndarray:
        batches = prepared(self._data, paths)
        return np.concatenate([normalised(self._runner({"images": images})[EMBEDDING]) for images in batches])


class ServedEmbedder:
    """The same by a server, which is sent the files as they are."""

    def __init__(self, client: "Client", model: str) -> None:
        self._client, self._model = client, model

    def __call__(self, paths: Sequence[Path]) -> np.ndarray:
        return normalised(embed(self._client, self._model, paths))


Embed = Callable[[Sequence[Path]], np.ndarray]
"""(file, width) float32 of files that have been looked at, each of length one."""


def prepared(data: PhotographData, paths: Sequence[Path]) -> Iterator[np.ndarray]:
    """(batch, 3, crop, crop) float32, prepared as for the evaluation, in the files' order."""
    names = [str(path.resolve()) for path in paths]
    split = data.manifest.with_files(Path("/"), names, np.zeros(len(paths), np.int64))
    for batch in data.batches_of(split, np.arange(len(paths))):
        yield np.array(batch["images"].cpu().numpy(), order="C")


def normalised(vectors: np.ndarray) -> np.ndarray:
    """(row, width) float32, every row of length one; a row of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)
