"""Install the kit into an NGC image without changing anything the image brought along.

    python3 containers/install.py dependencies    what is missing of the kit's requirements
    python3 containers/install.py kit             the kit itself, without dependencies
    python3 containers/install.py transform       into Triton's image: what the first step of a click model imports

NVIDIA builds torch, DALI and TensorRT for the image; a package index would replace them by other builds. So these are
never asked for, what the image has is kept even where the kit would ask for something newer (and told), everything
installed becomes a constraint at its own version, and a change afterwards is an error. What is installed is of the
version and has a hash that the files in locked/ name.
"""

import argparse
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKED = ROOT / "locked"
IMAGE_BRINGS = frozenset({"torch", "nvidia-dali-cuda130", "tensorrt-cu13"})
TRANSFORM = ("numpy", "polars", "pyarrow", "pydantic")
BUILD_TOOLS = frozenset({"pip", "setuptools", "wheel"})
"""May move: they build packages and compute nothing."""
EXTRAS = ("serve", "quantize")
PIP = (sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--root-user-action=ignore")
PIP += ("--no-build-isolation",)  # isolated, a build would fetch its tools at any version
PACKAGE = re.compile(r"^[a-z0-9].*\n(?: +--hash=.*\n)*", re.IGNORECASE | re.MULTILINE)
"""Of a locked file: a package's line, and its hashes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("dependencies", "kit", "transform"))
    what = parser.parse_args().what
    before = installed()
    if what == "transform":
        install_missing(list(TRANSFORM), before)
        refuse_changes(before, installed())
        return
    if "torch" not in before:
        sys.exit(
            "The base image has no torch.\nThe kit is installed into NVIDIA's PyTorch image: containers/versions.env."
        )
    if what == "dependencies":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        install(list(locked(LOCKED / "build.txt").values()))
        install_missing(requirements(project), before)
    else:
        pip("--no-deps", "--editable", str(ROOT))
    refuse_changes(before, installed())
    tell_absent(installed())


def installed() -> dict[str, str]:
    """Every distribution of the image, by its normalised name."""
    found = ((each.metadata["Name"], each.version) for each in importlib.metadata.distributions())
    return {normalised(name): version for name, version in found if name}


def install_missing(wanted: list[str], before: dict[str, str]) -> None:
    """What the image lacks of these requirements and of theirs, in the locked versions."""
    packages = locked(LOCKED / "kit.txt")
    install(chosen(resolved(missing(wanted, before), [*pins(before), *versions(packages, before)]), packages))


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


def locked(file: Path) -> dict[str, str]:
    """Each package of a locked file: its version and the hashes of its files, as pip reads them."""
    packages: dict[str, str] = {}
    for text in PACKAGE.findall(file.read_text()):
        packages[name_of(text)] = packages.get(name_of(text), "") + text
    return packages


def versions(packages: dict[str, str], have: dict[str, str]) -> list[str]:
    """The locked versions as constraints, for packages that the image does not have."""
    heads = re.compile(r"^[a-z0-9][^\\\n]*", re.IGNORECASE | re.MULTILINE)
    return [line.strip() for name, text in packages.items() if name not in have for line in heads.findall(text)]


def resolved(wanted: list[str], constraints: list[str]) -> list[str]:
    """The names of what pip would have to install for `wanted`."""
    if not wanted:
        return []
    with tempfile.TemporaryDirectory() as folder:
        constraint, report = Path(folder, "constraints.txt"), Path(folder, "report.json")
        constraint.write_text("\n".join(constraints) + "\n")
        pip("--quiet", "--dry-run", "--report", str(report), "--constraint", str(constraint), *wanted)
        return [normalised(each["metadata"]["name"]) for each in json.loads(report.read_text())["install"]]


def chosen(names: list[str], packages: dict[str, str]) -> list[str]:
    unknown = sorted(set(names) - set(packages))
    if unknown:
        sys.exit(f"No locked file has {', '.join(unknown)}.\nEvery package needs a hash: make lock.")
    return [packages[name] for name in names]


def install(packages: list[str]) -> None:
    """Install exactly these packages of a locked file."""
    if not packages:
        return
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("".join(packages))
        file.flush()
        pip("--require-hashes", "--no-deps", "--requirement", file.name)


def pip(*arguments: str) -> None:
    """Run pip, beside the image's own constraint file where it has one."""
    environment = {**os.environ, "PIP_BREAK_SYSTEM_PACKAGES": "1"}  # the image is the environment
    subprocess.run([*PIP, *arguments], check=True, env=environment)


def refuse_changes(before: dict[str, str], after: dict[str, str]) -> None:
    may_change = BUILD_TOOLS | {"challenge-kit"}
    changed = sorted(name for name, version in before.items() if after.get(name) != version and name not in may_change)
    if changed:
        sys.exit(f"These packages of the image were changed: {', '.join(changed)}.")


def tell_absent(after: dict[str, str]) -> None:
    absent = sorted(IMAGE_BRINGS - set(after))
    if absent:
        print(f"NOT COMPLETE: the base image has no {', '.join(absent)}.", file=sys.stderr)


def name_of(requirement: str) -> str:
    return normalised(re.split(r"[\s\[<>=!~;@]", requirement.strip(), maxsplit=1)[0])


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
