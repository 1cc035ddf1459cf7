"""A `tensorrt` module for machines without one: a plan is the graph with its ranges, and a CPU's engines run it.

What it is called by is checked against the lists of TensorRT's own names beside tests/common/export. It refuses what
TensorRT would: a graph with an input that the profile does not name or has other fixed sizes for, and shapes outside
of the profile.
"""

import ctypes
import json
import math
from dataclasses import dataclass, field
from enum import IntEnum
from importlib.machinery import ModuleSpec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from common.export.runner import OnnxRunner, OpenVinoRunner, Runner

MAGIC = b"plan of the stand-in\n"
Ranges = dict[str, list[list[int]]]
"""Input -> its smallest, usual and largest shape."""


class Logger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)  # ModelOpt's and Polygraphy's modules look at them

    def __init__(self, level: int) -> None: ...


class NetworkDefinitionCreationFlag(IntEnum):
    STRONGLY_TYPED = 1


class BuilderFlag(IntEnum):
    TF32 = 7


class MemoryPoolType(IntEnum):
    WORKSPACE = 0


class ITimingCache:
    def serialize(self) -> bytes:
        return b"timings"


class IOptimizationProfile:
    def __init__(self) -> None:
        self._ranges: Ranges = {}

    def set_shape(self, name: str, smallest: Any, usual: Any, largest: Any) -> None:
        self._ranges[name] = [list(smallest), list(usual), list(largest)]


class IBuilderConfig:
    def __init__(self) -> None:
        self._profiles: list[IOptimizationProfile] = []

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None: ...

    def clear_flag(self, flag: BuilderFlag) -> None: ...

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def create_timing_cache(self, known: bytes) -> ITimingCache:
        return ITimingCache()

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        return True


@dataclass
class INetworkDefinition:
    _flags: int = 0
    _graph: onnx.ModelProto = field(default_factory=onnx.ModelProto)

    @property
    def num_layers(self) -> int:
        return 0  # none of a plugin, which is what ModelOpt looks for before it quantises


@dataclass(frozen=True)
class ParserError:
    _told: str

    def desc(self) -> str:
        return self._told

    def node_name(self) -> str:
        return ""

    def node_operator(self) -> str:
        return ""


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: Logger) -> None:
        self._network, self._told = network, ""

    @property
    def num_errors(self) -> int:
        return int(bool(self._told))

    def parse(self, content: bytes, path: str) -> bool:
        try:
            assert content == Path(path).read_bytes()
            self._network._graph = onnx.load(path)  # with the weights that lie beside it
        except Exception as error:
            self._told = str(error)
        return not self._told

    def parse_from_file(self, path: str) -> bool:
        return self.parse(Path(path).read_bytes(), path)

    def get_error(self, index: int) -> ParserError:
        return ParserError(self._told)


class Builder:
    def __init__(self, logger: Logger) -> None: ...

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        return INetworkDefinition(_flags=flags)

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> bytes | None:
        assert network._flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        (profile,) = config._profiles
        inputs = {tensor.name: _sizes(tensor) for tensor in network._graph.graph.input}
        if profile._ranges.keys() != inputs.keys():
            return None
        for name, sizes in inputs.items():
            for shape in profile._ranges[name]:
                if len(shape) != len(sizes) or any(
                    size not in (-1, got) for size, got in zip(sizes, shape, strict=True)
                ):
                    return None
        head = json.dumps(profile._ranges).encode()
        return MAGIC + head + b"\n" + network._graph.SerializeToString()


class IExecutionContext:
    def __init__(self, graph: onnx.ModelProto, ranges: Ranges, runner: Runner) -> None:
        self._inputs = {tensor.name: tensor for tensor in graph.graph.input}
        self._outputs = {tensor.name: tensor for tensor in graph.graph.output}
        self._ranges, self._runner = ranges, runner
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        smallest, _, largest = self._ranges[name]
        self._shapes[name] = shape
        return len(shape) == len(smallest) and all(
            low <= size <= high for low, size, high in zip(smallest, shape, largest, strict=True)
        )

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        batch = next(iter(self._shapes.values()))[0]
        first, *others = _sizes(self._outputs[name])
        return (batch if first == -1 else first, *others)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        answers = self._runner({name: self._view(name, tensor, shape) for name, tensor, shape in self._given()})
        for name, answer in answers.items():
            tensor = self._outputs[name]
            self._view(name, tensor, answer.shape)[...] = answer
        return True

    def _given(self) -> list[tuple[str, Any, tuple[int, ...]]]:
        return [(name, tensor, self._shapes[name]) for name, tensor in self._inputs.items()]

    def _view(self, name: str, tensor: Any, shape: tuple[int, ...]) -> np.ndarray:
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.type.tensor_type.elem_type))
        memory = (ctypes.c_byte * (math.prod(shape) * dtype.itemsize)).from_address(self._addresses[name])
        return np.frombuffer(memory, dtype).reshape(shape)


class ICudaEngine:
    def __init__(self, graph: onnx.ModelProto, ranges: Ranges) -> None:
        self._graph, self._ranges = graph, ranges

    def create_execution_context(self) -> IExecutionContext:
        has_bfloat16 = any(tensor.data_type == TensorProto.BFLOAT16 for tensor in self._graph.graph.initializer)
        with TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            onnx.save(self._graph, path)
            runner = OpenVinoRunner(path, precision="bf16") if has_bfloat16 else OnnxRunner(path)
        return IExecutionContext(self._graph, self._ranges, runner)


class Runtime:
    def __init__(self, logger: Logger) -> None: ...

    def deserialize_cuda_engine(self, plan: bytes) -> ICudaEngine | None:
        if not plan.startswith(MAGIC):
            return None
        head, _, graph = plan.removeprefix(MAGIC).partition(b"\n")
        return ICudaEngine(onnx.ModelProto.FromString(graph), json.loads(head))


CLASSES = (
    Logger, NetworkDefinitionCreationFlag, BuilderFlag, MemoryPoolType, ITimingCache, IOptimizationProfile,
    IBuilderConfig, INetworkDefinition, ParserError, OnnxParser, Builder, IExecutionContext, ICudaEngine, Runtime,
)  # fmt: skip


def stand_in(version: str) -> ModuleType:
    """The module, as `import tensorrt` would give it."""
    module = ModuleType("tensorrt")
    module.__spec__ = ModuleSpec("tensorrt", None)
    vars(module).update({one.__name__: one for one in CLASSES}, __version__=version)
    vars(module)["init_libnvinfer_plugins"] = lambda logger, namespace: True
    return module


def _sizes(tensor: Any) -> list[int]:
    """A graph's tensor: its sizes, -1 for those that are free."""
    return [size.dim_value if size.HasField("dim_value") else -1 for size in tensor.type.tensor_type.shape.dim]
