import os

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from torch import nn

from common.errors import DataError, KitError, ServingError
from common.export.artefact import read_sidecar, sidecar_path, write_sidecar
from common.export.lint import begin_lint, lint
from common.export.onnx import OPSET, export_onnx
from common.export.precisions import convert_precision, quantize_int8
from common.export.runner import OnnxRunner
from common.export.signature import BatchRange, Signature, TensorSpec
from common.files import sha256
from tests.common.export.conftest import SIGNATURE, batch_of, operators

PRECISIONS = ("fp32", "fp16", "bf16", "int8")


class Two(nn.Module):
    """Two inputs, one of free length, and two outputs of different types."""

    def forward(self, items, weight):
        scored = items * weight[:, None]
        return scored.sum(1), scored.argmax(1)


TWO = Signature(
    (TensorSpec("items", "float32", ("length",)), TensorSpec("weight", "float32", ())),
    (TensorSpec("total", "float32", ()), TensorSpec("best", "int64", ())),
)


def types(path):
    return {TensorProto.DataType.Name(i.data_type) for i in onnx.load(path).graph.initializer if len(i.dims) == 4}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_interface_is_the_same_in_every_precision(exported, precision):
    graph = onnx.load(getattr(exported, precision)).graph
    for values, specs in ((graph.input, SIGNATURE.inputs), (graph.output, SIGNATURE.outputs)):
        (value,), (spec,) = values, specs
        first, *rest = value.type.tensor_type.shape.dim
        assert value.name == spec.name
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
        assert first.dim_param == "batch"
        assert tuple(dim.dim_value for dim in rest) == spec.shape


@pytest.mark.parametrize(
    ("precision", "stored"),
    [("fp32", {"FLOAT"}), ("fp16", {"FLOAT16"}), ("bf16", {"BFLOAT16"}), ("int8", {"INT8", "FLOAT"})],
)
def test_weights_are_stored_in_the_precision(exported, precision, stored):
    assert types(getattr(exported, precision)) == stored


def test_the_first_and_the_last_layer_are_not_quantised(exported):
    graph = onnx.load(exported.int8).graph
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    stored = {value.name for value in graph.initializer}
    assert [layer.input[1] in stored for layer in layers] == [True, False, True]


def test_batch_norms_are_folded_and_nothing_else_remains(exported):
    assert operators(exported.fp32) == {"Add": 1, "Conv": 2, "Gemm": 1, "ReduceMean": 1, "Relu": 2}


def test_weights_are_quantised_per_channel_and_activations_per_tensor(exported):
    graph = onnx.load(exported.int8).graph
    sizes = {value.name: tuple(value.dims) for value in graph.initializer}
    weights = [n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in sizes]
    assert weights
    assert all(sizes[n.input[1]] == (sizes[n.input[0]][0],) for n in weights)
    activations = [n for n in graph.node if n.op_type == "QuantizeLinear"]
    assert activations
    assert all(np.prod(sizes[n.input[1]], initial=1) == 1 for n in activations)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_trace_of_this_machine_and_one_opset(exported, precision):
    path = getattr(exported, precision)
    assert os.getcwd().encode() not in path.read_bytes()
    (domain,) = (d for d in onnx.load(path).opset_import if d.domain == "")
    assert domain.version == OPSET


def test_export_is_reproducible_and_leaves_the_module_alone(exported, small_net, tmp_path):
    before = {name: value.clone() for name, value in small_net.state_dict().items()}
    small_net.train()
    again = export_onnx(small_net, SIGNATURE, tmp_path / "again.onnx")
    assert small_net.training
    small_net.eval()
    assert sha256(again) == sha256(exported.fp32)
    assert all(torch.equal(value, before[name]) for name, value in small_net.state_dict().items())


def test_exporting_leaves_no_stray_files(exported):
    assert sorted(path.name for path in exported.fp32.parent.iterdir()) == [
        f"model.{p}.onnx" for p in sorted(PRECISIONS)
    ]


def test_several_inputs_and_a_free_dimension(tmp_path):
    example = {"items": torch.rand(2, 5), "weight": torch.rand(2)}
    path = export_onnx(Two(), TWO, tmp_path / "two.onnx", example=example)
    graph = onnx.load(path).graph
    assert [value.name for value in graph.input] == ["items", "weight"]
    assert [dim.dim_param for dim in graph.input[0].type.tensor_type.shape.dim] == ["batch", "length"]
    assert [value.name for value in graph.output] == ["total", "best"]


def test_a_free_dimension_needs_an_example(tmp_path):
    with pytest.raises(KitError, match="free"):
        export_onnx(Two(), TWO, tmp_path / "two.onnx")


