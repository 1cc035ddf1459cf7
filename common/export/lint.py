"""What would stop TensorRT from reading a graph, found without TensorRT."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.export.weights import files_of, fits_a_message, total_bytes

OPSETS = range(9, 25)
"""The opsets TensorRT 10.15 reads (onnx-tensorrt, docs/operators.md at TensorRT 10.15)."""

OPERATORS = frozenset(
    """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool BatchNormalization BlackmanWindow
    Cast CastLike Ceil Celu Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DeformConv
    DepthToSpace DequantizeLinear Div Dropout Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather
    GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample
    GroupNormalization HammingWindow HannWindow HardSigmoid HardSwish Hardmax Identity If ImageScaler
    InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Loop
    LpNormalization LpPool MatMul Max MaxPool Mean MeanVarianceNormalization Min Mish Mod Mul Neg NonMaxSuppression
    NonZero Not OneHot Or PRelu Pad ParametricSoftplus Pow QuantizeLinear RMSNormalization RNN RandomNormal
    RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp
    ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence RoiAlign
    RotaryEmbedding Round STFT ScaledTanh Scan Scatter ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin
    Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh TensorScatter
    ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample Where Xor
    """.split()  # noqa: SIM905, a list would take a page
)
"""What TensorRT's ONNX parser reads of the default domain (the same table)."""

DATA_DEPENDENT = frozenset(("NonMaxSuppression", "NonZero", "Loop", "If", "Scan"))
"""Operators whose answer's size, or whose work, the values decide: no CUDA graph can hold them."""

LARGEST_TOP_K = 3840  # the same table: TopK's K must be less
LARGEST_SUPPRESSION = 5000  # TensorRT's NMS operator considers no more boxes of an image, over all classes
POLYGRAPHY_SECONDS = 300


def has_data_dependent_work(path: Path) -> bool:
    """Whether values, and not shapes alone, decide what the graph at `path` computes."""
    import onnx

    return any(node.op_type in DATA_DEPENDENT for node in onnx.load(path, load_external_data=False).graph.node)


def lint(path: Path) -> list[str]:
    """Problems of the graph at `path`, one sentence each; empty for a sound one. See `begin_lint`."""
    return begin_lint(path)()


def begin_lint(path: Path) -> Callable[[], list[str]]:
    """Start to look for problems of the graph at `path`; the call that is returned waits for them.

    Asks ONNX's checker, the table of operators TensorRT reads, and polygraphy's lint, which runs every node on ONNX
    Runtime; the last is left out for graphs with bfloat16, which it cannot represent, and for those that are more than
    one message holds, of which it makes one: parity runs these as a whole.
    """
    import onnx

    try:
        graph = onnx.load(path, load_external_data=False)
        onnx.checker.check_model(str(path), full_check=len(files_of(path)) == 1)  # which needs all in one message
    except Exception as error:  # the checker, protobuf and shape inference raise families of their own
        unsound = f"not a sound ONNX graph: {str(error).strip().splitlines()[0]}"
        return lambda: [unsound]
    problems = [*_unsupported(graph), *_restricted(graph)]
    if _has_bfloat16(graph) or not fits_a_message(total_bytes(path)):
        return lambda: problems
    further = _begin_polygraphy(path)
    return lambda: problems + further()


def _unsupported(graph: Any) -> list[str]:
    problems = []
    for domain in graph.opset_import:
        if domain.domain in ("", "ai.onnx") and domain.version not in OPSETS:
            problems.append(f"opset {domain.version}: TensorRT reads {OPSETS.start} to {OPSETS.stop - 1}")
    for node in _all_nodes(graph.graph):
        if node.domain not in ("", "ai.onnx"):
            problems.append(f"node {node.name}: {node.domain}.{node.op_type} is not a standard operator")
        elif node.op_type not in OPERATORS:
            problems.append(f"node {node.name}: TensorRT does not read {node.op_type}")
    return problems


