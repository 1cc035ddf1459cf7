"""ONNX graphs in other precisions, made of the float32 one: typed half precisions, and INT8 with explicit Q/DQ nodes.

TensorRT 11 builds strongly typed networks only, so the precision lives in the graph. Half precisions are converted
from the float32 graph, whose batch norms are folded already: exporting a half-precision module folds them in half
precision, which doubles the error in fp16 (1.9 instead of 0.9 % of the logits' range on a ResNet-50 with random
weights) and leaves float32 weights behind in bf16, an invalid graph.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from common.errors import DataError, DeviceError, KitError
from common.export.layers import before_softmax, layers, multiplications, outermost, tail
from common.export.muted_tools import quiet, scratch_folder
from common.export.onnx import OPSET, write_graph
from common.export.tables import shrink_tables
from common.export.weights import data_file, fits_a_message, total_bytes

LARGEST_SHARE = 0.05
"""Of the multiplications, left unquantised in the last layers."""

LARGEST_STEP = 6e4
"""Of quantised values: what is so far apart is no float16 either."""


def convert_precision(
    fp32_path: Path, path: Path, precision: Literal["fp16", "bf16"], *, example: dict[str, Tensor] | None = None
) -> Path:
    """Write the float32 graph at `fp32_path` typed in `precision`, with its inputs and outputs unchanged.

    An INT8 graph is taken, too: what it leaves in float32 is typed, and its Q/DQ nodes stay.
    What comes after the last layers stays in float32, and so do nodes whose values in fp16 would leave a safe range on
    `example` (random values without it). Of a graph that is too large for one file, only tables are made fp16.
    """
    if not fits_a_message(total_bytes(fp32_path)):
        return _with_small_tables(fp32_path, path, precision)
    unlimited = precision == "bf16"  # bfloat16 has float32's range
    with scratch_folder() as folder, quiet():
        import onnx

        graph = onnx.load(fp32_path, load_external_data=False)
        convert = _modelopt("autocast").convert_to_mixed_precision
        values = None
        if example is not None and not unlimited:
            values = folder / "example.npz"
            arrays: dict[str, Any] = {name: tensor.cpu().numpy() for name, tensor in example.items()}
            np.savez(values, **arrays)
        limits: dict[str, float] = {"data_max": np.inf, "init_max": np.inf} if unlimited else {}
        graph = convert(
            str(fp32_path),
            low_precision_type=precision,
            keep_io_types=True,
            nodes_to_exclude=_patterns(tail(graph)),
            calibration_data=None if values is None else str(values),
            opset=OPSET,
            **limits,
        )
    return write_graph(graph, path)


def quantize_int8(fp32_path: Path, path: Path, calibration: Iterable[dict[str, np.ndarray]]) -> Path:
    """Write the float32 graph with explicit Q/DQ nodes: INT8 weights per channel, INT8 activations per tensor.

    The outermost layers stay in float32: they are a hundredth of the work and half of the harm. So does what comes
    after the last ones. In fp16 they would make ONNX Runtime on a CPU 2 to 3 times slower.

    calibration: batches of real inputs by name; 64 to 512 samples are enough for a classifier.
    Of a graph that is too large for one file, only tables are made INT8, without calibration.
    Raises DataError where `calibration` is empty, KitError where a value's range is too wide for eight bits.
    """
    if not fits_a_message(total_bytes(fp32_path)):
        return _with_small_tables(fp32_path, path, "int8")
    batches = list(calibration)
    if not batches:
        raise DataError(
            "no calibration data was given", "INT8 needs real inputs to find value ranges", "give 64 or more"
        )
    with scratch_folder() as folder, quiet():
        import onnx

        quantization = _modelopt("quantization")
        result = folder / "int8.onnx"
        source = folder / "fp32.onnx"  # intermediate files land beside the source
        if data_file(fp32_path).is_file():
            onnx.save(onnx.load(fp32_path), source)
        else:
            source.symlink_to(fp32_path.resolve())
        quantization.quantize(
            str(source),
            quantize_mode="int8",
            # The entropy method takes twice as long, and its result depends on how the samples are cut into batches:
            # worst errors of 4 to 15 % of the logits' range on one network, where "max" gave 4 to 7 %.
            calibration_method="max",
            calibration_data_reader=_CalibrationReader(batches),
            calibration_eps=["cpu"],
            dq_only=True,  # weights are stored as INT8: a quarter of the file
            high_precision_dtype="fp32",
            opset=OPSET,
            output_path=str(result),
            log_level="CRITICAL",
            nodes_to_exclude=_patterns(_unquantised(onnx.load(fp32_path, load_external_data=False))),
        )
        graph = onnx.load(result)
        _refuse_wide_ranges(graph)
        _correct_shift(graph, fp32_path, batches)
    return write_graph(graph, path)


def _with_small_tables(source: Path, path: Path, precision: Literal["fp16", "bf16", "int8"]) -> Path:
    if precision == "bf16":
        given = f"the graph has {total_bytes(source) / 2**30:.1f} GiB"
        raise KitError(given, "graphs below 2 GiB are converted to bf16", "serve it in another precision")
    return shrink_tables(source, path, precision)


def _refuse_wide_ranges(graph: Any) -> None:
    """A step beyond float16 between two numbers means that a mask or an infinity was taken for a value."""
    from onnx import numpy_helper

    constants = {value.name: value for value in graph.graph.initializer}
    for node in graph.graph.node:
        scale = constants.get(node.input[1]) if node.op_type == "QuantizeLinear" else None
        if scale is None:
            continue
        step = float(np.max(numpy_helper.to_array(scale)))
        if not step < LARGEST_STEP:
            raise KitError(
                f"{node.input[0]} has values too far apart for eight bits: its step is {step:.2g}",
                f"steps below {LARGEST_STEP:.0g}",
                "use another precision",
            )


def _unquantised(graph: Any) -> list[Any]:
    """The first layers, the last ones as far as they are little work, everything after them, and attention's masks.

    A classifier has one last layer, a detector a dozen of very different size. On a briefly trained SSD300 with a
    ResNet-18 and 3 classes, all of whose heads are little work, leaving them out raised the mean overlap with float32's
    boxes from 0.972 to 0.981. With a ResNet-50 and 80 classes, where two heads are a quarter of the work, leaving these
    out too takes 1.5 times as long on one core (176 instead of 116 ms).
    """
    found = layers(graph)
    after = tail(graph)
    known = {node.name for node in after}
    unweighted = [*after, *(node for node in before_softmax(graph) if node.name not in known)]
    if len(found) < 3:
        return unweighted
    first, last = outermost(graph)
    work = multiplications(graph, found)
    left = LARGEST_SHARE * sum(work.values())
    kept = []
    for node in sorted(last, key=lambda node: work[node.name]):
        left -= work[node.name]
        if left >= 0:
            kept.append(node)
    return [*first, *kept, *unweighted]


def _patterns(nodes: list[Any]) -> list[str]:
    """Regular expressions for exactly these nodes, as ModelOpt takes them."""
    return [f"{re.escape(node.name)}$" for node in nodes]


def _correct_shift(graph: Any, fp32_path: Path, batches: list[dict[str, np.ndarray]]) -> None:
    """Take the mean error that quantisation adds to each output channel out of the last layer's bias.

    Rounding shifts a deep network's outputs more than it scatters them: on a briefly trained ResNet-50 this raised the
    top-1 agreement with float32 on 399 photographs from 93 to 96 % with 64 calibration samples, and from 84 to 95 %
    with 256. Outputs that are no layer's answer stay as they are; correcting a detector's heads changed nothing.
    """
    import onnx

    producers = {name: node for node in graph.graph.node for name in node.output}
    constants = {value.name: value for value in graph.graph.initializer}
    biases = {}
    for output in graph.graph.output:
        node = producers[output.name]
        while node.op_type == "Cast":
            node = producers[node.input[0]]
        if node.op_type in ("Gemm", "Conv") and len(node.input) > 2 and node.input[2] in constants:
            biases[output.name] = constants[node.input[2]]
    if not biases:
        return
    shifts = _mean_difference(graph.SerializeToString(), str(fp32_path), list(biases), batches)
    for name, shift in shifts.items():
        values = onnx.numpy_helper.to_array(biases[name])
        corrected = (values - shift).astype(values.dtype)
        biases[name].CopyFrom(onnx.numpy_helper.from_array(corrected, biases[name].name))


def _mean_difference(
    graph: bytes, reference: str, names: list[str], batches: list[dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Per output and channel (axis 1), the mean of what `graph` answers minus what the file `reference` does."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    sessions = [onnxruntime.InferenceSession(g, options, ["CPUExecutionProvider"]) for g in (graph, reference)]
    totals: dict[str, Any] = dict.fromkeys(names, 0.0)
    counts = dict.fromkeys(names, 0)
    for batch in batches:
        for name, ours, theirs in zip(names, *(session.run(names, batch) for session in sessions), strict=True):
            difference = np.moveaxis(ours.astype(np.float64) - theirs, 1, -1).reshape(-1, ours.shape[1])
            totals[name] = totals[name] + difference.sum(0)
            counts[name] += len(difference)
    return {name: totals[name] / counts[name] for name in names}


class _CalibrationReader:
    """Batches in the form in which the quantiser asks for them."""

    def __init__(self, batches: list[dict[str, np.ndarray]]) -> None:
        self._batches = batches
        self.rewind()

    def rewind(self) -> None:
        self._remaining: Iterator[dict[str, np.ndarray]] = iter(self._batches)

    def get_first(self) -> dict[str, np.ndarray]:
        return self._batches[0]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._remaining, None)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return iter(self._batches)


def _modelopt(part: Literal["autocast", "quantization"]) -> Any:
    try:
        if part == "autocast":
            import modelopt.onnx.autocast as module
        else:
            import modelopt.onnx.quantization as module
    except ImportError as error:
        raise DeviceError(
            f"NVIDIA ModelOpt cannot be imported ({error})",
            "typed half precisions and INT8 are made by it",
            "pip install 'challenge-kit[serve,quantize]'",
        ) from error
    return module
