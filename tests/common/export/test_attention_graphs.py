"""Attention over places of which some are empty: quantised, its mask must go on hiding them."""

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from common.errors import KitError
from common.export import precisions
from common.export.layers import before_softmax
from common.export.onnx import export_onnx
from common.export.precisions import quantize_int8
from common.export.runner import OnnxRunner, OpenVinoRunner
from common.export.signature import BatchRange, Signature, TensorSpec

PLACES, WIDTH = 24, 64
SIGNATURE = Signature(
    (TensorSpec("states", "float32", (PLACES, WIDTH)), TensorSpec("filled", "bool", (PLACES,))),
    (TensorSpec("answer", "float32", (8,)),),
    BatchRange(1, 4, 32),
)


class Reader(nn.Module):
    """Two blocks of attention between linear layers; the last place answers."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 8)
        self.project = nn.ModuleList(nn.Linear(WIDTH, 3 * WIDTH) for _ in range(2))

    def forward(self, states: Tensor, filled: Tensor) -> Tensor:
        visible = filled[:, None, None, :]
        states = self.enter(states)
        for project in self.project:
            query, key, value = project(states).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4).unbind()
            attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)
            states = states + attended.transpose(1, 2).flatten(2)
        return self.leave(states[:, -1])


def batch_of(size, seed=0):
    """Few places are filled, and what stands in the empty ones is loud."""
    generator = np.random.default_rng(seed)
    filled = np.arange(PLACES) >= generator.integers(PLACES - 4, PLACES, (size, 1))
    states = generator.normal(size=(size, PLACES, WIDTH)) * np.where(filled, 1, 3)[..., None]
    return {"states": states.astype(np.float32), "filled": filled}


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("attention")
    example = {name: torch.from_numpy(array) for name, array in batch_of(4).items()}
    fp32 = export_onnx(Reader().eval(), SIGNATURE, folder / "fp32.onnx", example=example)
    return fp32, quantize_int8(fp32, folder / "int8.onnx", [batch_of(16, seed) for seed in range(4)])


def test_only_what_lies_between_products_and_a_softmax_is_found(graphs):
    graph = onnx.load(graphs[0])
    found = {node.op_type for node in before_softmax(graph)}
    assert "Add" in found
    assert found.isdisjoint({"MatMul", "Gemm", "Conv"})


def test_masks_are_not_quantised(graphs):
    graph = onnx.load(graphs[1]).graph
    constants = {value.name: onnx.numpy_helper.to_array(value) for value in graph.initializer}
    steps = [constants[n.input[1]].max() for n in graph.node if n.op_type == "QuantizeLinear"]
    assert steps
    assert max(steps) < 1


@pytest.mark.parametrize("engine", [OnnxRunner, OpenVinoRunner])
def test_empty_places_stay_unseen_in_every_engine(graphs, engine):
    inputs = batch_of(64, seed=9)
    expected = OnnxRunner(graphs[0], threads=1)(inputs)["answer"]
    answer = engine(graphs[1], precision="int8", threads=1)(inputs)["answer"]
    assert np.abs(answer - expected).max() < 0.1 * np.ptp(expected)


def test_a_value_with_too_wide_a_range_is_refused(graphs, tmp_path, monkeypatch):
    monkeypatch.setattr(precisions, "before_softmax", lambda graph: [])
    with pytest.raises(KitError, match="eight bits"):
        quantize_int8(graphs[0], tmp_path / "x.onnx", [batch_of(16)])
