"""The index: exact cosines, whole files, and only what is new embedded again."""

import numpy as np
import pytest
from PIL import Image

from challenges.classification.search import building
from challenges.classification.search import index as module
from challenges.classification.search.building import brought_up_to_date, forget_parts, pictures_in
from challenges.classification.search.embedding import normalised
from challenges.classification.search.index import PictureIndex
from challenges.classification.search.measuring import random_vectors
from common.errors import DamagedFileError, DataError
from common.files import read_json, write_json
from common.terminal.console import SafeConsole

pytest.importorskip("faiss", reason="no search without the extra similar: pip install '.[similar]'")
CONSOLE = SafeConsole(quiet=True)


class Embed:
    """A picture's vector is drawn from its bytes; which files were asked for is remembered."""

    def __init__(self):
        self.asked = []

    def __call__(self, paths):
        self.asked += [path.name for path in paths]
        return np.concatenate([random_vectors(1, 8, seed=len(path.read_bytes()) % 997) for path in paths])


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(5):
        Image.new("RGB", (8 + number, 8), (40 * number, 9, 200)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def kept(tmp_path):
    (tmp_path / "index").mkdir()
    return tmp_path / "index"


def update(embed, pictures, kept, graph="g"):
    index, told = brought_up_to_date(embed, graph, pictures_in([pictures]), kept, CONSOLE)
    index.write(kept)
    forget_parts(kept)
    return index, told


def test_reading_undoes_writing_and_neighbours_are_exact(kept):
    vectors = random_vectors(50, 16)
    written = PictureIndex("graph", tuple(f"/é,\n{row}" for row in range(50)), ((1, 2),) * 50, vectors)
    written.write(kept)
    read = PictureIndex.read(kept)
    assert (read.graph, read.paths, read.stamps) == (written.graph, written.paths, written.stamps)
    np.testing.assert_array_equal(read.vectors, vectors)
    cosines, rows = read.nearest(vectors[:3], 50)
    np.testing.assert_allclose(cosines, -np.sort(-(vectors[:3] @ vectors.T), axis=1), atol=1e-6)
    assert rows[:, 0].tolist() == [0, 1, 2]


def test_only_what_is_new_or_changed_is_embedded(pictures, kept):
    embed = Embed()
    assert update(embed, pictures, kept)[1] == {"known": 0, "embedded": 5, "left out": 0}
    Image.new("RGB", (30, 30)).save(pictures / "0.png")
    (pictures / "1.png").unlink()
    (pictures / "new.png").write_bytes((pictures / "2.png").read_bytes())
    (pictures / "bad.png").write_bytes(b"no picture")
    embed.asked.clear()
    index, told = update(embed, pictures, kept)
    assert sorted(embed.asked) == ["0.png", "new.png"]
    assert told == {"known": 3, "embedded": 2, "left out": 1}
    assert [path.rsplit("/", 1)[1] for path in index.paths] == ["0.png", "2.png", "3.png", "4.png", "new.png"]
    assert update(embed, pictures, kept, graph="another")[1]["known"] == 0, "another graph's vectors do not count"


def test_what_was_embedded_before_a_kill_is_not_again(pictures, kept, monkeypatch):
    monkeypatch.setattr(building, "PART", 2)

    class Killed(Embed):
        def __call__(self, paths):
            if len(self.asked) >= 4:
                raise KeyboardInterrupt
            return super().__call__(paths)

    with pytest.raises(KeyboardInterrupt):
        update(Killed(), pictures, kept)
    embed = Embed()
    assert update(embed, pictures, kept)[1] == {"known": 4, "embedded": 1, "left out": 0}
    assert embed.asked == ["4.png"]
    assert not list(kept.glob("part-*"))


def test_a_changed_file_is_told(pictures, kept):
    update(Embed(), pictures, kept)
    with (kept / "vectors.npy").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(DamagedFileError):
        PictureIndex.read(kept)


def test_what_another_version_wrote_is_made_anew(pictures, kept):
    update(Embed(), pictures, kept)
    record = read_json(kept / "index.json")
    write_json(kept / "index.json", record | {"format": 1})
    assert update(Embed(), pictures, kept)[1]["known"] == 0


def test_many_vectors_are_searched_in_cells_and_in_parts_that_fit(kept, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 700)
    centres = random_vectors(40, 16)
    noise = np.random.default_rng(1).standard_normal((3_000, 16)) * 0.05
    vectors = normalised(centres[np.arange(3_000) % 40] + noise)
    names = tuple(f"{row:05}" for row in range(3_000))
    written = PictureIndex("graph", names, ((1, 2),) * 3_000, vectors)
    expected = np.argsort(-(vectors[:50] @ vectors.T), axis=1, kind="stable")[:, :10]
    for large, exact in ((10_000, True), (1_000, False)):
        monkeypatch.setattr(module, "LARGE", large)
        written.write(kept)
        index = PictureIndex.read(kept)
        assert (kept / "cells.faiss").is_file() != exact
        cosines, rows = index.nearest(vectors[:50], 10)
        np.testing.assert_allclose(cosines, np.take_along_axis(vectors[:50] @ vectors.T, rows, 1), atol=1e-6)
        recall = np.mean([len({*mine} & {*theirs}) / 10 for mine, theirs in zip(rows, expected, strict=True)])
        assert recall == 1 if exact else recall > 0.95
        assert rows[:, 0].tolist() == list(range(50))
        assert index.nearest(vectors[:2], 5_000)[1].shape == (2, 3_000), "more than a few cells hold"


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(DataError, match="no image"):
        pictures_in([tmp_path])
