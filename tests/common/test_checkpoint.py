"""Checkpoints: whole or absent, verified, with a fallback."""

import os

import pytest
import torch

from common.checkpoint import CheckpointStore
from common.errors import TrainingError


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "checkpoints", keep=2)


def test_what_was_saved_is_read_back(store):
    store.save(5, {"step": 5, "weights": torch.arange(3)})
    state, complaints = store.latest(torch.device("cpu"))
    assert state["step"] == 5
    assert torch.equal(state["weights"], torch.arange(3))
    assert complaints == []


def test_only_the_newest_are_kept(store, tmp_path):
    for step in (1, 2, 3, 10):
        store.save(step, {"step": step})
    assert store.steps() == [10, 3]
    assert len(list((tmp_path / "checkpoints").iterdir())) == 4  # two files each


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_newest_checkpoint_falls_back_and_says_so(store, tmp_path, damage):
    store.save(1, {"step": 1})
    path = store.save(2, {"step": 2})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"flip": content, "cut": content[:-20], "empty": b""}[damage])
    state, complaints = store.latest(torch.device("cpu"))
    assert state["step"] == 1
    assert len(complaints) == 1
    assert path.name in complaints[0]


def test_a_checkpoint_without_its_sidecar_was_never_finished(store):
    store.save(1, {"step": 1})
    store.save(2, {"step": 2}).with_suffix(".json").unlink()
    assert store.steps() == [1]


def test_nothing_saved_is_no_state(store):
    assert store.latest(torch.device("cpu")) == (None, [])


def test_a_full_disk_is_told_and_leaves_older_checkpoints(store, monkeypatch):
    store.save(1, {"step": 1})

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(TrainingError, match="the disk is full"):
        store.save(2, {"step": 2})
    assert store.steps() == [1]
    assert [path.suffix for path in store._folder.iterdir() if path.suffix == ".part"] == []
