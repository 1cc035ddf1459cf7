"""A generated folder that a user put something into is not replaced; a lost process is told as what it is."""

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from common.errors import DataError, TrainingError
from common.storage.generated_folder import generate_folder, make_files


def generated(folder, version):
    def fill(fresh):
        fresh.mkdir()
        (fresh / "picture.jpg").write_text(version)
        (fresh / "demo.json").write_text(version)

    def is_whole():
        return (folder / "demo.json").is_file() and (folder / "demo.json").read_text() == version

    return generate_folder(folder, "demo.json", "demo pictures", 1, is_whole, fill)


def test_another_version_replaces_what_was_generated(tmp_path):
    folder = generated(tmp_path / "demo", "1")
    (folder / "picture.jpg").write_text("damaged")
    generated(folder, "2")
    assert (folder / "picture.jpg").read_text() == "2"
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_what_a_user_added_is_kept(tmp_path):
    folder = generated(tmp_path / "demo", "1")
    (folder / "mine.jpg").write_text("mine")
    with pytest.raises(DataError, match=r"mine\.jpg"):
        generated(folder, "2")
    assert (folder / "mine.jpg").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


@dataclass(frozen=True)
class Order:
    file: Path


def killed(order: Order) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_lost_process_is_no_full_disk(tmp_path):
    counter = contextlib.nullcontext(lambda done, of: None)
    with pytest.raises(TrainingError, match=r"made 1\.jpg ended with code -9") as told:
        make_files(killed, [Order(tmp_path / "made" / "1.jpg")], 1, counter)
    assert "memory" in str(told.value)
    assert "space" not in str(told.value)
