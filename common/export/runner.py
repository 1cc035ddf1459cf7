"""One call over every engine: arrays by name in, arrays by name out."""

import functools
import sys
from abc import ABC, abstractmethod
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np

from common.errors import DeviceError, ServingError
from common.export.artefact import Precision
from common.export.signature import Signature

Arrays = dict[str, np.ndarray]


class Runner(ABC):
    """An engine with a model loaded; outputs keep the model's order.

    name:      the engine: torch, onnxruntime, openvino, tensorrt, triton.
    precision: of the arithmetic, which a label, a tolerance and a table row follow.
    """

    name: str
    precision: Precision

    @property
    def label(self) -> str:
        return f"{self.name} {self.precision}"

    @abstractmethod
    def __call__(self, inputs: Arrays) -> Arrays: ...

    def close(self) -> None:  # noqa: B027, most engines hold nothing that Python does not free
        """Free what the engine holds; further calls are undefined."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class InParts(Runner):
    """Another engine, asked for no more than `largest` samples at a time, as many as a plan takes."""

    def __init__(self, runner: Runner, largest: int) -> None:
        self.name, self.precision = runner.name, runner.precision
        self._runner, self._largest = runner, largest

    def __call__(self, inputs: Arrays) -> Arrays:
        count = len(next(iter(inputs.values())))
        begins = range(0, max(count, 1), self._largest)
        parts = [
            self._runner({name: array[begin : begin + self._largest] for name, array in inputs.items()})
            for begin in begins
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class TorchRunner(Runner):
    """The trained module itself, in evaluation mode; with `autocast`, torch's mixed precision of that type."""

    name = "torch"

    def __init__(
        self,
        module: Any,
        signature: Signature,
        *,
        device: str = "cpu",
        autocast: Literal["fp16", "bf16"] | None = None,
    ) -> None:
        import torch

        self._torch = torch
        self._module = module.to(device).eval()
        self._device = device
        self._outputs = [spec.name for spec in signature.outputs]
        self._autocast = {"fp16": torch.float16, "bf16": torch.bfloat16}[autocast] if autocast else None
        self.precision = autocast or "fp32"

    def __call__(self, inputs: Arrays) -> Arrays:
        torch = self._torch
        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in inputs.items()}
        mixed = torch.autocast(torch.device(self._device).type, self._autocast) if self._autocast else nullcontext()
        with torch.inference_mode(), mixed:
            answer = self._module(**{name: tensor.to(self._device) for name, tensor in tensors.items()})
        answers = (answer,) if isinstance(answer, torch.Tensor) else tuple(answer)
        plain = [t.float() if t.is_floating_point() else t for t in answers]
        return {name: tensor.cpu().numpy() for name, tensor in zip(self._outputs, plain, strict=True)}


class OnnxRunner(Runner):
    """ONNX Runtime on the CPU or a CUDA device.

    threads: within one call; None for all cores.
    Raises DeviceError where the provider is missing or has no kernel for the graph (bfloat16 on CPUs).
    """

    name = "onnxruntime"

    def __init__(
        self,
        path: Path,
        *,
        precision: Precision = "fp32",
        provider: Literal["cpu", "cuda"] = "cpu",
        threads: int | None = None,
    ) -> None:
        import onnxruntime

        wanted = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[provider]
        available = onnxruntime.get_available_providers()
        if wanted not in available:
            raise DeviceError(
                f"this ONNX Runtime has no {wanted}", f"it has {', '.join(available)}", "pip install onnxruntime-gpu"
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors; kernels that fall back to another provider are warned about otherwise
        # Spinning threads take the cores of whatever runs beside: on 2 busy cores a call took twice as long with them.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=[wanted])
        except Exception as error:  # its exceptions share no public base
            raise _unreadable(path, "ONNX Runtime", error) from error
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.precision = precision

    def __call__(self, inputs: Arrays) -> Arrays:
        return dict(zip(self._outputs, self._session.run(self._outputs, inputs), strict=True))

    def close(self) -> None:
        self._session = None


class OpenVinoRunner(Runner):
    """OpenVINO on the CPU; compiles for any batch size in well under a second, so that nothing is cached.

    precision: fp32 and bf16 choose the arithmetic of a float graph; int8 and fp16 belong to the graph itself.
    hint:      latency for one request at a time, throughput for several at once.
    threads:   None for all cores.
    Raises DeviceError where bfloat16 is asked of a CPU without it.
    """

    name = "openvino"

    def __init__(
        self,
        path: Path,
        *,
        precision: Precision = "fp32",
        hint: Literal["latency", "throughput"] = "latency",
        threads: int | None = None,
    ) -> None:
        core = _openvino_core()
        capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and "BF16" not in capabilities:
            raise DeviceError(
                "OpenVINO has no fast bfloat16 on this CPU",
                f"it has {', '.join(capabilities)}",
                "use fp32 or int8 here",
            )
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "PERFORMANCE_HINT": hint.upper(),
        }
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        try:
            model = core.read_model(str(path))  # compiled, an output may have the names of what was folded into it too
            self._outputs = [output.get_any_name() for output in model.outputs]
            self._compiled: Any = core.compile_model(model, "CPU", settings)
        except RuntimeError as error:
            raise _unreadable(path, "OpenVINO", error) from error
        self._request: Any = self._compiled.create_infer_request()
        self.precision = precision

    def __call__(self, inputs: Arrays) -> Arrays:
        answers = self._request.infer(inputs)
        return {name: answers[index].copy() for index, name in enumerate(self._outputs)}

    def close(self) -> None:
        self._request = self._compiled = None


