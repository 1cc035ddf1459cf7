"""Image files as requests: padded to the longest, bounded in number and bytes."""

from pathlib import Path

import numpy as np
import pytest

from common.serving import encoded
from common.serving.encoded import padded
from common.serving.problems import InvalidRequestError


def test_padding() -> None:
    np.testing.assert_array_equal(padded([b"\x01", b"\x02\x03"]), np.array([[1, 0], [2, 3]], np.uint8))
    with pytest.raises(InvalidRequestError, match="empty"):
        padded([b"a", b""])
    with pytest.raises(InvalidRequestError, match="no image"):
        padded([])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match=r"missing\.jpg cannot be read"):
        next(encoded.image_requests([tmp_path / "missing.jpg"]))


def test_requests_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded, "REQUEST_BYTES", 20)
    images = [[bytes([1]) * length] * 2 for length in (5, 6, 9, 30, 1)]
    sent = [request["encoded"].shape for pair in images for request in encoded.image_requests(pair)]
    assert sent == [(2, 5), (2, 6), (2, 9), (1, 30), (1, 30), (2, 1)]
