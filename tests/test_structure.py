"""The shape of the tree: who may import whom, and whose names the packages have."""

import ast
import importlib.metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("benchmarks", "challenges", "common")
SOURCES = sorted(path for package in OURS for path in (ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_dependencies_point_one_way(path):
    package = path.relative_to(ROOT).parts[0]
    forbidden = {"common": ("challenges", "benchmarks"), "challenges": ("benchmarks",), "benchmarks": ()}[package]
    assert not [name for name in imports(path) if name.split(".")[0] in forbidden]


@pytest.mark.parametrize("folder", ["export", "serving"])
def test_export_and_serving_never_import_the_trainer(folder):
    for path in (ROOT / "common" / folder).rglob("*.py"):
        assert "common.trainer" not in imports(path), path


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_recipes_and_the_command_line_import_nothing_heavy(path):
    if path.name in ("recipes.py", "recipe.py", "registry.py", "__main__.py"):
        heavy = {"torch", "nvidia", "numpy", "matplotlib", "PIL"} - ({"numpy"} if path.name == "recipes.py" else set())
        tree = ast.parse(path.read_text())
        top = {alias.name.split(".")[0] for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
        assert not top & heavy


def test_no_other_distribution_claims_our_package_names():
    owners = importlib.metadata.packages_distributions()
    for package in OURS:
        assert set(owners.get(package, ["challenge-kit"])) == {"challenge-kit"}


def test_every_module_says_what_it_is():
    silent = [
        path for path in SOURCES if path.read_text().strip() and ast.get_docstring(ast.parse(path.read_text())) is None
    ]
    assert silent == []
