"""Where an ONNX graph's weights are: in its file, or in a second one beside it where one file cannot hold them."""

from pathlib import Path

LARGEST_GRAPH = 2**31 - 1
"""Bytes: one message of protobuf cannot hold more."""


def data_file(graph: Path) -> Path:
    """The second file of the graph at `graph`, by the name that the graph has for it."""
    return graph.with_name(f"{graph.name}.data")


def files_of(graph: Path) -> list[Path]:
    """All files of an exported model, its own first."""
    data = data_file(graph)
    return [graph, data] if data.is_file() else [graph]


def total_bytes(graph: Path) -> int:
    return sum(path.stat().st_size for path in files_of(graph))


def fits_a_message(size: int) -> bool:
    """Whether a graph of so many bytes, its weights included, is one message of protobuf."""
    return size <= LARGEST_GRAPH
