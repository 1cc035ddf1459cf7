"""What an installation takes is locked: every requirement, at one version, with hashes."""

import re
import subprocess
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from common.machine.environment import ROOT
from common.serving.releases import container_release
from locked.lock import APART, TENSORRT, parse, split, version_of

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FILES = {path.stem: parse(path.read_text()) for path in (ROOT / "locked").glob("*.txt")}
EXTRAS = [name for name in PROJECT["project"]["optional-dependencies"] if name not in APART]
ENVIRONMENTS = [
    {"sys_platform": platform, "platform_system": system, "platform_machine": machine, "python_full_version": python}
    for platform, system, machine in (
        ("linux", "Linux", "x86_64"),
        ("linux", "Linux", "aarch64"),
        ("darwin", "Darwin", "arm64"),
    )
    for python in ("3.11.7", "3.12.9", "3.13.2", "3.14.0")
]
LINES = [(file, line) for file, blocks in FILES.items() for block in blocks.values() for line in block.splitlines()]


def locked(environment: dict[str, str], files: list[str]) -> dict[str, str]:
    """Name -> version of what pip takes from the files on such a machine."""
    taken: dict[str, str] = {}
    for file in files:
        for block in FILES[file].values():
            for line in block.splitlines():
                if line[0].isspace():
                    continue
                requirement = Requirement(line.removesuffix("\\"))
                if requirement.marker is None or requirement.marker.evaluate({"extra": "", **environment}):
                    assert taken.setdefault(canonicalize_name(requirement.name), str(requirement.specifier)[2:])
    return taken


def asked_for(environment: dict[str, str], *extras: str) -> list[Requirement]:
    optional = PROJECT["project"]["optional-dependencies"]
    lines = [*PROJECT["project"]["dependencies"], *(line for extra in extras for line in optional[extra])]
    wanted = map(Requirement, lines)
    return [each for each in wanted if each.marker is None or each.marker.evaluate({"extra": "", **environment})]


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda each: "-".join(each.values()))
@pytest.mark.parametrize("torch", ["torch", "torch-cpu"])
def test_every_requirement_is_locked_at_a_version_that_fits(environment, torch):
    taken = locked(environment, ["build", torch, "cuda", "kit", "fbgemm-cpu", *APART])
    for requirement in asked_for(environment, *PROJECT["project"]["optional-dependencies"]):
        version = taken[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), (requirement, version)
    without_tests = locked(environment, ["build", torch, "cuda", "kit"])
    assert {canonicalize_name(each.name) for each in asked_for(environment, *EXTRAS)} <= set(without_tests)


def test_every_package_has_one_version_and_hashes():
    for file, blocks in FILES.items():
        for name, block in blocks.items():
            for part in re.split(r"\n(?=\S)", block.rstrip()):
                head, *hashes = part.split(" \\\n")
                assert re.fullmatch(r"[\w.-]+==[\w.+-]+( ; .+)?", head), (file, head)
                assert hashes, (file, name)
                assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}", each) for each in hashes), (file, name)


def test_no_package_is_in_two_files_but_torch():
    names = [name for file, blocks in FILES.items() for name in blocks if file != "torch-cpu"]
    assert len(names) == len(set(names))


def test_both_builds_of_torch_are_of_one_version():
    assert version_of(FILES["torch"]["torch"]) == version_of(FILES["torch-cpu"]["torch"])
    assert "+cpu" in FILES["torch-cpu"]["torch"]
    assert "nvidia-cudnn-cu13" in FILES["cuda"]
    assert not {name for name in FILES["kit"] if name.startswith("nvidia-cu") or name == "triton"}


def test_the_build_backend_is_pinned_as_it_is_locked():
    (backend,) = PROJECT["build-system"]["requires"]
    assert FILES["build"]["setuptools"].startswith(f"{backend} \\\n")


def test_no_file_names_an_index():
    for file, line in LINES:
        assert "://" not in line, file
        assert not line.startswith("-"), file


def test_plans_are_built_by_the_tensorrt_whose_plans_the_server_reads():
    version = container_release().tensorrt
    assert {name: version_of(block) for name, block in FILES["gpu"].items()} == dict.fromkeys(TENSORRT, version)


def test_both_builds_of_fbgemm_are_of_one_version_and_torchrec_brings_neither():
    assert version_of(FILES["fbgemm-cpu"]["fbgemm-gpu-cpu"]) == version_of(FILES["fbgemm-cuda"]["fbgemm-gpu"])
    assert "torchrec" in FILES["clicks"]
    assert not FILES["clicks"].keys() & {"fbgemm-gpu", "fbgemm-gpu-cpu", "torchmetrics"}


def test_a_lock_is_split_without_loss_or_doubles():
    torch = {"torch", "nvidia-cublas", "triton", "setuptools"}
    kit = torch | {"rich"}
    sets = {
        "build": {"setuptools"},
        "torch": torch,
        "kit": kit,
        "aws": kit | {"boto3", "urllib3"},
        "clicks": kit | {"torchrec"},
        "demo": kit | {"gradio", "urllib3"},
        "docs": kit | {"sphinx"},
        "dev": kit | {"boto3", "torchrec", "gradio", "sphinx", "urllib3", "pytest"},
    }
    files = split(dict.fromkeys(set().union(*sets.values()), "x"), sets)
    assert {file: set(content) for file, content in files.items()} == {
        "build": {"setuptools"},
        "torch": {"torch"},
        "cuda": {"nvidia-cublas", "triton"},
        "kit": {"rich", "urllib3"},
        "aws": {"boto3"},
        "clicks": {"torchrec"},
        "demo": {"gradio"},
        "docs": {"sphinx"},
        "dev": {"pytest"},
    }


@pytest.mark.parametrize("index", ["", "https://index.example/cpu"])
def test_make_installs_nothing_without_hashes(index, tmp_path):
    command = ["make", "--dry-run", f"VENV={tmp_path}/venv", f"TORCH_INDEX={index}", f"{tmp_path}/venv/ready-dev"]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert answer.returncode == 0, answer.stderr
    installs = [line for line in answer.stdout.splitlines() if "pip" in line and " install " in line]
    assert len(installs) >= 5
    for line in installs:
        only_project = line.endswith("--no-deps --no-build-isolation -e .")
        assert only_project or "--require-hashes" in line or "--dry-run" in line, line


@pytest.mark.parametrize(("visible", "installs"), [("/dev/nvidia0", True), ("", False)])
def test_make_installs_tensorrt_where_a_gpu_is_visible(visible, installs, tmp_path):
    command = ["make", "--dry-run", f"VENV={tmp_path}/venv", f"VISIBLE_GPU={visible}", f"{tmp_path}/venv/ready"]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert answer.returncode == 0, answer.stderr
    assert ("locked/gpu.txt" in answer.stdout) == installs
    assert ("/dev/nvidia0 is visible: TensorRT is installed, too." in answer.stdout) == installs
