"""Every model's graph takes what its module takes, and answers as it does."""

import inspect

import numpy as np
import onnx

from common.export.parity import compare
from common.export.runner import OnnxRunner

ALIKE = 0.85  # of the answers: a detector that has hardly begun finds hundreds of boxes that are as good as each other


def test_a_graphs_inputs_are_named_as_forwards(trained, graph):
    names = [tensor.name for tensor in trained.task.signature().inputs]
    taken = inspect.signature(trained.task.inference_module().forward).parameters.values()
    assert names == [given.name for given in taken if given.default is given.empty or given.name in names]
    assert [tensor.name for tensor in onnx.load(graph).graph.input] == names


def test_a_graph_answers_as_the_trained_module(line, trained, graph):
    parts = [arrays for arrays, _ in trained.inputs("val", 3)]
    samples = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    with OnnxRunner(graph) as runner:
        inputs = {size: {name: array[:size] for name, array in samples.items()} for size in (1, 3)}
        table = compare(trained.reference(), [runner], inputs, comparison=line.challenge.served.comparison())
    assert min(row.agreement for row in table.rows) > ALIKE
