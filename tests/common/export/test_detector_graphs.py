"""Detectors in every precision: what comes after the heads stays in float32, and every engine finds the same."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from challenges.detection.comparison import _cover
from common.export import precisions
from common.export.artefact import write_sidecar
from common.export.latency import measure_latencies
from common.export.layers import layers, multiplications, outermost, tail
from common.export.lint import lint
from common.export.onnx import OPSET, export_onnx
from common.export.precisions import convert_precision, quantize_int8
from common.export.runner import Arrays, OnnxRunner, OpenVinoRunner, Runner, TorchRunner, _openvino_core
from tests.common.export.detector import CLASSES, SHAPES, SIGNATURE, images_of, small_detector

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
CHOOSING = {"Softmax", "Exp", "TopK", "NonMaxSuppression", "GatherElements", "ScatterND"}
CALIBRATION = [images_of(16, seed) for seed in range(1, 5)]


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The module and the path of its graph in every precision."""
    folder = tmp_path_factory.mktemp("detector")
    module = small_detector()
    fp32 = export_onnx(module, SIGNATURE, folder / "fp32.onnx")
    return SimpleNamespace(
        module=module,
        fp32=fp32,
        fp16=convert_precision(fp32, folder / "fp16.onnx", "fp16"),
        bf16=convert_precision(fp32, folder / "bf16.onnx", "bf16"),
        int8=quantize_int8(fp32, folder / "int8.onnx", CALIBRATION),
    )


def names(nodes: list[Any], weights: bool = False) -> list[str]:
    return sorted(node.input[1] if weights else node.op_type for node in nodes)


def test_layers_of_a_detector(detector: Any) -> None:
    graph = onnx.load(detector.fp32)
    assert len(layers(graph)) == 7
    first, last = outermost(graph)
    assert len(first) == 1
    assert names(last, weights=True) == [f"{kind}_heads.{n}.weight" for kind in ("class", "offset") for n in (0, 1)]
    after = tail(graph)
    assert set(names(after)) >= CHOOSING
    assert not {"Conv", "Relu"} & set(names(after))


def test_layers_of_a_classifier(exported: Any) -> None:
    graph = onnx.load(exported.fp32)
    first, last = outermost(graph)
    assert [names(first), names(last), tail(graph)] == [["Conv"], ["Gemm"], []]


