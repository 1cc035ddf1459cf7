"""Checkpoints of which every process writes its own part, through torch.distributed.checkpoint.

A checkpoint is a folder, and whole once its sidecar exists, which the main rank writes when every part is on the disk.
Any number of processes resumes from it: each reads of every tensor what it holds itself. All of them see one folder.
`.metadata` in it is a pickle: resume from run directories that you trust.
"""

import contextlib
import re
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from common.errors import CheckpointError, KitError, TrainingError
from common.failures import explain
from common.files import naming, read_json, sha256, sync_folder, write_json
from common.machine.distributed import ALONE, World, from_all_ranks
from common.training.checkpoint import (
    Checkpoints,
    all_damaged,
    headed,
    missing_choice,
    passed_over,
    read_state,
    refuse_other,
    unwritten,
)
from common.training.shards import Reading, Shard, Writing

_NAME = re.compile(r"step-(\d{8})\.json")


class ShardedCheckpoints(Checkpoints):
    """As `CheckpointStore`: whole or absent, verified when read, with a fallback, the newest `keep` are kept.

    shards: gives this process's part of each tensor that is cut; together the processes' parts are the whole tensor.
            Everything else of a state is the same on every process, or the main rank's counts.
    """

    def __init__(
        self, folder: Path, keep: int, shards: Callable[[], Mapping[str, Shard]], world: World = ALONE
    ) -> None:
        self._folder, self._keep, self._shards, self._world = folder, keep, shards, world

    def save(self, step: int, state: dict[str, Any]) -> Path:
        path = self.path(step)
        self._write(path, path.with_suffix(".json"), {"step": step, **state})
        kept = {self.path(newest) for newest in self.steps()[: self._keep]}
        self._drop(old for old in self._folder.glob("step-*") if old.is_dir() and old not in kept)
        return path

    def save_best(self, state: dict[str, Any]) -> None:
        self._replace("best", state)

    def save_chosen(self, state: dict[str, Any]) -> None:
        self._replace("chosen", state)

    def chosen(self, device: torch.device) -> dict[str, Any]:
        sidecar = self._folder / "chosen.json"
        if not sidecar.is_file():
            raise missing_choice(sidecar)
        damage = self._damage(sidecar)
        if damage:
            raise CheckpointError(
                f"The weights that this training chose are damaged: {damage}.",
                remedy=f"To begin anew, delete {self._folder} and run the same command again.",
            )
        return self._read(self._folder / read_json(sidecar)["folder"], device)

    def steps(self) -> list[int]:
        """Steps with a complete checkpoint, the newest first."""
        found = (_NAME.fullmatch(path.name) for path in self._folder.glob("step-*.json"))
        return sorted((int(match[1]) for match in found if match), reverse=True)

    def latest(self, device: torch.device) -> tuple[dict[str, Any] | None, list[str]]:
        complaints: list[str] = []
        for step in self.steps():
            path = self.path(step)
            damage = self._damage(path.with_suffix(".json"))
            if not damage:
                return self._read(path, device), complaints
            complaints.append(passed_over(path, damage))
        if complaints:
            raise all_damaged(self._folder, self.steps())
        return None, complaints

    def finish(self) -> None:
        """Nothing is left to write: every call waits for the disk."""

    def path(self, step: int) -> Path:
        return self._folder / f"step-{step:08d}"

    def _replace(self, name: str, state: dict[str, Any]) -> None:
        """Write beside what is there under the name, which counts until the new one is whole."""
        folder = self._folder / f"{name}-{state['step']:08d}"
        self._write(folder, self._folder / f"{name}.json", state)
        self._drop(other for other in self._folder.glob(f"{name}-*") if other != folder)

    def _write(self, folder: Path, sidecar: Path, state: dict[str, Any]) -> None:
        self._together(folder, lambda: self._clear(folder, sidecar))
        try:
            self._fill(folder, sidecar, headed(state))
        except TrainingError:
            if self._world.is_main:
                shutil.rmtree(folder, ignore_errors=True)
            raise

    def _fill(self, folder: Path, sidecar: Path, state: dict[str, Any]) -> None:
        try:
            with _quietly():
                dcp.save({}, storage_writer=_Writer(folder), planner=Writing(state, self._shards()))
        except dcp.CheckpointException as error:
            raise unwritten(folder, next(cause for cause, _ in error.failures.values())) from error
        parts = self._together(folder, lambda: {path.name: _facts(path) for path in self._own_files(folder)})
        facts = {
            "folder": folder.name,
            "ranks": self._world.size,
            "files": {name: fact for part in parts for name, fact in part.items()},
            "step": state["step"],
            "format": state["format"],
            "commit": state["kit"]["commit"],
        }
        self._together(folder, lambda: self._seal(folder, sidecar, facts))

    def _clear(self, folder: Path, sidecar: Path) -> None:
        """Make room, where a kill or a training before this one left a checkpoint of the same step."""
        if self._world.is_main:
            if folder.exists():
                sidecar.unlink(missing_ok=True)
                shutil.rmtree(folder)
            folder.mkdir(parents=True)

    def _own_files(self, folder: Path) -> list[Path]:
        metadata = [folder / ".metadata"] if self._world.is_main else []
        return [*metadata, *sorted(folder.glob(f"__{self._world.rank}_*"))]

    def _seal(self, folder: Path, sidecar: Path, facts: dict[str, Any]) -> None:
        if self._world.is_main:
            sync_folder(folder)
            write_json(sidecar, facts)

    def _together(self, folder: Path, action: Callable[[], Any]) -> list[Any]:
        """What the action gives on every rank; where it fails on one, all raise its error."""
        try:
            outcome, told = action(), None
        except (OSError, KitError) as error:
            outcome, told = None, unwritten(folder, error).given
        outcomes = from_all_ranks((outcome, told))
        for _, failure in outcomes:
            if failure is not None:
                raise unwritten(folder, KitError(failure))
        return [outcome for outcome, _ in outcomes]

    def _drop(self, folders: Iterable[Path]) -> None:
        if self._world.is_main:
            for folder in folders:
                folder.with_suffix(".json").unlink(missing_ok=True)
                shutil.rmtree(folder, ignore_errors=True)

    def _damage(self, sidecar: Path) -> str:
        """What is wrong with a checkpoint's files, in words and the same on every rank; empty where nothing is."""
        found = from_all_ranks(self._own_damage(sidecar))
        return next((damage for damage in found if damage), "")

    def _own_damage(self, sidecar: Path) -> str:
        """Of this rank's share of the files, however many ranks wrote them."""
        try:
            facts = read_json(sidecar)
            folder = sidecar.parent / facts["folder"]
            for name in sorted(facts["files"])[self._world.rank :: self._world.size]:
                if _facts(folder / name) != facts["files"][name]:
                    return f"the bytes of {name} differ from their checksum"
        except (KeyError, TypeError):
            return "its checksums are missing"
        except OSError as error:
            return f"{error.filename}: {error.strerror or error}"
        except KitError as error:
            return error.given
        return ""

    def _read(self, folder: Path, device: torch.device) -> dict[str, Any]:
        planner = Reading(self._shards())
        try:
            with _quietly():
                dcp.load({}, checkpoint_id=folder, planner=planner)
        except dcp.CheckpointException as error:
            cause = next(cause for cause, _ in error.failures.values())
            if explain(cause) is not None:  # no memory for it, a disk that does not answer
                raise cause from error
            assert isinstance(cause, Exception)
            raise refuse_other(folder, {}, cause) from error
        return read_state(planner.whole, device, folder)


class _Writer(dcp.FileSystemWriter):
    """Tells in words what hinders a write: on its way to the other ranks an error loses the cause behind it."""

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        try:
            with naming(Path(self.path)):
                return super().write_data(plan, planner)
        except (OSError, RuntimeError) as error:
            known = explain(error)
            raise KitError(known.given) if known else error from error


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """torch.distributed.checkpoint warns where there is a single process, which is nothing to worry about here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _facts(path: Path) -> dict[str, Any]:
    return {"sha256": sha256(path), "bytes": path.stat().st_size}
