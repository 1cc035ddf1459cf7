"""A tiny detector that finds the same boxes in every picture and names them by the picture's colour."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from challenges.detection.serving.ensemble import add_detector
from common.export.signature import BatchRange, Signature, TensorSpec
from common.serving.config import Batching, EngineOptions
from common.serving.images import ImageModel
from common.serving.repository import Exported, ModelRepository
from common.vision.dali.images import serving_pipeline
from common.vision.preprocessing import ImagePreprocessing

NAMES = ("rojo: señal", "green", "蓝色")
PLACES = 6
"""Detections per picture with the padding."""
BOXES = np.array([[0.25, 0.5, 0.75, 1.0], [0.0, 0.1, 0.2, 0.3]], np.float32)
PREPROCESSING = ImagePreprocessing(resize=32, crop=32, mode="squash", mean=(0.0, 0.0, 0.0), std=(25.0, 25.0, 25.0))
SIGNATURE = Signature(
    (TensorSpec("images", "float32", (3, 32, 32)),),
    (
        TensorSpec("boxes", "float32", (PLACES, 4)),
        TensorSpec("scores", "float32", (PLACES,)),
        TensorSpec("labels", "int64", (PLACES,)),
    ),
    BatchRange(1, 4, 8),
)


def finder_model() -> onnx.ModelProto:
    """The brightest channel's number from 1 on is the label of two boxes; a black picture holds nothing.

    images (batch, 3, 32, 32) -> boxes (batch, PLACES, 4), scores (batch, PLACES), labels (batch, PLACES)
    """
    padding = ((0, PLACES - len(BOXES)), (0, 0))
    constants = {
        "places": np.pad(BOXES, padding),
        "weights": np.pad(np.array([1.0, 0.5], np.float32), padding[0]),
        "kept": np.pad(np.ones(2, np.int64), padding[0]),
        "one": np.array([1], np.int64),
        "bright": np.array(1.0, np.float32),
        "column": np.array([2], np.int64),
    }
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("ReduceMax", ["means"], ["most"], axes=[1], keepdims=1),
        helper.make_node("Greater", ["most", "bright"], ["lit"]),
        helper.make_node("Cast", ["lit"], ["share"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["lit"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Mul", ["share", "weights"], ["scores"]),
        helper.make_node("Unsqueeze", ["share", "column"], ["share3"]),
        helper.make_node("Mul", ["share3", "places"], ["boxes"]),
        helper.make_node("ArgMax", ["means"], ["brightest"], axis=1, keepdims=1),
        helper.make_node("Add", ["brightest", "one"], ["number"]),
        helper.make_node("Mul", ["number", "whole"], ["seen"]),
        helper.make_node("Mul", ["seen", "kept"], ["labels"]),
    ]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    images = [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 32, 32])]
    outputs = [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["batch", PLACES, 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", PLACES]),
        helper.make_tensor_value_info("labels", TensorProto.INT64, ["batch", PLACES]),
    ]
    graph = helper.make_graph(nodes, "finder", images, outputs, initializer=tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def sized_graph(batch_size: int = 8) -> bytes:
    """The kit's own serving graph with the images' sizes."""
    pipeline = serving_pipeline(PREPROCESSING, batch_size=batch_size, num_threads=1, with_sizes=True)
    return pipeline.serialize()


def add_finder(repository: ModelRepository, artefacts: Path) -> None:
    """The ensemble `finder` on ONNX Runtime."""
    onnx.save(finder_model(), artefacts / "finder.onnx")
    exported = Exported(
        artefact=artefacts / "finder.onnx",
        signature=SIGNATURE,
        engine="onnxruntime",
        options=EngineOptions(threads=1),
        batching=Batching(delay_us=20_000),
    )
    add_detector(repository, "finder", ImageModel(exported=exported, graph=sized_graph()), NAMES)
