"""Embedding tables of a graph in fewer bits, where the graph is too large for what converts whole graphs.

A table is what a graph reads rows of (Gather on axis 0) and uses for nothing else. In fp16 its numbers are rounded; in
INT8 each row has a scale of its own, of which its largest number is 127. What is read becomes float32 again at once, so
that everything else stays as it was. Tables are read and written by stretches of rows: memory holds one at a time.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from common.errors import KitError
from common.export.weights import data_file
from common.files import atomic_writer

STRETCH = 1 << 16  # rows
ALIGNED = 4096  # bytes from which a page can be mapped into memory
NARROWEST = 8
"""Numbers of a row from which its scale is worth its four bytes."""
LARGEST_HALF = float(np.finfo(np.float16).max)
LARGEST_BYTE = 127


def shrink_tables(source: Path, path: Path, precision: Literal["fp16", "int8"]) -> Path:
    """Write the float32 graph at `source`, whose weights lie in a second file, with its tables in `precision`.

    Inputs, outputs and the network's weights are unchanged; narrow tables stay in float32 in INT8. Returns `path`.
    Raises KitError where the graph has no table that shrinks, or a number is none that fp16 has.
    """
    import onnx

    graph = onnx.load(source, load_external_data=False)
    tables = _tables(graph.graph, 1 if precision == "fp16" else NARROWEST)
    if not tables:
        raise KitError("the graph has no embedding tables", "of so large a graph only these are converted")
    shrink = _to_half if precision == "fp16" else _to_bytes
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".tables-") as folder:
        made = Path(folder, data_file(path).name)
        with made.open("wb") as stream, data_file(source).open("rb") as content:
            writer = _Writer(graph.graph, content, stream)
            for tensor in [tensor for tensor in graph.graph.initializer if _is_apart(tensor)]:
                if tensor.name in tables:
                    shrink(graph.graph, tensor, writer)
                else:
                    writer.copy(tensor)
        Path(folder, path.name).write_bytes(graph.SerializeToString(deterministic=True))
        onnx.checker.check_model(str(Path(folder, path.name)))
        path.unlink(missing_ok=True)
        made.replace(data_file(path))
    with atomic_writer(path) as stream:
        stream.write(graph.SerializeToString(deterministic=True))
    return path


class _Writer:
    """Writes tensors to a graph's second file, and where they lie there into the graph."""

    def __init__(self, body: Any, content: IO[bytes], stream: IO[bytes]) -> None:
        self.body, self._content, self._stream = body, content, stream

    def copy(self, tensor: Any) -> None:
        """As it is, in stretches."""
        offset, left = _place(tensor)
        self._content.seek(offset)
        first = self._align()
        while left:
            part = self._content.read(min(left, 1 << 24))
            self._stream.write(part)
            left -= len(part)
        self._told(tensor, first)

    def stretches(self, tensor: Any) -> Iterator[np.ndarray]:
        """The rows of a table, (row, number) float32."""
        rows, width = tensor.dims
        self._content.seek(_place(tensor)[0])
        for first in range(0, rows, STRETCH):
            count = min(STRETCH, rows - first)
            yield np.frombuffer(self._content.read(4 * count * width), np.float32).reshape(count, width)

    def add(self, name: str, table: Any, width: int, kind: Any, shrunk: Callable[[np.ndarray], np.ndarray]) -> None:
        """A new tensor, of what `shrunk` makes of each stretch of the table."""
        from onnx import TensorProto, helper

        first = self._align()
        for rows in self.stretches(table):
            self._stream.write(np.ascontiguousarray(shrunk(rows)).tobytes())
        tensor = TensorProto(name=name, data_type=kind, dims=[table.dims[0], width])
        tensor.data_location = TensorProto.EXTERNAL
        assert helper.tensor_dtype_to_np_dtype(kind).itemsize * tensor.dims[0] * width == self._stream.tell() - first
        self._told(tensor, first)
        self.body.initializer.append(tensor)

    def _align(self) -> int:
        self._stream.write(bytes(-self._stream.tell() % ALIGNED))
        return self._stream.tell()

    def _told(self, tensor: Any, first: int) -> None:
        facts = {"location": Path(self._stream.name).name, "offset": first, "length": self._stream.tell() - first}
        del tensor.external_data[:]
        for key, value in facts.items():
            tensor.external_data.add(key=key, value=str(value))


