"""A served detector: named boxes in the pixels of the picture that was sent."""

import importlib
import io
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from challenges.__main__ import main
from challenges.detection.serving.asking import DetectorDialogue, detect
from challenges.detection.serving.ensemble import add_detector
from common.errors import ServingError
from common.export.signature import Signature, TensorSpec
from common.serving.client import Client, timed
from common.serving.config import EngineOptions, pb
from common.serving.encoded import padded
from common.serving.images import ImageModel
from common.serving.load import LoadGenerator, LoadPlan
from common.serving.payload import Payload
from common.serving.problems import InvalidRequestError, ServerFaultError
from common.serving.repository import Exported, ModelRepository
from common.serving.server import LocalServer
from common.serving.statistics import counted_since, read_counts
from tests.common.serving.colours import FakeRequest, picture
from tests.common.serving.test_backends import started
from tests.common.serving.test_client import connected
from tests.common.serving.test_server import UNDECODABLE, in_parallel, runs_model, stubs
from tests.detection.serving.finder import BOXES, NAMES, PLACES, SIGNATURE, add_finder, sized_graph

COLOURS = dict(zip(("red", "lime", "blue"), NAMES, strict=True))
PARTS = ("finder_check", "finder_preprocessing", "finder_model", "finder_detections")
TALL = {3: (320, 240), 6: (240, 320), 8: (240, 320)}
"""EXIF orientation of a file of 320 x 240 -> width and height to look at."""


def turned(colour: str, orientation: int, kind: str = "JPEG") -> bytes:
    """A picture whose EXIF asks for a turn."""
    exif = Image.Exif()
    exif[274] = orientation
    stream = io.BytesIO()
    Image.new("RGB", (320, 240), colour).save(stream, kind, exif=exif)
    return stream.getvalue()


def in_pixels(width: int, height: int) -> np.ndarray:
    return BOXES * np.array([width, height, width, height], np.float32)


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    repository = ModelRepository(tmp_path / "repository")
    add_finder(repository, tmp_path)
    return repository


def test_ensemble_connects_its_parts(repository: ModelRepository) -> None:
    assert repository.models() == sorted(["finder", *PARTS])
    assert repository.served() == ["finder"]
    ensemble = repository.config("finder")
    known = {"encoded": (pb.TYPE_UINT8, [-1])}
    for step in ensemble.ensemble_scheduling.step:
        part = repository.config(step.model_name)
        assert part.max_batch_size == ensemble.max_batch_size
        assert part.model_warmup
        assert {tensor.name: (tensor.data_type, list(tensor.dims)) for tensor in part.input} == {
            name: known[source] for name, source in step.input_map.items()
        }
        known |= {step.output_map[tensor.name]: (tensor.data_type, list(tensor.dims)) for tensor in part.output}
    outputs = {tensor.name: (tensor.data_type, list(tensor.dims)) for tensor in ensemble.output}
    assert outputs == {name: known[name] for name in outputs}
    assert outputs == {
        "boxes": (pb.TYPE_FP32, [PLACES, 4]),
        "scores": (pb.TYPE_FP32, [PLACES]),
        "labels": (pb.TYPE_INT64, [PLACES]),
        "names": (pb.TYPE_STRING, [PLACES]),
        "count": (pb.TYPE_INT64, [1]),
    }


def test_gpu_variant_differs_in_device_and_engine_alone(repository: ModelRepository, tmp_path: Path) -> None:
    (tmp_path / "model.plan").write_bytes(b"plan")
    gpu = ModelRepository(tmp_path / "gpu", "gpu")
    exported = Exported(
        artefact=tmp_path / "model.plan",
        signature=SIGNATURE,
        engine="tensorrt",
        options=EngineOptions(threads=1),
        verify=Path.is_file,
    )
    add_detector(gpu, "finder", ImageModel(exported=exported, graph=b"graph"), NAMES)
    assert gpu.config("finder") == repository.config("finder")
    kinds = {part: gpu.config(part).instance_group[0].kind for part in PARTS}
    cpu, device = pb.ModelInstanceGroup.KIND_CPU, pb.ModelInstanceGroup.KIND_GPU
    assert list(kinds.values()) == [cpu, device, device, cpu]


