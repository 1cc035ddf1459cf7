"""The Dockerfiles' steps, executed on a stand-in for NVIDIA's images."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.machine.environment import ROOT
from containers.versions import read_versions
from tests.containers.stand_in import Builder, missing_tools

VERSIONS = read_versions()
COMMIT = "0123456789abcdef0123456789abcdef01234567"
COPIED = ("pyproject.toml", "README.md", "LICENSE", ".dockerignore")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing_tools()), reason=f"not installed: {', '.join(missing_tools())}"),
    pytest.mark.skipif(
        os.name != "posix" or os.geteuid() != 0, reason="buildah's chroot isolation is run as root here"
    ),
]


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, so that a build sees no runs, environments or data."""
    folder = tmp_path_factory.mktemp("context")
    for name in ("common", "challenges", "benchmarks", "containers", "locked"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
    for name in COPIED:
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    made = Builder(tmp_path_factory.mktemp("buildah"))
    yield made
    made.clean()


def test_the_training_image_keeps_what_nvidia_built(builder, context):
    brought = {"torch": VERSIONS["PYTORCH_VERSION"], "nvidia-dali-cuda130": "2.2.0"}
    builder.make_base(VERSIONS["PYTORCH_IMAGE"], brought)
    builder.build("containers/train.Dockerfile", "train", context, COMMIT=COMMIT)
    for name, version in brought.items():
        code = f"import importlib.metadata as m; print(m.version('{name}'))"
        assert builder.inside("train", "python3", "-c", code).stdout.strip() == version
    code = "from common.machine.environment import kit_version; print(kit_version()['commit'])"
    assert builder.inside("train", "python3", "-c", code).stdout.strip() == COMMIT
    assert builder.inside("train", "id", "-u").stdout.strip() == "1000"
    assert "usage: kit" in builder.inside("train", "kit", "--help").stdout
    assert builder.inside("train", "sh", "-c", "touch runs/a && ! touch common/a").returncode == 0


def test_the_training_image_is_refused_on_a_base_without_torch(builder, context):
    builder.make_base(VERSIONS["PYTORCH_IMAGE"], {})
    with pytest.raises(AssertionError, match="has no torch"):
        builder.build("containers/train.Dockerfile", "empty", context)


def test_the_serving_image_checks_itself_and_installs_nothing(builder, context):
    builder.make_base(VERSIONS["TRITON_IMAGE"], {})
    builder.build("containers/serve.Dockerfile", "serve", context, COMMIT=COMMIT)
    answer = builder.inside("serve", "python3", "/opt/kit/containers/ready.py")
    assert answer.returncode == 1
    assert "no model in /models" in answer.stderr
    assert "tritonserver" in builder.inside("serve", "/opt/kit/containers/serve.sh").stderr  # the stand-in has none
    assert builder.inside("serve", "id", "-u").stdout.strip() == "1000"
    settings = builder.settings("serve")
    assert "ready.py" in settings
    assert COMMIT in settings
