"""Install the kit into an NGC image without changing anything the image brought along.

    python3 containers/install.py dependencies    what is missing of the kit's requirements
    python3 containers/install.py kit             the kit itself, without dependencies

NVIDIA builds torch, DALI and TensorRT for the image; a package index would replace them by other builds. So these are
never asked for, what the image has is kept even where the kit would ask for something newer (and told), everything
installed becomes a constraint at its own version, and a change afterwards is an error.
"""

import argparse
import importlib.metadata
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IMAGE_BRINGS = frozenset({"torch", "nvidia-dali-cuda130", "tensorrt-cu13"})
BUILD_TOOLS = frozenset({"pip", "setuptools", "wheel"})
"""May move: they build packages and compute nothing."""
EXTRAS = ("serve", "quantize")
PIP = (sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--root-user-action=ignore")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("dependencies", "kit"))
    what = parser.parse_args().what
    before = installed()
    if "torch" not in before:
        sys.exit(
            "The base image has no torch.\nThe kit is installed into NVIDIA's PyTorch image: containers/versions.env."
        )
    if what == "dependencies":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        constraints = [*pins(before), *locked(ROOT / "constraints.txt", before)]
        pip("--prefer-binary", *missing(requirements(project), before), constraints=constraints)
    else:
        pip("--no-deps", "--editable", str(ROOT), constraints=[])
    refuse_changes(before, installed())


def installed() -> dict[str, str]:
    """Every distribution of the image, by its normalised name."""
    found = ((each.metadata["Name"], each.version) for each in importlib.metadata.distributions())
    return {normalised(name): version for name, version in found if name}


def requirements(project: dict) -> list[str]:
    """The kit's requirements and those of its extras, less what the image brings."""
    extras = project.get("optional-dependencies", {})
    wanted = [*project["dependencies"], *(line for extra in EXTRAS for line in extras.get(extra, []))]
    return [line for line in wanted if name_of(line) not in IMAGE_BRINGS]


def missing(wanted: list[str], versions: dict[str, str]) -> list[str]:
    """The requirements that the image has no version of; tells where the one it has is not what the kit asks for."""
    from pip._vendor.packaging.requirements import Requirement

    for line in wanted:
        requirement = Requirement(line)
        version = versions.get(normalised(requirement.name))
        if version is not None and not requirement.specifier.contains(version, prereleases=True):
            print(f"KEPT {requirement.name} {version} of the image; the kit asks for {requirement.specifier}")
    return [line for line in wanted if name_of(line) not in versions]


def pins(versions: dict[str, str]) -> list[str]:
    return [f"{name}=={version}" for name, version in versions.items() if name not in BUILD_TOOLS]


def locked(file: Path, versions: dict[str, str]) -> list[str]:
    """The checkout's own pins, for packages that the image does not have."""
    if not file.is_file():
        return []
    lines = (line.split("#")[0].strip() for line in file.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("-") and name_of(line) not in versions]


def pip(*arguments: str, constraints: list[str]) -> None:
    """Run pip under `constraints`, beside the image's own constraint file where it has one."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(constraints) + "\n")
        file.flush()
        environment = {**os.environ, "PIP_BREAK_SYSTEM_PACKAGES": "1"}  # the image is the environment
        subprocess.run([*PIP, "--constraint", file.name, *arguments], check=True, env=environment)


def refuse_changes(before: dict[str, str], after: dict[str, str]) -> None:
    may_change = BUILD_TOOLS | {"challenge-kit"}
    changed = sorted(name for name, version in before.items() if after.get(name) != version and name not in may_change)
    if changed:
        sys.exit(f"These packages of the image were changed: {', '.join(changed)}.")
    absent = sorted(IMAGE_BRINGS - set(after))
    if absent:
        print(f"NOT COMPLETE: the base image has no {', '.join(absent)}.", file=sys.stderr)


def name_of(requirement: str) -> str:
    return normalised(re.split(r"[\s\[<>=!~;@]", requirement.strip(), maxsplit=1)[0])


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
