"""Files that are as they were are not opened again, and what is told of them is the same."""

import os
from pathlib import Path

import pytest

from common.vision import image_folders, kept_probes
from common.vision.image_folders import probe_listed
from common.vision.images import probe_all
from tests.common.vision.picture_files import broken_files, sound_files


@pytest.fixture
def root(tmp_path):
    """A folder of every kind of file that can be used."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name, (content, _) in sound_files().items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def opened(monkeypatch):
    """Names of the files that were opened since this was last cleared."""
    names: list[str] = []

    def counted(paths, *others):
        names.extend(sorted(path.name for path in paths))
        return probe_all(paths, *others)

    monkeypatch.setattr(image_folders, "probe_all", counted)
    return names


def probed(root: Path, output: Path):
    return probe_listed(root, [path.name for path in root.iterdir()], 0, lambda done, total: None, output)


def test_only_new_changed_and_broken_files_are_opened_and_all_is_told_as_before(root, tmp_path, opened):
    output, sound, broken = tmp_path / "out", [path.name for path in root.iterdir()], broken_files()
    for name, (content, _) in broken.items():
        (root / name).write_bytes(content)
    first = probed(root, output)
    assert {*opened} == {*sound, *broken}
    opened.clear()
    assert probed(root, output) == first
    assert {*opened} == {*broken}

    os.utime(root / "plain.jpg", ns=(1, 1))
    (root / "new.jpg").write_bytes((root / "plain.jpg").read_bytes())
    (root / "upper.JPEG").unlink()
    opened.clear()
    assert {*probed(root, output)[0]} == {*first[0], "new.jpg"} - {"upper.JPEG"}
    assert {*opened} == {"plain.jpg", "new.jpg", *broken}


def test_an_interrupted_check_goes_on(root, tmp_path, opened):
    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        probe_listed(root, [path.name for path in root.iterdir()], 0, stop, tmp_path / "out")
    opened.clear()
    assert len(probed(root, tmp_path / "out")[0]) == len(list(root.iterdir()))
    assert len(opened) == len(list(root.iterdir())) - 4  # the fifth was told, and not yet taken


@pytest.mark.parametrize("harm", ["damaged", "others"])
def test_what_cannot_be_believed_is_not(root, tmp_path, opened, monkeypatch, harm):
    output = tmp_path / "out"
    first = probed(root, output)
    if harm == "damaged":
        (output / kept_probes.FILE).write_bytes(b"PAR1 cut")
    else:
        monkeypatch.setattr(kept_probes, "SCHEMA", kept_probes.SCHEMA.with_metadata({"made by": b"another decoder"}))
    opened.clear()
    assert probed(root, output) == first
    assert len(opened) == len(list(root.iterdir()))
