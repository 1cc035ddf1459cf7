"""Write the locked files beside this one: every package that an installation takes, at one version, with its hashes.

    make lock                      as pyproject.toml asks, today's versions kept where they still fit
    make lock UPGRADE=1            the newest versions
    make lock TORCH_INDEX=<…>      also torch-cpu.txt: an index's own wheels of torch, such as pytorch.org's for CPUs

    build.txt       what builds the kit: setuptools; all else is wheels, so that no fresh machine has to build a package
    torch.txt       torch as the package index has it, on Linux a CUDA build
    torch-cpu.txt   torch as pytorch.org has it for CPUs
    cuda.txt        the CUDA libraries that a CUDA build of torch needs
    kit.txt         all else that the kit runs on
    aws.txt         what the launcher on AWS needs besides, installed where it is first asked for
    clicks.txt      what TorchRec needs besides, likewise
    fbgemm-cpu.txt  TorchRec's kernels, beside a build of torch for CPUs
    fbgemm-cuda.txt the same with those for GPUs, beside a CUDA build
    demo.txt        what the page in the browser needs besides, likewise
    docs.txt        what the handbook is built by, likewise
    dev.txt         what the tests need besides all of these
    gpu.txt         TensorRT, where an engine is built outside NVIDIA's images: the version of Triton's, which reads no
                    other's plans (containers/versions.env)

The hashes are those of every file of a release, so that one lock fits Linux and macOS on x86-64 and ARM.
"""

import argparse
import itertools
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
ASKED_FOR = ("aws", "clicks", "demo", "docs")  # extras that are installed where a target first needs them
TENSORRT = ("tensorrt-cu13", "tensorrt-cu13-bindings", "tensorrt-cu13-libs")
APART = (*ASKED_FOR, "dev", "gpu")  # extras with a file of their own; those of all others are the kit's
CUDA = re.compile(r"(nvidia|cuda)-.*|triton")
FBGEMM = {"cpu": "fbgemm-gpu-cpu", "cuda": "fbgemm-gpu"}  # two builds of one package, of which an environment has one
EXCLUDED = ("fbgemm-gpu", "torchmetrics")  # which TorchRec asks for, the latter never to be imported by the kit
BLOCK = re.compile(r"^([a-z0-9][\w.-]*).*\n(?: +--hash=.*\n)*", re.IGNORECASE | re.MULTILINE)
HEADER = "# Written by `make lock`; locked/lock.py says what each file is for.\n"

Blocks = Mapping[str, str]
"""Normalised name -> the package's lines: its version, marker and hashes, once or once per marker."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-index", help="an index of wheels of torch, besides the package index")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    options = parser.parse_args()
    before = (
        ""
        if options.upgrade
        else "".join(path.read_text() for path in sorted(FOLDER.glob("*.txt")) if "cpu" not in path.name)
    )
    blocks = resolved(before)
    files = split(blocks, {name: closure(blocks, wanted) for name, wanted in requirement_sets().items()})
    files["gpu"] = tensorrt_of_image()
    files |= fbgemm_builds(files["clicks"].pop(FBGEMM["cpu"]))
    torch = files["torch"]["torch"]
    if options.torch_index:
        files["torch-cpu"] = {"torch": torch_of_index(options.torch_index, torch)}
    elif version_of(torch) != version_of(parse((FOLDER / "torch-cpu.txt").read_text())["torch"]):
        sys.exit("torch's version changed: give the CPU index too, make lock TORCH_INDEX=<its address>.")
    for name, content in files.items():
        (FOLDER / f"{name}.txt").write_text(HEADER + "".join(content[package] for package in sorted(content)))
        print(f"locked/{name}.txt: {len(content)} packages")


def requirement_sets() -> dict[str, list[str]]:
    """What is asked for: to build, by torch, by the kit, by each extra apart, by tests with them all."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    kit = [
        *project["project"]["dependencies"],
        *(line for name in extras if name not in APART for line in extras[name]),
    ]
    asked_for = {name: [*kit, *extras[name]] for name in ASKED_FOR}
    return {
        "build": project["build-system"]["requires"],
        "torch": ["torch"],
        "kit": kit,
        **asked_for,
        "dev": [*itertools.chain(*asked_for.values()), *extras["dev"]],
    }


