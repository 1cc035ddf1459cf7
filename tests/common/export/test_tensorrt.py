import ast
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest

from common.errors import DeviceError, KitError, ServingError
from common.export import runner, tensorrt
from common.export.artefact import read_sidecar, write_sidecar
from common.export.onnx import OPSET
from common.export.signature import GPU_BATCH, Signature, SizeRange, TensorSpec
from tests.common.export.conftest import SIGNATURE, batch_of
from tests.stand_in_tensorrt import CLASSES, stand_in

APIS = {
    path.stem.removeprefix("tensorrt_api_"): json.loads(path.read_text())
    for path in sorted(Path(__file__).parent.glob("tensorrt_api_*.json"))
}
SOURCES = [Path(module.__file__) for module in (tensorrt, runner)]
CLASS_OF = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "error": "ParserError",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "cache": "ITimingCache",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "_engine": "ICudaEngine",
    "context": "IExecutionContext",
    "_context": "IExecutionContext",
}


def tensorrt_functions(tree):
    """The functions that handle TensorRT's objects: all of tensorrt.py, and TensorRtRunner's."""
    classes = [n for n in tree.body if isinstance(n, ast.ClassDef)]
    return [tree] if not classes else [n for n in classes if n.name == "TensorRtRunner"]


def names_in_use():
    """(class or None for the module, member) of everything the sources take from TensorRT."""
    found = set()
    for source in SOURCES:
        for part in tensorrt_functions(ast.parse(source.read_text())):
            for node in ast.walk(part):
                if not isinstance(node, ast.Attribute):
                    continue
                owner = node.value
                if isinstance(owner, ast.Name) and owner.id == "trt":
                    found.add((None, node.attr))
                elif isinstance(owner, ast.Attribute) and isinstance(owner.value, ast.Name) and owner.value.id == "trt":
                    found.add((owner.attr, node.attr))
                elif isinstance(owner, ast.Name) and owner.id in CLASS_OF:
                    found.add((CLASS_OF[owner.id], node.attr))
                elif isinstance(owner, ast.Attribute) and owner.attr in CLASS_OF:
                    found.add((CLASS_OF[owner.attr], node.attr))
    return sorted(found, key=str)


def test_the_names_in_use_are_found():
    used = names_in_use()
    assert (None, "OnnxParser") in used
    assert ("NetworkDefinitionCreationFlag", "STRONGLY_TYPED") in used
    assert ("IBuilderConfig", "set_timing_cache") in used
    assert ("IExecutionContext", "execute_async_v3") in used
    assert len(used) >= 30


@pytest.mark.parametrize("version", APIS)
def test_every_name_exists_in_tensorrt(version):
    api = APIS[version]
    for owner, member in names_in_use():
        known = api["module"] if owner is None else api["classes"][owner]
        assert member in known, f"TensorRT {api['version']} has no {owner or 'tensorrt'}.{member}"


@pytest.mark.parametrize("version", APIS)
def test_the_stand_in_is_called_as_tensorrt_is(version):
    api = APIS[version]
    for one in CLASSES:
        own = {name for name in vars(one) if not name.startswith("_")}
        assert one.__name__ in api["module"]
        assert own <= set(api["classes"][one.__name__]), one.__name__


def test_the_stand_in_refuses_what_tensorrt_would(machine, exported, tmp_path, monkeypatch):
    machine()
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in("11.4.0"))
    for name, signature in (
        ("other name", replace(SIGNATURE, inputs=(replace(SIGNATURE.inputs[0], name="pictures"),))),
        ("other size", replace(SIGNATURE, inputs=(replace(SIGNATURE.inputs[0], shape=(3, 16, 17)),))),
    ):
        source = tmp_path / f"{name}.onnx"
        source.write_bytes(exported.fp32.read_bytes())
        write_sidecar(source, precision="fp32", opset=OPSET, signature=signature, preprocessing={})
        with pytest.raises(KitError, match="built no plan"):
            tensorrt.build_plan(source, tmp_path / "model.plan")


def test_the_lists_tell_the_versions_apart():
    assert "FP16" in APIS["10.16"]["classes"]["BuilderFlag"]
    assert "FP16" not in APIS["11.4"]["classes"]["BuilderFlag"]