def test_weights_may_be_computed_from_constants_and_products_of_activations_are_no_layers() -> None:
    """x @ transpose(constant) is a layer, attention's product of two activations is none."""
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"], "turn"),
        helper.make_node("MatMul", ["x", "t"], ["a"], "layer"),
        helper.make_node("MatMul", ["a", "a"], ["b"], "product"),
        helper.make_node("Softmax", ["b"], ["y"], "softmax"),
    ]
    value = helper.make_tensor_value_info
    weight = numpy_helper.from_array(np.ones((2, 2), np.float32), "w")
    graph = helper.make_graph(nodes, "g", [value("x", 1, [2, 2])], [value("y", 1, [2, 2])], initializer=[weight])
    model = helper.make_model(graph)
    assert [node.name for node in layers(model)] == ["layer"]
    assert [node.name for node in tail(model)] == ["product", "softmax"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_answer_is_chosen_in_float32(detector: Any, precision: str) -> None:
    model = onnx.load(getattr(detector, precision))
    types = {value.name: value.type.tensor_type.elem_type for value in (*model.graph.value_info, *model.graph.output)}
    after = tail(model)
    found = {node.op_type: types[node.output[0]] for node in after if node.op_type in CHOOSING - {"NonMaxSuppression"}}
    assert set(found) == CHOOSING - {"NonMaxSuppression"}
    assert set(found.values()) == {TensorProto.FLOAT}
    assert {types[name] for node in after for name in node.output} <= {
        TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL
    }  # fmt: skip
    assert not {"QuantizeLinear", "DequantizeLinear"} & {node.op_type for node in after}
    outputs = [(value.name, value.type.tensor_type.elem_type) for value in model.graph.output]
    assert outputs == [("boxes", TensorProto.FLOAT), ("scores", TensorProto.FLOAT), ("labels", TensorProto.INT64)]


def test_the_small_outermost_layers_are_not_quantised(detector: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = onnx.load(detector.fp32)
    first, last = outermost(graph)
    after = tail(graph)
    assert precisions._unquantised(graph) == [*first, *after]  # every head of this network is much of its work
    monkeypatch.setattr(precisions, "LARGEST_SHARE", 0.2)
    kept = precisions._unquantised(graph)[1 : -len(after)]
    assert [node.input[1] for node in kept] == ["class_heads.1.weight", "offset_heads.1.weight"]
    monkeypatch.setattr(precisions, "LARGEST_SHARE", 1.0)
    assert len(precisions._unquantised(graph)) == len([*first, *last, *after])


def test_what_is_left_out_is_stored_in_float32(detector: Any) -> None:
    graph = onnx.load(detector.int8).graph
    stored = {value.name for value in graph.initializer}
    plain = [node.name for node in graph.node if node.op_type == "Conv" and node.input[1] in stored]
    assert plain == [node.name for node in outermost(onnx.load(detector.fp32))[0]]


def test_work_of_layers(detector: Any) -> None:
    graph = onnx.load(detector.fp32)
    found = layers(graph)
    work = {node.input[1]: multiplications(graph, found)[node.name] for node in found}
    assert work["offset_heads.0.weight"] == 16 * 16 * 9 * 16 * SHAPES * 4
    assert work["class_heads.1.weight"] == 8 * 8 * 9 * 32 * SHAPES * CLASSES


def test_work_of_a_classifier_s_last_layer(exported: Any) -> None:
    graph = onnx.load(exported.fp32)
    assert list(multiplications(graph, layers(graph)).values())[-1] == 16 * 4


def test_a_detector_s_answers_are_not_corrected(detector: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precisions, "_mean_difference", lambda *_: pytest.fail("compared"))
    again = quantize_int8(detector.fp32, tmp_path / "again.onnx", CALIBRATION)
    assert again.read_bytes() == detector.int8.read_bytes()


def runners(detector: Any) -> list[tuple[Runner, float]]:
    """Every engine here, and how much of its boxes at least must cover torch's."""
    found: list[tuple[Runner, float]] = [
        (OnnxRunner(detector.fp32, threads=1), 1.0),
        (OpenVinoRunner(detector.fp32, threads=1), 1.0),
        (OnnxRunner(detector.fp16, precision="fp16", threads=1), 0.97),
        (OpenVinoRunner(detector.fp16, precision="fp16", threads=1), 0.97),
        (OnnxRunner(detector.int8, precision="int8", threads=1), 0.6),
        (OpenVinoRunner(detector.int8, precision="int8", threads=1), 0.6),
    ]
    if has_bfloat16():
        found += [(OpenVinoRunner(path, precision="bf16", threads=1), 0.85) for path in (detector.bf16, detector.fp32)]
    return found


def has_bfloat16() -> bool:
    return "BF16" in _openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def found_alike(expected: Arrays, answer: Arrays) -> float:
    """Share of the detections that have one of the same class and nearly the same place in the answer."""
    same = expected["labels"][:, :, None] == answer["labels"][:, None]
    cover = np.where(same, _cover(expected["boxes"][:, :, None], answer["boxes"][:, None]), 0.0).max(2)
    return float((cover >= 0.9)[expected["labels"] > 0].mean())


@pytest.mark.parametrize("size", [1, 3, 8])
def test_every_engine_finds_what_torch_finds(detector: Any, size: int) -> None:
    inputs = images_of(size, seed=9)
    expected = TorchRunner(detector.module, SIGNATURE)(inputs)
    assert (expected["labels"] > 0).mean() > 0.5
    for runner, least in runners(detector):
        with runner:
            answer = runner(inputs)
        assert list(answer) == ["boxes", "scores", "labels"]
        assert [values.dtype for values in answer.values()] == [np.float32, np.float32, np.int64], runner.label
        assert [values.shape for values in answer.values()] == [values.shape for values in expected.values()]
        assert 0 <= answer["boxes"].min() <= answer["boxes"].max() <= 1
        assert found_alike(expected, answer) >= least, runner.label
        if runner.precision == "fp32":
            for name, values in answer.items():
                np.testing.assert_allclose(values, expected[name], atol=1e-4, err_msg=runner.label)


def test_an_image_without_detections(detector: Any) -> None:
    """Boxes that nothing fills are zeros, whatever the engine makes of an empty suppression."""
    module = small_detector()
    for head in module.class_heads:
        head.weight.data.zero_()
        head.bias.data.zero_()
        head.bias.data.view(-1, 3)[:, 0] = 20.0
    path = export_onnx(module, SIGNATURE, detector.fp32.with_name("nothing.onnx"))
    for runner in (OnnxRunner(path, threads=1), OpenVinoRunner(path, threads=1)):
        assert not any(values.any() for values in runner(images_of(2)).values())


@pytest.mark.parametrize("graph", ["bf16", "fp32"])
def test_openvino_chooses_in_float32_under_bfloat16(detector: Any, graph: str) -> None:
    if not has_bfloat16():
        pytest.skip("this CPU has no bfloat16")
    runner = OpenVinoRunner(getattr(detector, graph), precision="bf16", threads=1)
    facts = [node.get_rt_info() for node in runner._compiled.get_runtime_model().get_ordered_ops()]
    types = {(str(fact["layerType"].value), str(fact["runtimePrecision"].value)) for fact in facts}
    assert ("Convolution", "bf16") in types
    assert {("Softmax", "f32"), ("NonMaxSuppression", "f32"), ("TopK", "f32")} <= types
    assert not {("Softmax", "bf16"), ("NonMaxSuppression", "bf16"), ("TopK", "bf16"), ("Math", "bf16")} & types


def test_latency_of_several_outputs(detector: Any) -> None:
    runner = OnnxRunner(detector.fp32, threads=1)
    assert measure_latencies([runner], images_of(2), seconds=0.05)[runner.label].p50_ms > 0


@pytest.mark.parametrize("precision", PRECISIONS)
def test_tensorrt_would_read_the_graphs(detector: Any, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.export.lint._begin_polygraphy", lambda path: list)
    assert lint(getattr(detector, precision)) == []


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_polygraphy_accepts_the_graphs(detector: Any, precision: str) -> None:
    assert lint(getattr(detector, precision)) == []


def suppression(path: Path, boxes: int, reduction: str = "none", order: int = 1) -> Path:
    """scores (1, 1, boxes) and boxes (1, boxes, 4) -> NonMaxSuppression, with a TopK and a ScatterND beside it."""
    value = helper.make_tensor_value_info
    constants = [
        numpy_helper.from_array(np.array([9], np.int64), "most"),
        numpy_helper.from_array(np.array([0.5], np.float32), "overlap"),
        numpy_helper.from_array(np.zeros((1, 3), np.int64), "place"),
        numpy_helper.from_array(np.zeros(1, np.float32), "update"),
    ]
    nodes = [
        helper.make_node("Identity", ["boxes"], ["same"], "identity"),
        helper.make_node("NonMaxSuppression", ["same", "scores", "most", "overlap", "overlap"], ["kept"], "nms"),
        helper.make_node("TopK", ["scores", "most"], ["best", "where"], "best", sorted=order),
        helper.make_node("ScatterND", ["scores", "place", "update"], ["marked"], "mark", reduction=reduction),
    ]
    inputs = [value("boxes", 1, [1, boxes, 4]), value("scores", 1, [1, 1, boxes])]
    outputs = [value("kept", 7, [None, 3]), value("best", 1, [1, 1, 9]), value("marked", 1, [1, 1, boxes])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializer=constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"boxes": 5000}, []),
        ({"boxes": 5001}, ["node nms: NonMaxSuppression of 5001 boxes, TensorRT considers 5000 per image"]),
        (
            {"boxes": 10, "reduction": "add"},
            ["node mark: ScatterND with the reduction add, TensorRT takes none"],
        ),
        ({"boxes": 10, "order": 0}, ["node best: TopK without an order, TensorRT's is sorted"]),
    ],
)
def test_lint_knows_the_limits_of_suppression(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: Any, words: list[str]
) -> None:
    monkeypatch.setattr("common.export.lint._begin_polygraphy", lambda path: list)
    assert lint(suppression(tmp_path / "g.onnx", **arguments)) == words


