"""Reading and writing video files frame by frame, with PyAV.

PyAV rather than OpenCV: it gives every frame's own time, which a variable frame rate needs, it tells a damaged file
from one that ends, and its wheel is the smaller one. PyAV's licence is BSD, but its wheels carry FFmpeg with x264,
which is under the GPL. It is therefore an extra that nothing else needs, and where it was built against an FFmpeg
without x264, another encoder is used.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np

from common.errors import DataError
from common.language.telling import english

EXTENSIONS = frozenset(
    {".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"}
    | {".mts", ".ogv", ".ts", ".webm", ".wmv", ".y4m"}
)
DEMUXERS = ("mov", "asf", "avi", "flv", "mpegts", "matroska", "mpeg", "mpegvideo", "ogg", "yuv4mpegpipe")
"""Of EXTENSIONS, by FFmpeg's names. FFmpeg goes by a file's content: it would follow a playlist to other files."""
OPENING = {"format_whitelist": ",".join(DEMUXERS), "protocol_whitelist": "file", "enable_drefs": "0"}
KNOWN = english("Videos are MP4, MOV, MKV, WebM, AVI, ASF, FLV, MPEG, Ogg or Y4M, by what they contain.")
USUAL_RATE = Fraction(25)  # frames per second of a file that states none
ENCODERS = ("libx264", "libopenh264", "mpeg4")  # the first that FFmpeg was built with; all of them play nearly anywhere
OPTIONS = {
    "libx264": {"crf": "20", "preset": "veryfast"}
}  # near the original's looks; several times faster than medium
COARSEST = 65_535  # units per second at most that MPEG-4 part 2 can count
MISSED, MISSED_SHARE = Fraction(1, 2), Fraction(1, 20)  # seconds, and share of the length: sound may last a bit longer
RGB_COLOURS, BT709 = 0, 1  # ITU-T H.273, matrix coefficients


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a video, upright.

    pixels:   (height, width, 3) uint8 RGB.
    time:     seconds since the first frame, exactly.
    duration: seconds it is shown for.
    """

    pixels: np.ndarray
    time: Fraction
    duration: Fraction


@dataclass(frozen=True)
class VideoFormat:
    """What a copy of a video takes over from it.

    pixel_aspect: width of a pixel over its height, of the upright picture.
    matrix, range, primaries, transfer: ITU-T H.273 numbers, as FFmpeg has them.
    """

    rate: Fraction
    time_base: Fraction
    pixel_aspect: Fraction | None
    matrix: int
    range: int
    primaries: int
    transfer: int


class VideoReader:
    """The frames of a file's first video stream; memory does not grow with its length.

    Frames are turned upright as the file says. Damaged parts are skipped and counted in `notes`, which is complete once
    the frames are through.
    Raises DataError when PyAV is missing or the file is no video.
    """

    def __init__(self, path: Path) -> None:
        import_av()
        self.path = path
        self._container = _open(path)
        streams = [stream for stream in self._container.streams.video if not _is_cover(stream)]
        if not streams:
            self.close()
            raise unreadable(path, english("it holds no moving pictures"))
        self._stream = streams[0]
        self._stream.thread_type = "AUTO"
        self._last: Any = None
        self._damaged, self._end = 0, Fraction(0)
        self._broken_off = ""

    @property
    def frame_count(self) -> int:
        """Frames that the file says it has, or as many as its length makes likely; 0 where it says neither."""
        return int(self._stream.frames) or round(self._stated_length * self._rate)

    @property
    def pixels(self) -> int:
        """Of a frame, as the file states it."""
        return int(self._stream.width * self._stream.height)

    @property
    def format(self) -> VideoFormat:
        """Known from the first frame on."""
        aspect = self._stream.sample_aspect_ratio
        if aspect and _matrix(self._last)[0] == 0:
            aspect = 1 / aspect
        names = ("colorspace", "color_range", "color_primaries", "color_trc")
        colours = (int(getattr(self._last, name)) for name in names)
        return VideoFormat(self._rate, self._base, aspect or None, *colours)

    @property
    def notes(self) -> list[str]:
        """What was wrong with the file, in words."""
        notes = [self._broken_off] if self._broken_off else []
        if self._damaged:
            told = english("{count} damaged parts were skipped", count=self._damaged)
            notes.append(told if self._damaged > 1 else english("1 damaged part was skipped"))
        short = self._stated_length - self._end
        if short > MISSED and short > MISSED_SHARE * self._stated_length:
            ends, stated = float(self._end), float(self._stated_length)
            notes.append(
                english("it ends after {ends:.1f} s of the {stated:.1f} s it states", ends=ends, stated=stated)
            )
        return notes

    def __iter__(self) -> Iterator[Frame]:
        usual = max(1, round(1 / self._rate / self._base))
        offset: int | None = None
        last, width, height = -usual, 0, 0
        for frame in self._decoded():
            if offset is None:
                offset = -(frame.pts or 0)
                width, height = frame.width, frame.height
            place = last + usual if frame.pts is None else frame.pts + offset
            if place <= last:  # a clock that starts again, as in recordings that were joined
                offset += last + usual - place
                place = last + usual
            self._last, last = frame, place
            self._damaged += frame.is_corrupt
            picture = frame.to_ndarray(format="rgb24", width=width, height=height)  # all frames as large as the first
            time, duration = place * self._base, (frame.duration or usual) * self._base
            self._end = time + duration
            yield Frame(upright(picture, _matrix(frame)), time, duration)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._container.close()

    @property
    def _rate(self) -> Fraction:
        rate = self._stream.average_rate or self._stream.guessed_rate
        return rate if rate and Fraction(1, 100) < rate <= 1000 else USUAL_RATE

    @property
    def _stated_length(self) -> Fraction:
        """Seconds; 0 where the file does not say. Some containers only state that of the longest stream."""
        length, base = self._stream.duration, self._stream.time_base
        return length * base if length and base else Fraction(self._container.duration or 0, 1_000_000)

    @property
    def _base(self) -> Fraction:
        return self._stream.time_base or Fraction(1, 90_000)

    def _decoded(self) -> Iterator[Any]:
        import av

        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError as error:
                self._broken_off = english("it breaks off: {why:s}", why=_words(error))
                packet = None
            try:
                frames = self._stream.decode(packet)
            except av.FFmpegError:
                self._damaged += 1
                frames = []
            yield from frames
            if packet is None:
                return


