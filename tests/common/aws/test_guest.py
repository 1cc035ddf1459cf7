"""A run on instances that are interrupted ends as an uninterrupted one, and leaves nothing but its result."""

import base64
import json
import os
import random
import re
import subprocess
import sys
import textwrap
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from moto.server import ThreadedMotoServer
from rich.console import Console

from common.aws import launch, resources, runs
from common.aws.lookup import make_plan
from common.aws.plan import Order
from common.machine.environment import ROOT
from common.machine.prices import read_prices
from common.storage.cloud import Cloud
from common.storage.s3 import restore
from tests.common.aws.conftest import ACCOUNT, add_image, made
from tests.common.aws.sandbox import metadata, start
from tests.common.vision.picture_files import dark_and_bright

pytestmark = pytest.mark.slow
QUIET = Console(quiet=True)
BUCKET = f"kit-{ACCOUNT}-us-east-1"
INTERRUPTIONS = int(os.environ.get("KIT_TEST_INTERRUPTIONS", "2"))
FAKE = """
import json, pathlib, signal, sys, time
folder = pathlib.Path("runs/fake/checkpoints")
folder.mkdir(parents=True, exist_ok=True)
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
newest = max((int(path.stem[5:]) for path in folder.glob("step-*.json")), default=0)
state = int((folder / f"step-{newest}.pt").read_text()) if newest else 1
for step in range(newest + 1, 41):
    state = state * 6364136223846793005 % 2**64 + step
    time.sleep(0.1)
    if step % 3 == 0 or asked or step == 40:
        for name, text in ((f"step-{step}.pt", str(state)), (f"step-{step}.json", "{}")):
            (folder / f"{name}.part").write_text(text)
            (folder / f"{name}.part").rename(folder / name)
        for old in sorted(folder.glob("step-*.json"), key=lambda path: int(path.stem[5:]))[:-2]:
            old.unlink()
            old.with_suffix(".pt").unlink()
        print("step", step, flush=True)
    if asked:
        sys.exit(143)
pathlib.Path("runs/fake/weights").write_text(str(state))
"""


