"""One place for tags and versions, and nothing old, in any file of the checkout."""

import json
import re
import subprocess
import sys
import tomllib

import pytest

from common.machine.environment import ROOT
from common.serving import container
from containers import versions
from containers.versions import ImageRefusedError, pin, read_versions, refuse_old, unpinned_warning

VERSIONS = read_versions()
TAG = re.compile(r"(?:[\w.-]+/)+[\w-]+:v?\d[\w.+-]*(?:@sha256:\w+)?")
OWN_TAG = re.compile(r"challenge-kit/[\w-]+:(\d[\w.]*)")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def text_files() -> list:
    places = [*(ROOT / "containers").rglob("*"), *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "Makefile"]
    return [path for path in places if path.is_file() and path.suffix not in (".pyc",)]


def tags(text: str) -> set[str]:
    """Image references of foreign registries."""
    found = (match.removeprefix("docker:") for match in TAG.findall(text))
    return {name for name in found if name.startswith(("nvcr.io/", "docker.io/", "prom/", "ghcr.io/", "quay.io/"))}


def test_every_image_of_any_file_is_one_of_versions_env():
    known = {value for name, value in VERSIONS.items() if name.endswith("_IMAGE")}
    unknown = {(str(path.relative_to(ROOT)), tag) for path in text_files() for tag in tags(path.read_text()) - known}
    assert not unknown


def test_the_dockerfiles_default_to_the_pinned_images():
    for file, key in (("train", "PYTORCH_IMAGE"), ("serve", "TRITON_IMAGE")):
        text = (ROOT / "containers" / f"{file}.Dockerfile").read_text()
        assert re.search(rf"^ARG {key}={re.escape(VERSIONS[key])}\nFROM \$\{{{key}\}}( AS \w+)?$", text, re.MULTILINE)


def test_both_images_are_of_one_release_and_none_is_old():
    releases = {re.search(r":(\d\d\.\d\d)", VERSIONS[key])[1] for key in ("PYTORCH_IMAGE", "TRITON_IMAGE")}
    assert len(releases) == 1
    for key in ("PYTORCH_IMAGE", "TRITON_IMAGE"):
        refuse_old(VERSIONS[key], VERSIONS)


@pytest.mark.parametrize("tag", ["24.10-py3", "25.12-py3", "26.04-py3", "26.06-py3-sdk"])
def test_images_older_than_the_fixes_are_refused(tag):
    with pytest.raises(ImageRefusedError, match="CVE-2026-24207"):
        refuse_old(f"nvcr.io/nvidia/tritonserver:{tag}", VERSIONS)


@pytest.mark.parametrize("image", ["nvcr.io/nvidia/tritonserver", "nvcr.io/nvidia/tritonserver:latest", "ubuntu:24.04"])
def test_images_without_a_release_are_refused(image):
    with pytest.raises(ImageRefusedError, match="no monthly NGC release"):
        refuse_old(image, VERSIONS)


@pytest.mark.parametrize("tag", ["26.07-py3", "26.07-py3@sha256:0123abcd", "26.12-py3", "27.01-py3"])
def test_images_since_the_fixes_are_allowed(tag):
    refuse_old(f"nvcr.io/nvidia/tritonserver:{tag}", VERSIONS)


