"""Which engine is served, and what a run must have proven before."""

import io
import json
import re
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from onnx import helper
from rich.console import Console

from common.challenge import Trained
from common.errors import DeviceError, KitError, ParityError, ServingError, TrainingError
from common.export import exported, weights
from common.export.artefact import read_sidecar, write_sidecar
from common.export.exported import artefact, is_exported, left_out_of
from common.export.parity import ONE_ANSWER, Judged, Tolerance
from common.export.runner import Runner
from common.export.signature import GPU_BATCH, BatchRange, Signature, SizeRange
from common.report.deployment import deployment_sections
from common.run.run_directory import RunDirectory
from common.serving.claim import foreign
from common.serving.releases import LOCAL, container_release, find_release
from common.serving.repository import ModelRepository
from common.stages import deployment, exporting, serving_stage
from common.stages.deployment import Choice, chosen, engines, parity, withdraw
from common.stages.exporting import export
from common.stages.serving_stage import prove_served, write_for
from tests.common.export.conftest import SIGNATURE


def row(engine, precision, passed=True):
    return {
        "engine": engine, "precision": precision, "batch": 1, "absolute_error": 0.1, "relative_error": 0.01,
        "agreement": 1.0, "metric": 0.9, "passed": passed, "failures": [] if passed else ["3 answers differ"],
    }  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """A run whose INT8 failed in one engine."""
    rows = [row("onnxruntime", "fp32"), row("openvino", "fp32"), row("openvino", "int8", passed=False)]
    rows.append(row("onnxruntime", "int8"))
    speeds = {"onnxruntime fp32": 9.0, "openvino fp32": 4.0, "openvino int8": 1.0, "onnxruntime int8": 12.0}
    record = {
        "rows": rows,
        "latency_batch_1": {label: {"p50_ms": speed} for label, speed in speeds.items()},
        "choice": {"engine": "openvino", "precision": "fp32", "why": "4.0 ms"},
        "stamp": {"weights": [1, 2]},
    }
    directory = RunDirectory(tmp_path / "run")
    directory.export.mkdir(parents=True)
    directory.parity_file.write_text(json.dumps(record))
    return directory


def test_the_recorded_choice_is_served(run):
    assert chosen(run, "auto").label == "openvino fp32"


def test_a_precision_is_served_by_the_fastest_engine_that_passed(run):
    assert chosen(run, "fp32").label == "openvino fp32"
    assert chosen(run, "int8").label == "onnxruntime int8"


def test_a_precision_without_a_passing_engine_is_refused(run):
    with pytest.raises(ServingError, match="no engine in bf16"):
        chosen(run, "bf16")


def test_a_run_without_proof_is_not_served(run):
    record = json.loads(run.parity_file.read_text())
    run.parity_file.write_text(json.dumps({**record, "stamp": None}))
    with pytest.raises(ServingError, match="kit parity"):
        chosen(run, "auto")
    with pytest.raises(ServingError, match="kit parity"):
        chosen(RunDirectory(run.path / "elsewhere"), "auto")


def test_the_page_tells_what_passed_and_what_is_served(run):
    run.serving_file.write_text(
        json.dumps(
            {"engine": "openvino", "precision": "fp32", "sent": 10, "sent_unit": "files", "compared": 10,
             "unit": "answers", "same": 10, "correct": 8,
             "p50_ms": 3.0, "start_seconds": 2.0, "examples": []}
        )
    )  # fmt: skip
    parity, served = deployment_sections(run)
    assert "3 answers differ" in parity.html
    assert "openvino in fp32" in parity.html
    assert "10 of 10 answers (100.0%)" in served.html


def test_a_run_without_export_has_no_such_sections(tmp_path):
    assert deployment_sections(RunDirectory(tmp_path)) == []