class VideoWriter:
    """An MP4 file with the frames' own times; odd sizes keep all their pixels.

    width, height: pixels of every frame to come.
    """

    def __init__(self, stream: BinaryIO, width: int, height: int, source: VideoFormat) -> None:
        av = import_av()
        name = next(name for name in ENCODERS if _has_encoder(name))
        self._container = av.open(stream, "w", format="mp4")
        self._stream = self._container.add_stream(name, rate=source.rate.limit_denominator(COARSEST))
        self._stream.width, self._stream.height = width, height
        is_odd = bool(width % 2 or height % 2)
        self._stream.pix_fmt = "yuv444p" if is_odd and name == "libx264" else "yuv420p"
        self._stream.options = OPTIONS.get(name, {})
        context = self._stream.codec_context
        context.max_b_frames = 0  # with them the MP4 writer misjudges how long the frames of an uneven rate last
        self._base = source.time_base
        if name == "mpeg4" and self._base.denominator > COARSEST:
            self._base = Fraction(1, 60_000)
        context.time_base = self._base
        if source.pixel_aspect:
            context.sample_aspect_ratio = source.pixel_aspect
        self._matrix = BT709 if source.matrix == RGB_COLOURS else source.matrix
        self._range = source.range
        context.colorspace, context.color_range = self._matrix, self._range
        context.color_primaries, context.color_trc = source.primaries, source.transfer
        self._next, self._durations = 0, deque[int]()

    def write(self, pixels: np.ndarray, time: Fraction, duration: Fraction) -> None:
        """pixels: (height, width, 3) uint8 RGB; time and duration in seconds, times rising."""
        import av

        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(
            format=self._stream.pix_fmt, dst_colorspace=self._matrix, dst_color_range=self._range
        )
        frame.pts, frame.time_base = max(self._next, round(time / self._base)), self._base
        self._next = frame.pts + 1
        self._durations.append(max(1, round(duration / self._base)))
        self._mux(self._stream.encode(frame))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is still in the encoder, and the file's index."""
        if error is None:
            self._mux(self._stream.encode(None))
        self._container.close()

    def _mux(self, packets: Sequence[Any]) -> None:
        for packet in packets:  # in the frames' order; encoders forget how long the last frame lasts
            packet.duration = self._durations.popleft()
            self._container.mux(packet)


def import_av() -> Any:
    """PyAV.

    Raises DataError where it is not installed.
    """
    try:
        import av
    except ImportError:
        raise DataError("Videos are read with PyAV, which is not installed.", remedy="pip install av") from None
    return av


def upright(picture: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """Turn and mirror (height, width, 3) pixels by a display matrix, to the nearest quarter turn.

    matrix: a, b, c, d of x' = a x + c y, y' = b x + d y with y downwards (ISO/IEC 14496-12, 8.3.2).
    """
    a, b, c, d = matrix
    is_turned = abs(b) > abs(a)
    if is_turned:
        picture = picture.swapaxes(0, 1)
    across, down = (c, b) if is_turned else (a, d)
    picture = picture[:, ::-1] if across < 0 else picture
    return np.ascontiguousarray(picture[::-1] if down < 0 else picture)


def _matrix(frame: Any) -> tuple[int, int, int, int]:
    """a, b, c and d of the frame's display matrix as -1, 0 or 1, to the nearest quarter turn."""
    for part in frame.side_data:
        if part.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = np.frombuffer(bytes(part), np.int32)[:5].tolist()
            if abs(b) > abs(a):
                a = d = 0
            else:
                b = c = 0
            return tuple(int(np.sign(value)) for value in (a, b, c, d))  # type: ignore[return-value]
    return 1, 0, 0, 1


def _open(path: Path) -> Any:
    import av

    try:
        if path.stat().st_size == 0:
            raise unreadable(path, english("the file is empty"))
        # absolute, since FFmpeg takes what stands before a colon at the start of a name for a protocol
        return av.open(str(path.resolve()), options=dict(OPENING))
    except av.error.ArgumentError:
        refused = unreadable(path, english("it is a playlist, a list of files or of another format"))
        remedy = english("Give the video file itself, or convert it to MP4.")
        raise DataError(refused.given, KNOWN, remedy) from None
    except av.error.InvalidDataError:
        raise unreadable(path, english("it is damaged, cut short or of no known format")) from None
    except (av.FFmpegError, OSError) as error:
        raise unreadable(path, _words(error)) from None


def unreadable(path: Path, why: str) -> DataError:
    """To be raised; why: in English, without the full stop."""
    return DataError(english("{file:s} cannot be read as a video: {why}.", file=str(path), why=why))


def _words(error: Exception) -> str:
    text = str(getattr(error, "strerror", None) or error).rstrip(".")
    return f"{text[:1].lower()}{text[1:]}"


def _is_cover(stream: Any) -> bool:
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.attached_pic)


def _has_encoder(name: str) -> bool:
    from av.codec import Codec

    try:
        return bool(Codec(name, "w").is_encoder)
    except ValueError:
        return False
