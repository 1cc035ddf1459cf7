"""Videos on the page: what is counted, what is written, what is refused, and that nothing is left behind."""

import contextlib
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from challenges.detection import films
from challenges.detection.detections import DetectionTable
from challenges.detection.films import DetectorVideos, frame_counts, means_by_second
from common.errors import DataError
from common.files import read_csv
from common.language.telling import speaking
from common.playground.films import Shelf

pytest.importorskip("av", reason="videos need the extra video: pip install '.[video]'")

from tests.detection.video_maker import make_video

CLASSES = ("ant", "bee")


class Found:
    """One ant a frame that is sure, and one bee that is not."""

    batch_size = 3

    def __init__(self, lock):
        self.lock = lock

    def __call__(self, frames):
        assert self.lock.locked(), "the model is asked in turn"
        count = len(frames)
        return DetectionTable(
            np.repeat(np.arange(count), 2),
            np.tile([1, 2], count),
            np.tile(np.float32([0.9, 0.2]), count),
            np.tile(np.float32([[4, 4, 30, 30], [10, 5, 20, 40]]), (count, 1)),
        )


@pytest.fixture
def lock():
    return threading.Lock()


@pytest.fixture
def videos(lock):
    trained = SimpleNamespace(data=SimpleNamespace(scenes=SimpleNamespace(classes=CLASSES)))
    made = DetectorVideos(trained, None, None)
    made._find = Found(lock)
    return made


@pytest.fixture
def place(tmp_path):
    return Shelf(tmp_path).new()


def test_counts_follow_the_slider_and_the_model_is_not_asked_again(videos, lock, place, tmp_path):
    make_video(tmp_path / "a.mp4")  # 13 frames in half a second
    done = []
    answer = videos.annotate(tmp_path / "a.mp4", place, {"threshold": 0.5}, lock, lambda *told: done.append(told))
    videos._find = None
    assert done[-1] == (13, 13)
    assert sorted(path.name for path in place.folder.iterdir()) == ["found.csv", "found.jsonl", "found.mp4"]
    high, low = (str(videos.show(answer, {"threshold": least})) for least in (0.5, 0.15))
    assert "ant" in high
    assert "bee" not in high
    assert "bee" in low
    assert f'src="{place.address("found.mp4")}"' in high
    assert str(tmp_path) not in high
    assert "Nothing was found" in videos.show(answer, {"threshold": 0.95})
    rows = read_csv(place.folder / "found.csv", guarded=True)
    assert len(rows) == 26
    assert rows[1] == {
        "frame": "0", "time": "0.000", "class": "bee", "score": "0.2000",
        "left": "10.0", "top": "5.0", "right": "20.0", "bottom": "40.0",
    }  # fmt: skip
    with speaking("es"):
        assert "máximo simultáneo" in videos.show(answer, {"threshold": 0.5})


def test_a_cut_video_is_told_so_and_what_is_none_is_refused(videos, lock, place, tmp_path):
    make_video(tmp_path / "a.mkv", range(0, 4000, 40), container="matroska")
    whole = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    answer = videos.annotate(tmp_path / "cut.mkv", place, {"threshold": 0.5}, lock, lambda *_: None)
    assert 0 < len(answer.times) < 100
    assert answer.notes
    (tmp_path / "b.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match="cannot be read as a video"):
        videos.annotate(tmp_path / "b.mp4", place, {"threshold": 0.5}, lock, lambda *_: None)


def test_a_long_video_is_looked_at_as_far_as_is_allowed(videos, lock, place, tmp_path, monkeypatch):
    monkeypatch.setattr(films, "LONGEST", 0.19)
    make_video(tmp_path / "a.mp4")
    answer = videos.annotate(tmp_path / "a.mp4", place, {"threshold": 0.5}, lock, lambda *_: None)
    assert len(answer.times) == 5
    assert answer.notes == ("Only the first 0.19 seconds were looked at",)


def test_frames_that_would_fill_the_memory_are_refused(videos, lock, place, tmp_path, monkeypatch):
    monkeypatch.setattr(films, "MOST_PIXELS", 1000)
    make_video(tmp_path / "a.mp4")
    with pytest.raises(DataError, match="too large"):
        videos.annotate(tmp_path / "a.mp4", place, {"threshold": 0.5}, lock, lambda *_: None)


def test_counts_against_a_loop():
    lots = np.random.default_rng(0)
    images, labels = np.sort(lots.integers(0, 20, 50)), lots.integers(1, 4, 50)
    table = DetectionTable(images, labels, np.ones(50, np.float32), np.zeros((50, 4), np.float32))
    counts = frame_counts(table, 20, 3)
    for frame in range(20):
        assert counts[frame].tolist() == [int(((images == frame) & (labels == one)).sum()) for one in (1, 2, 3)]
    times = np.arange(20) / 8 + (np.arange(20) > 15) * 2  # with a second in which nothing is shown
    seconds, means = means_by_second(counts, times)
    assert seconds.tolist() == [0, 1, 4]
    np.testing.assert_allclose(means[1], counts[8:16].mean(0))


def test_the_shelf_keeps_the_newest_and_gives_out_nothing_else(tmp_path, monkeypatch):
    shelf = Shelf(tmp_path)
    (tmp_path / "secret").write_text("x")
    place = shelf.new()
    (place.folder / "a.mp4").write_bytes(b"film")
    assert shelf.find(place.token, "a.mp4").read_bytes() == b"film"
    for token, name in (
        (place.token, "../secret"),
        ("..", "secret"),
        ("", "secret"),
        (place.token, ""),
        ("x", "a.mp4"),
    ):
        assert shelf.find(token, name) is None
    for _ in range(10):
        shelf.new()
    assert len(list(tmp_path.glob("film-*"))) == 8
    monkeypatch.setattr("common.playground.films.KEPT_SECONDS", -1)
    last = shelf.new()
    (last.folder / "a").touch()
    assert shelf.find(last.token, "a") is None, "what is old is gone"
    with contextlib.suppress(FileNotFoundError):
        assert len(list(tmp_path.glob("film-*"))) == 1
