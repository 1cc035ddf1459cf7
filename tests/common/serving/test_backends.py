"""The models that Triton's stubs run, here in this process with a stand-in for the stub's module."""

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest

from common.serving.config import EngineOptions, model_config
from common.serving.encoded import padded
from common.serving.example import example_image
from tests.common.serving.colours import SIGNATURE, FakeRequest, colour_model, picture, preprocessing_graph
from tests.recommendation.histories.serving.shop import MEMBERS, shop_model

LIMITS = {
    "maximum_bytes": 50_000,
    "maximum_pixels": 1_000_000,
    "maximum_request_bytes": 200_000,
    "maximum_request_pixels": 1_500_000,
}
KINDS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")


def started(step: str, folder: Path, **config: Any) -> Any:
    """An initialised model of a backend, or of a step by the name of its package; `folder` holds the artefact."""
    (folder / "1").mkdir(exist_ok=True)
    for file in folder.glob("model.*"):
        file.rename(folder / "1" / file.name)
    model = importlib.import_module(
        f"{step if '.' in step else f'common.serving.backends.{step}'}.model"
    ).TritonPythonModel()
    model.initialize({"model_config": json.dumps(config), "model_repository": str(folder), "model_version": "1"})
    return model


@pytest.fixture
def check(stub: ModuleType, tmp_path: Path) -> Any:
    parameters = {name: {"string_value": str(value)} for name, value in LIMITS.items()}
    return started("check", tmp_path, parameters=parameters)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (320, 240), (1, 900)])
def test_check_reads_the_size_of_every_format(stub: ModuleType, kind: str, size: tuple[int, int]) -> None:
    image_size = importlib.import_module("common.serving.backends.check.model").image_size
    for options in [{}, {"progressive": True}] if kind == "JPEG" else [{}, {"lossless": True}]:
        data = picture("red", *size, kind=kind, **(options if kind in ("JPEG", "WEBP") else {}))
        assert image_size(data) == size
        assert image_size(data + bytes(100)) == size


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"this is a text, not a picture", "not JPEG"),
        (bytes(20), "empty"),
        (b"", "empty"),
        (picture("red")[:-300], "cut short"),
        (picture("red", kind="PNG")[:40], "cut short"),
        (picture("red", kind="WEBP")[:-10], "cut short"),
        (picture("red", kind="TIFF")[:8], "cut short"),
        (b"\xff\xd8\xff\xd9", "cut short"),
        (b"\xff\xd8" + b"\xff\xd0" * 20_000 + b"\xff\xd9", "no frame header"),
        (b"\xff\xd8\xff\xc0\x00\x11\x08\x00\x00\x00\x05\xff\xd9", "5 x 0 pixels"),
        (picture("red", 1000, 1000, kind="PNG"), "1000 x 1000 pixels, fewer than 1,000,000"),
        (picture("red", 120, 150, kind="BMP"), "54,054 bytes"),
    ],
)
def test_check_refuses_with_a_reason(check: Any, data: bytes, words: str) -> None:
    good = picture("blue")
    bad, accepted = check.execute([FakeRequest(encoded=padded([data or b"\0"])), FakeRequest(encoded=padded([good]))])
    assert bad.error.code == "INVALID_ARG"
    assert str(bad.error).startswith("image 1 of 1 is refused: ")
    assert words in str(bad.error)
    assert accepted.error is None
    np.testing.assert_array_equal(accepted.outputs["checked"], padded([good]))


def test_check_names_the_image_not_the_padding(check: Any) -> None:
    assert check.problem(padded([picture("red"), picture("red", 120, 150, kind="BMP")])) == (
        "image 2 of 2 is refused: 54,054 bytes, at most 50,000 are taken"
    )


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([picture("red", 900, 900, kind="PNG")] * 2, "the request's 2 images have 1,620,000 pixels, at most 1,500,000"),
        ([picture("red", 9, 9)] * 7 + [picture("red", 120, 130, kind="BMP")], "have 374,832 bytes with their padding"),
    ],
)
def test_check_adds_up_the_whole_request(check: Any, files: list[bytes], words: str) -> None:
    refused, accepted = check.execute([FakeRequest(encoded=padded(files)), FakeRequest(encoded=padded(files[:1]))])
    assert words in str(refused.error)
    assert refused.error.code == "INVALID_ARG"
    assert accepted.error is None


