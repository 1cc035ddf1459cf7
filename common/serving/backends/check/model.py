"""Pass encoded images on, or refuse them by their header alone, before a decoder allocates anything.

Self-contained, because the same file runs in images that have Triton's Python backend and nothing of this kit.
"""

import json
import struct
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

FORMATS = "JPEG, PNG, WebP, TIFF or BMP"
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0..SOF15 without DHT, JPG and DAC: ITU T.81 B.1
_JPEG_LONE_MARKERS = frozenset(range(0xD0, 0xDA)) | {0x01}  # RST0..7, SOI, EOI, TEM carry no length


class TritonPythonModel:
    """Lets whole files through, and refuses others before they meet a batch."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        limits = {name: int(value["string_value"]) for name, value in parameters.items()}
        self.maximum_bytes, self.maximum_pixels = limits["maximum_bytes"], limits["maximum_pixels"]
        self.request_bytes, self.request_pixels = limits["maximum_request_bytes"], limits["maximum_request_pixels"]

    def execute(self, requests: list[Any]) -> list[Any]:
        responses = []
        for request in requests:
            tensor = pb_utils.get_input_tensor_by_name(request, "encoded")
            problem = self.problem(np.from_dlpack(tensor))
            if problem:
                error = pb_utils.TritonError(problem, pb_utils.TritonError.INVALID_ARG)
                responses.append(pb_utils.InferenceResponse(error=error))
            else:
                passed = pb_utils.Tensor.from_dlpack("checked", tensor.to_dlpack())
                responses.append(pb_utils.InferenceResponse([passed]))
        return responses

    def problem(self, batch: np.ndarray) -> str | None:
        """Why (batch, bytes) is refused: by its first unacceptable image, or as a whole; None where it passes."""
        if batch.size > self.request_bytes:
            return (
                f"the request's {len(batch)} images have {batch.size:,} bytes with their padding, at most "
                f"{self.request_bytes:,} are taken: send fewer at a time"
            )
        pixels = 0
        for position, sample in enumerate(batch):
            try:
                pixels += self._pixels(sample)
            except ValueError as reason:
                return f"image {position + 1} of {len(batch)} is refused: {reason}"
        if pixels > self.request_pixels:
            return (
                f"the request's {len(batch)} images have {pixels:,} pixels, at most {self.request_pixels:,} are taken: "
                "send fewer at a time"
            )
        return None

    def _pixels(self, sample: np.ndarray) -> int:
        """Of one image, by its header; ValueError with the reason where it is unacceptable."""
        data = sample.tobytes()
        size = len(data.rstrip(b"\0"))  # the zeros may be another image's length
        if size > self.maximum_bytes:
            raise ValueError(f"{size:,} bytes, at most {self.maximum_bytes:,} are taken")
        try:
            width, height = image_size(data)
        except (struct.error, IndexError):
            raise ValueError("its header is cut short") from None
        if width * height >= self.maximum_pixels:
            raise ValueError(f"{width} x {height} pixels, fewer than {self.maximum_pixels:,} are taken")
        return width * height


def image_size(data: bytes) -> tuple[int, int]:
    """Width and height that the header declares; ValueError with a reason for anything that is no complete image."""
    if data[:2] == b"\xff\xd8":
        size = _jpeg_size(data)
    elif data[:8] == b"\x89PNG\r\n\x1a\n":
        size = struct.unpack(">II", data[16:24])
        if b"IEND" not in data:
            raise ValueError("the PNG is cut short")
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        size = _webp_size(data)
    elif data[:4] in (b"II*\0", b"MM\0*"):
        size = _tiff_size(data)
    elif data[:2] == b"BM":
        width, height = struct.unpack("<ii", data[18:26])
        size = width, abs(height)
    else:
        raise ValueError(f"it is not {FORMATS}" if data.rstrip(b"\0") else "it is empty")
    if min(size) < 1:
        raise ValueError(f"its header declares {size[0]} x {size[1]} pixels")
    return size


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Walk the marker segments to the frame header; zero padding may follow the end marker."""
    if data.rfind(b"\xff\xd9") < 0:
        raise ValueError("the JPEG is cut short")
    position = 2
    for _ in range(4096):  # real files have a few hundred segments; an endless chain must not keep the stub busy
        if data[position] != 0xFF:
            raise ValueError("the JPEG's markers are damaged")
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker in _JPEG_LONE_MARKERS:
            position += 2
        elif marker in _JPEG_FRAMES:
            height, width = struct.unpack(">HH", data[position + 5 : position + 9])
            return width, height
        else:
            position += 2 + max(2, struct.unpack(">H", data[position + 2 : position + 4])[0])
    raise ValueError("the JPEG has no frame header")


def _webp_size(data: bytes) -> tuple[int, int]:
    """The three chunk kinds a WebP file may start with: RFC 9649, sections 2.5 to 2.7."""
    if struct.unpack("<I", data[4:8])[0] + 8 > len(data):
        raise ValueError("the WebP is cut short")
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        bits = struct.unpack("<I", data[21:25])[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    raise ValueError("the WebP's first chunk is unknown")


def _tiff_size(data: bytes) -> tuple[int, int]:
    """ImageWidth and ImageLength of the first directory: TIFF 6.0, tags 256 and 257, of type SHORT or LONG."""
    order = "<" if data[:2] == b"II" else ">"
    start = struct.unpack(order + "I", data[4:8])[0]
    count = struct.unpack(order + "H", data[start : start + 2])[0]
    sizes = {}
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind = struct.unpack(order + "HH", data[entry : entry + 4])
        if tag in (256, 257):
            sizes[tag] = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, entry + 8)[0]
    if len(sizes) < 2:
        raise ValueError("the TIFF does not say its size")
    return sizes[256], sizes[257]
