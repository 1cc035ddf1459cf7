"""A typed client of Triton over HTTP or gRPC: arrays in, arrays or the best classes' names out, errors in words."""

import contextlib
import os
import random
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import np_to_triton_dtype, triton_to_np_dtype

from common.errors import ServingError
from common.serving.encoded import padded
from common.serving.example import example_image
from common.serving.problems import (
    InvalidRequestError,
    OverloadedError,
    ServerDownError,
    UnknownModelError,
    explain,
)

Protocol = Literal["http", "grpc"]
KEY_VARIABLE = "KIT_KEY"
"""The environment variable with the key that the proxy before a server asks for."""
FIRST_PAUSE = 0.1
"""Seconds before the first repetition; doubled for each further one, and scattered so that clients spread out."""


class Client:
    """One connection to one server; not to be shared between threads.

    url:     host:port, also with http:// or grpc:// before it.
    timeout: seconds for one attempt.
    retries: repetitions after a refused connection or an overloaded server; nothing else is ever repeated.
    """

    def __init__(
        self,
        url: str,
        protocol: Protocol = "http",
        timeout: float = 30.0,
        retries: int = 3,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.url, self.protocol, self.timeout, self.retries = address(url), protocol, timeout, retries
        self.headers = {**key_header(), **(headers or {})}
        self._outputs: dict[str, str] = {}
        self._api: Any = tritonclient.http if protocol == "http" else tritonclient.grpc
        if protocol == "http":
            self._connection = self._api.InferenceServerClient(
                self.url, connection_timeout=min(timeout, 5.0), network_timeout=timeout
            )
            self._limits: dict[str, float] = {}
        else:
            self._connection = self._api.InferenceServerClient(self.url)
            self._limits = {"client_timeout": timeout}

    def infer(
        self, model: str, inputs: Mapping[str, np.ndarray], *, classes: int = 0, outputs: Sequence[str] = ()
    ) -> dict[str, np.ndarray]:
        """The outputs of one batch; every array is (batch, ...).

        classes: where not 0, the first output alone, as its so many best classes: `score:index:name`, bytes.
        outputs: those that are wanted; all where none is named.
        """
        if outputs:
            return self._infer(model, inputs, [self._api.InferRequestedOutput(name) for name in outputs])
        wanted = [self._api.InferRequestedOutput(self._first_output(model), class_count=classes)] if classes else []
        return self._infer(model, inputs, wanted)

    def served(self, names: Iterable[str]) -> list[str]:
        """Those of the names that are models here; a server lists its models to its administrator only."""
        found = []
        for name in names:
            with contextlib.suppress(UnknownModelError):
                self.metadata(name)
                found.append(name)
        return found

    def ready(self, model: str) -> bool:
        """Whether the model answers a real inference, on a small picture or on zeros."""
        try:
            self.infer(model, self.example_inputs(model))
        except ServingError:
            return False
        return True

    def example_inputs(self, model: str) -> dict[str, np.ndarray]:
        """A batch of one that fits the model's metadata; free dimensions get the size 1, strings are empty."""
        inputs = {}
        for tensor in self.metadata(model)["inputs"]:
            shape = [max(1, int(size)) for size in tensor["shape"]]
            if tensor["name"] == "encoded" and tensor["datatype"] == "UINT8":
                inputs["encoded"] = padded([example_image()])
            elif tensor["datatype"] == "BYTES":
                inputs[tensor["name"]] = np.full(shape, b"", object)
            else:
                inputs[tensor["name"]] = np.zeros(shape, triton_to_np_dtype(tensor["datatype"]))
        return inputs

    def metadata(self, model: str) -> dict[str, Any]:
        """Names, types and shapes of the model's tensors, and its versions."""
        found: dict[str, Any] = self._ask(
            model, lambda: self._connection.get_model_metadata(model, headers=self.headers, **self._json())
        )
        return found

    def statistics(self, model: str) -> dict[str, Any]:
        """Counts and accumulated nanoseconds per model version; an ensemble's parts have their own. Needs the key."""
        answer = self._ask(
            model, lambda: self._connection.get_inference_statistics(model, headers=self.headers, **self._json())
        )
        counts: dict[str, Any] = answer["model_stats"][0]
        return counts

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _json(self) -> dict[str, Any]:
        return {} if self.protocol == "http" else {"as_json": True, **self._limits}

    def _first_output(self, model: str) -> str:
        if model not in self._outputs:
            self._outputs[model] = self.metadata(model)["outputs"][0]["name"]
        return self._outputs[model]

    def _infer(self, model: str, inputs: Mapping[str, np.ndarray], wanted: list[Any]) -> dict[str, np.ndarray]:
        tensors = []
        for name, array in inputs.items():
            datatype = np_to_triton_dtype(array.dtype)
            if datatype is None:
                raise InvalidRequestError(f"The input {name} is {array.dtype}, which Triton does not know.")
            tensor = self._api.InferInput(name, list(array.shape), datatype)
            tensor.set_data_from_numpy(array)
            tensors.append(tensor)
        result = self._ask(
            model,
            lambda: self._connection.infer(
                model, tensors, outputs=wanted or None, headers=self.headers, **self._limits
            ),
        )
        return {name: result.as_numpy(name) for name in _output_names(result)}

    def _ask(self, model: str, call: Callable[[], Any]) -> Any:
        """One call, repeated with growing pauses while the server is down or overloaded."""
        for attempt in range(self.retries + 1):
            try:
                return call()
            except Exception as error:
                problem = explain(error, model, self.url, self.timeout)
                if attempt == self.retries or not isinstance(problem, ServerDownError | OverloadedError):
                    raise problem from error
                time.sleep(FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1.5))
        raise AssertionError("the last attempt returns or raises")


