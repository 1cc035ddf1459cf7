"""Whose folder a repository is written into, and what is never removed."""

import multiprocessing
from pathlib import Path

import pytest

from common.errors import ServingError
from common.files import write_text
from common.serving.claim import claimed, foreign, seal


def write(folder: Path, *, name: str = "colours", sealed: bool = True) -> None:
    """A repository of one model, as the kit writes it."""
    with claimed(folder, [name]):
        write_text(folder / name / "config.pbtxt", "name")
        write_text(folder / f"{name}_model" / "1" / "model.onnx", "weights")
        if sealed:
            seal(folder)


def models(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_dir()}


@pytest.mark.parametrize("sealed", [True, False])
def test_the_kit_s_own_is_written_anew(tmp_path: Path, sealed: bool) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "absent" / "below", tmp_path / "empty"):
        write(folder, sealed=sealed)  # unsealed: as after a kill
        write(folder, name="finder")
        assert models(folder) == {"finder", "finder_model"}
        assert foreign(folder) == []


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("place", ["photo.jpg", "mine/photo.jpg", "coloursful/photo.jpg"])
def test_what_somebody_else_put_there_stays(tmp_path: Path, place: str, sealed: bool) -> None:
    write(tmp_path, sealed=sealed)
    write_text(tmp_path / place, "mine")
    with pytest.raises(ServingError, match=r"photo\.jpg") as raised:
        write(tmp_path, name="finder")
    assert str(raised.value).count("\n") == 2
    assert (tmp_path / place).read_text() == "mine"
    assert models(tmp_path) >= {"colours", "colours_model"}


def test_a_folder_of_photographs_stays(tmp_path: Path) -> None:
    for number in range(5):
        write_text(tmp_path / f"{number}.jpg", "mine")
    with pytest.raises(ServingError, match=r"0\.jpg, 1\.jpg, 2\.jpg and 2 more"):
        write(tmp_path)
    assert len(list(tmp_path.iterdir())) == 5


def test_changed_and_added_files_of_a_model_stay(tmp_path: Path) -> None:
    write(tmp_path / "changed")
    (tmp_path / "changed" / "colours" / "config.pbtxt").write_text("another delay")
    write(tmp_path / "added")
    (tmp_path / "added" / "colours" / "2").symlink_to(tmp_path / "changed")
    for folder, name in (("changed", "config.pbtxt"), ("added", "2")):
        with pytest.raises(ServingError, match=f"colours/{name}"):
            write(tmp_path / folder)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        with pytest.raises(ServingError, match="did not write"):
            write(tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"


def test_one_folder_one_server(tmp_path: Path) -> None:
    write(tmp_path)
    with claimed(tmp_path, ["colours"]):
        before = models(tmp_path)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            message = pool.apply(refused, (tmp_path,))
        assert f"Process {multiprocessing.current_process().pid} serves" in message
        assert models(tmp_path) == before
    write(tmp_path)


def refused(folder: Path) -> str:
    try:
        write(folder)
    except ServingError as error:
        return str(error)
    return ""