def _tables(body: Any, narrowest: int) -> set[str]:
    """Names of the tables whose rows have at least so many numbers."""
    from onnx import TensorProto

    read = {node.input[0] for node in body.node if _reads_rows(node)}
    otherwise = {
        name for node in body.node for place, name in enumerate(node.input) if place > 0 or not _reads_rows(node)
    }
    return {
        tensor.name
        for tensor in body.initializer
        if tensor.name in read - otherwise
        and _is_apart(tensor)
        and tensor.data_type == TensorProto.FLOAT
        and len(tensor.dims) == 2
        and tensor.dims[1] >= narrowest
    }


def _reads_rows(node: Any) -> bool:
    axes = [attribute.i for attribute in node.attribute if attribute.name == "axis"]
    return node.op_type == "Gather" and axes in ([], [0])


def _is_apart(tensor: Any) -> bool:
    return bool(tensor.external_data)


def _place(tensor: Any) -> tuple[int, int]:
    """Where a tensor's bytes begin in the second file, and how many they are."""
    facts = {entry.key: entry.value for entry in tensor.external_data}
    return int(facts.get("offset", 0)), int(facts["length"])


def _to_half(body: Any, table: Any, writer: _Writer) -> None:
    from onnx import TensorProto, helper

    def halved(rows: np.ndarray) -> np.ndarray:
        if not np.abs(rows).max(initial=0.0) <= LARGEST_HALF:
            raise KitError(f"{table.name} holds numbers that are none in fp16", f"they reach to {LARGEST_HALF:,.0f}")
        return rows.astype(np.float16)

    name = f"{table.name}.half"
    writer.add(name, table, table.dims[1], TensorProto.FLOAT16, halved)
    _replace(body, table, lambda index, out: [
        helper.make_node("Gather", [name, index], [f"{out}.half"], axis=0),
        helper.make_node("Cast", [f"{out}.half"], [out], to=TensorProto.FLOAT),
    ])  # fmt: skip


def _to_bytes(body: Any, table: Any, writer: _Writer) -> None:
    from onnx import TensorProto, helper

    def scales(rows: np.ndarray) -> np.ndarray:
        if not np.isfinite(rows).all():
            raise KitError(f"{table.name} holds numbers that are not finite", "eight bits have none")
        largest: np.ndarray = np.abs(rows).max(1, keepdims=True)
        return np.maximum(largest / LARGEST_BYTE, np.finfo(np.float32).tiny)

    name, scale = f"{table.name}.bytes", f"{table.name}.scale"
    writer.add(scale, table, 1, TensorProto.FLOAT, scales)
    writer.add(name, table, table.dims[1], TensorProto.INT8, lambda rows: np.rint(rows / scales(rows)).astype(np.int8))
    _replace(body, table, lambda index, out: [
        helper.make_node("Gather", [name, index], [f"{out}.bytes"], axis=0),
        helper.make_node("Cast", [f"{out}.bytes"], [f"{out}.whole"], to=TensorProto.FLOAT),
        helper.make_node("Gather", [scale, index], [f"{out}.scale"], axis=0),
        helper.make_node("Mul", [f"{out}.whole", f"{out}.scale"], [out]),
    ])  # fmt: skip


def _replace(body: Any, table: Any, nodes: Callable[[str, str], list[Any]]) -> None:
    """Put the nodes for (index, output) where rows of the table are read, and leave the table out."""
    replaced = []
    for node in body.node:
        is_read = _reads_rows(node) and node.input[0] == table.name
        replaced += nodes(node.input[1], node.output[0]) if is_read else [node]
    del body.node[:]
    body.node.extend(replaced)
    body.initializer.remove(table)