@pytest.fixture
def planned(run, monkeypatch):
    """The run on a GPU machine, where the fastest engine is a plan of the container's TensorRT."""
    record = json.loads(run.parity_file.read_text())
    record["rows"] += [row("tensorrt", "fp16"), row("tensorrt", "fp32")]
    record["latency_batch_1"] |= {"tensorrt fp16": {"p50_ms": 0.4}, "tensorrt fp32": {"p50_ms": 0.9}}
    record["choice"] = {"engine": "tensorrt", "precision": "fp16", "why": "0.4 ms"}
    run.parity_file.write_text(json.dumps(record))
    monkeypatch.setattr(deployment, "read_sidecar", lambda path: SimpleNamespace(target=TARGET))
    return run


def test_an_engine_is_chosen_that_the_server_has(planned):
    release = container_release()
    assert TARGET["tensorrt"] == release.tensorrt
    assert chosen(planned, "auto", release).label == "tensorrt fp16"
    assert chosen(planned, "fp32", release).label == "tensorrt fp32"
    local = chosen(planned, "auto", LOCAL)
    assert local.label == "openvino fp32"
    assert "tensorrt fp16 is faster, but Triton 24.10 has no tensorrt" in local.why
    assert chosen(planned, "int8", LOCAL).label == "onnxruntime int8"
    with pytest.raises(ServingError, match="no tensorrt"):
        chosen(planned, "fp16", LOCAL)


def test_a_plan_of_another_tensorrt_is_not_given_to_the_server(planned):
    other = chosen(planned, "auto", replace(container_release(), tensorrt="12.0.0.1"))
    assert other.label == "openvino fp32"
    assert "reads plans of TensorRT 12.0.0.1, this one is of 11.1.0.106" in other.why


def test_the_local_server_proves_another_engine_where_a_plan_is_chosen(planned, monkeypatch):
    seen = []
    monkeypatch.setattr(serving_stage, "_prove", lambda challenge, run, choice, console, limit: seen.append(choice))
    console = Console(file=io.StringIO(), width=200)
    prove_served(None, planned, chosen(planned, "auto"), console)
    assert [choice.label for choice in seen] == ["openvino fp32"]
    assert "tensorrt fp16 is faster" in console.file.getvalue()
    prove_served(None, planned, chosen(planned, "fp16"), console, falls_back=False)
    assert len(seen) == 1
    assert "left to NVIDIA's image" in console.file.getvalue()


def written_by(repository, name, exported, class_names, run):
    repository.add(name, replace(exported, verify=lambda path: None))


@pytest.fixture
def write_repository_of(planned, monkeypatch):
    """Writes the run's repository for a release; returns the model's configuration and what was said."""
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "graph", [], [])
    suppressing = helper.make_graph([helper.make_node("NonZero", ["x"], ["y"])], "graph", [], [])
    (planned.export / "model.fp16.plan").write_bytes(b"plan")

    def write(release, signature=SIGNATURE, fixed=True):
        for name in ("model.fp16.onnx", "model.fp32.onnx"):
            model = helper.make_model(graph if fixed else suppressing)
            (planned.export / name).write_bytes(model.SerializeToString())
        found = SimpleNamespace(target=TARGET, signature=signature, class_names=())
        monkeypatch.setattr(deployment, "read_sidecar", lambda path: found)
        challenge = SimpleNamespace(model="cats", served=SimpleNamespace(add_to_repository=written_by))
        console = Console(file=io.StringIO(), width=300)
        write_for([(challenge, planned)], console, release)
        assert foreign(planned.serving) == []
        return ModelRepository(planned.serving).config("cats"), console.file.getvalue()

    return write


def test_a_repository_is_written_without_a_server(write_repository_of, planned):
    config, told = write_repository_of(LOCAL)
    assert (config.backend, config.platform, config.instance_group[0].count) == ("openvino", "", 1)
    assert config.instance_group[0].kind == config.instance_group[0].KIND_CPU
    assert "tensorrt fp16 is faster, but Triton 24.10 has no tensorrt" in told
    assert f"{planned.serving} for Triton 24.10" in told
    assert not config.HasField("optimization")


def test_a_gpu_takes_large_batches_two_at_a_time(write_repository_of):
    config, _ = write_repository_of(container_release(), replace(SIGNATURE, batch=GPU_BATCH))
    assert (config.backend, config.platform) == ("", "tensorrt_plan")
    group, batching = config.instance_group[0], config.dynamic_batching
    assert (group.kind, group.count, config.max_batch_size) == (group.KIND_GPU, 2, 128)
    assert not batching.preferred_batch_size
    assert batching.default_queue_policy.max_queue_size >= 256
    assert config.optimization.cuda.graphs


