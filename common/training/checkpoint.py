"""Checkpoints that survive a kill at any moment: whole or absent, verified when read, with a fallback."""

import pickle
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import torch

from common.errors import CheckpointError, KitError, TrainingError
from common.failures import explain
from common.files import atomic_writer, read_json, sha256, write_json
from common.machine.environment import kit_version

FORMAT = 2
"""Of what a checkpoint holds; another number is another content."""

_NAME = re.compile(r"step-(\d{8})\.pt")


class Checkpoints(ABC):
    """Where a training keeps its states. Every process calls every method, at the same steps.

    Writing raises TrainingError when the disk is full or the folder cannot be written; what was written before stays.
    """

    @abstractmethod
    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write the state of `step` durably, then drop what is older than the newest that are kept."""

    @abstractmethod
    def latest(self, device: torch.device) -> tuple[dict[str, Any] | None, list[str]]:
        """The newest sound state, or None, and a sentence for each damaged checkpoint that was passed over.

        Raises CheckpointError where there are checkpoints and all are damaged, or the newest sound one is of another
        version of the kit.
        """

    @abstractmethod
    def save_best(self, state: dict[str, Any]) -> None:
        """Write the best state so far, from which nothing resumes."""

    @abstractmethod
    def save_chosen(self, state: dict[str, Any]) -> None:
        """Write the weights that a training is to end with, so far."""

    @abstractmethod
    def chosen(self, device: torch.device) -> dict[str, Any]:
        """What `save_chosen` wrote. Raises CheckpointError where it was taken away or damaged."""

    @abstractmethod
    def path(self, step: int) -> Path:
        """Where the state of `step` lies."""

    @abstractmethod
    def finish(self) -> None:
        """Wait until everything is written; raises what hindered it."""


class CheckpointStore(Checkpoints):
    """Numbered checkpoints in one folder, each with a sidecar that holds its sha256; the newest `keep` are kept.

    writes: whether this process writes, which one of them all does: the state is the same on every one.
    apart:  write in a thread of its own, from a copy in the host's memory, while the training goes on. One write at
            a time: the next call waits for the last and raises what hindered it.
    """

    def __init__(self, folder: Path, keep: int, *, writes: bool = True, apart: bool = False) -> None:
        self._folder, self._keep, self._writes = folder, keep, writes
        self._writer = ThreadPoolExecutor(1, "checkpoints") if apart else None
        self._pending: Future[None] | None = None

    def save(self, step: int, state: dict[str, Any]) -> Path:
        path = self.path(step)
        self._begin(self._save, path, {"step": step, **state})
        return path

    def save_best(self, state: dict[str, Any]) -> None:
        self._begin(self._write, self._folder / "best.pt", state)

    def save_chosen(self, state: dict[str, Any]) -> None:
        self._begin(self._write, self._folder / "chosen.pt", state)

    def chosen(self, device: torch.device) -> dict[str, Any]:
        self.finish()
        path = self._folder / "chosen.pt"
        if not path.is_file():
            raise missing_choice(path)
        return read_state(path, device, path)

    def finish(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _begin(self, write: Callable[[Path, dict[str, Any]], None], path: Path, state: dict[str, Any]) -> None:
        self.finish()
        if not self._writes:
            return
        if self._writer is None:
            write(path, state)
        else:
            self._pending = self._writer.submit(write, path, copied(state))

    def _save(self, path: Path, state: dict[str, Any]) -> None:
        self._write(path, state)
        try:
            facts = {"step": state["step"], "sha256": sha256(path), "bytes": path.stat().st_size}
            write_json(_sidecar(path), {**facts, "format": FORMAT, "commit": kit_version()["commit"]})
        except OSError as error:
            raise unwritten(path, error) from error
        for old in self.steps()[self._keep :]:
            self.path(old).unlink(missing_ok=True)
            _sidecar(self.path(old)).unlink(missing_ok=True)

    def _write(self, path: Path, state: dict[str, Any]) -> None:
        try:
            with atomic_writer(path) as stream:
                torch.save(headed(state), stream)
        except (OSError, RuntimeError) as error:
            raise unwritten(path, error) from error

    def steps(self) -> list[int]:
        """Steps with a complete checkpoint, the newest first."""
        if not self._folder.is_dir():
            return []
        found = (_NAME.fullmatch(path.name) for path in self._folder.iterdir())
        return sorted(int(match[1]) for match in found if match and _sidecar(self.path(int(match[1]))).is_file())[::-1]

    def latest(self, device: torch.device) -> tuple[dict[str, Any] | None, list[str]]:
        complaints: list[str] = []
        for step in self.steps():
            path = self.path(step)
            damage = _damage(path)
            if not damage:
                return read_state(path, device, path), complaints
            complaints.append(passed_over(path, damage))
        if complaints:
            raise all_damaged(self._folder, self.steps())
        return None, complaints

    def path(self, step: int) -> Path:
        return self._folder / f"step-{step:08d}.pt"


def copied(state: Any) -> Any:
    """A state whose tensors nothing changes any more: copies of them in the host's memory."""
    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {name: copied(value) for name, value in state.items()}
    return type(state)(map(copied, state)) if isinstance(state, list | tuple) else state


