"""What `kit serve` tells a user to type, by what a model takes."""

import os
import shlex
from pathlib import Path

import pytest

from challenges import commands
from challenges.__main__ import build_parser
from challenges.registry import find_model
from common.question import require_answerable
from common.serving.repository import ModelRepository
from common.serving.server import Ports
from common.stages.serving_stage import _run_container, example_command


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("resnet50", "kit client --model shop IMAGE --url host:1"),
        ("ssd300", "kit client --model shop IMAGE --url host:1"),
        ("bert4rec", "kit client --model shop --history ITEM ... --url host:1"),
        ("ncf", "kit client --model shop --user USER --url host:1"),
    ],
)
def test_the_example_fits_the_model(model: str, expected: str) -> None:
    challenge = find_model(model).load()
    assert example_command(challenge, "shop", "host:1") == expected
    options = build_parser().parse_args(shlex.split(expected)[1:])
    require_answerable(model, commands._question(options), challenge.served.dialogue.takes, "client")


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
