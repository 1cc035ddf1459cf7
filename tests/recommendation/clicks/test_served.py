"""A served click model answers raw values with the probabilities that prepared rows have, and survives bad requests."""

from collections.abc import Iterator

import numpy as np
import polars as pl
import pytest
import torch

from challenges.__main__ import main
from challenges.recommendation.clicks.answers import model_inputs
from challenges.recommendation.clicks.serving.asking import score
from challenges.recommendation.clicks.serving.ensemble import MAXIMUM_BYTES, add_click_model
from challenges.recommendation.dlrm.recipes import DlrmConfig, DlrmRecipe
from challenges.recommendation.dlrm.task import DlrmTask
from common.export.onnx import export_onnx
from common.run.recipe import OptimizerConfig, TrainingConfig
from common.serving.problems import InvalidRequestError
from common.serving.repository import Exported, ModelRepository
from common.serving.server import LocalServer
from tests.common.serving.conftest import payload  # noqa: F401
from tests.recommendation.clicks.builders import prepare_criteo, write_criteo

pytestmark = pytest.mark.serving
ROWS, SENT = 1_000, 50
RECIPE = DlrmRecipe(
    summary="small",
    optimizer=OptimizerConfig(name="adamw", peak_lr=1e-3, weight_decay=0.0, schedule="constant"),
    training=TrainingConfig(epochs=1, batch_size=64),
    model=DlrmConfig(bottom=(8,), top=(16,)),
)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    folder = tmp_path_factory.mktemp("log")
    return prepare_criteo(write_criteo(folder / "source"), folder / "out")


@pytest.fixture(scope="module")
def task(log):
    torch.manual_seed(0)
    return DlrmTask(RECIPE, log.spec).eval()


@pytest.fixture(scope="module")
def server(log, task, payload, tmp_path_factory) -> Iterator[LocalServer]:  # noqa: F811
    folder = tmp_path_factory.mktemp("served")
    graph = export_onnx(task.inference_module(), task.signature(), folder / "model.onnx", example=task.example())
    exported = Exported(artefact=graph, signature=task.signature(), engine="onnxruntime")
    add_click_model(ModelRepository(folder / "repository"), "dlrm", exported, log.folder)
    with LocalServer(folder / "repository", payload, folder / "server.log") as server:
        server.wait_ready()
        yield server


def random_words(log):
    """Known values, unseen ones, none, numbers that are none."""
    random = np.random.default_rng(3)
    found = {}
    for column in log.spec.dense:
        texts = random.choice(["", "no", "-7", "1e3", " 4 ", "0.5", "12"], ROWS)
        found[column.name] = texts.tolist()
    known = {column.name: column for column in log.spec.categorical}
    for number, name in enumerate(known):
        values = pl.read_parquet(log.folder / f"vocabulary/{number:03}.parquet")["value"].to_list()
        found[name] = random.choice(["", "never", "Zoë", *values[:20]], ROWS).tolist()
    return found


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_thousand_raw_rows_get_the_probabilities_of_prepared_ones(log, task, server, protocol):
    words = random_words(log)
    inputs = model_inputs(log.spec, log.transform().answer_to(words))
    with torch.no_grad():
        expected, _ = task.inference_module()(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    columns = {name: np.array(values, dtype=object)[:, None] for name, values in words.items()}
    with server.client(protocol) as client:
        parts = [
            score(client, "dlrm", {name: values[begin : begin + SENT] for name, values in columns.items()})
            for begin in range(0, ROWS, SENT)
        ]
    np.testing.assert_allclose(np.concatenate(parts), expected[:, 0].numpy(), atol=1e-6)
    assert len(np.unique(expected)) > ROWS / 2


def test_a_request_with_a_bad_row_fails_alone_and_the_server_goes_on(log, server):
    words = {name: np.array([["1"], [""]], dtype=object) for name in log.spec.raw_columns}
    long = words | {"C1": np.array([["1"], ["x" * MAXIMUM_BYTES]], dtype=object)}
    with server.client() as client:
        before = score(client, "dlrm", words)
        with pytest.raises(InvalidRequestError, match="C1 has 1,048,585 bytes, at most 1,048,576"):
            score(client, "dlrm", long)
        with pytest.raises(InvalidRequestError):
            score(client, "dlrm", {name: values for name, values in words.items() if name != "C1"})
        np.testing.assert_array_equal(score(client, "dlrm", words), before)


def test_the_command_line_sends_what_the_model_takes(log, server, tmp_path, capsys):
    names = ["label", *reversed(log.spec.raw_columns)]
    path = tmp_path / "rows.csv"
    path.write_text(f"{','.join(names)}\n" + f"{','.join(['1'] * len(names))}\n" * 3)
    assert main(["client", "--model", "dlrm", str(path), "--url", server.url("http")]) == 0
    printed = capsys.readouterr().out
    assert "not sent, since the model does not take it: label" in printed
    path.write_text("label,I1\n1,2\n")
    assert main(["client", "--model", "dlrm", str(path), "--url", server.url("http")]) == 2
    assert "has no column" in capsys.readouterr().err
