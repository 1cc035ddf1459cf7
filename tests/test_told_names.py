"""What errors, helps, docstrings and documents name is there: flags, fields, verbs, make targets, files and recipes."""

import argparse
import ast
import dataclasses
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from challenges.__main__ import build_parser
from challenges.registry import MODELS

ROOT = Path(__file__).parents[1]
FOLDERS = ("benchmarks", "challenges", "common", "containers", "locked")
FLAG = re.compile(r"(?<![\w(\"<-])--[a-z](?:[\w.-]*\w)?")
VERB = re.compile(r"(?<!he )(?<!allenge )(?<![Ee]l )\bkit[ \n]([a-z][a-z-]*\w)(?P<rest>[^\n`;,]*)")
MAKE = re.compile(r"(?:^|\n\s*|`|: |\. )make (?P<words>(?:[A-Z_]+=\S*\s+)*)(?P<target>[a-z][\w-]*)(?P<rest>[^\n`;]*)")
VARIABLE = re.compile(r"(?<![\w-])([A-Z_]{2,})=")
FILE = re.compile(rf"`((?:{'|'.join((*FOLDERS, 'docs', 'tests'))})/[\w./-]*\w)`")
RECIPE = re.compile(rf"(?<![\w/])((?:{'|'.join(MODELS)})/[a-z][a-z\d-]*)(?![\w/*-]|\.\w)")
FIELD = re.compile(
    r"(?<![\w./-])(?:data|evaluation|history|model|nms|optimizer|preprocessing|training)\.[a-z-]+[a-z](?![\w(])"
)
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")
FOREIGN = {
    "aws ec2": {"--group-ids"},
    "aws s3": {"--force"},
    "a Python built": {"--enable-shared"},
    "container": {"--gpus", "--ipc", "--shm-size"},
    "CSV": {"--mount", "--volume"},
    "git": {"--unshallow"},
    "hash=": {"--hash"},
    "convmv": {"--notest"},
    "pip": {"--hash", "--no-deps", "--require-hashes"},
    "Pillow": {"--draft"},
    "tensorboard": {"--logdir"},
    "torchrun": {"--nproc-per-node"},
    "dask worker": {"--nthreads"},
    "Triton": {"--model-control-mode"},
}
"""Flags of other programs, which a sentence may name together with the program."""


@dataclasses.dataclass(frozen=True)
class Told:
    """One text and where it stands."""

    place: str
    text: str


def strings(path: Path) -> Iterator[Told]:
    """Every text with a space in it; what is put into an f-string is left out."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        if " " in text:
            yield Told(f"{path.relative_to(ROOT)}:{node.lineno}", text)


DOCUMENTS = [
    Told(str(path.relative_to(ROOT)), path.read_text())
    for path in (*ROOT.glob("*.md"), *(file for folder in (*FOLDERS, "docs") for file in (ROOT / folder).rglob("*.md")))
    if path.name != "adding-a-model.md"  # whose names are to be; tests/test_adding_a_model.py follows it to the letter
]
SENTENCES = [
    *DOCUMENTS,
    *chain.from_iterable(strings(path) for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))),
]


def options(parser: argparse.ArgumentParser) -> set[str]:
    """A verb's flags, and those of its actions."""
    below = parser._subparsers._group_actions[0].choices.values() if parser._subparsers else ()
    return set(parser._option_string_actions).union(*map(options, below))


def fields(value: object, prefix: str = "--") -> Iterator[str]:
    """The flags that override a recipe's fields."""
    for field in dataclasses.fields(value):  # type: ignore[arg-type]
        name, inner = prefix + field.name.replace("_", "-"), getattr(value, field.name)
        yield from fields(inner, f"{name}.") if dataclasses.is_dataclass(inner) else (name,)


def script_flags() -> set[str]:
    """Flags of the scripts beside the kit: of their `main`, of their `Settings`, and those that stand there whole."""
    paths = chain.from_iterable((ROOT / folder).rglob("*.py") for folder in ("benchmarks", "containers", "locked"))
    trees = [ast.parse(path.read_text()) for path in paths]
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    settings = {
        base.id for one in classes if one.name == "Settings" for base in one.bases if isinstance(base, ast.Name)
    }
    found = set()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name == "main":
                names = [argument.arg.removesuffix("_file") for argument in (*node.args.args, *node.args.kwonlyargs)]
            elif isinstance(node, ast.ClassDef) and node.name in {"Settings", *settings}:
                names = [field.target.id for field in node.body if isinstance(field, ast.AnnAssign)]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and FLAG.fullmatch(node.value):
                names = [node.value.removeprefix("--")]
            else:
                continue
            found |= {"--" + name.replace("_", "-") for name in names}
    return found


