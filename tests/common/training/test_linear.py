"""Linear layers by oneDNN: the same products and gradients, taken only where they pay."""

import pytest
import torch
from torch.nn import functional

from common.training import linear as module
from common.training.linear import Linear, linear

OPERATOR = "_linear_pointwise"


@pytest.fixture
def onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every processor takes oneDNN, and so do small products."""
    monkeypatch.setattr(module, "_mkl_is_half_as_wide", lambda: True)
    monkeypatch.setattr(module, "SMALLEST", 1)


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 5), (5,), (0, 5)])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.usefixtures("onednn")
def test_values_and_gradients_are_those_of_a_linear_layer(shape: tuple[int, ...], has_bias: bool) -> None:
    inputs, weight = torch.randn(shape), torch.randn(7, 5)
    bias = torch.randn(7) if has_bias else None
    found = []
    for layer in (linear, functional.linear):
        own = [tensor.clone().requires_grad_() for tensor in (inputs, weight, bias) if tensor is not None]
        answer = layer(*own)
        answer.square().sum().backward()
        found.append([answer, *(tensor.grad for tensor in own)])
    torch.testing.assert_close(found[0], found[1])
    assert found[0][0].is_contiguous()


@pytest.mark.usefixtures("onednn")
def test_transposed_inputs_and_weights() -> None:
    inputs, weight = torch.randn(5, 3).t(), torch.randn(5, 7).t()
    torch.testing.assert_close(linear(inputs, weight), functional.linear(inputs, weight))


@pytest.mark.usefixtures("onednn")
def test_onednn_is_taken_for_float32_alone() -> None:
    layer, inputs = Linear(5, 7), torch.randn(3, 5)
    with torch.profiler.profile() as seen:
        layer(inputs)
    assert any(OPERATOR in event.key for event in seen.key_averages())
    with torch.profiler.profile() as seen, torch.autocast("cpu", torch.bfloat16):
        assert layer(inputs).dtype == torch.bfloat16
        layer.double()(inputs.double())
    assert not any(OPERATOR in event.key for event in seen.key_averages())


def test_exported_graphs_hold_the_linear_operator_for_any_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_mkl_is_half_as_wide", lambda: True)
    monkeypatch.setattr(module, "SMALLEST", 200)  # more than the example has, fewer than others do
    rows = torch.export.Dim("rows", min=1, max=1000)
    graph = torch.export.export(Linear(5, 7).eval(), (torch.randn(3, 5),), dynamic_shapes=({0: rows},)).graph
    operators = {str(node.target) for node in graph.nodes if node.op == "call_function"}
    assert operators == {"aten.linear.default"}


def test_small_products_and_other_processors_keep_the_linear_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, weight = torch.randn(2**10, 2**6), torch.randn(2**7, 2**6)
    monkeypatch.setattr(module, "_mkl_is_half_as_wide", lambda: True)
    assert module._is_for_onednn(inputs, weight)
    assert not module._is_for_onednn(inputs[1:], weight)
    monkeypatch.setattr(module, "_mkl_is_half_as_wide", lambda: False)
    assert not module._is_for_onednn(inputs, weight)
