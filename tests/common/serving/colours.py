"""A tiny model that names the colour of a picture, pictures of one colour, and stand-ins for Triton's stub."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from challenges.classification.serving.ensemble import add_classifier
from common.export.signature import BatchRange, Signature, TensorSpec
from common.serving.config import Batching, EngineOptions
from common.serving.images import ImageModel
from common.serving.repository import Exported, ModelRepository

COLOURS = ("red", "green", "blue")
SIGNATURE = Signature(
    (TensorSpec("images", "float32", (3, 224, 224)),), (TensorSpec("scores", "float32", (3,)),), BatchRange(1, 4, 8)
)


def picture(colour: str, width: int = 320, height: int = 240, kind: str = "JPEG", **options: Any) -> bytes:
    """An encoded image of one colour."""
    stream = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(stream, kind, **options)
    return stream.getvalue()


def colour_model() -> onnx.ModelProto:
    """images (batch, 3, 224, 224) -> scores (batch, 3): the softmax of the channels' means."""
    return _model(
        [
            helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["means"]),
            helper.make_node("Softmax", ["means"], ["scores"], axis=1),
        ],
        {"images": ["batch", 3, 224, 224]},
        {"scores": ["batch", 3]},
    )


def slow_model(size: int = 1024, products: int = 12) -> onnx.ModelProto:
    """value (batch, 1) -> result (batch, 1), with a few tenths of a second of matrix products on the way."""
    shape = numpy_helper.from_array(np.array([size, size]), "shape")
    small = numpy_helper.from_array(np.array([1.0 / size], np.float32), "small")
    nodes = [
        helper.make_node("Mul", ["value", "small"], ["scaled"]),
        helper.make_node("Expand", ["scaled", "shape"], ["product0"]),
    ]
    for number in range(products):
        nodes.append(helper.make_node("MatMul", [f"product{number}", "product0"], [f"product{number + 1}"]))
    nodes.append(helper.make_node("ReduceMax", [f"product{products}"], ["result"], keepdims=1))
    return _model(nodes, {"value": ["batch", 1]}, {"result": ["batch", 1]}, [shape, small])


def _model(
    nodes: list[onnx.NodeProto], inputs: dict[str, list], outputs: dict[str, list], constants: Any = ()
) -> onnx.ModelProto:
    infos = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in tensors.items()]
        for tensors in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "test", *infos, initializer=list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def preprocessing_graph(batch_size: int = 8) -> bytes:
    """A serialised DALI pipeline with the contract of the kit's: `encoded` in, (3, 224, 224) float32 out."""
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def(batch_size=batch_size, num_threads=1, device_id=None, prefetch_queue_depth=1)
    def graph() -> Any:
        encoded = fn.external_source(name="encoded", dtype=types.UINT8, ndim=1)
        images = fn.decoders.image(encoded, device="cpu", output_type=types.RGB)
        images = fn.resize(images, size=[224, 224])
        return fn.crop_mirror_normalize(images, std=[25.0] * 3, output_layout="CHW", dtype=types.FLOAT)

    return graph().serialize()


def write_repository(folder: Path, artefacts: Path) -> ModelRepository:
    """The ensemble `colours` on ONNX Runtime and the model `slow`, which refuses more than two waiting requests."""
    onnx.save(colour_model(), artefacts / "colours.onnx")
    onnx.save(slow_model(), artefacts / "slow.onnx")
    repository = ModelRepository(folder)
    colours = Exported(
        artefact=artefacts / "colours.onnx",
        signature=SIGNATURE,
        engine="onnxruntime",
        options=EngineOptions(threads=1),
        batching=Batching(delay_us=20_000),
    )
    add_classifier(repository, "colours", ImageModel(exported=colours, graph=preprocessing_graph()), COLOURS)
    scalar = Signature(
        (TensorSpec("value", "float32", (1,)),), (TensorSpec("result", "float32", (1,)),), BatchRange(1, 1, 1)
    )
    slow = Exported(
        artefact=artefacts / "slow.onnx",
        signature=scalar,
        engine="onnxruntime",
        options=EngineOptions(threads=1),
        batching=Batching(queue=2),
    )
    repository.add("slow", slow)
    return repository


class FakeTensor:
    """A tensor as Triton's stub has it, on this process's memory."""

    def __init__(self, name: str, owner: Any) -> None:
        self.name, self.owner = name, owner

    def __dlpack__(self, **_: Any) -> Any:
        return self.owner.copy().__dlpack__() if isinstance(self.owner, np.ndarray) else self.owner

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    to_dlpack = __dlpack__

    def shape(self) -> list[int]:
        return list(self.owner.shape)

    @classmethod
    def from_dlpack(cls, name: str, capsule: Any) -> "FakeTensor":
        return cls(name, np.from_dlpack(cls(name, capsule)))


class FakeRequest(dict[str, np.ndarray]):
    """Inputs by name."""
