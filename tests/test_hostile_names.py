"""Names that a shell or make would read as orders stay names: in make, in containers, and all the way to the server."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from challenges.__main__ import main
from common.serving.payload import Payload
from common.serving.server import LocalServer
from common.serving.workspace import SAFE_PATH
from common.stages.serving_stage import served_names
from containers.mounted import command, fetched
from tests.common.serving.colours import write_repository

ROOT = Path(__file__).parents[1]
NAMES = {
    "space": "My Photos",
    "dollar": "photos$(touch X)",
    "make": "photos$(shell touch X)",
    "backtick": "photos`touch X`",
    "semicolon": "photos;touch X;",
    "quotes": "photos\"'; touch X; '\"",
    "ampersand": "photos&touch X&",
    "newline": "photos\ntouch X\n",
    "dash": "--photos",
    "long": "photos" * 40 + "0123456789",
    "letters": "Fotos für Zoë 写真",
    "separators": "photos:a,b=c%d",
}
RECORD = """
import json, sys
with open("called", "a") as log:
    print(json.dumps(sys.argv[1:]), file=log)
"""
EVERYTHING = "My $(touch X)`touch X`;touch X;'\"\n:,é"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with a hostile name of its own, whose environment writes what it is called with."""
    folder = tmp_path / EVERYTHING.replace("\n", "").replace(":", "")
    (folder / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", folder)
    shutil.copy(ROOT / "pyproject.toml", folder)
    shutil.copytree(ROOT / "containers", folder / "containers")
    python = folder / ".venv" / "bin" / "python"
    python.write_text(f"#!{sys.executable}\n{RECORD}")
    python.chmod(0o755)
    return folder


def made(checkout: Path, *arguments: str) -> list[list[str]]:
    """What `make` calls the kit with; nothing that it depends on is looked at."""
    fresh = ["-o", ".venv/ready", "-o", ".triton/payload.json"]
    result = subprocess.run(["make", "-s", *fresh, *arguments], cwd=checkout, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    calls = [json.loads(line) for line in (checkout / "called").read_text().splitlines()]
    (checkout / "called").unlink()
    assert not list(checkout.glob("X*"))
    return calls


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_make_passes_names_on_as_they_are(checkout: Path, name: str) -> None:
    challenge = ["-m", "challenges", "challenge"]
    calls = made(checkout, "challenge1", f"DATA={name}", f"RECIPE={name}", "ARGS=--device cpu")
    assert calls == [[*challenge, "resnet50", f"--data={name}", f"--recipe={name}", "--device", "cpu"]]
    (call,) = made(
        checkout, "aws-challenge1", "-o", ".venv/ready-aws", f"INSTANCE={name}", f"DATA={name}", f"NAME={name}",
        f"MAX_USD={name}", "SPOT=1", "DRY_RUN=1",
    )  # fmt: skip
    flags = [f"--instance={name}", f"--data={name}", f"--max-usd={name}", f"--name={name}", "--spot", "--dry-run"]
    assert call == ["-m", "challenges", "aws", "run", "challenge1", *flags]
    calls = made(checkout, "challenge3", f"MODEL={name}")
    assert calls == [[*challenge, *name.split()]]


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_make_benchmarks_by_names_as_they_are(checkout: Path, name: str) -> None:
    given = [f"{variable}={name}" for variable in ("MODEL", "DATA", "GPUS", "MINUTES", "LIKE", "QUICK")]
    flags = [f"--{flag}={name}" for flag in ("data", "gpus", "minutes", "like")]
    assert made(checkout, "benchmark", *given) == [
        ["-m", "challenges", "benchmark", *name.split(), *flags, "--quick"],
    ]


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_make_asks_the_index_by_its_address_as_it_is(checkout: Path, name: str) -> None:
    shutil.copytree(ROOT / "locked", checkout / "locked")
    installs = made(checkout, ".venv/torch", f"TORCH_INDEX={name}")
    assert [f"--index-url={name}"] == [part for call in installs for part in call if part.startswith("--index-url")]
    (call,) = made(checkout, "lock", "-o", ".venv/ready-dev", f"TORCH_INDEX={name}")
    assert call[1:] == [f"--torch-index={name}"]


def test_make_cleans_only_its_own_environment(checkout: Path) -> None:
    (checkout / "mine").mkdir()
    for arguments in (["VENV=mine"], []):
        subprocess.run(["make", "-s", "clean", *arguments], cwd=checkout, check=True)
    assert (checkout / "mine").is_dir()
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_container_sees_the_folder_under_its_own_name(checkout: Path, name: str) -> None:
    engine = checkout / "engine"
    shutil.copy(checkout / ".venv" / "bin" / "python", engine)
    make = ["make", "-s", "challenge1", "CONTAINER=1", "ENGINE=./engine", "GPUS=", f"DATA={name}"]
    result = subprocess.run([*make, "-o", "trainer1"], cwd=checkout, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (call,) = [json.loads(line) for line in (checkout / "called").read_text().splitlines()]
    assert call == command(
        [part for part in call if part[:7] != "--data=" and part != "--mount" and part[:9].lstrip('"') != "type=bind"],
        {"DATA": name},
        str(checkout),
    )
    assert call[-1] == f"--data={checkout}/{name}"
    assert not list(checkout.glob("X*"))


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_container_is_shown_a_copy_of_what_lies_in_s3(checkout: Path, name: str) -> None:
    engine, cache = checkout / "engine", checkout / "cache"
    shutil.copy(checkout / ".venv" / "bin" / "python", engine)
    aws = checkout.parent / "commands" / "aws"  # make would read what is in a folder's name in PATH
    aws.parent.mkdir()
    aws.write_text(f"""#!{sys.executable}
import json, pathlib, sys
if "head-object" in sys.argv:
    sys.exit(255)
pathlib.Path(sys.argv[-1]).mkdir(parents=True, exist_ok=True)
(pathlib.Path(sys.argv[-1]) / "asked").write_text(json.dumps(sys.argv[1:-1]))
""")
    aws.chmod(0o755)
    (aws.parent / "python3").symlink_to(sys.executable)  # pyenv's would put its own commands first
    make = ["make", "-s", "challenge1", "CONTAINER=1", "ENGINE=./engine", "GPUS=", f"DATA=s3://bucket/{name}"]
    environment = {**os.environ, "PATH": f"{aws.parent}:{os.environ['PATH']}", "CHALLENGE_KIT_CACHE": str(cache)}
    result = subprocess.run(
        [*make, "-o", "trainer1"], cwd=checkout, capture_output=True, text=True, env=environment
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    (call,) = [json.loads(line) for line in (checkout / "called").read_text().splitlines()]
    (asked,) = cache.rglob("asked")
    assert json.loads(asked.read_text())[-1] == f"s3://bucket/{name}"
    assert call[-1] == f"--data={asked.parent}"
    assert sum("type=bind" in part for part in call) == 2
    assert not any("s3:/" in part for part in call)
    assert not list(checkout.glob("X*"))


def test_a_container_without_the_aws_cli_says_which_bucket_and_what_to_install() -> None:
    with pytest.raises(SystemExit) as ended:
        fetched("s3://bucket/photos", {"PATH": "/nowhere"})
    assert ended.value.code == 2


def test_mounts_are_lines_of_csv() -> None:
    line = command(["sudo", "docker", "run", "--rm", "image"], {"MOUNTS": "a:b 'c d,e'"}, "/kit")
    assert line == [
        *("sudo", "docker", "run", "--mount", "type=bind,source=/kit/runs,target=/opt/kit/runs"),
        *("--mount", "type=bind,source=/kit/a:b,target=/kit/a:b,readonly"),
        *("--mount", 'type=bind,"source=/kit/c d,e","target=/kit/c d,e",readonly', "--rm", "image"),
    ]


@pytest.mark.parametrize("name", [EVERYTHING, NAMES["dash"], NAMES["long"]], ids=["everything", "dash", "long"])
def test_kit_checks_a_folder_whatever_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHALLENGE_KIT_CACHE", str(tmp_path / f"cache {name}"[:250]))
    generator = np.random.default_rng(0)
    for label in ("bright", "dark"):
        (tmp_path / name / label).mkdir(parents=True)
        for number in range(4):
            pixels = generator.integers(0, 256, (48, 64, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / label / f"{number}.png")
    assert main(["check", "--model", "resnet50", "--", name]) in (0, None)
    assert not list(tmp_path.rglob("X*"))


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_the_server_is_told_no_name_of_the_users(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    server = LocalServer(folder / "repository", Payload(folder / "triton"), folder / "log")
    with server.workspace:
        paths = [argument.partition("=")[2] for argument in server.command()[1:] if "=/" in argument]
        paths += [server.command()[0], *server.workspace.environment()["LD_LIBRARY_PATH"].split(":")]
        assert len(paths) == 5
        assert all(SAFE_PATH.fullmatch(path) for path in paths)


def test_served_names_are_plain_and_differ() -> None:
    runs = [("resnet50", Path("runs") / name) for name in NAMES.values()]
    names = served_names([*runs, ("resnet50", Path("other/My_Photos")), ("ssd300", Path("a b"))])
    assert names[0] == "My-Photos"
    assert names[-1] == "ssd300"
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,80}", name) for name in names)


SERVE = """
import sys
from pathlib import Path
sys.path.insert(0, str(Path.cwd()))
import common
assert Path(common.__file__).is_relative_to(Path.cwd())
from common.serving.payload import Payload
from common.serving.server import LocalServer
with LocalServer(Path(sys.argv[1]), Payload(Path(sys.argv[2])), Path(sys.argv[3])) as server:
    server.wait_ready(120)
"""


@pytest.mark.serving
def test_a_server_of_hostile_folders_starts(tmp_path: Path) -> None:
    """The checkout, the repository and the server's own folder all have every hostile character in their names."""
    payload = Payload(Path(os.environ.get("CHALLENGE_KIT_TRITON", ROOT / ".triton")))
    if not payload.is_installed():
        pytest.skip("no Triton server: python -m common.serving.payload")
    folder = tmp_path / EVERYTHING
    folder.mkdir()
    shutil.copytree(ROOT / "common", folder / "common")
    repository = write_repository(folder / "runs" / "serving", folder)
    (folder / ".triton").symlink_to(payload.folder)
    arguments = [str(repository.path), str(folder / ".triton"), str(folder / "log")]
    result = subprocess.run([sys.executable, "-c", SERVE, *arguments], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in folder.iterdir()) == [
        ".triton",
        *("colours.onnx", "common", "log", "runs", "slow.onnx"),
    ]
