"""What the system refuses becomes an error of the kit: really provoked where a test can."""

import errno
import io

import numpy as np
import pytest
import torch

from common.errors import DamagedFileError, KitError, TrainingError
from common.failures import explain
from common.files import atomic_writer, cache_folder, read_json, write_text
from tests.full_disk import limited_files


def provoked(action, *arguments):
    try:
        action(*arguments)
    except Exception as error:
        return explain(error)
    raise AssertionError("nothing was refused")


def save(path):
    with atomic_writer(path) as stream:
        torch.save({"weights": torch.zeros(100_000)}, stream)


@pytest.mark.parametrize("write", [lambda path: write_text(path, "x" * 100_000), save], ids=["text", "torch"])
def test_a_full_disk_is_exit_3_and_names_the_file(tmp_path, write):
    with limited_files(50_000):
        known = provoked(write, tmp_path / "weights.pt")
    assert known.exit_code == 3
    assert str(tmp_path / "weights.pt") in known.given
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_space_is_told():
    assert "the disk is full" in explain(OSError(errno.ENOSPC, "No space left on device")).given


def test_a_path_through_a_file_and_a_cache_that_is_one_are_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    assert "is a file and no folder" in provoked(write_text, tmp_path / "file" / "below" / "x.txt", "x").given
    monkeypatch.setenv("CHALLENGE_KIT_CACHE", str(tmp_path / "file"))
    known = provoked((cache_folder() / "checks").mkdir)
    assert "CHALLENGE_KIT_CACHE" in known.remedy


def test_a_long_name_is_told(tmp_path):
    assert "too long" in provoked(write_text, tmp_path / ("x" * 300), "x").given


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_closed_folder_is_exit_2(code):
    known = explain(OSError(code, "refused", "/closed/run.json"))
    assert known.exit_code == 2
    assert known.given.startswith("/closed/run.json cannot be")


@pytest.mark.parametrize(
    "error",
    [
        lambda: torch.empty(10**15),
        lambda: bytearray(10**17),
        lambda: (_ for _ in ()).throw(torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")),
        lambda: (_ for _ in ()).throw(OSError(errno.ENOMEM, "Cannot allocate memory")),
    ],
    ids=["torch", "python", "cuda", "system"],
)
def test_too_little_memory_is_exit_3_with_what_to_lower(error):
    known = provoked(lambda: next(made) if hasattr(made := error(), "__next__") else made)
    assert isinstance(known, TrainingError)
    assert "too little memory" in known.given
    assert "--training.micro-batch" in known.remedy


def test_an_empty_json_file_is_named(tmp_path):
    (tmp_path / "x.json").touch()
    with pytest.raises(DamagedFileError, match=r"x\.json is damaged"):
        read_json(tmp_path / "x.json")


def test_a_user_without_a_home_is_told(monkeypatch):
    def homeless(cls):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("CHALLENGE_KIT_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pathlib.Path.home", classmethod(homeless))
    with pytest.raises(KitError, match="CHALLENGE_KIT_CACHE"):
        cache_folder()


def test_a_name_that_is_no_text_is_told():
    assert "Rename it" in provoked(io.TextIOWrapper(io.BytesIO(), encoding="utf-8").write, "caf\udce9.jpg").remedy


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off"])
def test_damaged_predictions_are_told(content):
    assert "evaluate the run again" in provoked(np.load, io.BytesIO(content)).remedy


def test_a_mistake_of_the_kits_own_stays_one():
    assert explain(KeyError("metrics")) is None
    assert explain(RuntimeError("shapes differ")) is None
