"""TensorRT plans from typed ONNX graphs: the same path on TensorRT 10 and 11, on the GPU that will run them."""

from pathlib import Path
from typing import Any

from common.errors import DeviceError, KitError, ServingError
from common.export.artefact import ArtefactSidecar, Precision, read_sidecar, write_sidecar
from common.export.signature import Dimension, Signature, SizeRange
from common.files import atomic_writer

WORKSPACE_GIB = 4.0
REBUILD = "build the plan on this machine: kit export RUN"
OLDEST_CAPABILITY: dict[Precision, tuple[int, int]] = {"bf16": (8, 0)}
"""The first GPU of a precision that not all have: Turing (7.5) multiplies fp16 and INT8, and no bfloat16."""


def load_tensorrt() -> Any:
    """The tensorrt package; DeviceError with the remedy where it is missing."""
    try:
        import tensorrt
    except ImportError as error:
        raise DeviceError(
            f"TensorRT cannot be imported ({error})",
            "plans are built and run by TensorRT 10.13 or later on an NVIDIA GPU",
            "pip install --no-deps -r locked/gpu.txt, or use the NGC image: make container1",
        ) from error
    return tensorrt


def gpu_identity() -> dict[str, str]:
    """Name and compute capability of the current CUDA device; DeviceError where there is none."""
    import torch

    if not torch.cuda.is_available():
        raise DeviceError(
            "no CUDA device is usable", "a TensorRT plan needs the GPU it is built for", "see: kit doctor"
        )
    major, minor = torch.cuda.get_device_capability()
    return {"gpu": torch.cuda.get_device_name(), "compute_capability": f"{major}.{minor}"}


def plan_target() -> dict[str, str]:
    """What a plan of this machine is built for: gpu, compute_capability, tensorrt; empty where none can be built."""
    import torch

    if not torch.cuda.is_available():
        return {}
    try:
        version = str(load_tensorrt().__version__)
    except DeviceError:
        return {}
    return {**gpu_identity(), "tensorrt": version}


def build_plan(
    onnx_path: Path, plan: Path, *, timing_cache: Path | None = None, workspace_gib: float = WORKSPACE_GIB
) -> ArtefactSidecar:
    """Build `plan` from the typed graph at `onnx_path` and describe it in a sidecar, which is returned.

    The graph's own sidecar gives precision, signature and batch range. timing_cache: a file read and extended, which
    makes the next build of a similar graph faster.
    Raises DeviceError without TensorRT, a GPU or the precision on it, KitError where TensorRT does not take the graph.
    """
    trt = load_tensorrt()
    device = gpu_identity()
    source = read_sidecar(onnx_path)
    _require_precision(source.precision, device)
    signature = source.signature.of_plan()
    _require_ranges(signature)
    logger = _logger(trt)
    builder = trt.Builder(logger)
    # Strong typing is a choice in TensorRT 10 and the only way in 11, which ignores the flag.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx_path.read_bytes(), str(onnx_path)):
        reasons = [_reason(parser.get_error(index)) for index in range(parser.num_errors)]
        raise KitError(f"TensorRT {trt.__version__} does not read {onnx_path}", "; ".join(reasons[:3]))
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(workspace_gib * 2**30))
    if source.precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)  # float32 means 23 bits of mantissa here, not TF32's 10
    config.add_optimization_profile(_profile(builder, signature))
    cache = _timing_cache(config, timing_cache)
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise KitError(
            f"TensorRT {trt.__version__} built no plan from {onnx_path}",
            f"the workspace was {workspace_gib} GiB",
            "TensorRT's own message above tells why",
        )
    if timing_cache is not None:
        _write_bytes(timing_cache, cache.serialize())
    _write_bytes(plan, serialized)
    return write_sidecar(
        plan,
        precision=source.precision,
        opset=source.opset,
        signature=signature,
        preprocessing=source.preprocessing,
        class_names=source.class_names,
        metrics=source.metrics,
        target={**device, "tensorrt": trt.__version__, "onnx_sha256": source.sha256},
    )


def check_plan(plan: Path) -> ArtefactSidecar:
    """Hold a plan's record against this machine; returns the record.

    Raises ServingError where GPU, compute capability or TensorRT differ from those the plan was built with.
    """
    sidecar = read_sidecar(plan)
    here = {**gpu_identity(), "tensorrt": load_tensorrt().__version__}
    different = [name for name in here if sidecar.target.get(name) != here[name]]
    if different:
        raise ServingError(
            f"{plan} was built for " + ", ".join(f"{name} {sidecar.target.get(name, 'unknown')}" for name in different),
            "this machine has " + ", ".join(f"{name} {here[name]}" for name in different),
            REBUILD,
        )
    return sidecar


def load_engine(plan: Path) -> Any:
    """The engine in `plan`, ready for execution contexts; ServingError where TensorRT refuses it."""
    trt = load_tensorrt()
    runtime = trt.Runtime(_logger(trt))
    engine = runtime.deserialize_cuda_engine(plan.read_bytes())
    if engine is None:
        raise ServingError(f"TensorRT {trt.__version__} cannot load {plan}", remedy=REBUILD)
    return engine


def _logger(trt: Any) -> Any:
    """Quiet but for errors. TensorRT's own plugins are registered with it: ScatterElements that adds is one of them."""
    logger = trt.Logger(trt.Logger.ERROR)
    trt.init_libnvinfer_plugins(logger, "")
    return logger


def _profile(builder: Any, signature: Signature) -> Any:
    """One optimisation profile over the ranges of the batch and of every free dimension."""
    profile = builder.create_optimization_profile()
    for spec in signature.inputs:
        sizes = [signature.batch, *(_range(signature, size) for size in spec.shape)]
        smallest = tuple(size.minimum for size in sizes)
        usual = tuple(size.optimum for size in sizes)
        profile.set_shape(spec.name, smallest, usual, tuple(size.maximum for size in sizes))
    return profile


def _range(signature: Signature, size: Dimension) -> SizeRange:
    return signature.free[size] if isinstance(size, str) else SizeRange(size, size, size)


def _require_ranges(signature: Signature) -> None:
    free = {size: spec.name for spec in signature.inputs for size in spec.shape if isinstance(size, str)}
    unlimited = [f"{name} of {tensor}" for name, tensor in free.items() if name not in signature.free]
    if unlimited:
        raise KitError(f"the size {', '.join(unlimited)} has no range", "a TensorRT plan is built for ranges of sizes")


def _require_precision(precision: Precision, device: dict[str, str]) -> None:
    oldest = OLDEST_CAPABILITY.get(precision, (0, 0))
    if tuple(map(int, device["compute_capability"].split("."))) < oldest:
        raise DeviceError(
            f"{device['gpu']} (compute capability {device['compute_capability']}) has no {precision} in TensorRT",
            f"GPUs from {oldest[0]}.{oldest[1]} on have it",
            "use fp16 there",
        )


def _timing_cache(config: Any, path: Path | None) -> Any:
    """Give `config` the kernels' timings of earlier builds; an unusable file counts as none."""
    if path is None:
        return None
    known = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(known)
    if not config.set_timing_cache(cache, ignore_mismatch=False):  # of another GPU or TensorRT
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def _reason(error: Any) -> str:
    return f"node {error.node_name()} ({error.node_operator()}): {error.desc()}"


def _write_bytes(path: Path, content: Any) -> None:
    with atomic_writer(path) as stream:
        stream.write(memoryview(content))