class FakeTensorRT:
    """A tensorrt module that records what is asked of it and builds the bytes `plan`."""

    def __init__(self, version="11.4.0", parses=True, plan=b"plan", cache_fits=True):
        api = APIS[".".join(version.split(".")[:2])]["classes"]
        self.__version__ = version
        self.Logger, self.init_libnvinfer_plugins = MagicMock(ERROR=1), MagicMock()
        self.MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
        self.BuilderFlag = SimpleNamespace(TF32="tf32")
        self.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
        self.builder = MagicMock(spec=api["Builder"])
        self.network = self.builder.create_network.return_value = MagicMock(spec=api["INetworkDefinition"])
        self.config = self.builder.create_builder_config.return_value = MagicMock(spec=api["IBuilderConfig"])
        self.profile = self.builder.create_optimization_profile.return_value = MagicMock(
            spec=api["IOptimizationProfile"]
        )
        self.cache = self.config.create_timing_cache.return_value = MagicMock(spec=api["ITimingCache"])
        self.config.set_timing_cache.side_effect = lambda cache, ignore_mismatch: cache_fits
        self.cache.serialize.return_value = b"timings"
        self.builder.build_serialized_network.return_value = plan
        self.parser = MagicMock(spec=api["OnnxParser"], num_errors=1)
        self.parser.parse.return_value = parses
        reason = self.parser.get_error.return_value = MagicMock(spec=api["ParserError"])
        reason.node_name.return_value, reason.node_operator.return_value = "n7", "Det"
        reason.desc.return_value = "unsupported"
        self.runtime = MagicMock(spec=api["Runtime"])
        self.Builder, self.OnnxParser = MagicMock(return_value=self.builder), MagicMock(return_value=self.parser)
        self.Runtime = MagicMock(return_value=self.runtime)


H200 = {"gpu": "NVIDIA H200", "compute_capability": "9.0"}


@pytest.fixture
def machine(monkeypatch):
    """Pretend to be a machine with this GPU and TensorRT; returns the module."""

    def pretend(gpu=H200, **options):
        fake = FakeTensorRT(**options)
        monkeypatch.setitem(sys.modules, "tensorrt", fake)
        monkeypatch.setattr(tensorrt, "gpu_identity", lambda: dict(gpu))
        return fake

    return pretend


@pytest.fixture
def graph(tmp_path):
    def write(precision="fp16", signature=SIGNATURE):
        path = tmp_path / f"model.{precision}.onnx"
        path.write_bytes(b"graph")
        write_sidecar(
            path, precision=precision, opset=OPSET, signature=signature, preprocessing={}, class_names=("cat", "dog")
        )
        return path

    return write


@pytest.mark.parametrize("version", ["10.16.1", "11.4.0"])
def test_a_plan_is_strongly_typed_and_spans_the_batch_range(machine, graph, tmp_path, version):
    fake, source = machine(version=version), graph()
    sidecar = tensorrt.build_plan(source, tmp_path / "model.plan", workspace_gib=2)
    fake.builder.create_network.assert_called_once_with(1 << 1)
    fake.parser.parse.assert_called_once_with(b"graph", str(source))
    fake.config.set_memory_pool_limit.assert_called_once_with("workspace", 2 * 2**30)
    fake.profile.set_shape.assert_called_once_with("images", (1, 3, 16, 16), (4, 3, 16, 16), (32, 3, 16, 16))
    fake.config.add_optimization_profile.assert_called_once_with(fake.profile)
    fake.builder.build_serialized_network.assert_called_once_with(fake.network, fake.config)
    fake.config.clear_flag.assert_not_called()
    assert (tmp_path / "model.plan").read_bytes() == b"plan"
    assert sidecar == read_sidecar(tmp_path / "model.plan")
    assert sidecar.target == {**H200, "tensorrt": version, "onnx_sha256": read_sidecar(source).sha256}
    assert sidecar.class_names == ("cat", "dog")


def test_fp32_plans_do_without_tf32(machine, graph, tmp_path):
    fake = machine()
    tensorrt.build_plan(graph("fp32"), tmp_path / "model.plan")
    fake.config.clear_flag.assert_called_once_with("tf32")


def test_timings_are_kept_for_the_next_build(machine, graph, tmp_path):
    cache = tmp_path / "timing.cache"
    fake = machine()
    tensorrt.build_plan(graph(), tmp_path / "model.plan", timing_cache=cache)
    fake.config.create_timing_cache.assert_called_once_with(b"")
    assert cache.read_bytes() == b"timings"
    fake = machine()
    tensorrt.build_plan(graph(), tmp_path / "model.plan", timing_cache=cache)
    fake.config.create_timing_cache.assert_called_once_with(b"timings")


def test_timings_of_another_gpu_are_replaced(machine, graph, tmp_path):
    cache = tmp_path / "timing.cache"
    cache.write_bytes(b"of another gpu")
    fake = machine(cache_fits=False)
    tensorrt.build_plan(graph(), tmp_path / "model.plan", timing_cache=cache)
    assert [call.args for call in fake.config.create_timing_cache.call_args_list] == [(b"of another gpu",), (b"",)]
    assert cache.read_bytes() == b"timings"


def test_a_graph_that_does_not_parse_names_the_node(machine, graph, tmp_path):
    machine(parses=False)
    with pytest.raises(KitError, match=r"node n7 \(Det\): unsupported"):
        tensorrt.build_plan(graph(), tmp_path / "model.plan")


def test_a_build_that_fails_leaves_no_plan(machine, graph, tmp_path):
    machine(plan=None)
    with pytest.raises(KitError, match="built no plan"):
        tensorrt.build_plan(graph(), tmp_path / "model.plan")
    assert not (tmp_path / "model.plan").exists()