def timed(
    ask: Callable[[Sequence[Any]], list[Any]], questions: Sequence[Any], batch: int
) -> tuple[list[Any], list[float]]:
    """The answer to each question, and the milliseconds of each batch of them."""
    answers: list[Any] = []
    times: list[float] = []
    for begin in range(0, len(questions), batch):
        started = time.perf_counter()
        answers += ask(questions[begin : begin + batch])
        times.append(1e3 * (time.perf_counter() - started))
    return answers, times


def key_header() -> dict[str, str]:
    """The header that shows the environment's key; nothing where there is none. Raises as `environment_key` does."""
    key = environment_key()
    return {"authorization": f"Bearer {key}"} if key else {}


def environment_key() -> str:
    """The key of the proxy before a server, empty for none; InvalidRequestError for one that no header can carry."""
    key = os.environ.get(KEY_VARIABLE, "")
    if not re.fullmatch(r"[!-~]*", key):
        raise InvalidRequestError(
            f"{KEY_VARIABLE} holds characters that no header carries.",
            "A key is of ASCII letters, digits and signs, without blanks.",
            f"Choose another, such as: export {KEY_VARIABLE}=$(openssl rand -hex 24)",
        )
    return key


def address(url: str) -> str:
    """host:port of an address as people write it.

    Raises InvalidRequestError for one without a port, and for what the client does not speak.
    """
    scheme, _, rest = url.rpartition("://")
    if scheme.lower() not in ("", "http", "grpc"):
        raise InvalidRequestError(
            f"The address {url} begins with {scheme}://.",
            "The client speaks plain HTTP and gRPC: HOST:PORT or http://HOST:PORT.",
            "Where a proxy in front of the server asks for TLS, connect behind it, for instance through an SSH tunnel.",
        )
    rest = rest.rstrip("/")
    host, _, port = rest.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536 or set(host) & set("/@?# "):
        raise InvalidRequestError(
            f"The address {url} is no HOST:PORT.", "For instance 127.0.0.1:8000 or http://127.0.0.1:8000"
        )
    return rest


def _output_names(result: Any) -> list[str]:
    response = result.get_response()
    if isinstance(response, dict):
        return [output["name"] for output in response.get("outputs", [])]
    return [output.name for output in response.outputs]