def _sidecar(path: Path) -> Path:
    return path.with_suffix(".json")


def _damage(path: Path) -> str:
    """What is wrong with a checkpoint's bytes, in words; empty where they are those that were written."""
    try:
        return "" if sha256(path) == read_json(_sidecar(path))["sha256"] else "its bytes differ from its checksum"
    except (KeyError, TypeError):
        return "its checksum is missing"
    except OSError as error:
        return error.strerror or str(error)
    except KitError as error:
        return error.given


def headed(state: dict[str, Any]) -> dict[str, Any]:
    """The state with what says how to read it."""
    return {"format": FORMAT, "kit": kit_version(), **state}


def read_state(source: Path | BinaryIO, device: torch.device, path: Path) -> dict[str, Any]:
    """The state in bytes that are sound, which lie at `path`.

    Raises CheckpointError where another version of the kit wrote it.
    """
    try:
        state: dict[str, Any] = torch.load(source, map_location=device, weights_only=True)
    except (pickle.UnpicklingError, EOFError, KeyError) as error:
        raise refuse_other(path, {}, error) from error
    found = state.get("format") if isinstance(state, dict) else None
    if found != FORMAT:
        known = state if isinstance(state, dict) else {}
        told = "no format" if found is None else f"format {found}"
        raise CheckpointError(
            f"{path} has {told}; this version of the kit reads {FORMAT}.",
            _written_by(known),
            _ways_out(path, known),
        )
    return state


def refuse_other(path: Path, state: dict[str, Any], error: Exception) -> CheckpointError:
    """The error of a state that the code at hand cannot take in."""
    told = " ".join(str(error).split())[:200]
    return CheckpointError(
        f"{path} does not fit this run's network and optimizer: {told}", _written_by(state), _ways_out(path, state)
    )


def unwritten(path: Path, error: BaseException) -> TrainingError:
    """The error of a checkpoint that could not be written."""
    known = explain(error)
    return TrainingError(
        known.given if known else f"The checkpoint {path} could not be written: {error}.",
        "Earlier checkpoints are untouched.",
        "Free some disk space or fix the folder's permissions, then run the same command again: it resumes.",
    )


def passed_over(path: Path, damage: str) -> str:
    """The sentence about a damaged checkpoint."""
    return f"{path.name} is damaged ({damage}): falling back to the checkpoint before it."


def all_damaged(folder: Path, steps: list[int]) -> CheckpointError:
    """The error where no checkpoint is left to fall back to."""
    return CheckpointError(
        f"Every checkpoint in {folder} is damaged: {', '.join(map(str, steps))}.",
        "Training is not begun anew unasked: what was trained may still be restored from a copy.",
        f"To begin anew, delete {folder} and run the same command again.",
    )


def missing_choice(path: Path) -> CheckpointError:
    """The error where the weights to end with were taken away."""
    return CheckpointError(
        f"{path} is missing: the weights that this training chose are gone.",
        remedy=f"To begin anew, delete {path.parent} and run the same command again.",
    )


def _written_by(state: dict[str, Any]) -> str:
    kit, here = state.get("kit"), kit_version()
    before = f"version {kit['version']}, commit {kit['commit']}" if isinstance(kit, dict) else "an unknown version"
    return f"It was written by {before} of the kit; this is version {here['version']}, commit {here['commit']}."


def _ways_out(path: Path, state: dict[str, Any]) -> str:
    kit = state.get("kit")
    commit = kit["commit"] if isinstance(kit, dict) else None
    before = f"go on with that commit (git checkout {commit})" if commit else "go on with the version that wrote it"
    return f"Either {before}, or begin anew: delete {path.parent}, or pass another --run."