@pytest.mark.parametrize(
    ("signature", "fixed"), [(SIGNATURE, False), (replace(SIGNATURE, free={"history": SizeRange(1, 8, 64)}), True)]
)
def test_no_cuda_graph_is_asked_for_where_values_or_free_sizes_decide_the_work(write_repository_of, signature, fixed):
    config, _ = write_repository_of(container_release(), signature, fixed)
    assert config.platform == "tensorrt_plan"
    assert not config.optimization.cuda.graphs


def test_an_unknown_server_is_refused_with_those_that_there_are():
    assert find_release("24.10") == find_release("2.51.0") == LOCAL
    assert find_release(container_release().version) == container_release()
    with pytest.raises(KitError, match=r"There are 26\.07 \(2\.71\.0\) and 24\.10"):
        find_release("25.01")


TARGET = {"gpu": "NVIDIA H200", "compute_capability": "9.0", "tensorrt": "11.1.0.106"}
LOGITS = 9 * np.eye(3, dtype=np.float32)[np.arange(8) % 3]


class Engine(Runner):
    """Answers its inputs, or their opposite."""

    def __init__(self, name, precision, sound=True):
        self.name, self.precision, self._sound = name, precision, sound

    def __call__(self, inputs):
        return {"logits": inputs["logits"] if self._sound else -inputs["logits"]}


class Loaded(Engine):
    """What loads an artefact: the engine itself."""

    def __call__(self, path):
        return self


def write_graph(run, precision):
    artefact(run, precision).write_bytes(b"graph")


