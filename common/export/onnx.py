"""The float32 ONNX graph of a trained module; precisions.py makes the others of it."""

import copy
import inspect
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import KitError
from common.export.muted_tools import quiet
from common.export.signature import Dimension, Signature, TensorSpec
from common.export.weights import data_file, fits_a_message
from common.files import atomic_writer

OPSET = 22
"""The first in which convolution and pooling take bfloat16; TensorRT 10.15 reads opsets 9 to 24."""
Form = tuple[str, str, tuple[Dimension, ...]]
"""A tensor's name, type and sizes with the batch's."""
ROOM = 1 << 26  # of a message's bytes, for what is no weight
SMALLEST_APART = 1024  # bytes of a tensor in a second file


def export_onnx(
    module: nn.Module,
    signature: Signature,
    path: Path,
    *,
    example: dict[str, Tensor] | None = None,
) -> Path:
    """Write `module` as a float32 ONNX graph with dynamic batch and the signature's names; returns `path`.

    The module is left as it was. Weights that one file cannot hold go to a second one, `weights.data_file(path)`.
    example: inputs to trace with, needed where the signature has free dimensions.
    Raises KitError where signature and module disagree, or the module cannot be exported.
    """
    program = _trace(module, signature, example)
    if fits_a_message(_exported_bytes(module) + ROOM):
        graph = program.model_proto
        _check_interface(graph, signature)
        return write_graph(graph, path)
    return _write_apart(program, signature, path)


def _trace(module: nn.Module, signature: Signature, example: dict[str, Tensor] | None) -> Any:
    """The module's float32 program, named and shaped by the signature."""
    from common.export.operators import TRANSLATIONS

    names = _argument_names(module, signature)
    # channels_last weights would be exported with index arithmetic around the pooling; what stays as it is is shared:
    # tables of gigabytes are not held twice
    shared = {
        id(tensor): tensor for tensor in (*module.parameters(), *module.buffers()) if _is_exported_as_it_is(tensor)
    }
    still = copy.deepcopy(module, shared).eval().float().cpu()
    still = still.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    inputs = _example(signature, example)
    with quiet():
        try:
            program = torch.onnx.export(
                still,
                (),
                kwargs={name: inputs[name] for name in names},
                input_names=names,
                output_names=[spec.name for spec in signature.outputs],
                dynamic_shapes=_dynamic_shapes(signature, names),
                opset_version=OPSET,
                dynamo=True,
                custom_translation_table=TRANSLATIONS,
                verbose=False,
            )
        except Exception as error:
            raise KitError(
                f"{type(module).__name__} cannot be exported: {str(error).strip().splitlines()[0]}",
                "a module whose forward is traceable by torch.export with the signature's free dimensions",
                "torch.export.export(module, ...) tells more",
            ) from error
    assert program is not None
    return program


def _is_exported_as_it_is(tensor: Tensor) -> bool:
    """Whether a weight is contiguous on the CPU, in float32 where it is a number with a fraction."""
    is_typed = tensor.dtype == torch.float32 or not tensor.is_floating_point()
    return tensor.device.type == "cpu" and is_typed and tensor.is_contiguous()


def _exported_bytes(module: nn.Module) -> int:
    """Of the weights in a float32 graph, whatever they are kept in."""
    return sum(
        tensor.numel() * (4 if tensor.is_floating_point() else tensor.itemsize)
        for tensor in module.state_dict().values()
    )


def _argument_names(module: nn.Module, signature: Signature) -> list[str]:
    """The signature's inputs in the order of forward's arguments; one with a default may be missing from it."""
    parameters = inspect.signature(module.forward).parameters.values()
    wanted = [spec.name for spec in signature.inputs]
    needed = [p.name for p in parameters if p.default is p.empty or p.name in wanted]
    if sorted(needed) != sorted(wanted):
        raise KitError(
            f"the signature's inputs are {wanted}, but {type(module).__name__}.forward takes {needed}",
            "a signature names its inputs as forward's arguments",
            "rename one of the two",
        )
    return needed


def _example(signature: Signature, example: dict[str, Tensor] | None) -> dict[str, Tensor]:
    """Inputs to trace with; a batch of one would become a constant, so that it is repeated."""
    if example is None:
        example = {spec.name: _ones(spec) for spec in signature.inputs}
    missing = {spec.name for spec in signature.inputs} - example.keys()
    if missing:
        raise KitError(f"the example lacks {sorted(missing)}", "one tensor for every input of the signature")
    if signature.batch.maximum == 1:
        return {name: tensor[:1].cpu() for name, tensor in example.items()}
    return {
        name: (torch.cat([tensor, tensor]) if len(tensor) == 1 else tensor).cpu() for name, tensor in example.items()
    }


