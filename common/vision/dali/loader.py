"""From a DALI pipeline to torch tensors, without a copy."""

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali.pipeline import Pipeline

from common.errors import DataError

Columns = tuple[Any, ...]
"""One micro-batch as the pipeline's external source takes it: a list or an array per column, paths first."""

PREFETCH = 2  # batches that DALI prepares ahead


class DaliLoader:
    """Feeds columns to a pipeline and hands out its outputs as torch tensors by name.

    The order, and every random choice, comes with the columns; the graph itself is deterministic. The loader therefore
    has no state of its own: to resume, give it the columns that come next.
    """

    def __init__(
        self,
        build: Callable[[Callable[[], Columns]], Pipeline],
        columns: Iterator[Columns],
        names: tuple[str, ...],
        device: torch.device,
    ) -> None:
        self._columns = columns
        self._fed: deque[list[NDArray[np.uint8]]] = deque(maxlen=PREFETCH + 2)
        self._names = names
        self._device = device
        self._pipeline = build(self._next_columns)
        self._pipeline.build()

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        while True:
            try:
                outputs = self._pipeline.run(self._stream())
            except StopIteration:
                return
            except RuntimeError as error:
                raise self._explain(error) from error
            yield {
                name: torch.from_dlpack(output.as_tensor()) for name, output in zip(self._names, outputs, strict=True)
            }

    def _next_columns(self) -> Columns:
        columns = next(self._columns)
        self._fed.append(columns[0])
        return columns

    def _stream(self) -> int | None:
        return torch.cuda.current_stream(self._device).cuda_stream if self._device.type == "cuda" else None

    def _explain(self, error: RuntimeError) -> DataError:
        from common.vision.images import ImageProblem, probe

        for paths in self._fed:
            for path in map(decode_path, paths):
                facts = probe(Path(path))
                if isinstance(facts, ImageProblem):
                    return DataError(
                        f"{path} can no longer be read: {facts.reason}.",
                        "It was readable when the data was checked.",
                        "Run the same command again: the check will set the file aside.",
                    )
        return DataError(f"DALI could not prepare a batch: {str(error).splitlines()[0]}")


def picture_batches(
    graph: Callable[..., Pipeline],
    columns: Iterator[Columns],
    names: tuple[str, ...],
    device: torch.device,
    *,
    batch_size: int,
    threads: int,
) -> Iterator[dict[str, torch.Tensor]]:
    """A graph's outputs by name; `images`, which it gives as NHWC, are seen as NCHW: channels last for free.

    graph: takes the external source and the pipeline's settings.
    """

    def build(source: Callable[[], Columns]) -> Pipeline:
        return graph(
            source,
            batch_size=batch_size,
            num_threads=threads,
            device_id=device.index if device.type == "cuda" else None,
            prefetch_queue_depth=PREFETCH,
        )

    for batch in DaliLoader(build, columns, names, device):
        batch["images"] = batch["images"].permute(0, 3, 1, 2)
        yield batch


def dali_device(device: torch.device) -> str:
    """Where graphs for a device work."""
    return "gpu" if device.type == "cuda" else "cpu"


def encode_path(path: str) -> NDArray[np.uint8]:
    """A path as DALI's file reader takes it: its UTF-8 bytes."""
    return np.frombuffer(path.encode(), dtype=np.uint8)


def decode_path(encoded: NDArray[np.uint8]) -> str:
    return encoded.tobytes().decode()
