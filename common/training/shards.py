"""Tensors that are cut over the processes, and how torch.distributed.checkpoint writes and reads them."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import (
    LoadItemType,
    LoadPlan,
    ReadItem,
    SavePlan,
    TensorWriteData,
    WriteItem,
    WriteItemType,
)
from torch.distributed.checkpoint.planner_helpers import create_read_items_for_chunk_list

WHOLE = "state"
"""Under this name lies what is the same on every process."""


@dataclass(frozen=True)
class Shard:
    """This process's rectangle of a tensor that is cut over the processes.

    tensor: written as it is, and filled in place by a resume; without elements where the process has no part.
    offset: where in the whole the rectangle begins, a number per dimension.
    shape:  of the whole.
    """

    tensor: Tensor
    offset: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def chunk(self) -> ChunkStorageMetadata:
        return ChunkStorageMetadata(torch.Size(self.offset), self.tensor.shape)


class Writing(dcp.DefaultSavePlanner):
    """Writes this rank's shards, and on the main rank what is the same on all."""

    def __init__(self, whole: dict[str, Any], shards: Mapping[str, Shard]) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self._whole, self._pieces = whole, shards

    def create_local_plan(self) -> SavePlan:
        items = [_write_item(name, shard) for name, shard in self._pieces.items() if shard.tensor.numel()]
        if self.is_coordinator:
            items.append(WriteItem(MetadataIndex(WHOLE), WriteItemType.BYTE_IO))
        self.plan = SavePlan(items)
        return self.plan

    def resolve_data(self, write_item: WriteItem) -> Tensor | io.BytesIO:
        if write_item.type != WriteItemType.BYTE_IO:
            return self._pieces[write_item.index.fqn].tensor.detach()
        content = io.BytesIO()
        torch.save(self._whole, content)
        return content


class Reading(dcp.DefaultLoadPlanner):
    """Fills this rank's shards from whatever parts were written, and keeps the bytes of the rest in `whole`.

    Raises ValueError where the tensors that are cut are not those that were written.
    """

    def __init__(self, shards: Mapping[str, Shard]) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self._pieces, self.whole = shards, io.BytesIO()

    def create_local_plan(self) -> LoadPlan:
        nothing, index = torch.Size((0,)), MetadataIndex(WHOLE)
        items = [ReadItem(LoadItemType.BYTE_IO, index, nothing, index, nothing, nothing)]
        for name, shard in self._pieces.items():
            if shard.tensor.numel():
                items += self._reads(name, shard)
        return LoadPlan(items)

    def create_global_plan(self, global_plan: list[LoadPlan]) -> list[LoadPlan]:
        assert self.metadata is not None
        wanted = {item.dest_index.fqn for plan in global_plan for item in plan.items}
        unused = sorted(set(self.metadata.state_dict_metadata) - wanted)
        if unused:
            raise ValueError(f"the checkpoint holds {', '.join(unused)}, and no process does.")
        return super().create_global_plan(global_plan)

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        self.whole = value

    def resolve_tensor(self, read_item: ReadItem) -> Tensor:
        part = self._pieces[read_item.dest_index.fqn].tensor.detach()
        for dimension, (begin, length) in enumerate(zip(read_item.dest_offsets, read_item.lengths, strict=True)):
            part = part.narrow(dimension, begin, length)
        return part

    def commit_tensor(self, read_item: ReadItem, tensor: Tensor) -> None:
        """Nothing is left to do: the tensor is a view of the shard."""

    def _reads(self, name: str, shard: Shard) -> list[ReadItem]:
        assert self.metadata is not None
        saved, here = self.metadata.state_dict_metadata.get(name), (shard.shape, shard.tensor.dtype)
        if not isinstance(saved, TensorStorageMetadata):
            raise ValueError(f"the checkpoint holds no {name}.")
        if (tuple(saved.size), saved.properties.dtype) != here:
            raise ValueError(f"{name} is {here} here and {tuple(saved.size)} {saved.properties.dtype} there.")
        reads = create_read_items_for_chunk_list(name, saved, [shard.chunk])
        if sum(prod(item.lengths) for item in reads) != shard.tensor.numel():
            raise ValueError(f"the checkpoint does not hold all of {name}.")
        return reads


def _write_item(name: str, shard: Shard) -> WriteItem:
    properties = TensorProperties.create_from_tensor(shard.tensor)
    data = TensorWriteData(shard.chunk, properties, torch.Size(shard.shape))
    return WriteItem(MetadataIndex(name, shard.chunk.offsets), WriteItemType.SHARD, tensor_data=data)