@pytest.mark.parametrize(
    ("outputs", "labels", "words"),
    [
        (SIGNATURE.outputs[:2], NAMES, "a detector gives"),
        ((*SIGNATURE.outputs[:2], TensorSpec("labels", "int64", (PLACES + 1,))), NAMES, "a detector gives"),
        (SIGNATURE.outputs, ("cat", " "), "line of its own"),
    ],
)
def test_refusals(tmp_path: Path, outputs: Any, labels: Any, words: str) -> None:
    (tmp_path / "model.onnx").write_bytes(b"model")
    repository = ModelRepository(tmp_path / "repository")
    signature = Signature(SIGNATURE.inputs, outputs, SIGNATURE.batch)
    exported = Exported(artefact=tmp_path / "model.onnx", signature=signature, engine="onnxruntime")
    with pytest.raises(ServingError, match=words):
        add_detector(repository, "x", ImageModel(exported=exported, graph=b"graph"), labels)
    assert repository.models() == []


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_graph_gives_the_size_to_look_at(stub: ModuleType, tmp_path: Path, kind: str) -> None:
    (tmp_path / "model.dali").write_bytes(sized_graph())
    outputs = [{"name": "images"}, {"name": "sizes"}]
    model = started("dali", tmp_path, input=[{"name": "encoded"}], output=outputs, max_batch_size=8)
    files = [turned("red", orientation, kind) for orientation in TALL]
    broken = FakeRequest(encoded=padded([UNDECODABLE]))
    for requests in ([FakeRequest(encoded=padded(files))], [broken, FakeRequest(encoded=padded(files))]):
        answer = model.execute(requests)[-1]
        assert answer.outputs["images"].shape == (3, 3, 32, 32)
        np.testing.assert_array_equal(answer.outputs["sizes"], [(height, width) for width, height in TALL.values()])


@pytest.fixture
def detections(stub: ModuleType, tmp_path: Path) -> Any:
    return started(
        "challenges.detection.serving.detections",
        tmp_path,
        parameters={"classes": {"string_value": '["cat", "señal"]'}},
    )


def test_boxes_leave_in_pixels_with_names(detections: Any, stub: ModuleType) -> None:
    stub.serialize_byte_tensor = None
    boxes = np.zeros((2, 3, 4), np.float32)
    boxes[:, 0] = BOXES[0]
    labels = np.array([[2, 1, 0], [0, 0, 0]])
    sizes = np.array([[200, 100], [7, 9]])
    answer = detections.execute([FakeRequest(boxes=boxes, labels=labels, sizes=sizes)])[0]
    np.testing.assert_array_equal(answer.outputs["boxes"][0, 0], [25, 100, 75, 200])
    assert answer.outputs["boxes"].dtype == np.float32
    assert answer.outputs["names"].tolist() == [["señal", "cat", ""], ["", "", ""]]
    assert answer.outputs["count"].tolist() == [[2], [0]]
    assert stub.serialize_byte_tensor is None


@pytest.mark.parametrize("label", [3, -1])
def test_a_label_without_a_name_is_a_fault_of_the_model(detections: Any, label: int) -> None:
    request = FakeRequest(boxes=np.zeros((1, 1, 4), np.float32), labels=np.array([[label]]), sizes=np.ones((1, 2), int))
    answer = detections.execute([request])[0]
    assert answer.error.code == "INTERNAL"
    assert "2 class names" in str(answer.error)