def _ones(spec: TensorSpec) -> Tensor:
    sizes = [size for size in spec.shape if isinstance(size, int)]
    if len(sizes) != len(spec.shape):
        raise KitError(
            f"the signature leaves dimensions of {spec.name} free: {spec.shape}",
            "a module with free dimensions is traced with real inputs",
            "pass example=",
        )
    return torch.ones(1, *sizes, dtype=getattr(torch, spec.dtype))


def _dynamic_shapes(signature: Signature, names: list[str]) -> dict[str, dict[int, Any]]:
    free: dict[str, Any] = {}
    if signature.batch.minimum < signature.batch.maximum:
        free["batch"] = torch.export.Dim("batch", min=signature.batch.minimum, max=signature.batch.maximum)
    shapes = {}
    for spec in sorted(signature.inputs, key=lambda spec: names.index(spec.name)):
        shapes[spec.name] = {0: free["batch"]} if "batch" in free else {}
        for axis, size in enumerate(spec.shape, start=1):
            if isinstance(size, str):
                shapes[spec.name][axis] = free.setdefault(size, torch.export.Dim(size))
    return shapes


def _check_interface(graph: Any, signature: Signature) -> None:
    """Hold the graph's inputs and outputs against the signature: names, types, fixed and free sizes."""
    from onnx import helper

    batch: str | int = "batch" if signature.batch.minimum < signature.batch.maximum else signature.batch.minimum
    for side, found in (("inputs", graph.graph.input), ("outputs", graph.graph.output)):
        wanted = [(spec.name, spec.dtype, (batch, *spec.shape)) for spec in getattr(signature, side)]
        present = []
        for value in found:
            tensor = value.type.tensor_type
            sizes = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param for d in tensor.shape.dim)
            present.append((value.name, helper.tensor_dtype_to_np_dtype(tensor.elem_type).name, sizes))
        if len(wanted) != len(present) or not all(map(_fits, wanted, present)):
            raise KitError(
                f"the module's {side} are {present}",
                f"the signature says {wanted}",
                "mend the task's signature or its inference module",
            )


def _fits(wanted: Form, present: Form) -> bool:
    """Whether names, types and ranks agree, free sizes are free, and no fixed size is another one."""
    same_form = wanted[:2] == present[:2] and len(wanted[2]) == len(present[2])
    return same_form and all(
        isinstance(has, str) or has == size for size, has in zip(wanted[2], present[2], strict=True)
    )


def _write_apart(program: Any, signature: Signature, path: Path) -> Path:
    """Write the program's graph to `path` and its weights beside it; the graph comes last."""
    import onnx
    import onnx_ir

    data = data_file(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".weights-") as folder:
        made = Path(folder, path.name)
        onnx_ir.save(program.model, made, external_data=data.name, size_threshold_bytes=SMALLEST_APART)
        onnx.checker.check_model(str(made))
        graph = onnx.load(made, load_external_data=False)
        _check_interface(graph, signature)
        _strip_traces(graph)
        path.unlink(missing_ok=True)
        Path(folder, data.name).replace(data)
    with atomic_writer(path) as stream:
        stream.write(graph.SerializeToString(deterministic=True))
    return path


def write_graph(graph: Any, path: Path) -> Path:
    """Strip what tracing left behind, infer shapes, check, and write whole or not at all."""
    import onnx

    _strip_traces(graph)
    size = graph.ByteSize()
    if not fits_a_message(size):
        raise KitError(f"the graph has {size / 2**30:.1f} GiB", "one ONNX file holds less than 2 GiB")
    graph = onnx.shape_inference.infer_shapes(graph, strict_mode=True, data_prop=True)
    onnx.checker.check_model(graph, full_check=True)
    data_file(path).unlink(missing_ok=True)
    with atomic_writer(path) as stream:
        stream.write(graph.SerializeToString(deterministic=True))
    return path


def _strip_traces(graph: Any) -> None:
    """Remove source lines and stack traces, which name this machine's folders and differ between machines."""
    del graph.metadata_props[:]
    graph.doc_string = ""
    body = graph.graph
    del body.metadata_props[:]
    for item in (*body.node, *body.input, *body.output, *body.value_info, *body.initializer):
        del item.metadata_props[:]
        item.doc_string = ""
