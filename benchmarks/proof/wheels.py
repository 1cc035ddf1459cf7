"""What a bare machine with torch lacks for the proofs with pictures, packed to be carried there in pieces.

    python -m benchmarks.proof.wheels FOLDER [--python 3.12] [--piece-mib 56]

The versions and hashes are those of locked/kit.txt. Wheels are stripped of what other Pythons and C programs use and
packed as one archive, which is cut into pieces. There, in the checkout:

    cat FOLDER/wheels.tar.xz.* > wheels.tar.xz && python3 -m tarfile -e wheels.tar.xz wheels
    PYTHONPATH=$PWD/wheels bash benchmarks/proof/prove_gpu.sh
"""

import argparse
import hashlib
import importlib.metadata
import io
import lzma
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCKED = Path(__file__).resolve().parents[2] / "locked" / "kit.txt"
BLOCK = re.compile(r"^([a-z0-9][\w.-]*)==.*\n(?: +--hash=.*\n)*", re.IGNORECASE | re.MULTILINE)
ROOTS = (
    "nvidia-dali-cuda130", "nvidia-ml-py", "nvtx", "pillow", "psutil", "rich", "tyro", "pydantic", "jinja2",
    "jsonschema", "matplotlib", "safetensors", "tensorboard", "faster-coco-eval",
)  # fmt: skip
"""What the walk and the parts with pictures import; the packages that these need come with them."""
THERE = ("torch", "numpy", "setuptools")
"""What the machine has: torch needs the others, too."""
GLIBC = (17, 24, 26, 27, 28, 31, 34)  # minor versions of glibc 2 that wheels are made for, up to Ubuntu 22.04's
BUILT_FOR = re.compile(r"\.cpython-(\d+t?)-")
LEFT_BEHIND = re.compile(r"(^|/)(include|tests?|__pycache__)/|\.(a|h|pyi)$")
PIECE_MIB = 56
PRESET = 1  # of xz: half the time of the usual one, and 5 % more bytes of DALI's library


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for the pieces, new or without any")
    parser.add_argument("--python", default=f"3.{sys.version_info.minor}", help="of the other machine, such as 3.12")
    parser.add_argument("--piece-mib", type=int, default=PIECE_MIB, help="the most that a piece weighs")
    options: Any = parser.parse_args(arguments)
    if not re.fullmatch(r"3\.\d+", options.python) or options.piece_mib < 1:
        parser.error("--python is such as 3.12, and --piece-mib starts at 1")
    if any(options.folder.glob("wheels.tar.xz.*")):
        parser.error(f"{options.folder} holds pieces already: name another folder")
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        wheels = download(locked(needed(ROOTS)), options.python, Path(scratch))
        whole = Path(scratch) / "wheels.tar.xz"
        pack(wheels, options.python, whole)
        pieces = cut(whole, options.piece_mib * 2**20, options.folder)
        for wheel in wheels:
            print(f"{wheel.stat().st_size / 2**20:8.1f} MiB  {wheel.name}")
    for piece in pieces:
        print(
            f"{piece.stat().st_size / 2**20:8.1f} MiB  {piece}  sha256 {hashlib.sha256(piece.read_bytes()).hexdigest()}"
        )


def needed(roots: Iterable[str]) -> set[str]:
    """The roots and whatever they need, by the records of what is installed here, but for what is there."""
    found: set[tuple[str, str]] = set()
    left = [Requirement(root) for root in roots]
    while left:
        requirement = left.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if name in THERE or (name, extra) in found:
                continue
            found.add((name, extra))
            asked = (Requirement(line) for line in importlib.metadata.requires(name) or ())
            left += [one for one in asked if one.marker is None or one.marker.evaluate({"extra": extra})]
    return {name for name, _ in found}


def locked(names: set[str]) -> str:
    """Their lines of the locked file; raises KeyError for a package that it does not have."""
    blocks: dict[str, str] = {canonicalize_name(block[1]): block[0] for block in BLOCK.finditer(LOCKED.read_text())}
    return "".join(blocks[name] for name in sorted(names))


def download(requirements: str, python: str, folder: Path) -> list[Path]:
    """The wheels that pip finds for that Python on Linux, each with one of its locked hashes."""
    asked = folder / "requirements.txt"
    asked.write_text(requirements)
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in GLIBC]
    subprocess.run(
        [
            sys.executable, "-m", "pip", "download", "-q", "--require-hashes", "--no-deps", "--only-binary=:all:",
            f"--python-version={python}", "--platform=manylinux2014_x86_64", *platforms, "--dest", str(folder),
            "-r", str(asked),
        ],
        check=True,
    )  # fmt: skip
    return sorted(folder.glob("*.whl"))


def is_wanted(member: str, python: str) -> bool:
    """Whether a wheel's file is of use to that Python there."""
    built = BUILT_FOR.search(member)
    if built and built[1] != python.replace(".", ""):
        return False
    return not LEFT_BEHIND.search(member) and not member.endswith("/")


def pack(wheels: Iterable[Path], python: str, archive: Path) -> None:
    """Write what is wanted of the wheels as one archive."""
    seen: set[str] = set()
    with lzma.open(archive, "wb", preset=PRESET) as stream, tarfile.open(fileobj=stream, mode="w|") as tar:
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as files:
                for member in files.infolist():
                    if is_wanted(member.filename, python) and member.filename not in seen:
                        seen.add(member.filename)  # of nvidia/__init__.py every wheel of NVIDIA's brings the same
                        entry = tarfile.TarInfo(member.filename)
                        entry.size = member.file_size
                        tar.addfile(entry, io.BytesIO(files.read(member)))


def cut(whole: Path, most: int, folder: Path) -> list[Path]:
    """A file's pieces of so many bytes, as NAME.000, NAME.001 and so on; returns these."""
    paths: list[Path] = []
    with whole.open("rb") as stream:
        while piece := stream.read(most):
            paths.append(folder / f"{whole.name}.{len(paths):03}")
            paths[-1].write_bytes(piece)
    return paths


if __name__ == "__main__":
    main()