def test_strings_have_one_byte_items_while_the_stub_looks(stub: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = importlib.import_module("common.serving.backends.tensors")
    seen = []

    def look(name: str, array: np.ndarray) -> str:
        flat = stub.serialize_byte_tensor(array)
        seen.append((flat.tobytes(), flat.dtype.flags, flat.flags.c_contiguous))
        raise ValueError("refused")

    monkeypatch.setattr(stub, "serialize_byte_tensor", "as it was", raising=False)
    monkeypatch.setattr(stub, "Tensor", look)
    with pytest.raises(ValueError, match="refused"):
        tensors.string_tensor("names", np.array([["", "é"]], object))
    assert seen == [(b"\0\0\0\0\2\0\0\0\xc3\xa9", 1, True)]
    assert tensors._BYTE.flags == np.dtype(np.uint8).flags == 0
    assert stub.serialize_byte_tensor == "as it was"


def answer_of(counts: list[int]) -> dict[str, np.ndarray]:
    number = len(counts)
    return {
        "boxes": np.tile(np.arange(4, dtype=np.float32), (number, 3, 1)),
        "scores": np.full((number, 3), 0.5, np.float32),
        "labels": np.full((number, 3), 7),
        "names": np.full((number, 3), "señal".encode(), object),
        "count": np.array(counts).reshape(-1, 1),
    }


def test_detect_leaves_the_padding_out() -> None:
    client = connected([], answer_of([2, 0]))
    found = detect(client, "model", [b"1", b"22"])
    assert found == [[("señal", 7, 0.5, (0.0, 1.0, 2.0, 3.0))] * 2, []]
    assert client._connection.sent[0][0] == [("encoded", [2, 2], "UINT8")]
    assert not DetectorDialogue().fits({"encoded"}, {"scores"})


@pytest.fixture(scope="module")
def finder(payload: Payload, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    folder = tmp_path_factory.mktemp("finder")
    add_finder(ModelRepository(folder / "repository"), folder)
    with LocalServer(folder / "repository", payload, folder / "server.log") as server:
        server.wait_ready()
        yield server


@pytest.mark.serving
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_names_and_pixels_over_the_wire(finder: LocalServer, protocol: Any) -> None:
    files = [picture("red", 100, 50), turned("blue", 6), picture("black"), picture("lime", 64, 48, kind="PNG")]
    with finder.client(protocol) as client:
        found = detect(client, "finder", files, batch=3)
        raw = client.infer("finder", {"encoded": padded(files)})
    assert found[2] == []
    for colour, size, rows in (
        ("red", (100, 50), found[0]),
        ("blue", (240, 320), found[1]),
        ("lime", (64, 48), found[3]),
    ):
        assert [(row.name, row.score) for row in rows] == [(COLOURS[colour], 1.0), (COLOURS[colour], 0.5)]
        np.testing.assert_allclose([row.box for row in rows], in_pixels(*size))
    assert raw["count"].tolist() == [[2], [2], [0], [2]]
    assert raw["names"].shape == (4, PLACES)
    assert raw["names"][2].tolist() == [b""] * PLACES
    assert raw["names"][0].tolist() == [NAMES[0].encode()] * 2 + [b""] * (PLACES - 2)
    assert not raw["boxes"][:, 2:].any()


@pytest.mark.serving
def test_requests_share_batches_and_bad_images_fail_alone(finder: LocalServer) -> None:
    colours = [tuple(COLOURS)[number % 3] for number in range(24)]
    images = [picture(colour, 100 + 7 * number) for number, colour in enumerate(colours)]
    images[5], images[11] = UNDECODABLE, b"not an image"

    def ask(image: bytes) -> Any:
        with finder.client("grpc", retries=0) as client:
            return detect(client, "finder", [image])[0]

    with finder.client() as client:
        before = read_counts(client, PARTS)
        answers = in_parallel([lambda image=image: ask(image) for image in images])
        happened = counted_since(client, before, len(images) - 2)
    for number, (colour, answer) in enumerate(zip(colours, answers, strict=True)):
        if number in (5, 11):
            assert isinstance(answer, InvalidRequestError)
        else:
            assert [row.name for row in answer] == [COLOURS[colour]] * 2
            np.testing.assert_allclose([row.box for row in answer], in_pixels(100 + 7 * number, 240), rtol=1e-6)
    assert happened["finder_model"]["mean_batch"] > 1.2


@pytest.mark.serving
def test_the_command_line_prints_what_was_found(
    finder: LocalServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for colour in ("red", "black"):
        (tmp_path / f"{colour}.jpg").write_bytes(picture(colour, 200, 100))
    files = [str(tmp_path / "red.jpg"), str(tmp_path / "black.jpg")]
    server = ["--url", finder.url("http"), "--model", "finder"]
    assert main(["client", *files, *server, "--threshold", "0.6"]) == 0
    printed = capsys.readouterr().out
    rows = [line.split("│")[2:-1] for line in printed.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row] for row in rows] == [
        [NAMES[0], "100.0%", "50", "50", "150", "100"],
        ["nothing", "", "", "", "", ""],
    ]


@pytest.mark.serving
def test_files_and_load(finder: LocalServer, tmp_path: Path) -> None:
    (tmp_path / "blue.jpg").write_bytes(picture("blue", 50, 40))
    with finder.client() as client:
        files = [tmp_path / "blue.jpg"] * 5
        answers, milliseconds = timed(lambda part: detect(client, "finder", part), files, 2)
    assert [rows[0].name for rows in answers] == [NAMES[2]] * 5
    assert len(milliseconds) == 3
    load = LoadGenerator(finder.url("http"), "http", "finder", [{"encoded": padded([picture("red")])}])
    (step,) = load.run(LoadPlan(concurrencies=(2,), seconds=0.5, warmup_seconds=0.1))["steps"]
    assert step["errors"] == {}
    assert step["requests"] > 3


@pytest.mark.serving
def test_what_is_no_image_is_refused(finder: LocalServer) -> None:
    with finder.client(retries=0) as client:
        with pytest.raises(InvalidRequestError, match="10000 x 10000 pixels"):
            detect(client, "finder", [picture("red", 10_000, 10_000, kind="PNG")])
        with pytest.raises(InvalidRequestError, match="is empty"):
            detect(client, "finder", [b""])


@pytest.mark.serving
@pytest.mark.slow
def test_a_killed_step_is_noticed(payload: Payload, tmp_path: Path) -> None:
    add_finder(ModelRepository(tmp_path / "repository"), tmp_path)
    with LocalServer(tmp_path / "repository", payload, tmp_path / "log") as server:
        server.wait_ready()
        victim = next(process for process in stubs(server) if runs_model(process, "finder_detections"))
        os.kill(victim.pid, signal.SIGKILL)
        assert server.problem() is not None
        with Client(server.url("http"), retries=0) as client, pytest.raises(ServerFaultError):
            detect(client, "finder", [picture("red")])
        assert server.heal("finder_detections") < 10
        with server.client() as client:
            assert detect(client, "finder", [picture("red")])[0][0].name == NAMES[0]