def _restricted(graph: Any) -> list[str]:
    """Restrictions of the table beyond names, such as that zero points must be zero."""
    constants = {value.name: value for value in graph.graph.initializer}
    values = {value.name: value.type.tensor_type for value in (*graph.graph.value_info, *graph.graph.input)}
    found = []
    for node in graph.graph.node:
        reasons = (_constant_reason(node, constants), _suppression_reason(node, values), _attribute_reason(node))
        found += [f"node {node.name}: {reason}" for reason in reasons if reason]
    return found


def _constant_reason(node: Any, constants: dict[str, Any]) -> str | None:
    """What is wrong with the inputs that must be constants of a certain kind."""
    from onnx import numpy_helper

    if node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) > 2 and node.input[2]:
        point = constants.get(node.input[2])
        if point is None or numpy_helper.to_array(point).any():
            return f"the zero point of {node.op_type} must be zero"
    if node.op_type == "TopK" and node.input[1] in constants:
        count = int(numpy_helper.to_array(constants[node.input[1]]).ravel()[0])
        if count >= LARGEST_TOP_K:
            return f"TopK with K = {count}, TensorRT takes less than {LARGEST_TOP_K}"
    if node.op_type.startswith("Reduce") and len(node.input) > 1 and node.input[1] not in {"", *constants}:
        return f"the axes of {node.op_type} must be constant"
    return None


def _suppression_reason(node: Any, values: dict[str, Any]) -> str | None:
    """What is wrong with the boxes that enter a suppression, as far as their type and shape are known."""
    from onnx import TensorProto

    if node.op_type != "NonMaxSuppression" or node.input[0] not in values:
        return None
    boxes = values[node.input[0]]
    if boxes.elem_type not in (TensorProto.FLOAT, TensorProto.FLOAT16):
        return f"NonMaxSuppression of {TensorProto.DataType.Name(boxes.elem_type)}, TensorRT takes FLOAT and FLOAT16"
    count = boxes.shape.dim[1].dim_value if len(boxes.shape.dim) > 1 else 0
    if count > LARGEST_SUPPRESSION:
        return f"NonMaxSuppression of {count} boxes, TensorRT considers {LARGEST_SUPPRESSION} per image"
    return None


def _attribute_reason(node: Any) -> str | None:
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if node.op_type == "MaxPool" and len(node.output) > 1:
        return "TensorRT's MaxPool gives no indices"
    if node.op_type == "ScatterND" and "reduction" in attributes and attributes["reduction"].s != b"none":
        return f"ScatterND with the reduction {attributes['reduction'].s.decode()}, TensorRT takes none"
    if node.op_type == "TopK" and "sorted" in attributes and attributes["sorted"].i != 1:
        return "TopK without an order, TensorRT's is sorted"
    return None


def _all_nodes(graph: Any) -> list[Any]:
    nodes = []
    for node in graph.node:
        nodes.append(node)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                nodes += _all_nodes(attribute.g)
    return nodes


def _has_bfloat16(graph: Any) -> bool:
    from onnx import TensorProto

    half = TensorProto.BFLOAT16
    typed = any(value.type.tensor_type.elem_type == half for value in graph.graph.value_info)
    return typed or any(value.data_type == half for value in graph.graph.initializer)


def _begin_polygraphy(path: Path) -> Callable[[], list[str]]:
    """What `polygraphy check lint` finds, run in a process of its own and in a temporary folder."""
    folder = tempfile.TemporaryDirectory(prefix="kit-export-", ignore_cleanup_errors=True)
    report, output = (Path(folder.name, name) for name in ("lint.json", "output.txt"))
    command = [sys.executable, "-W", "ignore", "-c", "from polygraphy.tools import main; main()", "check", "lint"]
    with output.open("wb") as stream:
        process = subprocess.Popen(
            [*command, "--silent", str(path.resolve()), "-o", str(report)],
            cwd=folder.name,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )

    def found() -> list[str]:
        with folder:
            try:
                process.wait(POLYGRAPHY_SECONDS)
            finally:
                process.kill()
            if not report.exists():
                return [f"polygraphy could not judge the graph: {output.read_text(errors='replace').strip()[-200:]}"]
            entries = json.loads(report.read_text())["lint_entries"]
        return [f"polygraphy: {entry['message'].strip()}" for entry in entries if entry["level"] != "warning"]

    return found
