"""`kit` where the system does not play along: nobody reads, nothing can be written, what was written is damaged."""

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from challenges.__main__ import main
from challenges.classification.challenge import ClassificationChallenge
from challenges.classification.recipes import RECIPES
from challenges.recommendation.histories.demo import generate as generate_interactions
from common.challenge import Trained
from common.run.run_directory import RunDirectory
from common.stages import doctor
from tests.common.vision.picture_files import dark_and_bright
from tests.full_disk import limited_files

ROOT = Path(__file__).parents[1]
DESCRIPTION = {"model": "resnet50", "recipe": "photos", "command": "kit train resnet50/photos", "data": {"root": "x"}}


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHALLENGE_KIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def run(tmp_path):
    """A run that was made and never trained."""
    made = RunDirectory(tmp_path / "run")
    made.create(RECIPES["photos"], DESCRIPTION)
    return made


@pytest.fixture
def photographs(tmp_path):
    return dark_and_bright(tmp_path / "photographs")


def refused(capsys, *arguments):
    """The exit code and the lines on standard error of a command that must fail, at most three and no traceback."""
    code = main([str(argument) for argument in arguments])
    lines = capsys.readouterr().err.strip().splitlines()
    assert 1 <= len(lines) <= 3, lines
    assert not any("Traceback" in line or "Unexpected" in line for line in lines)
    return code, "\n".join(lines)


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        ("PYTHONUNBUFFERED= {kit} list | true", 141, ""),
        ("PYTHONUNBUFFERED=1 {kit} list | true", 141, ""),
        ("{kit} list > /dev/full", 3, "the disk is full"),
        ("PYTHONIOENCODING=ascii {kit} evaluate 'Käfer'", 2, r"K\xe4fer is not a run directory"),
        ("LC_ALL=C PYTHONUTF8=0 {kit} list", 0, ""),
    ],
)
def test_an_output_that_takes_nothing_or_no_such_letters_is_no_crash(command, code, told):
    kit = f"{sys.executable} -m challenges"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    shell = ["bash", "-c", f"{command.format(kit=kit)}; exit ${{PIPESTATUS[0]}}"]
    ended = subprocess.run(shell, env=environment, capture_output=True, text=True, encoding="utf-8", errors="replace")
    assert ended.returncode == code, ended.stderr
    assert told in ended.stderr
    for word in ("Traceback", "Unexpected", "Exception ignored"):
        assert word not in ended.stderr


@pytest.mark.parametrize("verb", ["evaluate", "export", "parity", "report", "serve"])
@pytest.mark.parametrize("content", ["", "{}", "\0\0"])
def test_a_damaged_description_is_named(run, capsys, verb, content):
    run.run_file.write_text(content)
    code, told = refused(capsys, verb, run.path)
    assert code == 2
    assert f"{run.run_file} is damaged" in told


def test_a_damaged_recipe_and_log_are_named(run, capsys):
    run.recipe_file.write_text("")
    assert refused(capsys, "evaluate", run.path)[1].startswith(f"{run.recipe_file} is damaged")
    run.metrics_file.write_text("{\n")
    assert refused(capsys, "report", run.path)[0] == 2


@pytest.mark.parametrize("verb", [("evaluate",), ("export",), ("parity",), ("predict", "x.jpg")])
def test_a_run_without_weights_names_the_command_that_makes_them(run, capsys, verb):
    code, told = refused(capsys, verb[0], run.path, *verb[1:])
    assert code == 2
    assert told.splitlines()[-1] == "Run: kit train resnet50/photos"


@pytest.mark.parametrize("missing", ["evaluation.json", "predictions.npz"])
def test_a_server_is_not_started_where_no_answers_are_there_to_hold_it_against(
    run, capsys, monkeypatch, tmp_path, missing
):
    run.weights_file.write_bytes(b"weights")
    for name in {"evaluation.json", "predictions.npz"} - {missing}:
        (run.path / name).write_bytes(b"{}")
    monkeypatch.setenv("CHALLENGE_KIT_TRITON", str(tmp_path))
    monkeypatch.setattr("common.stages.deployment.parity", lambda *_: pytest.fail("engines were compared"))
    code, told = refused(capsys, "parity", run.path)
    assert code == 2
    assert f"has not been evaluated: there is no {missing}" in told
    assert "kit evaluate" in told


@pytest.mark.parametrize("verb", [("evaluate",), ("export",), ("parity",), ("report",), ("serve",)])
def test_a_run_that_is_being_written_is_left_alone(run, capsys, verb):
    with run.lock("train"):
        code, told = refused(capsys, verb[0], run.path)
    assert code == 2
    assert f"{run.path} is held by `kit train`, process {os.getpid()} on" in told


def test_a_run_that_is_being_served_is_not_written(run, capsys):
    with run.lock("serve", shared=True):
        assert "held by `kit serve`" in refused(capsys, "report", run.path)[1]


def test_a_run_that_is_being_served_predicts_and_two_predictions_do_not_mix(run, capsys, monkeypatch):
    def predict(challenge, trained, question, output, device, console):
        code, told = refused(capsys, "predict", run.path, "y.jpg")
        assert code == 2
        assert f"{output} is held by `kit predict`" in told

    monkeypatch.setattr(ClassificationChallenge, "predict", predict)
    monkeypatch.setattr(Trained, "load", lambda challenge, run, device: None)
    run.weights_file.touch()
    with run.lock("serve", shared=True):
        assert main(["predict", str(run.path), "x.jpg"]) == 0
    with run.lock("train"):
        assert "held by `kit train`" in refused(capsys, "predict", run.path, "x.jpg")[1]


