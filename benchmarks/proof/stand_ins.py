"""Stands in for packages that only show, count or read arguments: a machine with bare torch can run the models."""

import importlib.util
import sys
import types
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import Any

REPLACEABLE = ("nvtx", "psutil", "rich", "tyro")


def stand_in() -> tuple[str, ...]:
    """Let imports of replaceable packages that are not installed succeed; returns which these are."""
    absent = tuple(name for name in REPLACEABLE if importlib.util.find_spec(name) is None)
    if absent:
        sys.meta_path.append(_Finder(absent))
    return absent


class _Nothing:
    """Is called, entered, indexed and asked for anything, and does nothing."""

    def __call__(self, *_: Any, **__: Any) -> "_Nothing":
        return self

    def __getattr__(self, name: str) -> "_Nothing":
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __getitem__(self, _: Any) -> "_Nothing":
        return self

    def __enter__(self) -> "_Nothing":
        return self

    def __exit__(self, *_: object) -> None: ...


class _Module(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing()


class _Finder(MetaPathFinder, Loader):
    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, is_package=True) if fullname.split(".")[0] in self._names else None

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: types.ModuleType) -> None: ...
