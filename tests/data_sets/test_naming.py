"""A data set's name stands where a path can: fetched first, asked about, and never before a path of that name."""

import dataclasses
import io
import os
import threading

import numpy as np
import pytest
from PIL import Image

from challenges.__main__ import main
from challenges.data_sets.naming import resolved
from challenges.data_sets.table import DATA_SETS
from common.errors import DataError
from common.terminal.console import SafeConsole
from containers.mounted import named
from tests.data_sets.conftest import packed, part_of


@pytest.fixture
def numbers(server, entry, tmp_path, monkeypatch):
    """An entry `numbers` of the table with pictures of two classes."""
    files = {}
    for number in range(12):
        stream = io.BytesIO()
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (40, 40, 3), np.uint8)).save(stream, "PNG")
        files[f"set/{'odd' if number % 2 else 'even'}/{number}.png"] = stream.getvalue()
    server.archive = packed(files)
    known = dataclasses.replace(entry, parts=(part_of(server),))
    monkeypatch.setitem(DATA_SETS, "numbers", known)
    monkeypatch.setenv("CHALLENGE_KIT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return known


def test_a_check_fetches_it_once_and_says_what_was_taken(numbers, server, capsys):
    for _ in range(2):
        assert main(["check", "numbers"]) == 0
        told = " ".join(capsys.readouterr().out.split())
        assert "numbers is the published data set of this name" in told
        assert "even" in told
    assert server.asked == [0]


def test_of_processes_that_train_together_one_fetches(numbers, server, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    waiting = threading.Thread(target=resolved, args=("numbers", SafeConsole(quiet=True)))
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    assert server.asked == []
    monkeypatch.setenv("LOCAL_RANK", "0")
    resolved("numbers", SafeConsole(quiet=True))
    waiting.join(10)
    assert not waiting.is_alive()
    assert server.asked == [0]


def test_a_path_of_that_name_wins(numbers, server, capsys):
    os.mkdir("numbers")
    assert resolved("numbers", SafeConsole()) == "numbers"
    assert "taken for the path here" in capsys.readouterr().out
    assert server.asked == []


@pytest.mark.parametrize(
    "line", [["check"], ["train", "resnet50/photos", "--data"], ["challenge", "resnet50", "--data"]]
)
def test_where_nobody_can_be_asked_nothing_is_fetched(numbers, server, capsys, monkeypatch, line):
    monkeypatch.setitem(DATA_SETS, "numbers", dataclasses.replace(numbers, must_accept=True))
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert main([*line, "numbers"]) == 2
    told = capsys.readouterr().err
    assert "Nothing is fetched before you agree." in told
    assert "kit data get numbers --accept" in told
    assert server.asked == []


@pytest.mark.parametrize(("given", "near"), [("imagenete", "imagenette"), ("Pets", "pets"), ("ml1m", "ml-1m")])
def test_a_misspelt_one_is_offered_the_nearest(numbers, given, near):
    with pytest.raises(DataError, match=f"Did you mean {near}"):
        resolved(given, SafeConsole(quiet=True))


@pytest.mark.parametrize("given", ["/nowhere/imagenete", "~/pets", "$(touch X)", "entirely-else"])
def test_what_is_no_name_stays_a_path(numbers, given):
    assert resolved(given, SafeConsole(quiet=True)) == given


def test_a_container_sees_one_that_was_fetched_and_no_other(numbers, tmp_path):
    with pytest.raises(SystemExit) as ended:
        named("numbers", os.getcwd())
    assert ended.value.code == 2
    resolved("numbers", SafeConsole(quiet=True))
    assert named("numbers", os.getcwd()) == str(tmp_path / "here" / "data" / "numbers" / "set")
    assert named("", os.getcwd()) == ""
