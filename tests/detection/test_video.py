import itertools
import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from challenges.detection.data import SceneData
from challenges.detection.detections import Detections, DetectionTable
from challenges.detection.recipes import DataConfig
from challenges.detection.video import BATCH_PIXELS, FrameDetector, annotate_video
from challenges.detection.video_files import VideoReader, upright
from common.errors import DataError
from common.vision.preprocessing import ImagePreprocessing
from tests.common.vision.picture_files import photograph
from tests.detection.builders import scenes_of
from tests.detection.video_maker import make_video, moving_square, read_back

CPU = torch.device("cpu")
SQUASH = ImagePreprocessing(resize=300, crop=300, mode="squash")


def find_red(images: Tensor) -> Detections:
    """The box around what is red, of class 2; nothing where nothing is."""
    boxes = torch.zeros(len(images), 2, 4)
    scores, labels = torch.zeros(len(images), 2), torch.zeros(len(images), 2, dtype=torch.int64)
    for row, image in enumerate(images):
        red = (image[0] > 1.0) & (image[1] < -0.5)
        if red.any():
            rows, columns = red.nonzero().T
            ends = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            boxes[row, 0], scores[row, 0], labels[row, 0] = ends / 300, 0.9, 2
            boxes[row, 1], scores[row, 1], labels[row, 1] = torch.tensor([0, 0, 0.5, 0.5]), 0.1, 1
    return Detections(boxes, scores, labels)


@pytest.fixture(scope="module")
def find() -> FrameDetector:
    return FrameDetector(find_red, SQUASH, CPU, batch_size=4)


def annotate(path: Path, find: FrameDetector, **options) -> tuple[Path, list[dict], object]:
    target = path.with_name(f"{path.stem}-out.mp4")
    summary = annotate_video(path, target, find, ("cat", "dog"), **{"threshold": 0.3, **options})
    return target, [json.loads(line) for line in target.with_suffix(".jsonl").read_text().splitlines()], summary


