"""The kit's operators in ONNX Runtime and OpenVINO."""

import numpy as np
import pytest
import torch
from torch import nn

from common.export.onnx import export_onnx
from common.export.runner import OnnxRunner, OpenVinoRunner
from common.export.signature import Signature, TensorSpec
from common.vision.suppression import largest, suppress
from tests.common.export.conftest import operators


class Best(nn.Module):
    """Both operators in a row: the boxes of two labels that are kept, best first."""

    def forward(self, boxes: torch.Tensor, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores, place = largest(scores, 20)
        boxes = boxes.gather(1, place.unsqueeze(2).expand(-1, -1, 4))
        return scores, suppress(boxes, scores, place % 2, 2, 20, 0.5).long()


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    signature = Signature(
        inputs=(TensorSpec("boxes", "float32", (30, 4)), TensorSpec("scores", "float32", (30,))),
        outputs=(TensorSpec("best", "float32", (20,)), TensorSpec("keep", "int64", (20,))),
    )
    return export_onnx(Best(), signature, tmp_path_factory.mktemp("operators") / "best.onnx")


def test_the_graph_is_standard(graph):
    counts = operators(graph)
    assert (counts["NonMaxSuppression"], counts["TopK"], counts["ScatterND"]) == (1, 1, 1)


@pytest.mark.parametrize("engine", [OnnxRunner, OpenVinoRunner])
def test_engines_agree_with_torch(graph, engine):
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(8, 30, 2, generator=generator)
    boxes = torch.cat([first, first + 0.2 + 0.3 * torch.rand(8, 30, 2, generator=generator)], dim=2)
    scores = torch.rand(8, 30, generator=generator)
    scores[2, 10:] = 0  # padding
    scores[3] = 0
    if engine is OnnxRunner:  # the others do not keep the standard's order of equals
        scores = (scores * 8).round() / 8
    with engine(graph) as runner:
        for batch in (slice(0, 1), slice(3, 4), slice(0, 3), slice(0, 8)):
            best, keep = Best()(boxes[batch], scores[batch])
            answers = runner({"boxes": boxes[batch].numpy(), "scores": scores[batch].numpy()})
            np.testing.assert_array_equal(answers["best"], best.numpy())
            np.testing.assert_array_equal(answers["keep"], keep.numpy())
