"""The real server and the stand-in for Triton's stub, as the tests of `common.serving` have them."""

from tests.common.serving.conftest import payload, stub

__all__ = ["payload", "stub"]
