"""The graphs for a GPU, as far as a CPU can hold them: the same windows to the pixel, and operators that run there."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from nvidia.dali import fn, pipeline_def, types
from PIL import Image

from common.vision.dali.images import cut, decode, decode_and_preprocess, decode_window, serving_pipeline
from common.vision.preprocessing import ImagePreprocessing

CONTRACT = ImagePreprocessing(resize=64, crop=56)


def photograph(width: int, height: int, orientation: int = 1, subsampling: int = 2) -> np.ndarray:
    """A JPEG of coloured noise, in which every pixel counts."""
    noise = np.random.default_rng(width).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3)).astype(np.uint8)
    image, stream, exif = Image.fromarray(noise).resize((width, height)), io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    image.save(stream, "JPEG", quality=90, exif=exif, subsampling=subsampling)
    return np.frombuffer(stream.getvalue(), np.uint8)


def run(graph: Callable[[], Any], **inputs: list[np.ndarray]) -> list[list[np.ndarray]]:
    """The graph's outputs by sample, on the CPU."""
    count = len(next(iter(inputs.values())))
    pipeline = pipeline_def(graph)(batch_size=count, num_threads=1, device_id=None, prefetch_queue_depth=1)
    pipeline.build()
    for name, values in inputs.items():
        pipeline.feed_input(name, values)
    return [[np.array(output.at(index)) for index in range(count)] for output in pipeline.run()]


def test_a_window_cut_from_the_whole_picture_is_the_window_decoded_alone() -> None:
    files = [photograph(203, 97), photograph(64, 301, orientation=6), photograph(90, 90, subsampling=0)]
    corners = [np.array(corner, np.int32) for corner in ((13, 50), (1, 130), (0, 0))]
    sides = [np.array(side, np.int32) for side in ((41, 77), (63, 171), (90, 90))]

    def graph() -> tuple[Any, Any]:
        encoded = fn.external_source(name="encoded", dtype=types.UINT8, ndim=1)
        start = fn.external_source(name="start", dtype=types.INT32, ndim=1)
        size = fn.external_source(name="size", dtype=types.INT32, ndim=1)
        alone = fn.decoders.image_slice(
            encoded, device="cpu", start=start, shape=size, axes=[0, 1], output_type=types.RGB
        )
        return alone, cut(decode(encoded, "cpu", faithful=False), start, size)

    for alone, whole, side in zip(*run(graph, encoded=files, start=corners, size=sides), sides, strict=True):
        assert whole.shape == (*side, 3)
        np.testing.assert_array_equal(whole, alone)


def test_a_cpu_interpolates_colours_in_any_case() -> None:
    def graph() -> tuple[Any, Any]:
        encoded = fn.external_source(name="encoded", dtype=types.UINT8, ndim=1)
        return decode(encoded, "cpu", faithful=False), decode(encoded, "cpu", faithful=True)

    ((rough,), (faithful,)) = run(graph, encoded=[photograph(203, 97)])
    np.testing.assert_array_equal(rough, faithful)


@pytest.mark.parametrize("faithful", [False, True])
def test_a_gpu_decodes_whole_files(faithful: bool) -> None:
    @pipeline_def(batch_size=2, num_threads=1, device_id=None)
    def graph() -> Any:
        encoded = fn.external_source(name="encoded", dtype=types.UINT8, ndim=1)
        start, size = (fn.external_source(name=name, dtype=types.INT32, ndim=1) for name in ("start", "size"))
        return decode_window(encoded, start, size, 0, CONTRACT, "gpu", faithful=faithful)

    text = graph().serialize()
    assert b"decoders__Image" in text
    assert b"decoders__ImageSlice" not in text
    assert b"mixed" in text
    assert _flag(text, b"jpeg_fancy_upsampling") is faithful


def test_evaluation_and_serving_interpolate_colours_on_a_gpu() -> None:
    @pipeline_def(batch_size=2, num_threads=1, device_id=None)
    def graph() -> Any:
        encoded = fn.external_source(name="encoded", dtype=types.UINT8, ndim=1)
        return decode_and_preprocess(encoded, CONTRACT, "gpu", layout="CHW")

    assert _flag(graph().serialize(), b"jpeg_fancy_upsampling")
    assert _flag(serving_pipeline(CONTRACT, batch_size=2, num_threads=1).serialize(), b"jpeg_fancy_upsampling")


def _flag(graph: bytes, name: bytes) -> bool:
    """The value of a boolean argument in a serialised graph."""
    kind, value = graph.partition(name)[2][:7], graph.partition(name)[2][7:8]
    assert kind == b"\x12\x04bool0"
    return value == b"\x01"