def test_check_survives_random_bytes(check: Any) -> None:
    """Whatever follows a valid beginning, the answer is a size or a reason, never an exception."""
    generator = np.random.default_rng(0)
    for kind in KINDS:
        whole = bytearray(picture("green", 64, 48, kind=kind))
        for _ in range(300):
            damaged = np.frombuffer(bytes(whole[: generator.integers(1, len(whole))]), np.uint8).copy()
            where = generator.integers(0, len(damaged), 4)
            damaged[where] = generator.integers(0, 256, 4)
            check.problem(damaged[None])


@pytest.fixture
def preprocessing(stub: ModuleType, tmp_path: Path) -> Any:
    (tmp_path / "model.dali").write_bytes(preprocessing_graph())
    return started("dali", tmp_path, input=[{"name": "encoded"}], output=[{"name": "images"}], max_batch_size=8)


def test_dali_gives_each_request_its_rows(preprocessing: Any) -> None:
    one, two = preprocessing.execute(
        [FakeRequest(encoded=padded([picture("red")])), FakeRequest(encoded=padded([picture("lime"), picture("blue")]))]
    )
    assert one.outputs["images"].shape == (1, 3, 224, 224)
    assert one.outputs["images"].mean((2, 3)).argmax(1).tolist() == [0]
    assert two.outputs["images"].mean((2, 3)).argmax(1).tolist() == [1, 2]


def test_dali_fails_only_the_request_with_the_bad_image(preprocessing: Any) -> None:
    good = padded([picture("red")])
    bad = padded([picture("lime"), picture("blue")[:-300]])
    before = preprocessing.execute([FakeRequest(encoded=good)])[0].outputs["images"]
    for _ in range(3):
        first, second, third = preprocessing.execute(
            [FakeRequest(encoded=good), FakeRequest(encoded=bad), FakeRequest(encoded=good)]
        )
        assert second.error.code == "INVALID_ARG"
        assert str(second.error).startswith("image 2 of 2 cannot be decoded: ")
        np.testing.assert_array_equal(first.outputs["images"], before)
        np.testing.assert_array_equal(third.outputs["images"], before)


