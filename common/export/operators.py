"""The kit's own operators in standard ONNX, for torch.onnx.export's custom_translation_table."""

from collections.abc import Callable
from typing import Any

import onnxscript
import torch

import common.vision.suppression  # noqa: F401, registers the operators

op: Any = onnxscript.opset22


def _largest(values: Any, count: int) -> Any:
    """TopK, which puts the first of equals first."""
    return op.TopK(values, op.Constant(value_ints=[count]), axis=-1, largest=1, sorted=1)


def _suppress(boxes: Any, scores: Any, labels: Any, num_labels: int, per_label: int, iou_threshold: float) -> Any:
    """NonMaxSuppression, with each candidate's score in its own label's row and 0 in the others, as a mask.

    The threshold of 0 leaves the zeros out, so that no more boxes count than there are candidates: TensorRT takes 5,000
    per image over all labels.
    """
    every_label = op.Constant(value_ints=list(range(num_labels)))
    rows = op.Reshape(every_label, op.Constant(value_ints=[1, -1, 1]))
    own = op.Equal(op.Unsqueeze(labels, op.Constant(value_ints=[1])), rows)  # (batch, label, candidate)
    spread = op.Where(own, op.Unsqueeze(scores, op.Constant(value_ints=[1])), op.Constant(value_float=0.0))
    most, overlap = op.Constant(value_ints=[per_label]), op.Constant(value_floats=[iou_threshold])
    chosen = op.NonMaxSuppression(boxes, spread, most, overlap, op.Constant(value_floats=[0.0]))
    # each candidate has one label, so that image and candidate name it: columns 0 and 2 of image, label, candidate
    places = op.Gather(chosen, op.Constant(value_ints=[0, 2]), axis=1)
    ones = op.Expand(op.Constant(value_float=1.0), op.Shape(places, start=0, end=1))
    nothing = op.Expand(op.Constant(value_float=0.0), op.Shape(scores))
    return op.Greater(op.ScatterND(nothing, places, ones), op.Constant(value_float=0.5))


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.kit.largest.default: _largest,
    torch.ops.kit.suppress.default: _suppress,
}
"""operator -> what writes it as ONNX"""