VERBS = build_parser()._subparsers._group_actions[0].choices
FIELDS = {flag for entry in MODELS.values() for recipe in entry.recipes().values() for flag in fields(recipe)} | {
    "--part.no-field",
    "--field",
    "--debug",
}
KNOWN_FLAGS = FIELDS | set().union(*map(options, VERBS.values())) | script_flags()
MAKEFILES = (ROOT / "Makefile").read_text() + (ROOT / "containers" / "container.mk").read_text()
TARGETS = {name for line in re.findall(r"^\.PHONY: (.*)", MAKEFILES, re.MULTILINE) for name in line.split()}


def foreign(text: str) -> set[str]:
    return set().union(*(flags for program, flags in FOREIGN.items() if program in text))


def test_flags():
    unknown = [
        (told.place, flag)
        for told in SENTENCES
        for flag in FLAG.findall(told.text)
        if flag not in KNOWN_FLAGS | foreign(told.text)
    ]
    assert unknown == []


def test_fields():
    endings = (".json", ".md", ".npz", ".onnx", ".py", ".yaml")
    unknown = [
        (told.place, name)
        for told in SENTENCES
        for name in FIELD.findall(told.text)
        if f"--{name}" not in FIELDS and not name.endswith(endings)
    ]
    assert unknown == []


def test_verbs_and_their_flags():
    wrong = []
    for told in SENTENCES:
        for verb, rest in VERB.findall(told.text):
            if verb not in VERBS:
                wrong.append((told.place, f"kit {verb}"))
                continue
            takes = (
                options(VERBS[verb]) | {"--debug"} | (FIELDS if VERBS[verb].get_default("takes_overrides") else set())
            )
            wrong += [(told.place, f"kit {verb} {flag}") for flag in FLAG.findall(rest) if flag not in takes]
    assert wrong == []


def test_make_targets_and_variables():
    wrong = []
    for told in SENTENCES:
        for match in MAKE.finditer(told.text):
            wrong += [(told.place, match[0])] if match["target"] not in TARGETS else []
            variables = VARIABLE.findall(match["words"] + match["rest"])
            wrong += [(told.place, name) for name in variables if not re.search(rf"\b{name}\b", MAKEFILES)]
    assert wrong == []


def test_files():
    missing = [
        (told.place, name) for told in SENTENCES for name in FILE.findall(told.text) if not (ROOT / name).exists()
    ]
    missing += [
        (told.place, name)
        for told in DOCUMENTS
        for name in LINK.findall(told.text)
        if not (ROOT / told.place).parent.joinpath(name).exists()
    ]
    assert missing == []


def test_recipes():
    known = {f"{model}/{name}" for model, entry in MODELS.items() for name in entry.recipes()}
    names = {name.rpartition("/")[2] for name in known}
    wrong = [(told.place, name) for told in SENTENCES for name in RECIPE.findall(told.text) if name not in known]
    wrong += [
        (told.place, name)
        for told in SENTENCES
        for name in re.findall(r"RECIPE=([a-z][\w-]*)", told.text)
        if name not in names | {"name"}
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "text",
    ["Pass a lower --low.", "Then: kit bake RUN", "Then: kit export RUN --precision fp32", "Install it: make tritom"],
)
def test_made_up_ones_are_found(text):
    flags = [flag for flag in FLAG.findall(text) if flag not in KNOWN_FLAGS]
    found = [verb for verb, _ in VERB.findall(text) if verb not in VERBS]
    foreign_to_verb = [
        flag for verb, rest in VERB.findall(text) if verb in VERBS for flag in FLAG.findall(rest)
        if flag not in options(VERBS[verb])
    ]  # fmt: skip
    targets = [match["target"] for match in MAKE.finditer(text) if match["target"] not in TARGETS]
    assert flags or found or foreign_to_verb or targets