def test_lint_knows_the_types_of_suppression(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.export.lint._begin_polygraphy", lambda path: list)
    path = suppression(tmp_path / "g.onnx", 10)
    monkeypatch.setattr("onnx.checker.check_model", lambda *_, **__: None)  # ONNX itself knows no others
    model = onnx.load(path)
    for value in model.graph.value_info:
        if value.name == "same":
            value.type.tensor_type.elem_type = TensorProto.BFLOAT16
    onnx.save(model, path)
    (problem,) = lint(path)
    assert "NonMaxSuppression of BFLOAT16" in problem


@pytest.mark.gpu
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_real_plan_finds_what_torch_finds(detector: Any, tmp_path: Path, precision: Any) -> None:
    pytest.importorskip("tensorrt")
    from common.export.runner import TensorRtRunner
    from common.export.tensorrt import build_plan

    source = tmp_path / f"model.{precision}.onnx"
    source.write_bytes(getattr(detector, precision).read_bytes())
    write_sidecar(source, precision=precision, opset=OPSET, signature=SIGNATURE, preprocessing={})
    build_plan(source, tmp_path / "model.plan")
    least = {"fp32": 1.0, "fp16": 0.97, "bf16": 0.85, "int8": 0.6}[precision]
    with TensorRtRunner(tmp_path / "model.plan") as engine:
        for size in (1, 3, 8):
            expected = TorchRunner(detector.module, SIGNATURE)(images_of(size, seed=9))
            answer = engine(images_of(size, seed=9))
            assert answer["labels"].dtype == np.int64
            assert found_alike(expected, answer) >= least
