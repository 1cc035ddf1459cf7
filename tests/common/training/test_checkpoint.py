"""Checkpoints: whole or absent, verified, with a fallback."""

import json
import shutil
import threading

import pytest
import torch

from common.errors import CheckpointError, TrainingError
from common.files import sha256
from common.machine.environment import kit_version
from common.training.checkpoint import FORMAT, CheckpointStore
from tests.full_disk import limited_files


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


def test_all_damaged_is_told_and_nothing_begins_anew_unasked(store, tmp_path):
    for step in (1, 2):
        store.save(step, {}).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"(?s)Every checkpoint .* is damaged: 2, 1.*delete .*checkpoints"):
        store.latest(torch.device("cpu"))
    shutil.rmtree(tmp_path / "checkpoints")  # the way out that is named
    assert store.latest(torch.device("cpu")) == (None, [])


@pytest.mark.parametrize(
    "state", [{"step": 1}, {"step": 1, "format": 99, "kit": {"version": "7.0", "commit": "abc"}}, [1]]
)
def test_a_checkpoint_of_another_version_is_told_with_both_commits(store, state):
    path = store.save(1, {})
    torch.save(state, path)
    path.with_suffix(".json").write_text(json.dumps({"sha256": sha256(path)}))
    with pytest.raises(CheckpointError, match=r"(?s)format; this|format 99; this.*commit abc.*git checkout abc"):
        store.latest(torch.device("cpu"))


def test_a_checkpoint_tells_its_format_and_commit(store):
    state = torch.load(store.save(1, {}), weights_only=True)
    assert (state["format"], state["kit"]) == (FORMAT, kit_version())


def test_a_checkpoint_without_its_sidecar_was_never_finished(store):
    store.save(1, {"step": 1})
    store.save(2, {"step": 2}).with_suffix(".json").unlink()
    assert store.steps() == [1]


def test_nothing_saved_is_no_state(store):
    assert store.latest(torch.device("cpu")) == (None, [])


def test_a_full_disk_is_told_and_leaves_older_checkpoints(store):
    store.save(1, {})
    with (
        limited_files(100_000),
        pytest.raises(TrainingError, match=r"step-00000002\.pt cannot be written: files may not"),
    ):
        store.save(2, {"weights": torch.zeros(100_000)})
    assert store.steps() == [1]
    assert [path.suffix for path in store._folder.iterdir() if path.suffix == ".part"] == []


@pytest.fixture
def slow_disk(monkeypatch):
    """The disk writes nothing until it is let go on."""
    may_write, write = threading.Event(), torch.save

    def save(state, stream):
        may_write.wait(20)
        write(state, stream)

    monkeypatch.setattr(torch, "save", save)
    yield may_write
    may_write.set()


def test_a_store_apart_writes_what_was_there_when_it_was_asked(tmp_path, slow_disk):
    store = CheckpointStore(tmp_path, keep=2, apart=True)
    weights = torch.arange(3)
    store.save(1, {"optimizers": [{"weights": weights, "betas": (0.9, 0.99)}]})
    weights.zero_()
    assert store.steps() == []
    slow_disk.set()
    store.finish()
    state, _ = store.latest(torch.device("cpu"))
    assert state["optimizers"][0]["weights"].tolist() == [0, 1, 2]
    assert state["optimizers"][0]["betas"] == (0.9, 0.99)


def test_a_store_apart_tells_of_a_full_disk_at_the_next_call(tmp_path):
    store = CheckpointStore(tmp_path, keep=2, apart=True)
    with limited_files(2000):
        store.save(1, {"weights": torch.zeros(10_000)})
        with pytest.raises(TrainingError, match="Earlier checkpoints are untouched"):
            store.save_best({"step": 1})
    store.finish()
    assert store.steps() == []