def test_a_full_disk_under_a_check_is_exit_3(photographs, tmp_path, capsys):
    with limited_files(500):
        code, told = refused(capsys, "check", "--model", "resnet50", photographs)
    assert code == 3
    assert f"{tmp_path / 'cache'}" in told
    assert "cannot be written" in told


def test_a_cache_that_is_a_file_is_told(photographs, tmp_path, capsys):
    (tmp_path / "cache").write_text("x")
    code, told = refused(capsys, "check", photographs)
    assert code == 2
    assert "CHALLENGE_KIT_CACHE" in told


def test_names_in_errors_give_the_terminal_no_orders(capsys):
    assert r"no\x1b[2J\x0awhere" in refused(capsys, "evaluate", "no\x1b[2J\nwhere")[1]


def test_a_long_name_is_told(capsys):
    assert refused(capsys, "check", "x" * 300)[0] == 2
    assert refused(capsys, "evaluate", "x" * 300)[0] == 2


@pytest.mark.parametrize("remedy", ["", "make room"])
def test_the_doctor_tells_by_its_exit_code_whether_something_must_be_mended(monkeypatch, remedy):
    monkeypatch.setattr(doctor, "_storage", lambda: [doctor.Finding("cache", "here", remedy)])
    monkeypatch.setattr(doctor, "_gpus", list)
    assert main(["doctor"]) == (2 if remedy else 0)


def test_the_doctor_sees_a_cache_that_is_a_file(tmp_path):
    (tmp_path / "cache").write_text("x")
    assert "is a file" in doctor._folder("cache", tmp_path / "cache" / "below").remedy


def test_check_picks_the_model_by_what_it_finds_and_says_so(photographs, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    ratings = generate_interactions(tmp_path / "interactions") / "ratings.csv"
    for data, expected in (
        (photographs, "model: resnet50, since it has 20 images and no annotations of boxes"),
        (ratings, "model: ncf, since it is a table"),
        (ratings.parent, "model: ncf, since it has no images, but interactions in ratings.csv"),
    ):
        assert main(["check", str(data)]) == 0
        shown = capsys.readouterr().out
        assert shown.startswith(expected)
        assert "--model" in shown.splitlines()[0]


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"annotations.json": json.dumps({"images": [], "annotations": [], "categories": []})}, "COCO's annotations"),
        ({"Annotations/0.xml": "<annotation/>"}, "1 XML files of Pascal VOC's kind"),
        ({"dark/0.txt": "0 0.5 0.5 0.1 0.1"}, "1 label files of YOLO's kind"),
    ],
)
def test_annotated_images_are_a_detectors(photographs, files, why):
    from challenges.choosing import choose_model

    for name, text in files.items():
        (photographs / name).parent.mkdir(exist_ok=True)
        (photographs / name).write_text(text)
    chosen = choose_model(photographs)
    assert (chosen.model, why in chosen.why) == ("ssd300", True)


def test_a_table_that_cannot_be_read_is_still_a_recommenders(tmp_path):
    from challenges.choosing import choose_model

    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    assert choose_model(tmp_path).model == "ncf"
    assert choose_model(tmp_path / "table.csv").model == "ncf"
    (tmp_path / "table.csv").rename(tmp_path / "table.jpeg")
    assert choose_model(tmp_path).model == "resnet50"


def test_two_checks_of_one_folder_do_not_mix(photographs, capsys):
    from common.stages.request import _check_folder
    from common.storage.run_lock import hold

    folder = _check_folder(photographs)
    folder.mkdir(parents=True)
    with contextlib.ExitStack() as held:
        held.enter_context(hold(folder, "train"))
        timer = threading.Timer(0.2, held.close)
        timer.start()
        main(["check", "--model", "resnet50", str(photographs)])
        timer.join()
    told = " ".join(capsys.readouterr().out.split())
    assert re.search(r"held by `kit train`, .*: waiting until it is done .*Manifest and quarantine list", told)


def test_a_folder_of_the_users_is_never_a_run(photographs, tmp_path, capsys):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("x")
    code, told = refused(
        capsys, "train", "resnet50/photos", "--data", photographs, "--run", mine, "--device", "cpu", "--model.depth", 18
    )
    assert code == 2
    assert "letter.txt" in told
    assert [path.name for path in mine.iterdir()] == ["letter.txt"]


def test_the_default_run_of_any_name_is_a_short_plain_folder(tmp_path):
    from types import SimpleNamespace

    from common.stages.request import default_run

    for name in ("My Photos $(touch X)", "x" * 250, "a\nb", "-rf", "写真", "a;b`c`'\""):
        request = SimpleNamespace(
            challenge=SimpleNamespace(model="resnet50"), recipe_name="photos", recipe=RECIPES["photos"], data=Path(name)
        )
        folder = default_run(request, SimpleNamespace(fingerprint="1")).name
        assert folder.isascii()
        assert len(folder) < 120
        assert set(folder) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")


def test_an_unexpected_error_keeps_its_own_exit_code(monkeypatch, capsys):
    def broken(options):
        raise KeyError("metrics")

    monkeypatch.setattr("challenges.commands.around.list", broken)
    assert main(["list"]) == 1
    assert "--debug" in capsys.readouterr().err
    with pytest.raises(KeyError):
        main(["--debug", "list"])