def test_dali_decodes_large_images_a_few_at_a_time(preprocessing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("common.serving.backends.dali.model")
    monkeypatch.setattr(module, "TOGETHER", 3 * 320 * 240)
    monkeypatch.setattr(module, "LARGEST", 320 * 300)
    files = [picture(colour) for colour in ("red", "lime", "blue", "red", "blue")]
    together: list[int] = []
    run_together = preprocessing._run_together
    monkeypatch.setattr(
        preprocessing, "_run_together", lambda group: together.append(len(group)) or run_together(group)
    )
    one, refused = preprocessing.execute(
        [FakeRequest(encoded=padded(files)), FakeRequest(encoded=padded([picture("red", 320, 300)]))]
    )
    assert one.outputs["images"].mean((2, 3)).argmax(1).tolist() == [0, 1, 2, 0, 2]
    assert str(refused.error) == "image 1 of 1 cannot be decoded: 320 x 300 pixels, fewer than 96,000 are taken"
    assert max(together) <= 3


def test_dali_serves_what_the_kit_s_own_graph_computes(stub: ModuleType, tmp_path: Path) -> None:
    from common.vision.dali.images import serving_pipeline
    from common.vision.preprocessing import ImagePreprocessing

    pipeline = serving_pipeline(ImagePreprocessing(resize=64, crop=56), batch_size=4, num_threads=1)
    (tmp_path / "model.dali").write_bytes(pipeline.serialize())
    model = started("dali", tmp_path, input=[{"name": "encoded"}], output=[{"name": "images"}], max_batch_size=4)
    pictures = [picture("red", 90, 70), picture("blue", 40, 120, kind="PNG")]
    pipeline.build()
    pipeline.feed_input("encoded", [np.frombuffer(data, np.uint8) for data in pictures])
    expected = pipeline.run()[0].as_array()
    (answer,) = model.execute([FakeRequest(encoded=padded(pictures))])
    np.testing.assert_array_equal(answer.outputs["images"], expected)


def test_dali_refuses_a_graph_with_too_small_a_batch(stub: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "model.dali").write_bytes(preprocessing_graph(batch_size=4))
    with pytest.raises(RuntimeError, match="takes batches of 4"):
        started("dali", tmp_path, input=[{"name": "encoded"}], output=[{"name": "images"}], max_batch_size=8)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_engines_run_a_dynamic_batch_at_once(stub: ModuleType, tmp_path: Path, engine: Any) -> None:
    onnx.save(colour_model(), tmp_path / "model.onnx")
    config = model_config("colours", engine, SIGNATURE, "cpu")
    parameters = EngineOptions(threads=1).parameters(engine)
    model = started(
        engine,
        tmp_path,
        default_model_filename="model.onnx",
        input=[{"name": tensor.name} for tensor in config.input],
        output=[{"name": tensor.name} for tensor in config.output],
        parameters={name: {"string_value": value} for name, value in parameters.items()},
    )
    images = np.random.default_rng(0).random((3, 3, 224, 224), dtype=np.float32)
    images[[0, 1, 2], [2, 0, 1]] += 1
    responses = model.execute([FakeRequest(images=images[:1]), FakeRequest(images=images[1:])])
    scores = np.concatenate([response.outputs["scores"] for response in responses])
    exponentials = np.exp(images.mean((2, 3)))
    np.testing.assert_allclose(scores, exponentials / exponentials.sum(1, keepdims=True), rtol=1e-5)
    unusable = [images.copy(), images.copy()]
    unusable[0][1, 0, 0, 0], unusable[1][0, 2, 9, 9] = np.nan, np.inf
    answers = model.execute([FakeRequest(images=array) for array in (images[:1], *unusable, images[1:])])
    assert [answer.error and answer.error.code for answer in answers] == [None, "INVALID_ARG", "INVALID_ARG", None]
    assert str(answers[1].error) == "the input images holds values that are no finite numbers"
    np.testing.assert_allclose(answers[3].outputs["scores"], scores[1:], rtol=1e-5)
    wide = model.execute([FakeRequest(images=np.zeros((1, 3, 2**17 + 1), np.float32))])
    assert str(wide[0].error) == "the input images has 131,073 values in a row, at most 131,072 are taken"


def test_where_a_batch_fails_only_the_guilty_request_does(stub: ModuleType, tmp_path: Path) -> None:
    onnx.save(shop_model(MEMBERS), tmp_path / "model.onnx")
    names = {"input": [{"name": spec.name} for spec in MEMBERS.inputs], "output": [{"name": "items"}]}
    model = started("onnxruntime", tmp_path, **names)
    seen = np.full((1, 1), -1)
    users = [np.array([[user]]) for user in (0, 10**9, 2)]
    answers = model.execute([FakeRequest(user=user, seen=seen) for user in users])
    assert [answer.error and answer.error.code for answer in answers] == [None, "INTERNAL", None]
    assert "the engine failed: " in str(answers[1].error)
    assert [answers[number].outputs["items"][0].tolist() for number in (0, 2)] == [[0, 1, 2, 3], [1, 3, 5, 0]]


def test_a_corrupt_engine_is_named(stub: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(RuntimeError, match=r"cannot load .*model\.onnx"):
        started("onnxruntime", tmp_path, default_model_filename="model.onnx", input=[], output=[])


def test_the_example_picture_passes(check: Any) -> None:
    assert check.problem(padded([example_image()])) is None
