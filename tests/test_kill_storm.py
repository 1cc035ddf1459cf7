"""A run killed again and again, at any moment, ends as if nothing had happened."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from tests.common.vision.picture_files import dark_and_bright

KILLS = int(os.environ.get("KIT_TEST_KILLS", "4"))
FIELDS = [
    "--model.depth", "18", "--preprocessing.resize", "36", "--preprocessing.crop", "32",
    "--training.batch-size", "8", "--training.epochs", str(max(24, 3 * KILLS)), "--training.checkpoint-every", "3",
    "--training.checkpoint-seconds", "0",
    "--training.ema-decay", "0.9", "--mixup-alpha", "0.2", "--training.log-every", "7",
]  # fmt: skip


@pytest.fixture
def photographs(tmp_path):
    return dark_and_bright(tmp_path / "photographs", count=20, bright=120, spread=120)


def start(photographs: Path, run: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "challenges", "train", "resnet50/photos", "--data", str(photographs)]
    command += ["--device", "cpu", "--run", str(run), *FIELDS]
    environment = {**os.environ, "CHALLENGE_KIT_CACHE": str(photographs.parent / "cache"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: "subprocess.Popen[bytes]") -> None:
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors.decode()


TIMES = {"seconds", "samples_per_s", "data_wait"}


def log(run: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


def newest(run: Path) -> int:
    """The step of the newest checkpoint, 0 without one."""
    return max((int(path.stem[5:]) for path in (run / "checkpoints").glob("step-*.pt")), default=0)


def kill(process: "subprocess.Popen[bytes]", run: Path, generator: random.Random) -> bool:
    """Kill a training as it starts, or a checkpoint or two further on; whether that met it at work."""
    further = generator.choice((0, 1, 1, 4))  # steps; checkpoints come every three
    goal = newest(run) + further
    while goal > newest(run) and process.poll() is None:
        time.sleep(0.01)
    time.sleep(generator.uniform(0, 0.05 if further else 3))
    at_work = process.poll() is None
    process.kill()
    process.communicate()
    return at_work


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_like_an_uninterrupted_one(photographs, tmp_path):
    whole, storm = tmp_path / "whole", tmp_path / "storm"
    finish(start(photographs, whole))

    generator = random.Random(0)
    killed = sum(kill(start(photographs, storm), storm, generator) for _ in range(KILLS))
    resumes = (storm / "environment-resumes.jsonl").read_text().splitlines()
    finish(start(photographs, storm))

    assert killed > KILLS * 0.8
    assert len(resumes) > KILLS / 4  # the others met it before it trained
    expected, given = (safetensors.numpy.load_file(run / "weights.safetensors") for run in (whole, storm))
    assert all(np.array_equal(expected[name], given[name]) for name in expected)
    assert log(whole) == log(storm)
    assert not list(storm.rglob("*.part"))