FREE = (TensorSpec("history", "int64", ("history",)), TensorSpec("user", "int64", (1,)))


def test_a_plan_spans_the_range_of_every_free_size(machine, graph, tmp_path):
    fake = machine()
    signature = Signature(FREE, SIGNATURE.outputs, SIGNATURE.batch, {"history": SizeRange(1, 64, 16384)})
    plan = tmp_path / "model.plan"
    assert tensorrt.build_plan(graph(signature=signature), plan).signature == read_sidecar(plan).signature == signature
    assert [call.args for call in fake.profile.set_shape.call_args_list] == [
        ("history", (1, 1), (4, 64), (32, 16384)),
        ("user", (1, 1), (4, 1), (32, 1)),
    ]


def test_a_plan_takes_as_many_at_a_time_as_a_gpu_is_to(machine, graph, tmp_path):
    fake, plan = machine(), tmp_path / "model.plan"
    tensorrt.build_plan(graph(signature=replace(SIGNATURE, plan_batch=GPU_BATCH)), plan)
    fake.profile.set_shape.assert_called_once_with("images", (1, 3, 16, 16), (32, 3, 16, 16), (128, 3, 16, 16))
    assert read_sidecar(plan).signature == replace(SIGNATURE, batch=GPU_BATCH)


def test_a_free_size_without_a_range_is_refused_before_anything_is_built(machine, graph, tmp_path):
    fake = machine()
    with pytest.raises(KitError, match="the size history of history has no range"):
        tensorrt.build_plan(graph(signature=Signature(FREE, SIGNATURE.outputs)), tmp_path / "model.plan")
    fake.builder.create_network.assert_not_called()


def test_a_precision_that_the_gpu_does_not_have_is_refused_by_name(machine, graph, tmp_path):
    fake = machine(gpu={"gpu": "Tesla T4", "compute_capability": "7.5"})
    with pytest.raises(DeviceError, match=r"Tesla T4 \(compute capability 7\.5\) has no bf16 in TensorRT"):
        tensorrt.build_plan(graph("bf16"), tmp_path / "model.plan")
    fake.builder.create_network.assert_not_called()
    for precision in ("fp32", "fp16", "int8"):
        tensorrt.build_plan(graph(precision), tmp_path / "model.plan")
    machine(gpu={"gpu": "NVIDIA A100", "compute_capability": "8.0"})
    tensorrt.build_plan(graph("bf16"), tmp_path / "model.plan")


@pytest.mark.parametrize(
    ("gpu", "version", "said"),
    [
        ({"gpu": "NVIDIA L4", "compute_capability": "8.9"}, "11.4.0", r"gpu NVIDIA H200, compute_capability 9\.0"),
        ({"gpu": "NVIDIA H100", "compute_capability": "9.0"}, "11.4.0", "gpu NVIDIA H200"),
        (H200, "10.16.1", r"tensorrt 11\.4\.0"),
    ],
)
def test_a_plan_for_another_machine_is_refused(machine, graph, tmp_path, gpu, version, said):
    machine()
    plan = tmp_path / "model.plan"
    tensorrt.build_plan(graph(), plan)
    assert tensorrt.check_plan(plan).precision == "fp16"
    machine(gpu=gpu, version=version)
    with pytest.raises(ServingError, match=f"was built for {said}"):
        tensorrt.check_plan(plan)


def test_a_plan_tensorrt_does_not_load_is_refused(machine, tmp_path):
    fake = machine()
    fake.runtime.deserialize_cuda_engine.return_value = None
    (tmp_path / "model.plan").write_bytes(b"junk")
    with pytest.raises(ServingError, match="cannot load"):
        tensorrt.load_engine(tmp_path / "model.plan")


def test_without_tensorrt_the_remedy_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(DeviceError, match="NGC image"):
        tensorrt.load_tensorrt()


def test_without_a_gpu_it_is_said(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(DeviceError, match="no CUDA device"):
        tensorrt.gpu_identity()


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_a_real_plan_answers_as_torch_does(exported, tmp_path, precision):
    pytest.importorskip("tensorrt")
    source = tmp_path / f"model.{precision}.onnx"
    source.write_bytes(getattr(exported, precision).read_bytes())
    write_sidecar(source, precision=precision, opset=OPSET, signature=SIGNATURE, preprocessing={})
    tensorrt.build_plan(source, tmp_path / "model.plan", timing_cache=tmp_path / "timing.cache")
    limit = {"fp32": 1e-5, "fp16": 0.02, "bf16": 0.1, "int8": 0.2}[precision]
    with runner.TensorRtRunner(tmp_path / "model.plan") as engine:
        for size in (1, 7, 32):
            expected = runner.TorchRunner(exported.module, SIGNATURE)(batch_of(size))["logits"]
            answer = engine(batch_of(size))["logits"]
            np.testing.assert_allclose(answer, expected, atol=limit * np.ptp(expected))
        with pytest.raises(ServingError, match="batches of 1 to 32"):
            engine(batch_of(33))