def test_names_of_the_signature_must_be_those_of_forward(small_net, tmp_path):
    wrong = Signature((TensorSpec("pictures", "float32", (3, 16, 16)),), SIGNATURE.outputs)
    with pytest.raises(KitError, match=r"\['pictures'\].*\['images'\]"):
        export_onnx(small_net, wrong, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_a_module_that_cannot_be_traced_is_named(tmp_path):
    class Branching(nn.Module):
        def forward(self, images):
            return images[:, 0, 0, :4] if images.sum() > 0 else images[:, 1, 0, :4]

    with pytest.raises(KitError, match="Branching cannot be exported"):
        export_onnx(Branching(), SIGNATURE, tmp_path / "x.onnx")


@pytest.mark.parametrize("shape", [(5,), (4, 1)])
def test_outputs_must_be_those_of_the_signature(small_net, tmp_path, shape):
    wrong = Signature(SIGNATURE.inputs, (TensorSpec("logits", "float32", shape),), SIGNATURE.batch)
    with pytest.raises(KitError, match="the signature says"):
        export_onnx(small_net, wrong, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_a_module_that_fixes_its_batch_is_refused(tmp_path):
    class Fixed(nn.Module):
        def forward(self, images):
            return images.reshape(2, -1)[:, :4]

    with pytest.raises(KitError, match=r"outputs are .*\(2, 4\).*\n.*'batch'"):
        export_onnx(Fixed(), SIGNATURE, tmp_path / "x.onnx")


def test_a_single_batch_size_is_exported_as_such(small_net, tmp_path):
    single = Signature(SIGNATURE.inputs, SIGNATURE.outputs, BatchRange(1, 1, 1))
    path = export_onnx(small_net, single, tmp_path / "one.onnx")
    assert onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1


def test_calibration_without_data_is_refused(exported, tmp_path):
    with pytest.raises(DataError, match="calibration"):
        quantize_int8(exported.fp32, tmp_path / "x.onnx", [])


def test_nothing_is_printed(exported, tmp_path, capfd):
    quantize_int8(exported.fp32, tmp_path / "x.onnx", [batch_of(4)])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_table_of_operators_accepts_the_graphs(exported, precision, monkeypatch):
    monkeypatch.setattr("common.export.lint._begin_polygraphy", lambda path: list)
    assert lint(getattr(exported, precision)) == []


@pytest.mark.slow
def test_polygraphy_accepts_the_graphs_while_others_are_written(exported, tmp_path):
    """Which work in temporary folders that come and go."""
    begun = []
    for precision in PRECISIONS:
        begun.append(begin_lint(getattr(exported, precision)))
        quantize_int8(exported.fp32, tmp_path / "int8.onnx", [batch_of(4)])
    assert [problems() for problems in begun] == [[]] * len(PRECISIONS)


def write_graph(path, nodes, opset=OPSET, initializers=()):
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes, "g", [value("x", 1, [2, 2])], [value("y", 1, [2, 2])], initializer=list(initializers)
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10), path)
    return path


@pytest.mark.parametrize(
    ("node", "opset", "said"),
    [
        (("Det", ["x"], ["y"]), 22, "not a sound ONNX graph"),  # its output has another shape
        (("Bernoulli", ["x"], ["y"]), 22, "does not read Bernoulli"),
        (("Relu", ["x"], ["y"]), 8, "opset 8"),
        (("Reluu", ["x"], ["y"]), 22, "not a sound ONNX graph"),
    ],
)
def test_lint_tells_what_tensorrt_would_not_read(tmp_path, monkeypatch, node, opset, said):
    monkeypatch.setattr("common.export.lint._begin_polygraphy", lambda path: list)
    (problem,) = lint(write_graph(tmp_path / "g.onnx", [onnx.helper.make_node(*node, name="n")], opset))
    assert said in problem


def test_lint_finds_a_zero_point_that_is_not_zero(tmp_path, monkeypatch):
    monkeypatch.setattr("common.export.lint._begin_polygraphy", lambda path: list)
    nodes = [
        onnx.helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="quantize"),
        onnx.helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], name="restore"),
    ]
    constants = [
        onnx.numpy_helper.from_array(np.float32(0.1), "s"),
        onnx.numpy_helper.from_array(np.uint8(128), "z"),
    ]
    problems = lint(write_graph(tmp_path / "g.onnx", nodes, initializers=constants))
    assert len(problems) == 2
    assert all("zero point" in problem for problem in problems)


def test_lint_of_a_file_that_is_no_graph(tmp_path):
    path = tmp_path / "x.onnx"
    path.write_bytes(b"not a graph")
    (problem,) = lint(path)
    assert "not a sound ONNX graph" in problem


@pytest.fixture
def recorded(exported, tmp_path):
    path = tmp_path / "model.fp32.onnx"
    path.write_bytes(exported.fp32.read_bytes())
    written = write_sidecar(
        path,
        precision="fp32",
        opset=OPSET,
        signature=SIGNATURE,
        preprocessing={"resize": 18, "mean": [1.0, 2.0, 3.0]},
        class_names=("cat", "dog"),
        metrics={"top1": 0.75},
    )
    return path, written


def test_sidecar_survives_the_round_trip(recorded):
    path, written = recorded
    assert read_sidecar(path) == written
    assert written.sha256 == sha256(path)
    assert written.versions["torch"] == torch.__version__


def test_one_changed_byte_is_found(recorded):
    path, _ = recorded
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ServingError, match="damaged"):
        read_sidecar(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"file": 1}'])
def test_a_sidecar_that_is_none(recorded, text):
    path, _ = recorded
    sidecar_path(path).write_text(text)
    with pytest.raises(ServingError, match="no record"):
        read_sidecar(path)


def test_missing_files_are_named(recorded):
    path, _ = recorded
    sidecar_path(path).unlink()
    with pytest.raises(ServingError, match=r"model\.fp32\.onnx\.json does not exist"):
        read_sidecar(path)


def test_what_int8_leaves_is_typed_in_fp16_and_answers_alike(exported, tmp_path):
    example = {name: torch.from_numpy(array) for name, array in batch_of(4).items()}
    path = convert_precision(exported.int8, tmp_path / "half.onnx", "fp16", example=example)
    before, after = operators(exported.int8), operators(path)
    assert {name: count for name, count in after.items() if name != "Cast"} == before
    weights = {onnx.TensorProto.DataType.Name(value.data_type) for value in onnx.load(path).graph.initializer}
    assert {"INT8", "FLOAT16"} <= weights
    assert "FLOAT" not in weights
    expected, answered = (OnnxRunner(source)(batch_of(16))["logits"] for source in (exported.int8, path))
    np.testing.assert_allclose(answered, expected, atol=0.02 * np.ptp(expected))
