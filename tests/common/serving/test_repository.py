"""The written repository says what the signature says, and refuses what cannot be served."""

from pathlib import Path
from typing import Any

import onnx
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from challenges.classification.serving.ensemble import add_classifier
from common.errors import ServingError
from common.export.signature import BatchRange, Signature, TensorSpec
from common.files import write_text
from common.serving.claim import claimed, foreign, seal
from common.serving.config import DATA_TYPES, Batching, EngineOptions
from common.serving.images import ImageLimits, ImageModel
from common.serving.repository import Exported, ModelRepository, PythonStep
from tests.common.serving.colours import COLOURS, SIGNATURE, colour_model


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    onnx.save(colour_model(), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def parsed(path: Path) -> pb.ModelConfig:
    return text_format.Parse(path.read_text(), pb.ModelConfig())


def test_model_configuration(tmp_path: Path, artefact: Path) -> None:
    repository = ModelRepository(tmp_path / "repository")
    exported = Exported(
        artefact=artefact,
        signature=SIGNATURE,
        engine="onnxruntime",
        options=EngineOptions(threads=2, instances=3),
        batching=Batching(delay_us=700, queue=5, timeout_ms=80),
    )
    repository.add("colours", exported, labels={"scores": COLOURS})
    config = parsed(tmp_path / "repository" / "colours" / "config.pbtxt")
    assert (config.name, config.backend, config.max_batch_size) == ("colours", "onnxruntime", 8)
    assert [(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in config.input] == [
        ("images", pb.TYPE_FP32, [3, 224, 224])
    ]
    assert [(tensor.name, list(tensor.dims)) for tensor in config.output] == [("scores", [3])]
    assert config.version_policy.latest.num_versions == 1
    assert config.instance_group[0].count == 3
    assert config.instance_group[0].kind == pb.ModelInstanceGroup.KIND_CPU
    policy = config.dynamic_batching.default_queue_policy
    assert config.dynamic_batching.max_queue_delay_microseconds == 700
    assert (policy.max_queue_size, policy.default_timeout_microseconds) == (5, 80_000)
    assert policy.timeout_action == pb.ModelQueuePolicy.REJECT
    assert config.parameters["intra_op_thread_count"].string_value == "2"
    assert [warmup.batch_size for warmup in config.model_warmup] == [1, 4, 8]
    labels = (tmp_path / "repository" / "colours" / config.output[0].label_filename).read_text()
    assert labels.splitlines() == list(COLOURS)
    copied = tmp_path / "repository" / "colours" / "1" / config.default_model_filename
    assert copied.read_bytes() == artefact.read_bytes()


def test_a_large_artefact_is_not_copied_and_a_later_export_leaves_what_is_served(
    tmp_path: Path, artefact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.serving.repository.LINKED_BYTES", artefact.stat().st_size)
    with claimed(tmp_path / "repository", ["colours"]) as folder:
        repository = ModelRepository(folder)
        repository.add("colours", Exported(artefact=artefact, signature=SIGNATURE, engine="onnxruntime"))
        seal(folder)
    served = folder / "colours" / "1" / "model.onnx"
    assert served.samefile(artefact)
    before = artefact.read_bytes()
    assert repository.size_bytes() == len(before)
    write_text(artefact, "another export")
    assert served.read_bytes() == before
    assert foreign(folder) == []


def test_ensemble_connects_its_parts(tmp_path: Path, artefact: Path) -> None:
    repository = ModelRepository(tmp_path / "repository")
    limits = ImageLimits(maximum_bytes=1000, maximum_pixels=2000)
    exported = Exported(artefact=artefact, signature=SIGNATURE, engine="onnxruntime")
    add_classifier(repository, "colours", ImageModel(exported=exported, graph=b"graph", limits=limits), COLOURS)
    assert repository.models() == ["colours", "colours_check", "colours_model", "colours_preprocessing"]
    assert repository.served() == ["colours"]
    ensemble = repository.config("colours")
    assert ensemble.platform == "ensemble"
    assert [(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in ensemble.input] == [
        ("encoded", pb.TYPE_UINT8, [-1])
    ]
    known = {"encoded": pb.TYPE_UINT8}
    for step in ensemble.ensemble_scheduling.step:
        part = repository.config(step.model_name)
        assert part.max_batch_size == ensemble.max_batch_size
        assert {tensor.name: tensor.data_type for tensor in part.input} == {
            name: known[source] for name, source in step.input_map.items()
        }
        known |= {step.output_map[tensor.name]: tensor.data_type for tensor in part.output}
    assert known["scores"] == pb.TYPE_FP32
    check = repository.config("colours_check")
    assert {key: value.string_value for key, value in check.parameters.items()} == {
        "maximum_bytes": "1000",
        "maximum_pixels": "2000",
        "maximum_request_bytes": str(64 * 2**20),
        "maximum_request_pixels": "200000000",
    }
    example = tmp_path / "repository" / "colours_check" / "warmup" / "example.png"
    assert check.model_warmup[0].inputs["encoded"].dims == [example.stat().st_size]


def test_a_step_travels_with_its_modules_and_files(tmp_path: Path) -> None:
    folder = tmp_path / "step"
    folder.mkdir()
    for name in ("__init__.py", "model.py", "words.py", "notes.txt"):
        (folder / name).write_text(name)
    signature = Signature(
        (TensorSpec("texts", "bytes", ("any",)), TensorSpec("row", "float32", (3,))),
        (TensorSpec("score", "float32", (1,)),),
        BatchRange(1, 4, 8),
    )
    step = PythonStep(
        folder=folder,
        signature=signature,
        batching=Batching(delay_us=700, queue=5),
        parameters={"least": 0.5},
        files={"table.json": b"{}"},
        ragged=["texts"],
        warmup=(1, 8),
    )
    repository = ModelRepository(tmp_path / "gpu", "gpu")
    repository.add_step("naming", step)
    written = {path.name: path.read_text() for path in (tmp_path / "gpu" / "naming" / "1").iterdir()}
    assert written == {"model.py": "model.py", "words.py": "words.py", "table.json": "{}"}
    config = repository.config("naming")
    assert (config.backend, config.instance_group[0].kind) == ("python", pb.ModelInstanceGroup.KIND_CPU)
    assert [tensor.allow_ragged_batch for tensor in config.input] == [True, False]
    assert config.parameters["least"].string_value == "0.5"
    assert config.dynamic_batching.max_queue_delay_microseconds == 0
    assert config.dynamic_batching.default_queue_policy.max_queue_size == 5
    assert [warmup.batch_size for warmup in config.model_warmup] == [1, 8]


def test_gpu_variant_differs_in_device_and_engine_alone(tmp_path: Path, artefact: Path) -> None:
    plan = tmp_path / "model.plan"
    plan.write_bytes(b"plan")
    cpu, gpu = ModelRepository(tmp_path / "cpu"), ModelRepository(tmp_path / "gpu", device="gpu")
    onnx_file = Exported(artefact=artefact, signature=SIGNATURE, engine="onnxruntime")
    gpu_plan = Exported(artefact=plan, signature=SIGNATURE, engine="tensorrt", verify=Path.is_file)
    add_classifier(cpu, "colours", ImageModel(exported=onnx_file, graph=b"graph"), COLOURS)
    add_classifier(gpu, "colours", ImageModel(exported=gpu_plan, graph=b"graph"), COLOURS)
    assert gpu.models() == cpu.models()
    assert gpu.config("colours") == cpu.config("colours")
    model = gpu.config("colours_model")
    assert (model.platform, model.backend, model.default_model_filename) == ("tensorrt_plan", "", "model.plan")
    assert model.instance_group[0].kind == pb.ModelInstanceGroup.KIND_GPU
    preprocessing = gpu.config("colours_preprocessing")
    assert (preprocessing.backend, preprocessing.default_model_filename) == ("dali", "model.dali")
    assert preprocessing.instance_group[0].kind == pb.ModelInstanceGroup.KIND_GPU
    assert gpu.config("colours_check") == cpu.config("colours_check")


def test_every_numpy_type_and_free_dimension(tmp_path: Path, artefact: Path) -> None:
    inputs = tuple(TensorSpec(f"input_{dtype}", dtype, ("length", 2)) for dtype in DATA_TYPES)
    signature = Signature(inputs, (TensorSpec("score", "float32", ()),), BatchRange())
    repository = ModelRepository(tmp_path / "repository")
    repository.add("all", Exported(artefact=artefact, signature=signature, engine="onnxruntime"))
    config = repository.config("all")
    assert [list(tensor.dims) for tensor in config.input] == [[-1, 2]] * len(DATA_TYPES)
    assert {pb.DataType.Name(tensor.data_type) for tensor in config.input} == set(pb.DataType.keys()) - {"TYPE_INVALID"}
    assert list(config.output[0].dims) == [1]
    assert all(size >= 1 for entry in config.model_warmup[0].inputs.values() for size in entry.dims)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"engine": "tensorrt"}, "cannot run in a repository for the cpu"),
        ({"name": "a/b"}, "cannot be a model name"),
        ({"name": ".."}, "cannot be a model name"),
        ({"labels": {"scores": ("red", "green")}}, "class names"),
        ({"labels": {"scores": ("red", "gr\neen", "blue")}}, "line of its own"),
        ({"artefact": Path("missing.onnx")}, "no engine at missing.onnx"),
    ],
)
def test_refusals(tmp_path: Path, artefact: Path, changes: dict, words: str) -> None:
    given: dict[str, Any] = {"name": "colours", "artefact": artefact, "engine": "onnxruntime", "labels": {}} | changes
    exported = Exported(artefact=given["artefact"], signature=SIGNATURE, engine=given["engine"])
    with pytest.raises(ServingError, match=words):
        ModelRepository(tmp_path / "repository").add(given["name"], exported, labels=given["labels"])
    assert {path.name for path in tmp_path.iterdir()} <= {"model.onnx", "repository"}
    assert ModelRepository(tmp_path / "repository").models() == []


def test_a_plan_for_another_gpu_is_refused(tmp_path: Path) -> None:
    plan = tmp_path / "model.plan"
    plan.write_bytes(b"plan")

    def verify(path: Path) -> None:
        raise ServingError(f"{path.name} was built for another GPU")

    exported = Exported(artefact=plan, signature=SIGNATURE, engine="tensorrt", verify=verify)
    with pytest.raises(ServingError, match="another GPU"):
        ModelRepository(tmp_path / "gpu", "gpu").add("colours", exported)


def test_unreadable_configuration_names_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.pbtxt").write_text('name: "odd"\nmax_batchsize: 3\n')
    with pytest.raises(ServingError, match=r"config\.pbtxt is not a model configuration: 2:"):
        ModelRepository(tmp_path).config("odd")
    with pytest.raises(ServingError, match="known: odd"):
        ModelRepository(tmp_path).config("other")