class TrainedStub:
    """Weights whose module answers LOGITS."""

    challenge = SimpleNamespace(served=SimpleNamespace(comparison=lambda: ONE_ANSWER, judged_samples=len(LOGITS)))
    task = SimpleNamespace(signature=lambda: Signature((), (), BatchRange(1, 4, 8)))

    def __init__(self, run):
        self.run = run

    def reference(self, device):
        return Engine("torch", "fp32")

    def inputs(self, split, limit):
        yield {"logits": LOGITS[:limit]}, {}

    def judge(self, runner, limit):
        decisions = runner({"logits": LOGITS[:limit]})["logits"].argmax(1)
        return Judged(float((decisions == LOGITS[:limit].argmax(1)).mean()), decisions)


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A run with weights; `trained.answers` says which engines answer soundly."""
    run = RunDirectory(tmp_path / "trained")
    run.export.mkdir(parents=True)
    run.weights_file.write_bytes(b"weights")
    monkeypatch.setattr(Trained, "load", lambda challenge, run: TrainedStub(run))
    monkeypatch.setattr(exporting, "begin_lint", lambda path: list)
    monkeypatch.setattr(deployment, "LATENCY_SECONDS", 0.01)
    monkeypatch.setattr("common.export.latency.SETTLE_SECONDS", 0)
    found = SimpleNamespace(run=run, answers={})

    def sound_or_not(run, left_out):
        yield from (Engine(*label.split(), sound=sound) for label, sound in found.answers.items())

    monkeypatch.setattr(deployment, "engines", sound_or_not)
    return found


@pytest.mark.parametrize("bad", ["openvino fp16", "openvino bf16", "openvino int8"])
def test_a_bad_reduced_precision_is_dropped_with_its_reason_and_fp32_is_served(trained, bad):
    trained.answers = {"onnxruntime fp32": True, bad: False}
    console = Console(file=io.StringIO(), width=250)
    assert parity(TrainedStub.challenge, trained.run, console).label == "onnxruntime fp32"
    assert "8 of 8 answers differ" in console.file.getvalue()
    assert chosen(trained.run, "auto").label == "onnxruntime fp32"
    (section,) = deployment_sections(trained.run)
    assert "8 of 8 answers differ" in section.html


def test_engines_with_tables_of_gigabytes_are_held_one_at_a_time(trained, monkeypatch):
    open_now = []

    class Closing(Engine):
        def __call__(self, inputs):
            if self.precision == "bf16":
                raise ServingError("no kernel")
            assert open_now == [self]
            return super().__call__(inputs)

        def close(self):
            open_now.remove(self)

    def loading(run, left_out):
        for label in ("onnxruntime fp32", "openvino bf16", "openvino fp32"):
            open_now.append(Closing(*label.split()))
            yield open_now[-1]

    monkeypatch.setattr(deployment, "engines", loading)
    monkeypatch.setattr(weights, "LARGEST_GRAPH", 4)
    write_graph(trained.run, "fp32")
    parity(TrainedStub.challenge, trained.run, Console(file=io.StringIO()))
    record = json.loads(trained.run.parity_file.read_text())
    assert record["latency_batch_1"].keys() == {"onnxruntime fp32", "openvino fp32"}
    assert record["left_out"] == {"openvino bf16": "it cannot answer: no kernel"}
    assert open_now == []


def test_fp32_that_answers_otherwise_ends_the_walk(trained):
    trained.answers = {"onnxruntime fp32": True, "openvino fp32": False, "openvino int8": True}
    with pytest.raises(ParityError, match="openvino fp32") as failed:
        parity(TrainedStub.challenge, trained.run, Console(file=io.StringIO()))
    assert failed.value.exit_code == 4


def test_every_engine_answers_as_many_samples_as_the_model_is_judged_by(trained, monkeypatch):
    asked, judge = [], TrainedStub.judge

    def counted(self, runner, limit):
        asked.append(limit)
        return judge(self, runner, limit)

    monkeypatch.setattr(TrainedStub, "judge", counted)
    monkeypatch.setattr(TrainedStub.challenge.served, "judged_samples", 5)
    trained.answers = {"onnxruntime fp32": True, "openvino fp32": True}
    parity(TrainedStub.challenge, trained.run, Console(file=io.StringIO()))
    assert asked == [5, 5, 5]


def test_of_few_decisions_fp32_is_served_though_one_differs(trained, monkeypatch):
    class Lenient(Engine):
        def __call__(self, inputs):
            logits = inputs["logits"].copy()
            logits[:1] = logits[:1, ::-1]
            return {"logits": logits}

    wide = {"absolute": 99.0, "relative": 9.0, "disagreement": 0.005, "metric_loss": 0.2}
    tolerances = SimpleNamespace(of=lambda precision: Tolerance(**wide))
    comparison = type(ONE_ANSWER)(tolerances)
    monkeypatch.setattr(deployment, "engines", lambda run, left_out: iter([Lenient("onnxruntime", "fp32")]))
    challenge = SimpleNamespace(served=SimpleNamespace(comparison=lambda: comparison, judged_samples=len(LOGITS)))
    assert parity(challenge, trained.run, Console(file=io.StringIO())).label == "onnxruntime fp32"


def test_a_precision_that_cannot_be_made_is_left_out_and_told(trained, monkeypatch):
    def write(trained, precision):
        if precision == "int8":
            raise ValueError("no range\nmore")
        artefact(trained.run, precision).write_bytes(b"graph")

    monkeypatch.setattr(exporting, "_write_graph", write)
    artefact(trained.run, "int8").write_bytes(b"of earlier weights")
    console = Console(file=io.StringIO(), width=200)
    export(None, trained.run, console)
    assert "int8 is left out: no range" in console.file.getvalue()
    assert left_out_of(trained.run) == {"int8": "no range"}
    assert not artefact(trained.run, "int8").exists()
    assert is_exported(trained.run)
    trained.run.weights_file.write_bytes(b"other weights")
    assert not is_exported(trained.run)


@pytest.mark.parametrize("unfit", ["fp16", "int8", "fp32"])
def test_a_graph_that_tensorrt_would_not_read_is_left_out_and_fp32_is_required(trained, monkeypatch, unfit):
    monkeypatch.setattr(exporting, "_write_graph", lambda trained, precision: write_graph(trained.run, precision))
    monkeypatch.setattr(
        exporting, "begin_lint", lambda path: lambda: ["no such operator"] if unfit in path.name else []
    )
    console = Console(file=io.StringIO(), width=200)
    if unfit == "fp32":
        with pytest.raises(ServingError, match=r"model\.fp32\.onnx is not fit for TensorRT: no such operator"):
            export(None, trained.run, console)
        assert not is_exported(trained.run)
        return
    export(None, trained.run, console)
    assert left_out_of(trained.run) == {unfit: f"model.{unfit}.onnx is not fit for TensorRT: no such operator."}
    assert not artefact(trained.run, unfit).exists()
    others = [precision for precision in ("fp32", "fp16", "bf16", "int8") if precision != unfit]
    assert re.findall(r"model\.(\w+)\.onnx \(", console.file.getvalue()) == others


@pytest.mark.parametrize(
    ("bad", "error"), [("fp32", KitError("no graph")), ("int8", TrainingError("the disk is full"))]
)
def test_what_ends_an_export(trained, monkeypatch, bad, error):
    def write(trained, precision):
        if precision == bad:
            raise error
        artefact(trained.run, precision).write_bytes(b"graph")

    monkeypatch.setattr(exporting, "_write_graph", write)
    with pytest.raises(type(error)):
        export(None, trained.run, Console(file=io.StringIO()))
    assert not is_exported(trained.run)


def test_an_engine_that_cannot_load_a_reduced_precision_is_left_out(run, monkeypatch):
    def refuse(path):
        raise ServingError(f"cannot load {path.name}")

    loaders = [("onnxruntime", "fp32", lambda path: Engine("onnxruntime", "fp32")), ("openvino", "int8", refuse)]
    monkeypatch.setattr(deployment, "_loaders", lambda: iter(loaders))
    monkeypatch.setattr(deployment, "read_sidecar", lambda path: None)
    left_out = {}
    assert [engine.label for engine in engines(run, left_out)] == ["onnxruntime fp32"]
    assert left_out == {"openvino int8": "cannot load model.int8.onnx"}
    monkeypatch.setattr(deployment, "_loaders", lambda: iter([("openvino", "fp32", refuse)]))
    with pytest.raises(ServingError):
        list(engines(run, left_out))


def test_what_fails_once_it_is_served_is_withdrawn(run):
    instead = withdraw(run, Choice("onnxruntime", "int8", "12 ms"), "served: 9 of 10 files differ")
    assert instead.label == chosen(run, "auto").label == "openvino fp32"
    assert "onnxruntime int8" in instead.why
    assert "served: 9 of 10 files differ" in deployment_sections(run)[0].html
    with pytest.raises(ServingError, match="no engine in int8"):
        chosen(run, "int8")


@pytest.mark.parametrize(("falls_back", "served"), [(True, ["int8", "fp32"]), (False, ["int8"])])
def test_the_server_falls_back_to_fp32_unless_the_precision_was_asked_for(run, monkeypatch, falls_back, served):
    seen = []

    def prove(challenge, run, choice, console, limit):
        seen.append(choice.precision)
        if choice.precision != "fp32":
            raise ParityError("9 of 10 files differ.")

    monkeypatch.setattr(serving_stage, "_prove", prove)
    choice = Choice("onnxruntime", "int8", "12 ms")
    if falls_back:
        prove_served(None, run, choice, Console(file=io.StringIO()))
    else:
        with pytest.raises(ParityError):
            prove_served(None, run, choice, Console(file=io.StringIO()), falls_back=False)
    assert seen == served


def test_a_plan_that_cannot_be_built_is_a_row_with_its_reason_and_not_the_end(trained, monkeypatch):
    def build(graph, plan, timing_cache):
        if ".fp16." in graph.name:
            raise DeviceError("no fp16 here", "another GPU")
        if ".fp32." in graph.name:
            raise KitError("the size history has no range")
        plan.write_bytes(b"plan")

    monkeypatch.setattr(exporting, "_write_graph", lambda trained, precision: write_graph(trained.run, precision))
    for module in (deployment, exporting, exported):
        monkeypatch.setattr(module, "plan_target", lambda: TARGET)
    monkeypatch.setattr(exporting, "build_plan", build)
    monkeypatch.setattr(exporting, "_fp16_remainder", lambda trained, folder: artefact(trained.run, "int8"))
    console = Console(file=io.StringIO(), width=200)
    export(None, trained.run, console)
    assert "tensorrt fp16 is left out: no fp16 here" in console.file.getvalue()
    reasons = {"tensorrt fp32": "the size history has no range", "tensorrt fp16": "no fp16 here"}
    assert left_out_of(trained.run) == reasons
    assert is_exported(trained.run)
    labels = [label.split() for label in ("tensorrt fp32", "tensorrt bf16", "onnxruntime fp32")]
    loaders = [(*label, Loaded(*label)) for label in labels]
    monkeypatch.setattr(deployment, "_loaders", lambda: iter(loaders))
    monkeypatch.setattr(deployment, "read_sidecar", lambda path: None)
    told = {}
    assert [engine.label for engine in engines(trained.run, told)] == ["tensorrt bf16", "onnxruntime fp32"]
    assert told == {"tensorrt fp32": reasons["tensorrt fp32"]}


def exported_on(monkeypatch, run, target):
    """Export on a machine whose plans are built for `target`; returns the graphs and plans that were written anew."""
    written = []

    def write(trained, precision):
        written.append(precision)
        write_graph(run, precision)

    def build(graph, plan, timing_cache):
        written.append(plan.name)
        plan.write_bytes(b"plan")

    monkeypatch.setattr(exporting, "_write_graph", write)
    monkeypatch.setattr(exporting, "build_plan", build)
    monkeypatch.setattr(exporting, "_fp16_remainder", lambda trained, folder: artefact(trained.run, "int8"))
    for module in (deployment, exporting, exported):
        monkeypatch.setattr(module, "plan_target", lambda: target)
    export(None, run, Console(file=io.StringIO()))
    return written


def test_on_another_machine_plans_alone_are_built_anew(trained, monkeypatch):
    graphs = ["fp32", "fp16", "bf16", "int8"]
    plans = [f"model.{precision}.plan" for precision in graphs]
    assert exported_on(monkeypatch, trained.run, {}) == graphs
    assert exported_on(monkeypatch, trained.run, {}) == []
    for target in (TARGET, {**TARGET, "gpu": "NVIDIA L4"}, {**TARGET, "tensorrt": "11.4.0.106"}):
        assert exported_on(monkeypatch, trained.run, target) == plans
        assert exported_on(monkeypatch, trained.run, target) == []
    artefact(trained.run, "fp16", "plan").unlink()
    assert exported_on(monkeypatch, trained.run, target) == plans
    trained.run.weights_file.write_bytes(b"other weights")
    assert exported_on(monkeypatch, trained.run, {}) == graphs


def test_engines_are_compared_anew_where_others_are_there(trained, monkeypatch):
    def compared():
        console = Console(file=io.StringIO(), width=200)
        parity(TrainedStub.challenge, trained.run, console)
        return "nothing changed" not in console.file.getvalue()

    trained.answers = {"onnxruntime fp32": True}
    assert [compared(), compared()] == [True, False]
    exported_on(monkeypatch, trained.run, TARGET)
    assert [compared(), compared()] == [True, False]
    artefact(trained.run, "fp16", "plan").unlink()
    exported_on(monkeypatch, trained.run, TARGET)  # the same machine, and plans that were built later
    assert [compared(), compared()] == [True, False]
    monkeypatch.setattr(exported, "package_versions", lambda: {"openvino": "2030.1"})
    assert [compared(), compared()] == [True, False]
    monkeypatch.setattr(exported, "package_versions", lambda: {"openvino": "2030.1", "torch": "9"})
    assert not compared()


def test_a_plan_that_was_not_built_here_is_a_row_that_says_so(trained, monkeypatch):
    loaders = [("onnxruntime", "fp32", Loaded("onnxruntime", "fp32")), ("tensorrt", "fp32", Loaded("tensorrt", "fp32"))]
    monkeypatch.setattr(deployment, "_loaders", lambda: iter(loaders))
    monkeypatch.setattr(deployment, "read_sidecar", lambda path: None)
    told = {}
    assert [engine.label for engine in engines(trained.run, told)] == ["onnxruntime fp32"]
    assert told == {"tensorrt fp32": "no plan was built on this machine"}


def test_a_plan_that_does_not_load_is_a_row_that_says_so(trained, monkeypatch):
    def refuse(path):
        raise RuntimeError("bad magic number\nmore")

    loaders = [("onnxruntime", "fp32", Loaded("onnxruntime", "fp32")), ("tensorrt", "fp32", refuse)]
    artefact(trained.run, "fp32", "plan").write_bytes(b"plan")
    monkeypatch.setattr(deployment, "_loaders", lambda: iter(loaders))
    monkeypatch.setattr(deployment, "read_sidecar", lambda path: None)
    told = {}
    assert [engine.label for engine in engines(trained.run, told)] == ["onnxruntime fp32"]
    assert told == {"tensorrt fp32": "bad magic number"}


def test_beside_plans_one_cpu_engine_is_held_against_the_module(trained, monkeypatch):
    labels = [
        (engine, precision) for engine in ("onnxruntime", "openvino", "tensorrt") for precision in ("fp32", "int8")
    ]
    monkeypatch.setattr(deployment, "_loaders", lambda: ((*label, Loaded(*label)) for label in labels))
    monkeypatch.setattr(deployment, "read_sidecar", lambda path: None)
    told = {}
    answering = [engine.label for engine in engines(trained.run, told)]
    assert answering == ["onnxruntime fp32", "onnxruntime int8", "openvino fp32", "openvino int8"]
    artefact(trained.run, "int8", "plan").write_bytes(b"plan")
    told.clear()
    assert [engine.label for engine in engines(trained.run, told)] == ["onnxruntime fp32", "tensorrt int8"]
    assert told.pop("tensorrt fp32") == "no plan was built on this machine"
    assert list(told) == ["onnxruntime int8", "openvino fp32", "openvino int8"]


def test_on_a_gpu_the_module_itself_answers_there(trained, monkeypatch):
    seen = []

    def reference(self, device):
        seen.append(device.type)
        return Engine("torch", "fp32")

    monkeypatch.setattr(TrainedStub, "reference", reference)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for module in (deployment, exporting, exported):
        monkeypatch.setattr(module, "plan_target", lambda: TARGET)
    trained.answers = {"onnxruntime fp32": True}
    parity(TrainedStub.challenge, trained.run, Console(file=io.StringIO()))
    assert seen == ["cuda"]


def test_a_gpu_machine_does_not_fall_back_to_its_cpu_without_a_word(trained, monkeypatch):
    monkeypatch.setattr(exporting, "_write_graph", lambda trained, precision: write_graph(trained.run, precision))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    console = Console(file=io.StringIO(), width=200)
    export(None, trained.run, console)
    assert "there is a GPU and no TensorRT, so that the CPU will serve" in console.file.getvalue()


def test_an_int8_plan_is_built_of_a_graph_with_an_fp16_remainder(trained, monkeypatch):
    sources = {}

    def build(graph, plan, timing_cache):
        sources[plan.name] = (graph.read_bytes(), read_sidecar(graph).precision)

    def convert(source, path, precision, example):
        assert source == artefact(trained.run, "int8")
        assert list(example) == ["logits"]
        path.write_bytes(f"INT8 and {precision}".encode())
        return path

    monkeypatch.setattr(exporting, "build_plan", build)
    monkeypatch.setattr(exporting, "convert_precision", convert)
    for precision in ("fp32", "int8"):
        write_graph(trained.run, precision)
        facts = {"precision": precision, "opset": 22, "signature": SIGNATURE, "preprocessing": {}}
        write_sidecar(artefact(trained.run, precision), **facts)
        exporting._write_plan(TrainedStub(trained.run), precision)
    assert sources == {"model.fp32.plan": (b"graph", "fp32"), "model.int8.plan": (b"INT8 and fp16", "int8")}
