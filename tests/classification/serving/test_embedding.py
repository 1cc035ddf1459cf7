"""The embedding as an output of its own: exported, held against the module by its direction, configured and asked."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from challenges.classification.recipes import RECIPES, ModelConfig
from challenges.classification.search.embedding import normalised, write_embedding_graph
from challenges.classification.serving import EMBEDDING
from challenges.classification.serving.asking import ClassifierDialogue, classify, embed
from challenges.classification.serving.ensemble import add_classifier
from challenges.classification.serving.face import ServedClassifier
from challenges.classification.task import ClassificationTask
from common.errors import ServingError
from common.export.lint import lint
from common.export.onnx import export_onnx
from common.export.parity import compare
from common.export.precisions import convert_precision, quantize_int8
from common.export.runner import OnnxRunner, OpenVinoRunner, TorchRunner
from common.serving.images import ImageModel
from common.serving.repository import Exported, ModelRepository
from common.serving.server import LocalServer
from common.vision.preprocessing import ImagePreprocessing
from tests.common.serving.conftest import payload  # noqa: F401
from tests.common.serving.test_client import connected
from tests.common.vision.test_same_picture import scene

SIDE, CLASSES = 32, ("a", "b", "c")


@pytest.fixture(scope="module")
def task():
    """ResNet-18 with random weights, without and with its embedding as one wants."""
    torch.manual_seed(0)
    recipe = replace(
        RECIPES["photos"], model=ModelConfig(depth=18, zero_init_last_norm=False),
        preprocessing=ImagePreprocessing(resize=SIDE, crop=SIDE),
    )  # fmt: skip
    return ClassificationTask(recipe, [1, 1, 1]).eval()


@pytest.fixture(scope="module")
def graphs(task, tmp_path_factory) -> tuple[Path, Path]:
    """The graph of the default, and that with the embedding."""
    folder, made = tmp_path_factory.mktemp("graphs"), []
    for gives in (False, True):
        task.gives_embedding = gives
        made.append(export_onnx(task.inference_module(), task.signature(), folder / f"{gives}.onnx"))
    return made[0], made[1]


def images(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    return {"images": np.random.default_rng(seed).standard_normal((count, 3, SIDE, SIDE)).astype(np.float32)}


def test_the_graph_is_the_default_one_unless_it_was_asked_for(task, graphs, tmp_path):
    task.gives_embedding = False
    again = export_onnx(task.inference_module(), task.signature(), tmp_path / "again.onnx")
    assert again.read_bytes() == graphs[0].read_bytes()
    outputs = [[output.name for output in onnx.load(path).graph.output] for path in graphs]
    assert outputs == [["logits", "probabilities"], ["logits", "probabilities", EMBEDDING]]
    assert lint(graphs[1]) == []


def test_it_is_what_the_default_graph_computes_before_its_last_layer(graphs, tmp_path):
    cut = tmp_path / "cut.onnx"
    assert write_embedding_graph(graphs[0], cut) == 512
    found = OnnxRunner(graphs[1], threads=1)(images(5))
    np.testing.assert_allclose(
        found[EMBEDDING], normalised(OnnxRunner(cut, threads=1)(images(5))[EMBEDDING]), atol=1e-5
    )
    np.testing.assert_allclose(np.linalg.norm(found[EMBEDDING], axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(found["logits"], OnnxRunner(graphs[0], threads=1)(images(5))["logits"], atol=1e-4)


def test_parity_measures_its_direction_in_every_engine(task, graphs, tmp_path):
    task.gives_embedding = True
    half = convert_precision(
        graphs[1], tmp_path / "half.onnx", "fp16", example={"images": torch.zeros(1, 3, SIDE, SIDE)}
    )
    runners = [
        OnnxRunner(graphs[1], threads=1),
        OpenVinoRunner(graphs[1], threads=1),
        OpenVinoRunner(half, precision="fp16", threads=1),
    ]
    reference, compared = TorchRunner(task.inference_module(), task.signature()), ServedClassifier().comparison()
    table = compare(reference, runners, {3: images(3)}, comparison=compared)
    assert table.passed, [row.failures for row in table.rows]
    assert all(row.cosine > 0.999 for row in table.rows)

    class Turned(OnnxRunner):
        def __call__(self, inputs):
            answers = super().__call__(inputs)
            return answers | {EMBEDDING: np.roll(answers[EMBEDDING], 1, axis=1)}

    (row,) = compare(reference, [Turned(graphs[1])], {3: images(3)}, comparison=compared).rows
    assert any("cosine" in failure for failure in row.failures)
    task.gives_embedding = False
    (row,) = compare(
        TorchRunner(task.inference_module(), task.signature()),
        [OnnxRunner(graphs[0])],
        {3: images(3)},
        comparison=compared,
    ).rows
    assert row.passed
    assert row.cosine is None


@pytest.mark.slow
def test_eight_bits_keep_its_direction(task, graphs, tmp_path):
    path = quantize_int8(graphs[1], tmp_path / "int8.onnx", (images(16, seed) for seed in range(1, 5)))
    exact, rounded = (OnnxRunner(graph, threads=1)(images(8))[EMBEDDING] for graph in (graphs[1], path))
    assert (exact * rounded).sum(1).min() > 0.95
    np.testing.assert_allclose(np.linalg.norm(rounded, axis=1), 1, atol=1e-3)


def repository_of(task, graph: Path, folder: Path) -> ModelRepository:
    repository = ModelRepository(folder)
    exported = Exported(artefact=graph, signature=task.signature(), engine="onnxruntime")
    model = ImageModel.of(exported, task.recipe.preprocessing, "cpu")
    add_classifier(repository, "resnet50", model, CLASSES, scores="probabilities")
    return repository


def test_the_repository_has_it_after_the_scores(task, graphs, tmp_path):
    for gives, graph in zip((False, True), graphs, strict=True):
        task.gives_embedding = gives
        config = repository_of(task, graph, tmp_path / str(gives)).config("resnet50")
        found = [(output.name, list(output.dims)) for output in config.output]
        assert found == [("probabilities", [3]), *([(EMBEDDING, [512])] if gives else [])]
        assert ClassifierDialogue().fits({"encoded"}, {output.name for output in config.output})


def test_a_server_without_it_is_told_of(tmp_path):
    with pytest.raises(ServingError, match="gives no embedding") as caught:
        embed(connected([], {"scores": np.zeros((1, 2))}), "model", [b"x"])
    assert "--embedding" in str(caught.value)


@pytest.mark.slow
@pytest.mark.serving
def test_a_real_server_gives_names_and_vectors(task, graphs, payload, tmp_path):  # noqa: F811
    task.gives_embedding = True
    files = []
    for seed in range(3):
        stream = io.BytesIO()
        scene(seed).resize((SIDE, SIDE), Image.Resampling.BILINEAR).save(stream, "PNG")
        files.append(stream.getvalue())
    repository = repository_of(task, graphs[1], tmp_path / "repository")
    with LocalServer(repository.path, payload, tmp_path / "server.log") as server:
        server.wait_ready()
        with server.client() as client:
            vectors = embed(client, "resnet50", files, batch=2)
            assert [len(row) for row in classify(client, "resnet50", files, top_k=2)] == [2, 2, 2]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(file)), np.float32) for file in files]).transpose(0, 3, 1, 2)
    mean, deviation = (
        np.asarray(values, np.float32)[:, None, None]
        for values in (task.recipe.preprocessing.mean, task.recipe.preprocessing.std)
    )
    expected = OnnxRunner(graphs[1], threads=1)({"images": (pixels - mean) / deviation})[EMBEDDING]
    assert (vectors * expected).sum(1).min() > 0.999
