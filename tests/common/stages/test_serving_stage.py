"""What `kit serve` tells a user to type, by what a model takes."""

import os
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from challenges.__main__ import build_parser
from challenges.classification.manifest import Manifest
from challenges.commands.asked import question_of
from challenges.detection.scenes import Scenes
from challenges.recommendation.histories.histories import HistorySplit
from challenges.registry import find_model
from common.question import Question, require_answerable
from common.run.run_directory import RunDirectory
from common.serving.repository import ModelRepository
from common.serving.server import Ports
from common.stages.serving_stage import _run_container, example_command
from tests.recommendation.worlds import build_split

MODELS = ("resnet50", "ssd300", "bert4rec", "ncf", "vae_cf", "dlrm")


@pytest.mark.parametrize("model", MODELS)
def test_where_no_run_is_at_hand_the_example_fits_the_model(model: str) -> None:
    challenge = find_model(model).load()
    told = ["client", "--model", "shop", *challenge.served.dialogue.example.split(), "--url", "host:1"]
    options = build_parser().parse_args(told)
    require_answerable(model, question_of(options), challenge.served.dialogue.takes, "client")


def asked(model: str, run: RunDirectory) -> Question:
    """What the example's words ask, as the command line reads them."""
    told = example_command(find_model(model).load(), run, "shop", "host:1")
    options = build_parser().parse_args(shlex.split(told)[1:])
    assert (options.model, options.url) == ("shop", "host:1")
    return question_of(options)


def test_an_example_names_a_user_and_items_of_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = {"item_ids": np.array(["$(touch X)", "-b", "c d", "e"]), "user_ids": np.array(["-u 1", "u2"])}
    split = replace(build_split([[0, 1, 2], [1, 2]], [[3], [0]], num_items=4), **names)
    monkeypatch.setattr(HistorySplit, "read", lambda folder: split)
    assert asked("ncf", RunDirectory(tmp_path)).user == "-u 1"
    assert asked("bert4rec", RunDirectory(tmp_path)).history == ("$(touch X)", "c d")
    monkeypatch.setattr(HistorySplit, "read", lambda folder: replace(split, item_ids=np.array(["-a"] * 4)))
    assert asked("bert4rec", RunDirectory(tmp_path)).history == ("ITEM", "...")


@pytest.mark.parametrize(("model", "reader"), [("resnet50", Manifest), ("ssd300", Scenes)])
def test_an_example_names_a_picture_of_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: str, reader: type
) -> None:
    rows = SimpleNamespace(root=tmp_path / "my photos;", paths=np.array(["cat/a b.png", "c.png"]))
    monkeypatch.setattr(reader, "read", lambda path: SimpleNamespace(subset={"val": rows}.__getitem__))
    assert asked(model, RunDirectory(tmp_path)).inputs == (tmp_path / "my photos;" / "cat" / "a b.png",)


def test_a_container_is_started_as_a_program_that_ends_with_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker = tmp_path / "my $(touch X)" / "docker"
    docker.parent.mkdir()
    docker.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" > '{tmp_path}/called'\nprintf $PPID > '{tmp_path}/parent'\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(docker.parent))
    _run_container(ModelRepository(tmp_path / "a:b"), Ports(http=1, grpc=2, metrics=3))
    called = (tmp_path / "called").read_text().splitlines()
    assert called[:2] == ["run", "--rm"]
    assert f"type=bind,source={tmp_path}/a:b,target=/models,readonly" in called
    assert "tritonserver" in called
    assert int((tmp_path / "parent").read_text()) == os.getpid()  # the program took the place of what tethers it