def expected_box(number: int, width: int = 64, height: int = 48) -> list[int]:
    left = width // 8 + number * 4 % (width // 2)
    return [left, height // 2, left + 16, height // 2 + 16]


def test_the_copy_has_the_originals_size_times_and_length(find, tmp_path):
    pictures = make_video(tmp_path / "a.mp4")
    target, lines, summary = annotate(tmp_path / "a.mp4", find)
    before, after = read_back(tmp_path / "a.mp4"), read_back(target)
    assert after[1:] == before[1:]
    assert after[0][0].shape == before[0][0].shape
    assert summary.frames == len(lines) == len(pictures)
    assert summary.length == pytest.approx(after[2])
    for number, (line, picture) in enumerate(zip(lines, after[0], strict=True)):
        assert (line["frame"], line["time"]) == (number, pytest.approx(number * 0.04))
        (found,) = line["detections"]
        assert found["class"] == "dog"
        assert np.abs(np.subtract(found["box"], expected_box(number))).max() < 1.5
        assert np.abs(picture[2, 30].astype(int) - pictures[number][2, 30]).max() < 40  # far from the box: untouched


def test_the_summary_states_the_speed_with_its_parts(find, tmp_path):
    make_video(tmp_path / "a.mp4")
    seen = []
    _, _, summary = annotate(tmp_path / "a.mp4", find, progress=lambda done, total: seen.append((done, total)))
    assert summary.frames_per_s == pytest.approx(13 / sum(summary.seconds.values()))
    assert all(spent > 0 for spent in summary.seconds.values())
    (line,) = summary.lines()
    assert "13 detections in 13 frames of 64 x 48" in line
    assert "decode" in line and "network" in line and "draw and encode" in line  # noqa: PT018
    assert [done for done, _ in seen] == [4, 8, 12, 13, 13]
    assert seen[-1] == (13, 13)


def test_a_variable_frame_rate_is_kept(find, tmp_path):
    make_video(tmp_path / "a.mp4", times=[0, 40, 100, 120, 500, 533])
    target, lines, _ = annotate(tmp_path / "a.mp4", find)
    _, times, length = read_back(target)
    assert times == pytest.approx([0, 0.04, 0.1, 0.12, 0.5, 0.533])
    assert length == pytest.approx(0.573)
    assert [line["time"] for line in lines] == times


@pytest.mark.parametrize(
    ("name", "codec", "size", "pixels"),
    [
        ("a.mp4", "libx264", (63, 47), "yuv444p"),
        ("a.mkv", "libx264", (64, 48), "yuv420p"),
        ("a.webm", "libvpx-vp9", (63, 48), "yuv420p"),
        ("a.avi", "mpeg4", (64, 47), "yuv420p"),
        ("a.mov", "libx264", (64, 48), "yuv444p"),
    ],
)
def test_other_containers_and_odd_sizes(name, codec, size, pixels, find, tmp_path):
    make_video(tmp_path / name, codec=codec, size=size, pixels=pixels)
    target, lines, summary = annotate(tmp_path / name, find)
    pictures, times, _ = read_back(target)
    assert pictures[0].shape == (size[1], size[0], 3)
    assert times == pytest.approx([0.04 * number for number in range(13)], abs=1e-3)
    assert summary.detections == 13
    assert np.abs(np.subtract(lines[3]["detections"][0]["box"], expected_box(3, *size))).max() < 2


@pytest.mark.parametrize("matrix", [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0), (-1, 0, 0, 1)])
def test_turned_videos_come_out_upright(matrix, find, tmp_path):
    (picture, *_) = make_video(tmp_path / "a.mp4", times=[0, 40], matrix=matrix)
    target, lines, _ = annotate(tmp_path / "a.mp4", find)
    shown = read_back(target)[0][0]
    turns = {(0, 1, -1, 0): -1, (-1, 0, 0, -1): 2, (0, -1, 1, 0): 1}  # a phone held upright states the first
    wanted = picture[:, ::-1] if matrix == (-1, 0, 0, 1) else np.rot90(picture, turns.get(matrix, 0))
    assert shown.shape == wanted.shape
    green, blue = ((wanted == colour).all(-1) for colour in ((20, 200, 20), (20, 20, 220)))
    assert np.median(shown[green], axis=0) == pytest.approx([20, 200, 20], abs=25)
    assert np.median(shown[blue], axis=0) == pytest.approx([20, 20, 220], abs=25)
    with av.open(str(target)) as file:
        assert next(file.decode(video=0)).rotation == 0
    rows, columns = np.nonzero((wanted == (230, 30, 30)).all(-1))
    expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert np.abs(np.subtract(lines[0]["detections"][0]["box"], expected)).max() < 1.5


def test_turning_follows_the_matrix_pixel_by_pixel():
    picture = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    for a, b, c, d in [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0), (-1, 0, 0, 1), (0, 1, 1, 0)]:
        turned = upright(picture, (a, b, c, d))
        places = [(a * x + c * y, b * x + d * y, picture[y, x]) for y in range(2) for x in range(3)]
        left, top = min(x for x, _, _ in places), min(y for _, y, _ in places)
        for x, y, pixel in places:
            np.testing.assert_array_equal(turned[y - top, x - left], pixel)


def test_colours_and_pixel_shape_are_kept(find, tmp_path):
    make_video(tmp_path / "a.mp4", colours=1, aspect=Fraction(4, 3), matrix=(0, 1, -1, 0))
    target, _, _ = annotate(tmp_path / "a.mp4", find)
    with av.open(str(target)) as file:
        assert file.streams.video[0].sample_aspect_ratio == Fraction(3, 4)
        frame = next(file.decode(video=0))
        assert frame.colorspace == 1
        assert frame.to_ndarray(format="rgb24")[40:, 45:].mean((0, 1)) == pytest.approx([20, 200, 20], abs=25)


