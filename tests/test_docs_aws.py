"""docs/aws.md followed to the letter on an instance of stand-ins, and its figures held to their source."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from common.machine.environment import ROOT
from common.machine.prices import read_prices

TEXT = (ROOT / "docs" / "aws.md").read_text()
COMMANDS = re.findall(r"^```bash\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
RECORD = """
import json, os, sys
with open(os.environ["CALLED"], "a") as log:
    print(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]), file=log)
"""
FETCH = """
import pathlib
if "head-object" in sys.argv:
    sys.exit(255)
folder = pathlib.Path(sys.argv[-1])
folder.mkdir(parents=True)
(folder / "1.jpg").touch()
"""
CLONE = """
import pathlib, shutil
if sys.argv[1] == "clone":
    shutil.copytree(sys.argv[2], sys.argv[3])
"""


@pytest.fixture
def instance(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine that has Docker, a GPU and the AWS CLI by name, and a checkout to clone."""
    commands, source = tmp_path / "commands", tmp_path / "source"
    commands.mkdir()
    (source / ".venv" / "bin").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "containers", source / "containers")
    stand_ins = {
        commands / "docker": "", commands / "nvidia-smi": "", commands / "aws": FETCH, commands / "git": CLONE,
        source / ".venv" / "bin" / "python": "",
    }  # fmt: skip
    for path, more in stand_ins.items():
        path.write_text(f"#!{sys.executable}\n{RECORD}{more}")
    installed = "-o .venv/ready -o .venv/ready-aws -o .triton/payload.json"
    (commands / "make").write_text(f'#!/bin/sh\nexec {shutil.which("make")} -s {installed} "$@"\n')
    for path in (*stand_ins, commands / "make"):
        path.chmod(0o755)
    (commands / "python3").symlink_to(sys.executable)  # pyenv's would put its own commands first
    return {
        **os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "KIT": str(source),
        "CALLED": str(tmp_path / "called"), "HOME": str(tmp_path),
    }  # fmt: skip


def test_its_commands_run_on_a_fresh_instance(instance, tmp_path):
    script = "set -e\n" + "\n".join(COMMANDS).replace("/opt/dlami/nvme", str(tmp_path / "nvme"))
    answer = subprocess.run(["bash", "-c", script], env=instance, cwd=tmp_path, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    calls = [json.loads(line) for line in Path(instance["CALLED"]).read_text().splitlines()]
    photos = f"--data={tmp_path}/nvme/photos"
    assert calls[0] == ["nvidia-smi"]
    assert [call for call in calls if call[0] == "python"] == [
        ["python", "-m", "challenges", "challenge", "resnet50", photos]
    ]
    runs = [call for call in calls if call[:2] == ["docker", "run"]]
    assert runs[0][-1] == photos
    assert runs[1][-1].startswith(f"--data={tmp_path}/nvme/cache/s3/my-bucket-")
    assert all("--gpus" in call and call[call.index("--gpus") + 1] == "all" for call in runs)
    assert [call[4] for call in calls if call[:2] == ["docker", "build"]] == ["-t"] * 2
    assert not any("serve.Dockerfile" in part for call in calls for part in call)


def test_its_prices_are_those_of_the_table():
    table = read_prices()
    rows = re.findall(r"^\| ([gp][\w.-]+) \| ([^|]+) \| ([\d.]+) \| (\d+) \|", TEXT, re.MULTILINE)
    assert len(rows) == 8
    for instance, gpu, usd, vcpus in rows:
        price = table.of(instance)
        assert (price.usd_per_hour, price.vcpus) == (float(usd), int(vcpus))
        assert price.gpu.split("-")[0] in gpu
        assert gpu.startswith(str(price.num_gpus)) or price.num_gpus == 1
    assert f"Prices of {table.date}" in TEXT
