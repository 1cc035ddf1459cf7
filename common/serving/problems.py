"""What can go wrong between a client and Triton, told alike for HTTP and gRPC."""

from common.errors import ServingError

LATER = "Send fewer requests at a time, try later, or allow more time."
PARSER_WORDS = ("failed to parse the request", "unable to parse", "unable to set", "unsupported compression")
"""Triton answers a request whose JSON it cannot read with 500 or 501, although the fault is the sender's."""
START = "Start it with: kit serve RUN"


class InvalidRequestError(ServingError):
    """The server refused what was sent; sending it again changes nothing."""


class UnknownModelError(ServingError):
    """The server has no such model."""


class ForbiddenError(ServingError):
    """The call needs the administrator's key, or the key of the proxy before the server."""


class OverloadedError(ServingError):
    """The queue is full or the wait was too long; later it may work."""


class ServerDownError(ServingError):
    """Nobody answers at the address."""


class WrongPortError(ServerDownError):
    """Something answers at the address, and in another protocol."""


class RequestTimeoutError(ServingError):
    """The answer did not come in time; whether the server worked is unknown."""


class ServerFaultError(ServingError):
    """The server failed over a request it had accepted."""


def explain(error: Exception, model: str, url: str, timeout: float) -> ServingError:
    """The kit's error for whatever tritonclient or the network raised."""
    from tritonclient.utils import InferenceServerException

    if isinstance(error, ServingError):
        return error
    text = _message(error)
    if _is_other_protocol(error, text):
        return WrongPortError(
            f"What answers at {url} is no Triton in the protocol that was asked for.",
            "A server has a port each for HTTP (8000), gRPC (8001) and metrics (8002); `kit serve` prints them.",
            "Choose the port's protocol: --protocol http or --protocol grpc, or the other port: --url HOST:PORT",
        )
    if isinstance(error, InferenceServerException):
        status = str(error.status() or "")
        return _explain_status(status.removeprefix("StatusCode."), text, model, url, timeout)
    if isinstance(error, TimeoutError):
        return RequestTimeoutError(f"No answer from {url} within {timeout:g} s.", remedy=LATER)
    if isinstance(error, OSError):
        return ServerDownError(f"No server answers at {url}: {text}", remedy=START)
    return ServerFaultError(f"{url} did not give a proper answer: {text}")


def _explain_status(  # noqa: C901  # a table of cases, a line each
    status: str, text: str, model: str, url: str, timeout: float
) -> ServingError:
    """Status is HTTP's number or gRPC's name; the words decide first, since both know fewer kinds than Triton has."""
    lowered = text.lower()

    def says(*phrases: str) -> bool:
        return any(phrase in lowered for phrase in phrases)

    if says("unknown model") or status in ("404", "NOT_FOUND"):
        return UnknownModelError(f"The server at {url} has no model {model}.", remedy="Check the model's name.")
    if status in ("401", "UNAUTHENTICATED"):
        return ForbiddenError(f"{url} asks for a key, and got none or another.", remedy="Set it: export KIT_KEY=…")
    if status in ("413", "415"):
        return InvalidRequestError(f"{url} refused the request: {text}")
    if status == "429" or says("too many requests"):
        return OverloadedError(f"{url} refused the request: {text}", remedy=LATER)
    if status == "502":
        return ServerDownError(f"No model server stands behind {url}: {text}", remedy=LATER)
    if status == "403" or says("restricted", "expects header"):
        return ForbiddenError(f"{url} does not allow this call, or only with the administrator's key.")
    if status in ("499", "DEADLINE_EXCEEDED") or says("deadline exceeded"):
        return RequestTimeoutError(f"No answer from {url} within {timeout:g} s.", remedy=LATER)
    if says("failed to connect", "connection refused", "socket closed", "connection reset"):
        return ServerDownError(f"No server answers at {url}: {text}", remedy=START)
    if says("maximum queue size", "timeout expired"):
        return OverloadedError(f"{model} is overloaded: {text}", remedy=LATER)
    if status in ("400", "INVALID_ARGUMENT") or says(*PARSER_WORDS):
        return InvalidRequestError(f"{model} refused the request: {text}")
    return ServerFaultError(f"{model} failed with {status or 'no status'}: {text}", remedy="See the server's log.")


def _is_other_protocol(error: Exception, text: str) -> bool:
    """gRPC is hung up on by an HTTP port; HTTP is answered with gRPC's frames, or with a page that is not Triton's.

    Before a proxy gRPC is told so, and HTTP gets an empty 404.
    """
    from tritonclient.utils import InferenceServerException

    if isinstance(error, InferenceServerException):
        hung_up = "failed to connect" in text and any(words in text for words in ("Socket closed", "http1.x server"))
        return error.status() == "405" or (error.status() == "404" and "empty response" in text) or hung_up
    return type(error).__name__ in ("HTTPParseError", "JSONDecodeError")


def _message(error: Exception) -> str:
    message = getattr(error, "message", None)
    text = message() if callable(message) else str(error)
    return (text or type(error).__name__).replace("[request id: <id_unknown>]", "").strip()
