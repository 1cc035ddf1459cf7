"""DALI graphs for still images: random crops for training, the preprocessing contract for everything else."""

from typing import Any

from nvidia.dali import fn, math, pipeline_def, types
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import Pipeline

from common.vision.preprocessing import ImagePreprocessing

ENCODED_INPUT = "encoded"
"""Name of the serving graph's only input: one encoded file per sample, uint8, one-dimensional."""

HARDWARE_SHARE = 0.9
"""Of a batch's JPEGs, decoded by the JPEG engines of GPUs that have some."""


def decode_window(  # noqa: PLR0913 (one argument for each thing that a window may undergo)
    encoded: DataNode,
    start: DataNode,
    size: DataNode,
    mirror: DataNode | int,
    preprocessing: ImagePreprocessing,
    device: str,
    *,
    upset: DataNode | None = None,
    colour: DataNode | None = None,
    rotation: DataNode | None = None,
    faithful: bool = False,
) -> DataNode:
    """Cut out the window (start, size: height, width in pixels), resize, flip, normalise: (crop, crop, 3) float.

    mirror, upset: 1 flips left and right, top and bottom
    colour:        factors of saturation (distance from the pixel's own grey, Y of YIQ), contrast (distance from 128)
                   and brightness, in this order
    rotation:      degrees, counter-clockwise; what comes into sight is as the nearest pixel of the window's edge
    faithful:      as `decode` takes it
    """
    window = _window(encoded, start, size, device, faithful=faithful)
    square = _resize(window, size=[preprocessing.crop, preprocessing.crop])
    if upset is not None:
        square = fn.flip(square, horizontal=0, vertical=upset)
    if rotation is not None:
        square = fn.rotate(square, angle=rotation, keep_size=True, fill_value=None)
    if colour is not None:
        square = fn.color_twist(square, saturation=colour[0], contrast=colour[1], brightness=colour[2])
    return normalise(square, preprocessing, "HWC", mirror)


def _window(encoded: DataNode, start: DataNode, size: DataNode, device: str, *, faithful: bool) -> DataNode:
    """Pixels of a window, the same on both devices: a CPU decodes no more than it needs.

    A GPU decodes whole files, for which it has engines; nvImageCodec 0.9 fails in its decoding of windows.
    """
    if device == "cpu":
        return fn.decoders.image_slice(
            encoded, device="cpu", start=start, shape=size, axes=[0, 1], output_type=types.RGB
        )
    return cut(decode(encoded, device, faithful=faithful), start, size)


def cut(image: DataNode, start: DataNode, size: DataNode) -> DataNode:
    """A window of a decoded image; a resize of a region of interest would mix in what lies around it."""
    return fn.slice(image, start, size, axes=[0, 1])


def decode(encoded: DataNode, device: str, *, faithful: bool) -> DataNode:
    """A whole file as (height, width, 3) uint8.

    faithful: a GPU interpolates the colours of subsampled JPEGs as a CPU always does, for more time.
    """
    return fn.decoders.image(
        encoded,
        device="mixed" if device == "gpu" else "cpu",
        output_type=types.RGB,
        hw_decoder_load=HARDWARE_SHARE,
        jpeg_fancy_upsampling=faithful,
    )


def decode_and_preprocess(encoded: DataNode, preprocessing: ImagePreprocessing, device: str, layout: str) -> DataNode:
    """Decode a whole file and bring it to the contract's size and scale.

    Only the pixels under the final crop are resampled; the rounding of the resized sides and of the crop's corner is
    Pillow's and torchvision's (sides truncated, corner rounded half to even), so that the results agree with theirs.
    """
    image = decode(encoded, device, faithful=True)
    crop = preprocessing.crop
    if preprocessing.mode == "squash":
        return normalise(_resize(image, size=[crop, crop]), preprocessing, layout)
    sides = fn.slice(fn.cast(fn.peek_image_shape(encoded), dtype=types.FLOAT), start=[0], shape=[2], axes=[0])
    resized = math.floor(sides * float(preprocessing.resize) / fn.reductions.min(sides) + 1e-3)  # exact integers stay
    free = resized - crop
    half = math.floor(free / 2.0)
    is_odd = half - 2.0 * math.floor(half / 2.0)
    corner = half + (free - 2.0 * half) * is_odd
    scale = sides / resized
    square = _resize(image, size=[crop, crop], roi_start=corner * scale, roi_end=(corner + crop) * scale)
    return normalise(square, preprocessing, layout)


def normalise(image: DataNode, preprocessing: ImagePreprocessing, layout: str, mirror: DataNode | int = 0) -> DataNode:
    return fn.crop_mirror_normalize(
        image,
        mirror=mirror,
        mean=list(preprocessing.mean),
        std=list(preprocessing.std),
        dtype=types.FLOAT,
        output_layout=layout,
    )


def serving_pipeline(
    preprocessing: ImagePreprocessing,
    *,
    batch_size: int,
    num_threads: int,
    device_id: int | None = None,
    with_sizes: bool = False,
) -> Pipeline:
    """The graph that Triton runs: encoded files in (input `encoded`), (3, crop, crop) float32 images out.

    with_sizes: a second output, (2,) int64: each image's own height and width, after the orientation that EXIF states.
    """

    @pipeline_def(batch_size=batch_size, num_threads=num_threads, device_id=device_id, prefetch_queue_depth=1)
    def graph() -> DataNode | tuple[DataNode, ...]:
        encoded = fn.external_source(name=ENCODED_INPUT, device="cpu", dtype=types.UINT8, ndim=1)
        device = "cpu" if device_id is None else "gpu"
        images = decode_and_preprocess(encoded, preprocessing, device, layout="CHW")
        if not with_sizes:
            return images
        return images, fn.slice(fn.peek_image_shape(encoded), start=[0], shape=[2], axes=[0])

    return graph()


def _resize(image: DataNode, **arguments: Any) -> DataNode:
    return fn.resize(image, interp_type=types.INTERP_LINEAR, antialias=True, **arguments)