def test_encoders_without_x264(find, tmp_path, monkeypatch):
    monkeypatch.setattr("challenges.detection.video_files.ENCODERS", ("mpeg4",))
    make_video(tmp_path / "a.ts", size=(63, 47), codec="mpeg4", container="mpegts")  # counts in 1/90,000 s
    target, _, _ = annotate(tmp_path / "a.ts", find)
    pictures, times, _ = read_back(target)
    assert pictures[0].shape == (47, 63, 3)
    assert times == pytest.approx([0.04 * number for number in range(13)], abs=1e-3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"no video at all" * 50, "damaged, cut short or of no known format"),
        (None, "no such file"),
    ],
)
def test_what_is_no_video_is_told_and_nothing_is_written(content, words, find, tmp_path):
    if content is not None:
        (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(DataError, match=words):
        annotate(tmp_path / "a.mp4", find)
    assert [path.name for path in tmp_path.iterdir()] == (["a.mp4"] if content is not None else [])


def test_sound_alone_is_no_video(find, tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    with pytest.raises(DataError, match="no moving pictures"):
        annotate(tmp_path / "a.mp4", find)


def test_an_mp4_without_its_index_is_told(find, tmp_path):
    make_video(tmp_path / "a.mp4")
    content = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="cut short"):
        annotate(tmp_path / "a.mp4", find)


def test_a_recording_that_breaks_off_gives_what_it_has(find, tmp_path):
    make_video(tmp_path / "a.mkv", times=range(0, 4000, 40))
    content = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(content[: len(content) // 2])
    _, lines, summary = annotate(tmp_path / "a.mkv", find)
    assert 20 < len(lines) < 80
    assert any("of the 4.0 s it states" in note for note in summary.notes)


def test_damage_in_the_middle_is_skipped_and_told(find, tmp_path):
    make_video(tmp_path / "a.mp4", times=range(0, 4000, 40))
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 600] = np.random.default_rng(0).bytes(600)
    (tmp_path / "a.mp4").write_bytes(content)
    target, lines, summary = annotate(tmp_path / "a.mp4", find)
    assert 50 < len(lines) <= 100
    assert "skipped" in summary.notes[0]
    assert read_back(target)[2] == pytest.approx(4.0, abs=0.05)


def test_a_clock_that_starts_again_goes_on(find, tmp_path):
    for name in ("a.ts", "b.ts"):
        make_video(tmp_path / name, times=range(0, 400, 40), container="mpegts")
    with (tmp_path / "a.ts").open("ab") as stream:
        stream.write((tmp_path / "b.ts").read_bytes())
    with VideoReader(tmp_path / "a.ts") as reader:
        times = [frame.time for frame in reader]
    assert len(times) == 20
    assert all(later > earlier for earlier, later in itertools.pairwise(times))
    assert float(times[-1]) == pytest.approx(19 * 0.04, abs=0.01)


def test_a_failure_leaves_no_file(tmp_path):
    make_video(tmp_path / "a.mp4")

    def fail(images: Tensor) -> Detections:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        annotate(tmp_path / "a.mp4", FrameDetector(fail, SQUASH, CPU))
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_large_frames_go_in_smaller_batches(tmp_path, monkeypatch):
    sizes = []

    def look(images: Tensor) -> Detections:
        sizes.append(len(images))
        return find_red(images)

    monkeypatch.setattr("challenges.detection.video.BATCH_PIXELS", 2 * 64 * 48)
    make_video(tmp_path / "a.mp4")
    annotate(tmp_path / "a.mp4", FrameDetector(look, SQUASH, CPU))
    assert sizes == [2] * 6 + [1]
    assert BATCH_PIXELS // (3840 * 2160) == 2


def test_frames_are_preprocessed_as_files_are(find, tmp_path):
    sizes = [(640, 480), (301, 299), (120, 90), (300, 300)]
    for number, size in enumerate(sizes):
        photograph(*size, seed=number).save(tmp_path / f"{number}.png")
    scenes = scenes_of(tmp_path, sizes, {}, splits=["val"] * len(sizes))
    data = SceneData(scenes, SQUASH, DataConfig(threads=1), device=CPU)
    (batch,) = data.batches_of(scenes, np.arange(len(sizes)))
    frames = [np.asarray(photograph(*size, seed=number)) for number, size in enumerate(sizes)]
    torch.testing.assert_close(find.preprocess(frames), batch["images"], atol=1e-5, rtol=0)


def test_frames_agree_with_jpeg_files(find, tmp_path):
    photograph(640, 480).save(tmp_path / "0.jpg", quality=100, subsampling=0)
    scenes = scenes_of(tmp_path, [(640, 480)], {}, splits=["val"], suffix="jpg")
    data = SceneData(scenes, SQUASH, DataConfig(threads=1), device=CPU)
    (batch,) = data.batches_of(scenes, np.arange(1))
    difference = find.preprocess([np.asarray(photograph(640, 480))]) - batch["images"]
    assert difference.abs().mean() < 0.01  # of a standard deviation: half a level of 255


def test_frames_of_different_sizes_keep_their_boxes(find):
    tables = find([moving_square(2), moving_square(5, 128, 96), np.zeros((48, 64, 3), np.uint8)])
    assert isinstance(tables, DetectionTable)
    strong = tables.select(tables.scores > 0.3)
    assert strong.images.tolist() == [0, 1]
    assert np.abs(strong.boxes[0] - expected_box(2)).max() < 1.5
    assert np.abs(strong.boxes[1] - expected_box(5, 128, 96)).max() < 1.5


def test_without_pyav_the_remedy_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(DataError, match="pip install av"):
        VideoReader(tmp_path / "a.mp4")


LISTS = {
    "ffconcat": "ffconcat version 1.0\nfile {video}\n",
    "HLS": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.5,\n{video}\n#EXT-X-ENDLIST\n",
    "DASH": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    '<Representation mimeType="video/mp4"><BaseURL>{video}</BaseURL></Representation></AdaptationSet></Period></MPD>',
    "SDP": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
    "subtitles": "1\n00:00:00,000 --> 00:00:01,000\n{video}\n\n2\n00:00:01,000 --> 00:00:02,000\nb\n",
}


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("suffix", [".mp4", ".ts", ".mkv"])
def test_a_list_of_files_under_a_videos_name_opens_none_of_them(kind, suffix, tmp_path):
    make_video(tmp_path / "neighbour.mp4")
    for target in ("neighbour.mp4", str(tmp_path / "neighbour.mp4")):
        (tmp_path / f"list{suffix}").write_text(LISTS[kind].format(video=target))
        with pytest.raises(DataError, match="cannot be read as a video"):
            VideoReader(tmp_path / f"list{suffix}")


def test_an_ffconcat_list_is_told_from_a_damaged_file(tmp_path):
    make_video(tmp_path / "neighbour.mp4")
    (tmp_path / "list.mp4").write_text(LISTS["ffconcat"].format(video="neighbour.mp4"))
    with pytest.raises(DataError, match="a playlist, a list of files or of another format"):
        VideoReader(tmp_path / "list.mp4")


@pytest.mark.parametrize(
    "name", ["http:a.mp4", "concat:b.mp4|c.mp4", "file:a.mp4", "pipe:0.mp4", "%03d.mp4", "-i.mp4", "a*?[b].mp4"]
)
def test_a_videos_name_is_only_a_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / "made.mp4")
    (tmp_path / "made.mp4").rename(tmp_path / name)
    with VideoReader(Path(name)) as reader:
        assert next(iter(reader)).pixels.shape == (48, 64, 3)


def test_a_pattern_as_a_name_opens_no_series_of_pictures(tmp_path):
    for number in range(3):
        Image.fromarray(moving_square(number)).save(tmp_path / f"{number}.png")
    with pytest.raises(DataError, match="no such file"):
        VideoReader(tmp_path / "%d.png")


def test_covers_of_music_are_no_videos(find, tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        stream = file.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        stream.disposition = 1024  # attached picture
        frame = av.VideoFrame.from_ndarray(moving_square(0), format="rgb24")
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    with pytest.raises(DataError, match="no moving pictures"):
        annotate(tmp_path / "a.mp4", find)