@pytest.fixture
def served(credentials, monkeypatch):
    """moto behind a port, so that other processes ask it too."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))))
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST"))
    add_image()
    yield Cloud("us-east-1")
    server.stop()


def launched(cloud: Cloud, name: str = "photos", **fields: Any) -> str:
    """User data of a run that is launched."""
    table = read_prices()
    order = Order(target="challenge1", instances=("g6e.xlarge",), given_name=name)
    plan = make_plan(cloud, replace(order, **fields), table, table.date)
    launch.launch(cloud, plan, QUIET)
    answer = cloud.ask(
        "ec2", "describe_launch_template_versions", LaunchTemplateName=f"kit-{name}", Versions=["$Latest"]
    )
    return answer["LaunchTemplateVersions"][0]["LaunchTemplateData"]["UserData"]


def until(condition, seconds=240.0):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.1)


def finish(process, folder):
    assert process.wait(300) == 0, (folder / "output").read_text()
    log = folder / "disk" / "log.txt"
    return log.read_text() if log.is_file() else ""


def interrupted(user_data, folder, service, command, moment) -> str:
    """Run an instance, announce its end at a moment, wait until it left; returns its log."""
    service.notice = None
    process = start(user_data, folder, service, command=command)
    moment(folder / "disk", process)
    service.notice = "spot/instance-action"
    log = finish(process, folder)
    service.notice = None
    assert (folder / "off").read_text().splitlines()[-1] == "now"
    return log


def random_moment(generator: random.Random):
    """As the instance starts, or some time after its first step."""
    pause, starts = generator.uniform(0, 3), generator.random() < 0.5

    def moment(disk: Path, process) -> None:
        if not starts:
            a_step(disk, process)
        time.sleep(pause)

    return moment


def a_step(disk: Path, process) -> None:
    until(lambda: process.poll() is not None or list(disk.glob("code/runs/*/checkpoints/step-*.json")))


def run_down(cloud: Cloud, tmp_path: Path, name: str = "photos") -> Path:
    """What the laptop does when a run is over; returns the result."""
    assert launch.follow(cloud, name, QUIET, wait=lambda _: pytest.fail("it is over"))["state"] == "done"
    group = resources.find_group(cloud, name)
    assert (group["MaxSize"], group["DesiredCapacity"]) == (0, 0)
    target = tmp_path / "result"
    assert restore(cloud, BUCKET, f"runs/{name}", target)
    runs.take_down(cloud, runs.find_run(cloud, name, QUIET), QUIET)
    runs.sweep(cloud, ["us-east-1"], QUIET)
    assert runs.find_runs(cloud, QUIET) == []
    assert list(made()) == ["buckets"]
    return target


def test_a_training_that_is_interrupted_ends_with_the_weights_of_one_that_is_not(served, tmp_path, monkeypatch):
    photographs = dark_and_bright(tmp_path / "photographs", count=20, bright=120, spread=120)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    fields = [
        "--model.depth", "18", "--preprocessing.resize", "36", "--preprocessing.crop", "32",
        "--training.batch-size", "8", "--training.epochs", "5", "--training.checkpoint-every", "3",
        "--training.checkpoint-seconds", "0",
    ]  # fmt: skip
    command = [sys.executable, "-m", "challenges", "train", "resnet50/photos", "--data", str(photographs)]
    command += ["--device", "cpu", "--run", "runs/photos", *fields]
    user_data = launched(served)
    with metadata() as service:
        log = interrupted(user_data, tmp_path / "first", service, command, a_step)
        assert "leaving: spot/instance-action" in log
        assert resources.find_group(served, "photos")["DesiredCapacity"] == 1  # so that AWS replaces the instance
        assert launch.state(served, "photos")["state"] == "interrupted"
        resumed = finish(start(user_data, tmp_path / "second", service, command=command), tmp_path / "second")
        assert ": done" in resumed
    sent = {
        **os.environ,
        "PYTHONPATH": str(tmp_path / "second" / "disk" / "code"),
    }  # the commit, whatever is edited here
    subprocess.run(command, cwd=tmp_path, env=sent, check=True, capture_output=True)
    result = run_down(served, tmp_path)
    expected = safetensors.numpy.load_file(tmp_path / "runs" / "photos" / "weights.safetensors")
    given = safetensors.numpy.load_file(result / "photos" / "weights.safetensors")
    assert all(np.array_equal(expected[name], given[name]) for name in expected)
    assert (result / "photos" / "environment-resumes.jsonl").is_file()


def test_a_run_survives_interruptions_at_any_moment(served, tmp_path):
    script = tmp_path / "fake.py"
    script.write_text(textwrap.dedent(FAKE))
    command, generator = [sys.executable, str(script)], random.Random(0)
    user_data = launched(served)
    with metadata() as service:
        for number in range(INTERRUPTIONS):
            folder, service.number = tmp_path / str(number), f"i-{number:017x}"
            interrupted(user_data, folder, service, command, random_moment(generator))
            if launch.state(served, "photos")["state"] == "done":
                break
        service.notice = None
        finish(start(user_data, tmp_path / "last", service, command=command), tmp_path / "last")
    state = 1
    for step in range(1, 41):
        state = state * 6364136223846793005 % 2**64 + step
    assert (run_down(served, tmp_path) / "fake" / "weights").read_text() == str(state)
    rows = list(served.listed("s3", "list_objects_v2", "Contents", Bucket=BUCKET, Prefix="runs/photos/blobs/"))
    assert len(rows) < 20  # what two lists name, and no more


@pytest.mark.parametrize(("ending", "expected"), [("exit 3", "failed"), ("sleep 60", "out of time")])
def test_a_run_that_fails_or_overstays_empties_its_group(ending, expected, served, tmp_path):
    user_data = launched(served)
    ends = int(time.time()) + (3600 if expected == "failed" else 12)
    with metadata() as service:
        process = start(user_data, tmp_path / "a", service, command=["sh", "-c", ending], ends=ends, closing=2)
        log = finish(process, tmp_path / "a")
        assert launch.state(served, "photos")["state"] == expected
        assert resources.find_group(served, "photos")["MaxSize"] == 0
        assert (tmp_path / "a" / "off").read_text().splitlines()[-1] == "now"
        if expected == "failed":
            assert log.count("the command failed") == 2
            again = finish(start(user_data, tmp_path / "b", service, command=["sh", "-c", "touch ran"]), tmp_path / "b")
            assert "failed" in again
            assert not (tmp_path / "b" / "disk" / "code").exists()  # it is over: nothing is fetched or run again


def test_a_benchmark_that_failed_in_part_is_not_made_again_and_its_records_are_kept(served, tmp_path):
    """And data of S3 comes to where the command is told that it is."""
    served.ask("s3", "create_bucket", Bucket="photos-1")
    for key in ("set/cats/1 é.jpg", "set/2.jpg", "settled/3.jpg"):
        served.ask("s3", "put_object", Bucket="photos-1", Key=key, Body=key.encode())
    user_data = launched(served, target="benchmark", measures=True, data="s3://photos-1/set")
    told = json.loads(re.search(r"^CONFIG = '(.*)'$", base64.b64decode(user_data).decode(), re.MULTILINE)[1])
    assert "DATA=/kit/data/set" in told["command"]
    with metadata() as service:
        command = ["sh", "-c", "mkdir -p runs/benchmark; cp -r ../data/set runs/benchmark/results; exit 1"]
        log = finish(start(user_data, tmp_path / "a", service, command=command), tmp_path / "a")
    assert launch.state(served, "photos")["state"] == "failed"
    assert "once more" not in log
    assert restore(served, BUCKET, "runs/photos", tmp_path / "result") == 2
    results = tmp_path / "result" / "benchmark" / "results"
    assert (results / "cats" / "1 é.jpg").read_text() == "set/cats/1 é.jpg"
    assert (results / "2.jpg").read_text() == "set/2.jpg"


def test_a_checkpoint_that_s3_damages_is_not_trained_on(served, tmp_path):
    script = tmp_path / "fake.py"
    script.write_text(textwrap.dedent(FAKE))
    user_data = launched(served)
    with metadata() as service:
        interrupted(user_data, tmp_path / "a", service, [sys.executable, str(script)], a_step)
        kept = json.loads(served.ask("s3", "get_object", Bucket=BUCKET, Key="runs/photos/latest.json")["Body"].read())
        listed = served.ask("s3", "get_object", Bucket=BUCKET, Key=f"runs/photos/{kept['manifest']}")["Body"].read()
        mark = next(iter(json.loads(listed).values()))["sha256"]
        served.ask("s3", "put_object", Bucket=BUCKET, Key=f"runs/photos/blobs/{mark}", Body=b"damaged")
        process = start(user_data, tmp_path / "b", service, command=["touch", "ran"], pauses=[0.1, 0])
        assert "came back damaged from S3" in finish(process, tmp_path / "b")
    assert not (tmp_path / "b" / "disk" / "code" / "ran").exists()
    assert (
        json.loads(served.ask("s3", "get_object", Bucket=BUCKET, Key="runs/photos/latest.json")["Body"].read()) == kept
    )