def tensorrt_of_image() -> dict[str, str]:
    """The blocks of TensorRT's parts; what they need is known to NVIDIA's index alone, and none of it is installed."""
    found = re.search(r"^TENSORRT_VERSION=(\S+)$", (ROOT / "containers" / "versions.env").read_text(), re.MULTILINE)
    assert found is not None
    wanted = [f"{part}=={found[1]}" for part in TENSORRT]
    return parse(compile_requirements(wanted, "--no-deps", "--generate-hashes"))


def fbgemm_builds(cpu: str) -> dict[str, dict[str, str]]:
    """The files of FBGEMM's two builds at the version of the one for CPUs."""
    (wanted,) = (line for line in requirement_sets()["clicks"] if line.startswith(FBGEMM["cpu"]))
    cuda = compile_requirements([wanted.replace(FBGEMM["cpu"], FBGEMM["cuda"])], "--no-deps", "--generate-hashes")
    return {"fbgemm-cpu": {FBGEMM["cpu"]: cpu}, "fbgemm-cuda": parse(cuda)}


def resolved(before: str) -> Blocks:
    """All that is asked for, resolved together, so that no two files disagree; versions of `before` are preferred."""
    wanted = {line for chosen in requirement_sets().values() for line in chosen}
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "lock.txt"
        output.write_text(re.sub(r" \\\n +--hash=\S+", "", before))  # with their hashes uv would not look for new files
        compile_requirements(sorted(wanted), "--generate-hashes", "--output-file", str(output))
        return parse(output.read_text())


def closure(blocks: Blocks, wanted: Sequence[str]) -> set[str]:
    """The names of what is asked for and of all it needs, at the versions already resolved."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write("".join(blocks.values()))
        constraints.flush()
        return set(parse(compile_requirements(wanted, "--constraints", constraints.name)))


def split(blocks: Blocks, sets: Mapping[str, set[str]]) -> dict[str, dict[str, str]]:
    """The blocks of each file; none comes twice: what two extras share is the kit's."""
    extras = [sets[name] for name in ASKED_FOR]
    shared = set().union(*(one & other for one, other in itertools.combinations(extras, 2)))
    cuda = {name for name in sets["torch"] if CUDA.fullmatch(name)}
    kit = sets["kit"] | shared
    base = kit | sets["build"]
    parts = {
        "build": sets["build"],
        "torch": {"torch"},
        "cuda": cuda,
        "kit": kit - sets["build"] - cuda - {"torch"},
        **{name: sets[name] - base for name in ASKED_FOR},
        "dev": sets["dev"].difference(base, *extras),
    }
    assert set().union(*parts.values()) == set(blocks)
    return {file: {name: blocks[name] for name in names} for file, names in parts.items()}


def parse(text: str) -> dict[str, str]:
    """The blocks of a requirements file, without comments."""
    blocks: dict[str, str] = {}
    for found in BLOCK.finditer(text):
        name = re.sub(r"[-_.]+", "-", found[1]).lower()
        blocks[name] = blocks.get(name, "") + found[0]
    return blocks


def version_of(block: str) -> str:
    found = re.search(r"==([^\s;+]+)", block)
    assert found is not None, block
    return found[1]


def torch_of_index(index: str, torch: str) -> str:
    """The blocks for another index's wheels of this version of torch: its own builds, and its plain ones for macOS."""
    version = version_of(torch)
    options = ("--generate-hashes", "--no-deps", "--index-url", index)
    try:
        local = parse(compile_requirements([f"torch=={version}"], *options))["torch"]
    except subprocess.CalledProcessError as error:
        sys.exit(f"{index} has no torch {version}:\n{error.stderr.strip()}\nNothing was written.")
    return local


def compile_requirements(wanted: Iterable[str], *options: str) -> str:
    """What uv answers for every platform and every Python from the oldest on that the kit supports."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "-", "--universal", "--python-version", "3.11", "--quiet"]
    command += ["--no-header", "--no-annotate", *options]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as excluded:
        excluded.write("\n".join(EXCLUDED))
        excluded.flush()
        if "--no-deps" not in options:  # nothing but wheels: what is built on a fresh machine is built by chance
            command += ["--excludes", excluded.name, "--only-binary", ":all:"]
        return subprocess.run(command, input="\n".join(wanted), capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
