"""config.pbtxt of one model from its Signature, as Triton's typed protobuf message."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from common.errors import ServingError
from common.export.signature import Signature, TensorSpec
from common.files import write_text

Device = Literal["cpu", "gpu"]
Engine = Literal["onnxruntime", "openvino", "tensorrt"]

DATA_TYPES = {
    "bool": "TYPE_BOOL",
    "uint8": "TYPE_UINT8",
    "uint16": "TYPE_UINT16",
    "uint32": "TYPE_UINT32",
    "uint64": "TYPE_UINT64",
    "int8": "TYPE_INT8",
    "int16": "TYPE_INT16",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
    "bfloat16": "TYPE_BF16",
    "bytes": "TYPE_STRING",
}


@dataclass(frozen=True, kw_only=True)
class Batching:
    """How requests wait and join.

    delay_us:   how long the first request of a batch waits for company; 0 joins only what already waits.
    queue:      waiting requests beyond which a new one is refused at once.
    timeout_ms: a request that waited longer is refused when its turn comes, since its client has given up.
    """

    delay_us: int = 500
    queue: int = 64
    timeout_ms: int = 10_000


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """How an engine uses its device.

    threads:   of one inference on the CPU; 0 leaves it to the engine, which takes every core.
    instances: copies of the model that work at the same time, per device.
    bfloat16:  let OpenVINO compute a float32 graph in bfloat16.
    graphs:    let TensorRT capture its kernels' launches; for a plan all of whose shapes the batch size decides.
    """

    threads: int = 0
    instances: int = 1
    bfloat16: bool = False
    graphs: bool = False

    def parameters(self, engine: Engine) -> dict[str, str]:
        """The native backend's parameter names and values."""
        if engine == "onnxruntime":
            return {"intra_op_thread_count": str(self.threads)}
        if engine == "openvino":
            threads = {"INFERENCE_NUM_THREADS": str(self.threads)} if self.threads else {}
            return {**threads, "PERFORMANCE_HINT": "LATENCY", "HINT_BF16": "YES" if self.bfloat16 else "NO"}
        return {}


DEFAULT_BATCHING = Batching()
GPU_BATCHING = Batching(queue=256)
"""Two batches that run, and what waits for them: a batch of a GPU's is up to 128."""
DEFAULT_OPTIONS = EngineOptions()


def model_config(
    name: str,
    backend: str,
    signature: Signature,
    device: Device,
    *,
    instances: int = 1,
    batching: Batching | None = None,
) -> pb.ModelConfig:
    """The part that every model has: names, shapes, batch limit, newest version only, instances, queue.

    backend: a Triton backend; `tensorrt` is written as the platform `tensorrt_plan`, `ensemble` as the platform.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", name):
        raise ServingError(f"{name!r} cannot be a model name", "allowed: letters, digits, dot, dash and underscore")
    config = pb.ModelConfig(name=name, max_batch_size=signature.batch.maximum)
    if backend in ("tensorrt", "ensemble"):
        config.platform = {"tensorrt": "tensorrt_plan", "ensemble": "ensemble"}[backend]
    else:
        config.backend = backend
    config.version_policy.latest.num_versions = 1
    for spec in signature.inputs:
        config.input.add(name=spec.name, data_type=data_type(spec), dims=dimensions(spec))
    for spec in signature.outputs:
        config.output.add(name=spec.name, data_type=data_type(spec), dims=dimensions(spec))
    if backend != "ensemble":
        kind = pb.ModelInstanceGroup.KIND_GPU if device == "gpu" else pb.ModelInstanceGroup.KIND_CPU
        config.instance_group.add(count=instances, kind=kind)
    if batching:
        config.dynamic_batching.max_queue_delay_microseconds = batching.delay_us
        policy = config.dynamic_batching.default_queue_policy
        policy.timeout_action = pb.ModelQueuePolicy.REJECT
        policy.max_queue_size = batching.queue
        policy.default_timeout_microseconds = batching.timeout_ms * 1000
    return config


def data_type(spec: TensorSpec) -> int:
    if spec.dtype not in DATA_TYPES:
        raise ServingError(
            f"the tensor {spec.name} has the type {spec.dtype}, which Triton does not know",
            f"allowed: {', '.join(DATA_TYPES)}",
        )
    return int(pb.DataType.Value(DATA_TYPES[spec.dtype]))


def dimensions(spec: TensorSpec) -> list[int]:
    """Sizes after the batch dimension; a free one is -1. A scalar per sample is a vector of one."""
    return [size if isinstance(size, int) else -1 for size in spec.shape] or [1]


def add_warmup(config: pb.ModelConfig, batch_sizes: tuple[int, ...]) -> None:
    """One run per batch size at load time, on zeros; free dimensions get the size 1.

    Triton's random numbers are random bytes, which hold values that are no numbers.
    """
    for size in sorted(set(batch_sizes)):
        warmup = config.model_warmup.add(name=f"batch {size}", batch_size=size)
        for tensor in config.input:
            entry = warmup.inputs[tensor.name]
            entry.data_type = tensor.data_type
            entry.dims.extend(1 if dimension < 0 else dimension for dimension in tensor.dims)
            entry.zero_data = True


def add_example(config: pb.ModelConfig, content: bytes) -> dict[str, bytes]:
    """One run at load time on bytes that the first input really takes; returns the file to write beside the model."""
    entry = config.model_warmup.add(name="example", batch_size=1).inputs[config.input[0].name]
    entry.data_type = pb.TYPE_UINT8
    entry.dims.append(len(content))
    entry.input_data_file = "example.png"
    return {f"warmup/{entry.input_data_file}": content}


def add_step(config: pb.ModelConfig, model: str, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """inputs, outputs: the model's tensor name -> the ensemble's."""
    step = config.ensemble_scheduling.step.add(model_name=model, model_version=-1)
    step.input_map.update(inputs)
    step.output_map.update(outputs)


def write_config(config: pb.ModelConfig, path: Path) -> None:
    write_text(path, text_format.MessageToString(config))


def read_config(path: Path) -> pb.ModelConfig:
    """The parsed file; ServingError names what is wrong in it and where."""
    try:
        return text_format.Parse(path.read_text(), pb.ModelConfig())
    except text_format.ParseError as error:
        raise ServingError(
            f"{path} is not a model configuration: {error}", remedy="write the repository again"
        ) from error
