"""The shape of the tree: who may import whom, and whose names the packages have."""

import ast
import importlib.metadata
import re
import sys
from pathlib import Path

import pytest

from challenges.registry import MODELS

ROOT = Path(__file__).parents[1]
OURS = ("benchmarks", "challenges", "common")
ROOMS = (
    ("errors", "text", "slug", "files", "failures", "question"),
    ("language",),
    ("machine",),
    ("terminal",),
    ("storage",),
    ("aws",),
    ("run",),
    ("vision",),
    ("tables",),
    ("export",),
    ("training",),
    ("serving",),
    ("report",),
    ("playground",),
    ("challenge",),
    ("stages",),
)
"""The rooms of `common`, from the ground up: each may look into those below it."""
SOURCES = sorted(path for package in OURS for path in (ROOT / package).rglob("*.py"))


def wings() -> dict[str, set[str]]:
    """Packages that know nothing of each other, by where they lie: challenges, and the models of one challenge."""
    found: dict[str, set[str]] = {}
    for entry in MODELS.values():
        parts = entry.package.split(".")
        for depth in range(1, len(parts)):
            found.setdefault(".".join(parts[:depth]), set()).add(parts[depth])
    return found


WINGS = wings()


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_dependencies_point_one_way(path):
    package = path.relative_to(ROOT).parts[0]
    forbidden = {"common": ("challenges", "benchmarks"), "challenges": ("benchmarks",), "benchmarks": ()}[package]
    if path.relative_to(ROOT).parent.as_posix() == "challenges/commands":  # verbs stand above everything
        forbidden = ()
    assert not [name for name in imports(path) if name.split(".")[0] in forbidden]


def test_rooms_look_into_lower_ones_only():
    floors = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}
    upward = []
    for path in sorted((ROOT / "common").rglob("*.py")):
        room = path.relative_to(ROOT / "common").parts[0].removesuffix(".py")
        if room != "__init__":
            looked_into = {name.split(".")[1] for name in imports(path) if name.startswith("common.")}
            upward += [(str(path.relative_to(ROOT)), other) for other in looked_into if floors[other] > floors[room]]
    assert upward == []


@pytest.mark.parametrize("parent", WINGS)
def test_siblings_never_import_each_other(parent):
    for wing in WINGS[parent]:
        for path in ROOT.joinpath(*parent.split("."), wing).rglob("*.py"):
            others = [f"{parent}.{other}" for other in WINGS[parent] if other != wing]
            assert not [name for name in imports(path) if name.startswith(tuple(others))], path


@pytest.mark.parametrize("folder", ["export", "serving"])
def test_export_and_serving_never_import_the_trainer(folder):
    for path in (ROOT / "common" / folder).rglob("*.py"):
        assert "common.training.trainer" not in imports(path), path


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_recipes_and_the_command_line_import_nothing_heavy(path):
    if path.name in (
        "recipes.py",
        "recipe.py",
        "registry.py",
        "parser.py",
        "flags.py",
        "trained_verbs.py",
        "__main__.py",
    ):
        heavy = {"torch", "nvidia", "numpy", "matplotlib", "PIL"} - ({"numpy"} if path.name == "recipes.py" else set())
        tree = ast.parse(path.read_text())
        top = {alias.name.split(".")[0] for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
        assert not top & heavy


def test_torchrec_is_imported_where_it_is_chosen_alone():
    """That takes seconds, and most have none."""
    (home,) = (path for path in SOURCES if {"torchrec", "fbgemm_gpu"} & {name.split(".")[0] for name in imports(path)})
    module = ".".join(home.relative_to(ROOT).with_suffix("").parts)
    bodies = (node for path in SOURCES for node in ast.parse(path.read_text()).body)
    assert module not in {node.module for node in bodies if isinstance(node, ast.ImportFrom)}


BESIDE = {"asked": {"strings"}, "features": {"strings", "polars"}}
"""What serving/ensemble.py lays beside a step, and the packages that it says the step needs."""


def test_a_server_has_all_that_its_steps_import():
    """A step travels into the repository with the modules beside it; the server sees `common` and its wing besides."""
    steps = [path for path in (ROOT / "challenges").rglob("model.py") if "TritonPythonModel" in path.read_text()]
    for step in steps:
        modules = {path.stem for path in step.parent.glob("*.py")} | BESIDE.get(step.parent.name, set())
        known = modules | sys.stdlib_module_names | {"numpy", "triton_python_backend_utils", "common"}
        wing = ".".join(step.relative_to(ROOT).parts[:-3])
        for path in step.parent.glob("*.py"):
            foreign = {name for name in imports(path) if not name.startswith(f"{wing}.")}
            assert {name.split(".")[0] for name in foreign} <= known, path
    assert len(steps) >= 3


def test_no_other_distribution_claims_our_package_names():
    owners = importlib.metadata.packages_distributions()
    for package in OURS:
        assert set(owners.get(package, ["challenge-kit"])) == {"challenge-kit"}


def test_every_module_says_what_it_is():
    silent = [
        path for path in SOURCES if path.read_text().strip() and ast.get_docstring(ast.parse(path.read_text())) is None
    ]
    assert silent == []


def test_the_architecture_tells_the_rooms_in_their_order():
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", text.partition("## Rooms")[2].partition("\n## ")[0], re.MULTILINE)
    assert [tuple(row.strip("`").split("`, `")) for row in rows] == list(reversed(ROOMS))


def test_the_front_page_shows_the_tree_as_it_is():
    block = (ROOT / "README.md").read_text().partition("## The tree")[2].split("```")[1]
    shown: dict[str, set[str]] = {"": set()}
    for indent, names in re.findall(r"^( *)((?:[\w-]+/ +|[\w-]+/$)+)", block, re.MULTILINE):
        parent = "" if not indent else list(shown)[-1]
        shown[parent] |= {name.strip("/") for name in names.split()}
        shown |= {} if indent else {names.split()[0].strip("/"): set()}
    assert all((ROOT / name).is_dir() for name in shown[""])
    assert {*shown[""]} >= {*OURS, "containers", "docs", "locked", "tests"}
    for package in ("challenges", "common"):
        folders = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
        assert shown[package] == folders
