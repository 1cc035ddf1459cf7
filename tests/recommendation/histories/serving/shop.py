"""Two tiny recommenders of six items: `members` knows four users by name, `guests` is told a history."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from challenges.recommendation.histories.serving.ensemble import HistoryLimits, Names, add_recommender
from common.export.signature import BatchRange, Signature, TensorSpec
from common.serving.config import Batching, EngineOptions
from common.serving.repository import Exported, ModelRepository

IDENTIFIERS = ("a1", "b2", "c3", "d4", "e5", "f6")
TITLES = ("Été", "Das Boot", "蓝色", "Das Boot", "", "[bold]\x1b[31mRed")
USERS = ("ann", "bob", "cy", "dee")
HAD = ((0,), (1, 2), (), (0, 1, 2, 3, 4, 5))
"""Positions that each user had in training."""
TASTES = np.array([[6, 5, 4, 3, 2, 1], [1, 2, 3, 4, 5, 6], [3, 9, 1, 8, 2, 7], [1, 1, 2, 2, 3, 3]], np.float32)
"""(user, item): what `members` scores; what `guests` scores is the first row."""
ANSWERS = 4
SEEN = -1e4
LIMITS = HistoryLimits(maximum_names=100, maximum_bytes=20_000)
BATCH = BatchRange(1, 4, 8)
OUTPUTS = (TensorSpec("items", "int64", (ANSWERS,)), TensorSpec("scores", "float32", (ANSWERS,)))
GUESTS = Signature((TensorSpec("history", "int64", ("history",)),), OUTPUTS, BATCH)
MEMBERS = Signature((TensorSpec("user", "int64", (1,)), TensorSpec("seen", "int64", ("seen",))), OUTPUTS, BATCH)


def shop_model(signature: Signature) -> onnx.ModelProto:
    """Positions in, the best items out that are not among them; a user beyond the table fails the whole run."""
    told = signature.inputs[-1].name
    constants = {
        "tastes": TASTES,
        "positions": np.arange(len(IDENTIFIERS)),
        "last": np.array([2]),
        "second": np.array([1]),
        "seen_score": np.array(SEEN, np.float32),
        "count": np.array([ANSWERS]),
        "first_user": np.array([0]),
    }
    nodes = [
        helper.make_node("Unsqueeze", [told, "last"], ["columns"]),
        helper.make_node("Equal", ["columns", "positions"], ["alike"]),
        helper.make_node("Cast", ["alike"], ["marks"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["marks"], ["most"], axes=[1], keepdims=0),
        helper.make_node("Cast", ["most"], ["is_seen"], to=TensorProto.BOOL),
    ]
    if told == "seen":
        nodes += [
            helper.make_node("Squeeze", ["user", "second"], ["row"]),
            helper.make_node("Gather", ["tastes", "row"], ["taste"], axis=0),
        ]
    else:
        nodes.append(helper.make_node("Gather", ["tastes", "first_user"], ["taste"], axis=0))
    nodes += [
        helper.make_node("Where", ["is_seen", "seen_score", "taste"], ["kept"]),
        helper.make_node("TopK", ["kept", "count"], ["scores", "items"]),
    ]
    inputs = [
        helper.make_tensor_value_info(
            spec.name, TensorProto.INT64, ["batch", *(size if size == 1 else "any" for size in spec.shape)]
        )
        for spec in signature.inputs
    ]
    outputs = [
        helper.make_tensor_value_info("items", TensorProto.INT64, ["batch", ANSWERS]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", ANSWERS]),
    ]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "shop", inputs, outputs, initializer=tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def add_shop(repository: ModelRepository, artefacts: Path, *, limits: HistoryLimits = LIMITS) -> None:
    """The ensembles `members` and `guests` on ONNX Runtime."""
    offsets = np.cumsum([0, *map(len, HAD)])
    known = Names(IDENTIFIERS, TITLES, USERS, offsets, np.concatenate([np.array(items, np.int64) for items in HAD]))
    for name, signature, names in (("members", MEMBERS, known), ("guests", GUESTS, Names(IDENTIFIERS, TITLES))):
        artefact = artefacts / f"{name}.onnx"
        onnx.save(shop_model(signature), artefact)
        exported = Exported(
            artefact=artefact,
            signature=signature,
            engine="onnxruntime",
            options=EngineOptions(threads=1),
            batching=Batching(delay_us=20_000),
        )
        add_recommender(repository, name, exported, names, lowest_score=SEEN / 2, limits=limits)