OLD, NEW = f"sha256:{'0' * 64}", f"sha256:{'a' * 64}"
FILES = {
    "versions.env": f"OLDEST_RELEASE=26.07\nX_IMAGE=nvcr.io/x:26.07-py3\nY_IMAGE=docker.io/y:v1@{OLD}\n",
    "x.Dockerfile": "ARG X_IMAGE=nvcr.io/x:26.07-py3\n# not nvcr.io/x:26.07-py3-sdk\nFROM ${X_IMAGE}\n",
    "kubernetes/y.yaml": f"image: docker.io/y:v1@{OLD}\n",
}


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Container files, and an empty PATH to which a test adds the tool that asks registries."""
    for name, text in FILES.items():
        (tmp_path / "containers" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "containers" / name).write_text(text)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def answering(checkout, tool: str, script: str) -> None:
    (checkout / "bin" / tool).write_text(f"#!/bin/sh\nprintf '%s\\n' \"$*\" >> {checkout}/asked\n{script}\n")
    (checkout / "bin" / tool).chmod(0o755)


@pytest.mark.parametrize(
    ("tool", "asked"),
    [
        ("docker", "buildx imagetools inspect --format {{.Manifest.Digest}} nvcr.io/x:26.07-py3"),
        ("crane", "digest nvcr.io/x:26.07-py3"),
        ("skopeo", "inspect --no-tags --format {{.Digest}} docker://nvcr.io/x:26.07-py3"),
    ],
)
def test_pinning_writes_the_digest_wherever_the_image_is_named(tool, asked, checkout):
    answering(checkout, tool, f"echo {NEW}")
    assert pin(checkout / "containers") == [f"nvcr.io/x:26.07-py3@{NEW}", f"docker.io/y:v1@{NEW}"]
    expected = {
        name: text.replace(OLD, NEW).replace("26.07-py3\n", f"26.07-py3@{NEW}\n") for name, text in FILES.items()
    }
    assert {name: (checkout / "containers" / name).read_text() for name in FILES} == expected
    assert (checkout / "asked").read_text().splitlines()[0] == asked
    pin(checkout / "containers")
    assert {name: (checkout / "containers" / name).read_text() for name in FILES} == expected


@pytest.mark.parametrize("script", ["echo unauthorized >&2; exit 1", "echo latest", "echo"])
def test_without_every_digest_nothing_is_written(script, checkout):
    answering(checkout, "crane", f'case "$*" in *y:v1) {script};; *) echo {NEW};; esac')
    with pytest.raises(ImageRefusedError, match=r"knows no digest of docker\.io/y:v1"):
        pin(checkout / "containers")
    assert {name: (checkout / "containers" / name).read_text() for name in FILES} == FILES


def test_without_a_tool_the_remedy_is_told(checkout):
    with pytest.raises(ImageRefusedError, match="docker with buildx, crane and skopeo"):
        pin(checkout / "containers")


@pytest.mark.parametrize("warning_of", [unpinned_warning, container.unpinned_warning])
def test_an_image_that_is_named_by_its_tag_alone_is_told(warning_of):
    assert "nvcr.io/x:1 is named by its tag" in warning_of("nvcr.io/x:1")
    assert warning_of(f"nvcr.io/x:1@{OLD}") == ""


def test_the_build_says_which_image_is_not_pinned():
    images = [value for name, value in VERSIONS.items() if name in ("PYTORCH_IMAGE", "TRITON_IMAGE")]
    answer = subprocess.run([sys.executable, versions.__file__, *images], capture_output=True, text=True)
    assert answer.returncode == 0
    told = [line.split()[0] for line in answer.stderr.splitlines()]
    assert told == [image for image in images if "@" not in image]


def test_the_floor_itself_cannot_be_lowered_unnoticed():
    assert VERSIONS["OLDEST_RELEASE"] >= "26.07"


def test_every_figure_has_a_source():
    text = (ROOT / "containers" / "versions.env").read_text()
    for name in VERSIONS:
        if name.endswith("_VERSION") or name == "DRIVER_FLOOR":
            line = next(number for number, line in enumerate(text.splitlines()) if line.startswith(f"{name}="))
            assert text.splitlines()[line - 1].startswith("#"), name


def test_the_images_packages_are_within_what_the_kit_asks_for():
    from packaging.requirements import Requirement

    lines = [
        *PROJECT["dependencies"],
        *PROJECT["optional-dependencies"]["gpu"],
        *PROJECT["optional-dependencies"]["serve"],
    ]
    asked = {requirement.name: requirement.specifier for requirement in map(Requirement, lines)}
    pairs = {
        "torch": "PYTORCH_VERSION",
        "nvidia-dali-cuda130": "DALI_VERSION",
        "tensorrt-cu13": "TENSORRT_VERSION",
        "onnxruntime": "ONNXRUNTIME_VERSION",
    }
    for package, key in pairs.items():
        assert asked[package].contains(VERSIONS[key], prereleases=True), (package, VERSIONS[key])


def test_the_kit_names_the_same_driver_floor():
    assert f"R{VERSIONS['DRIVER_FLOOR']}" in (ROOT / "common" / "machine" / "device.py").read_text()


def test_the_tensorrt_api_of_the_image_is_one_that_is_checked():
    """The contract tests know the names of TensorRT 10.16 and 11.4: the image's major version must be among them."""
    assert VERSIONS["TENSORRT_VERSION"].split(".")[0] in ("10", "11")


def test_manifests_name_our_images_at_the_kits_version():
    for path in text_files():
        for version in OWN_TAG.findall(path.read_text()):
            assert version == PROJECT["version"], path


def test_versions_env_reads_the_same_for_make_and_compose():
    for name, value in VERSIONS.items():
        assert re.fullmatch(r"[A-Z_]+", name)
        assert not re.search(r"[\s'\"$#]", value)


def test_the_file_is_understood_by_make():
    import shutil

    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    script = "include containers/versions.env\nall: ; @echo '$(PYTORCH_IMAGE)'\n"
    answer = subprocess.run(
        ["make", "-s", "-f", "-"], input=script, capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert json.dumps(answer.stdout.strip()) == json.dumps(VERSIONS["PYTORCH_IMAGE"])
