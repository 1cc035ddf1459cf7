"""What `kit serve` tells a user to type, by what a model takes."""

import os
from pathlib import Path

import pytest

from common.export.signature import BatchRange, Signature, TensorSpec
from common.serving.config import model_config, write_config
from common.serving.repository import ModelRepository
from common.serving.server import Ports
from common.stages.serving_stage import _run_container, example_command


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (("encoded",), "kit client IMAGE --model shop --url host:1"),
        (("history",), "kit client --model shop --history ITEM ... --url host:1"),
        (("user", "seen"), "kit client --model shop --user USER --url host:1"),
    ],
)
def test_the_example_fits_the_model(tmp_path: Path, inputs: tuple[str, ...], expected: str) -> None:
    tensors = tuple(TensorSpec(name, "int64", (1,)) for name in inputs)
    write_config(
        model_config("shop", "python", Signature(tensors, tensors, BatchRange(1, 1, 1)), "cpu"),
        tmp_path / "shop" / "config.pbtxt",
    )
    assert example_command(ModelRepository(tmp_path), "shop", "host:1") == expected


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
