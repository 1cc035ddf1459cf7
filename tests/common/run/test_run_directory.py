"""A run's folder: nobody else's files, and what is damaged is named."""

import json

import pytest

from common.errors import CheckpointError, DamagedFileError
from common.run.run_directory import RunDirectory
from tests.toy import toy_recipe

DESCRIPTION = {"model": "toy", "recipe": "toy", "command": "kit train toy/toy", "data": {"fingerprint": "1"}}


@pytest.fixture
def run(tmp_path):
    made = RunDirectory(tmp_path / "run")
    with made.lock("train"):
        made.create(toy_recipe(), DESCRIPTION)
    return made


@pytest.mark.parametrize("name", ["holiday.jpg", "recipe.json", ".note.part"])
def test_a_folder_of_the_users_never_becomes_a_run(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(CheckpointError, match=r"holds files and is no run"), RunDirectory(tmp_path).lock("train"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_run_cut_off_while_it_was_made_can_be_made(tmp_path):
    run = RunDirectory(tmp_path / "run")
    with run.lock("train"):
        run.create(toy_recipe(), DESCRIPTION)
    run.run_file.unlink()
    (run.path / ".run.json.abcd1234.part").write_text("{")
    with run.lock("train"):
        run.create(toy_recipe(), DESCRIPTION)
    assert RunDirectory.open(run.path).description()["model"] == "toy"


def test_only_what_the_kits_own_writing_left_is_removed(run):
    kept = [run.path / name for name in ("film.part", ".film.part", ".film.mp4.Abcd1234.part", "data")]
    for path in kept:
        path.write_text("x")
    left = run.path / "checkpoints" / ".step-00000003.pt.ab_d1234.part"
    left.parent.mkdir()
    left.write_text("x")
    with run.lock("serve", shared=True):
        assert left.exists()
    with run.lock("train"):
        assert not left.exists()
    assert all(path.exists() for path in kept)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "\0\0\0", '{"model": 1}'])
@pytest.mark.parametrize("name", ["run", "recipe", "training", "evaluation"])
def test_a_damaged_file_is_named_with_what_to_do(run, name, content):
    getattr(run, f"{name}_file").write_text(content)
    read = {"run": run.description, "training": run.training, "evaluation": run.evaluation}
    read["recipe"] = lambda: run.recipe(type(toy_recipe()))
    with pytest.raises(DamagedFileError, match=rf"(?s){name}\.json is damaged.*(Restore|Delete) it"):
        read[name]()


def test_a_line_of_the_log_that_a_kill_cut_short_is_forgiven_and_no_other(run):
    whole = json.dumps({"kind": "train", "step": 1})
    run.metrics_file.write_text(f'{whole}\n{{"kind": "tra')
    assert len(run.metrics()) == 1
    for broken in ("{", "[]", '{"kind": "train"}', "\0\0"):
        run.metrics_file.write_text(f"{whole}\n{broken}\n{whole}\n")
        with pytest.raises(DamagedFileError, match="line 2"):
            run.metrics()


def test_missing_weights_are_told_with_the_way_to_get_them(run):
    with pytest.raises(CheckpointError, match=r"(?s)no trained weights yet.*begins anew.*Run: kit train toy/toy"):
        run.require_weights()
    run.training_file.write_text("{}")
    run.checkpoints.mkdir()
    (run.checkpoints / "step-00000004.pt").touch()
    with pytest.raises(CheckpointError, match=r"(?s)its weights are gone.*goes on from the last checkpoint"):
        run.require_weights()


def test_the_first_environment_stays_and_resumes_are_added(run):
    for device in ("cpu", "cuda", "cuda"):
        run.record_environment({"device": device}, "2026-01-01")
    assert json.loads(run.environment_file.read_text()) == {"device": "cpu"}
    lines = [json.loads(line) for line in run.resumes_file.read_text().splitlines()]
    assert lines == [{"resumed": "2026-01-01", "device": "cuda"}] * 2