class TensorRtRunner(Runner):
    """A TensorRT plan on the current CUDA device, with torch tensors as its buffers.

    Raises ServingError where the plan was built for another GPU or TensorRT, or is damaged.
    """

    name = "tensorrt"
    device = "cuda"

    def __init__(self, plan: Path) -> None:
        import torch

        from common.export.tensorrt import check_plan, load_engine

        sidecar = check_plan(plan)
        self.precision = sidecar.precision
        self._signature = sidecar.signature
        self._torch = torch
        self._engine = load_engine(plan)
        self._context = self._engine.create_execution_context()
        self._stream = torch.cuda.Stream()

    def __call__(self, inputs: Arrays) -> Arrays:
        torch, context = self._torch, self._context
        with torch.cuda.stream(self._stream):
            buffers = {name: torch.from_numpy(np.ascontiguousarray(a)).to(self.device) for name, a in inputs.items()}
            for name, tensor in buffers.items():
                if not context.set_input_shape(name, tuple(tensor.shape)):
                    sizes = {"batches": self._signature.batch, **self._signature.free}
                    taken = ", ".join(f"{what} of {size.minimum} to {size.maximum}" for what, size in sizes.items())
                    raise ServingError(f"{name} has shape {tuple(tensor.shape)}", f"the plan takes {taken}")
            for spec in self._signature.outputs:
                shape = tuple(context.get_tensor_shape(spec.name))
                if min(shape) < 0:  # unknown to TensorRT, as of what it computes from a suppression's answer
                    shape = (len(next(iter(inputs.values()))), *spec.shape)
                buffers[spec.name] = torch.empty(shape, dtype=getattr(torch, spec.dtype), device=self.device)
            for name, tensor in buffers.items():
                context.set_tensor_address(name, tensor.data_ptr())
            if not context.execute_async_v3(self._stream.cuda_stream):
                raise ServingError("TensorRT refused to run the plan", remedy="build the plan again: kit export RUN")
        self._stream.synchronize()
        return {spec.name: buffers[spec.name].cpu().numpy() for spec in self._signature.outputs}

    def close(self) -> None:
        self._context = self._engine = None


class TritonRunner(Runner):
    """A model on a Triton server, asked one request at a time.

    url:     host:port without a scheme.
    timeout: seconds for one request.
    Raises ServingError for whatever the server or the network refuses.
    """

    name = "triton"

    def __init__(
        self,
        model: str,
        signature: Signature,
        *,
        url: str,
        precision: Precision,
        protocol: Literal["http", "grpc"] = "grpc",
        timeout: float = 30.0,
    ) -> None:
        self._model, self._url, self._timeout, self._protocol = model, url, timeout, protocol
        self._signature = signature
        self.precision = precision
        if protocol == "http":
            import tritonclient.http as client

            self._client: Any = client.InferenceServerClient(url, connection_timeout=timeout, network_timeout=timeout)
        else:
            import tritonclient.grpc as client

            self._client = client.InferenceServerClient(url)
        self._module: Any = client

    def __call__(self, inputs: Arrays) -> Arrays:
        from tritonclient.utils import np_to_triton_dtype

        tensors = []
        for name, array in inputs.items():
            tensor = self._module.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
            tensor.set_data_from_numpy(np.ascontiguousarray(array))
            tensors.append(tensor)
        names = [spec.name for spec in self._signature.outputs]
        wanted = [self._module.InferRequestedOutput(name) for name in names]
        limit = {"client_timeout": self._timeout} if self._protocol == "grpc" else {}
        try:
            answer = self._client.infer(self._model, tensors, outputs=wanted, **limit)
        except Exception as error:  # the clients raise their own, gevent's and the sockets' errors
            raise ServingError(
                f"Triton at {self._url} did not answer for {self._model}: {error}",
                remedy="is the server ready? kit serve RUN",
            ) from error
        return {name: answer.as_numpy(name) for name in names}

    def close(self) -> None:
        self._client.close()


@functools.cache
def _openvino_core() -> Any:
    """The process's one OpenVINO core, which stays to the end.

    With every core OpenVINO 2026.4 gives the thread a signal stack, and puts the former one back when the core goes. Of
    two cores that go in the order in which they came, the second would put back the first one's, freed by then: the
    next signal, a Ctrl-C for one, would end the process with a segmentation fault.
    """
    return load_openvino().Core()


def load_openvino() -> Any:
    """Import OpenVINO with its telemetry off: the import itself reports home otherwise."""
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _unreadable(path: Path, engine: str, error: Exception) -> DeviceError | ServingError:
    """The clear form of what an engine says about a graph it does not load."""
    reason = str(error).strip().splitlines()[-1]
    if "NOT_IMPLEMENTED" in str(error):
        return DeviceError(
            f"{engine} has no kernel for a node of {path}: {reason}",
            "typed bfloat16 runs on OpenVINO and on GPUs",
            "choose another engine or precision",
        )
    return ServingError(f"{engine} cannot load {path}: {reason}", remedy="export the run again: kit export RUN")
