import subprocess
import sys

import numpy as np
import pytest

from common.errors import DeviceError, ServingError
from common.export.runner import InParts, OnnxRunner, OpenVinoRunner, TorchRunner, TritonRunner, load_openvino
from tests.common.export.conftest import SIGNATURE, batch_of


def graphs(exported):
    yield OnnxRunner(exported.fp32, threads=1), 1e-5
    yield OpenVinoRunner(exported.fp32, threads=1), 1e-5
    yield OnnxRunner(exported.fp16, precision="fp16", threads=1), 0.02
    yield OpenVinoRunner(exported.fp16, precision="fp16", threads=1), 0.02
    yield OnnxRunner(exported.int8, precision="int8", threads=1), 0.2
    yield OpenVinoRunner(exported.int8, precision="int8", threads=1), 0.2


@pytest.mark.parametrize("batch", [1, 3, 32])
def test_every_engine_answers_as_torch_does(exported, batch):
    inputs = batch_of(batch, seed=9)
    expected = TorchRunner(exported.module, SIGNATURE)(inputs)["logits"]
    for runner, tolerance in graphs(exported):
        with runner:
            answer = runner(inputs)
        assert list(answer) == ["logits"]
        assert answer["logits"].dtype == np.float32
        np.testing.assert_allclose(answer["logits"], expected, atol=tolerance * np.ptp(expected), err_msg=runner.label)


@pytest.mark.parametrize("size", [1, 4, 9])
def test_in_parts_an_engine_answers_the_same_and_is_asked_for_no_more(size):
    asked = []

    class Doubling(OnnxRunner):
        precision = "fp16"

        def __init__(self): ...

        def __call__(self, inputs):
            asked.append(len(inputs["x"]))
            return {"y": 2 * inputs["x"]}

    given = np.arange(2 * size).reshape(size, 2)
    runner = InParts(Doubling(), 4)
    np.testing.assert_array_equal(runner({"x": given})["y"], 2 * given)
    assert runner.label == "onnxruntime fp16"
    assert (max(asked), sum(asked)) == (min(size, 4), size)


def test_typed_bfloat16_runs_on_openvino(exported):
    if "BF16" not in load_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has no bfloat16")
    inputs = batch_of(5)
    expected = TorchRunner(exported.module, SIGNATURE)(inputs)["logits"]
    for path in (exported.bf16, exported.fp32):
        runner = OpenVinoRunner(path, precision="bf16", threads=1)
        error = np.abs(runner(inputs)["logits"] - expected).max()
        assert 1e-6 < error < 0.1 * np.ptp(expected)


def test_typed_bfloat16_on_onnx_runtime_says_what_else_to_use(exported):
    with pytest.raises(DeviceError, match="bfloat16 runs on OpenVINO"):
        OnnxRunner(exported.bf16, precision="bf16")


def test_answers_are_not_overwritten_by_the_next_call(exported):
    for runner, _ in graphs(exported):
        first = runner(batch_of(2, seed=1))["logits"]
        kept = first.copy()
        runner(batch_of(2, seed=2))
        np.testing.assert_array_equal(first, kept, err_msg=runner.label)


def test_autocast_changes_the_arithmetic_but_not_the_output_type(exported):
    inputs = batch_of(4)
    plain = TorchRunner(exported.module, SIGNATURE)(inputs)["logits"]
    mixed = TorchRunner(exported.module, SIGNATURE, autocast="bf16")
    assert mixed.label == "torch bf16"
    answer = mixed(inputs)["logits"]
    assert answer.dtype == np.float32
    assert 0 < np.abs(answer - plain).max() < 0.1 * np.ptp(plain)


@pytest.mark.parametrize("engine", [OnnxRunner, OpenVinoRunner])
def test_a_damaged_graph_is_named(engine, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(ServingError, match=r"model\.onnx"):
        engine(path)


def test_a_missing_provider_is_named(exported):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("CUDA is here")
    with pytest.raises(DeviceError, match="CUDAExecutionProvider"):
        OnnxRunner(exported.fp32, provider="cuda")


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_an_unreachable_server_is_a_clear_error(protocol):
    runner = TritonRunner(
        "model", SIGNATURE, url="127.0.0.1:9", precision="fp32", protocol=protocol, timeout=1.0
    )  # the discard port: nothing listens
    with runner, pytest.raises(ServingError, match=r"127\.0\.0\.1:9 did not answer for model"):
        runner(batch_of(1))


def test_openvino_is_imported_without_telemetry(tmp_path):
    code = (
        "from common.export.runner import load_openvino; import sys; load_openvino().Core();"
        "print([n for n, m in sys.modules.items() if n.startswith('openvino_telemetry') and m])"
    )
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"HOME": str(tmp_path)},
    )
    assert (finished.stdout, finished.stderr) == ("[]\n", "")
    assert list(tmp_path.iterdir()) == []


def test_importing_runners_imports_no_engine():
    code = (
        "import common.export.runner, sys;"
        "print([n for n in ('onnxruntime', 'openvino', 'tensorrt', 'tritonclient', 'torch') if n in sys.modules])"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout == "[]\n"
