"""Weights that one ONNX file cannot hold lie in a second one, which record, engines and repository carry along."""

import numpy as np
import pytest
import torch
from torch import nn

from common.errors import KitError, ServingError
from common.export import onnx as exporting
from common.export import tables, weights
from common.export.artefact import read_sidecar, write_sidecar
from common.export.lint import has_data_dependent_work, lint
from common.export.onnx import export_onnx
from common.export.precisions import convert_precision, quantize_int8
from common.export.runner import OnnxRunner, OpenVinoRunner, TorchRunner
from common.export.signature import BatchRange, Signature, TensorSpec
from common.export.weights import data_file, files_of, total_bytes
from common.serving.repository import Exported, ModelRepository

SIGNATURE = Signature(
    inputs=(TensorSpec("ids", "int32", (3,)),),
    outputs=(TensorSpec("scores", "float32", (4,)),),
    batch=BatchRange(1, 8, 64),
)
INPUTS = {"ids": np.random.default_rng(0).integers(0, 500, (7, 3)).astype(np.int32)}


class Lookup(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(500, 16), nn.Linear(48, 4)

    def forward(self, ids):
        return self.head(self.table(ids).flatten(1))


@pytest.fixture
def module():
    torch.manual_seed(0)
    return Lookup().eval()


@pytest.fixture
def graph(module, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "LARGEST_GRAPH", exporting.ROOM + 10_000)  # bytes of weights; these have 32,784
    path = export_onnx(module, SIGNATURE, tmp_path / "model.fp32.onnx")
    write_sidecar(path, precision="fp32", opset=22, signature=SIGNATURE, preprocessing={})
    return path


def test_the_second_file_holds_the_weights_and_every_engine_reads_it(graph, module):
    assert files_of(graph) == [graph, data_file(graph)]
    assert graph.stat().st_size < 10_000 < 32_000 <= data_file(graph).stat().st_size
    assert [path.name for path in graph.parent.iterdir() if path.name.startswith(".")] == []
    assert lint(graph) == []
    expected = TorchRunner(module, SIGNATURE)(INPUTS)["scores"]
    for runner in (OnnxRunner, OpenVinoRunner):
        np.testing.assert_allclose(runner(graph)(INPUTS)["scores"], expected, rtol=1e-4, atol=1e-5)


def test_what_is_kept_in_fewer_bits_counts_as_it_is_exported(module, tmp_path, monkeypatch):
    module.table.half()  # 16,000 bytes, and 32,000 in the graph
    monkeypatch.setattr(weights, "LARGEST_GRAPH", exporting.ROOM + 20_000)
    assert len(files_of(export_onnx(module, SIGNATURE, tmp_path / "new" / "model.onnx"))) == 2


def test_tables_are_traced_where_they_lie(module, monkeypatch):
    traced = []

    def export(still, *_, **__):
        traced.append(still)
        raise RuntimeError("enough")

    monkeypatch.setattr(torch.onnx, "export", export)
    module.head = module.head.double().train()
    with pytest.raises(KitError, match="enough"):
        export_onnx(module, SIGNATURE, None)
    (still,) = traced
    assert still.table.weight.data_ptr() == module.table.weight.data_ptr()
    assert (still.head.weight.dtype, module.head.weight.dtype) == (torch.float32, torch.float64)
    assert (still.head.training, module.head.training) == (False, True)


def test_what_no_message_holds_is_not_read_into_one_by_lint(graph, monkeypatch):
    monkeypatch.setattr("common.export.lint._begin_polygraphy", lambda path: lambda: ["read"])
    assert lint(graph) == ["read"]
    monkeypatch.setattr(weights, "LARGEST_GRAPH", 30_000)
    assert lint(graph) == []
    assert not has_data_dependent_work(graph)


def test_the_record_vouches_for_both_files(graph):
    assert read_sidecar(graph).size_bytes == total_bytes(graph)
    content = data_file(graph).read_bytes()
    data_file(graph).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ServingError, match=r"model\.fp32\.onnx\.data is damaged"):
        read_sidecar(graph)
    data_file(graph).unlink()
    with pytest.raises(ServingError, match=r"model\.fp32\.onnx\.data is damaged: its sha256 is that of no file"):
        read_sidecar(graph)


@pytest.mark.parametrize(("precision", "bytes_of_number", "error"), [("fp16", 2, 2e-3), ("int8", 1 + 4 / 16, 2e-2)])
def test_of_a_large_graph_the_tables_are_made_smaller(graph, module, monkeypatch, precision, bytes_of_number, error):
    monkeypatch.setattr(weights, "LARGEST_GRAPH", 30_000)
    monkeypatch.setattr(tables, "STRETCH", 64)
    path = graph.with_name(f"model.{precision}.onnx")
    made = quantize_int8(graph, path, [INPUTS]) if precision == "int8" else convert_precision(graph, path, "fp16")
    assert files_of(made) == [path, data_file(path)]
    assert sum(path.name.startswith(".") for path in path.parent.iterdir()) == 0
    assert 500 * 16 * bytes_of_number <= data_file(path).stat().st_size <= 500 * 16 * bytes_of_number + 3 * 4096
    assert lint(path) == []
    expected = TorchRunner(module, SIGNATURE)(INPUTS)["scores"]
    for runner in (OnnxRunner, OpenVinoRunner):
        difference = np.abs(runner(path)(INPUTS)["scores"] - expected)
        assert 0 < difference.max() < error


def test_a_number_that_is_none_in_fp16_is_told(graph, module, monkeypatch):
    monkeypatch.setattr(weights, "LARGEST_GRAPH", exporting.ROOM + 10_000)
    with torch.no_grad():
        module.table.weight[3, 4] = 7e4
    export_onnx(module, SIGNATURE, graph)
    monkeypatch.setattr(weights, "LARGEST_GRAPH", 30_000)
    with pytest.raises(KitError, match="none in fp16"):
        convert_precision(graph, graph.with_name("model.fp16.onnx"), "fp16")
    assert not graph.with_name("model.fp16.onnx").exists()


def test_a_repository_has_both_files_side_by_side(graph, module, tmp_path):
    repository = ModelRepository(tmp_path / "repository")
    repository.add("lookup", Exported(artefact=graph, signature=SIGNATURE, engine="onnxruntime"))
    folder = tmp_path / "repository" / "lookup" / "1"
    assert sorted(path.name for path in folder.iterdir()) == ["model.fp32.onnx.data", "model.onnx"]
    links = tmp_path / "links"  # as a local server sees them
    links.mkdir()
    for path in folder.iterdir():
        (links / path.name).symlink_to(path)
    expected = TorchRunner(module, SIGNATURE)(INPUTS)["scores"]
    for place in (folder, links):
        np.testing.assert_allclose(OnnxRunner(place / "model.onnx")(INPUTS)["scores"], expected, rtol=1e-4, atol=1e-5)


def test_other_precisions_are_made_of_both_and_a_smaller_export_leaves_no_second_file(graph, module, monkeypatch):
    whole = quantize_int8(graph, graph.with_name("model.int8.onnx"), [INPUTS])
    assert files_of(whole) == [whole]
    assert OnnxRunner(whole)(INPUTS)["scores"].shape == (7, 4)
    monkeypatch.setattr(weights, "LARGEST_GRAPH", 30_000)
    with pytest.raises(KitError, match="graphs below 2 GiB are converted to bf16"):
        convert_precision(graph, graph.with_name("model.bf16.onnx"), "bf16")
    monkeypatch.undo()
    assert files_of(export_onnx(module, SIGNATURE, graph)) == [graph]
