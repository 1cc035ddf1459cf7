"""Checkpoints that survive a kill at any moment: whole or absent, verified when read, with a fallback."""

import pickle
import re
from pathlib import Path
from typing import Any

import torch

from common.errors import CheckpointError, KitError, TrainingError
from common.failures import explain
from common.files import atomic_writer, read_json, sha256, write_json
from common.machine.environment import kit_version

FORMAT = 1
"""Of what a checkpoint holds; another number is another content."""

_NAME = re.compile(r"step-(\d{8})\.pt")


class CheckpointStore:
    """Numbered checkpoints in one folder, each with a sidecar that holds its sha256; the newest `keep` are kept."""

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder = folder
        self._keep = keep

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write the state of `step` durably, then drop what is older than the newest `keep`.

        Raises TrainingError when the disk is full or the folder cannot be written; older checkpoints stay as they are.
        """
        path = self.path(step)
        self._write(path, {"format": FORMAT, "kit": kit_version(), "step": step, **state})
        for old in self.steps()[self._keep :]:
            self.path(old).unlink(missing_ok=True)
            _sidecar(self.path(old)).unlink(missing_ok=True)
        return path

    def save_best(self, state: dict[str, Any]) -> None:
        """Write the best state so far, from which nothing resumes; raises TrainingError as `save` does."""
        self._write(self._folder / "best.pt", {"format": FORMAT, "kit": kit_version(), **state}, with_sidecar=False)

    def save_chosen(self, state: dict[str, Any]) -> None:
        """Write the weights that a training is to end with, so far; raises TrainingError as `save` does."""
        self._write(self._folder / "chosen.pt", {"format": FORMAT, "kit": kit_version(), **state}, with_sidecar=False)

    def chosen(self, device: torch.device) -> dict[str, Any]:
        """What `save_chosen` wrote. Raises CheckpointError where it was taken away or damaged."""
        path = self._folder / "chosen.pt"
        if not path.is_file():
            raise CheckpointError(
                f"{path} is missing: the weights that this training chose are gone.",
                remedy=f"To begin anew, delete {self._folder} and run the same command again.",
            )
        return _load(path, device)

    def _write(self, path: Path, state: dict[str, Any], *, with_sidecar: bool = True) -> None:
        try:
            with atomic_writer(path) as stream:
                torch.save(state, stream)
            if with_sidecar:
                facts = {"step": state["step"], "sha256": sha256(path), "bytes": path.stat().st_size}
                write_json(_sidecar(path), {**facts, "format": FORMAT, "commit": kit_version()["commit"]})
        except (OSError, RuntimeError) as error:
            known = explain(error)
            raise TrainingError(
                known.given if known else f"The checkpoint {path} could not be written: {error}.",
                "Earlier checkpoints are untouched.",
                "Free some disk space or fix the folder's permissions, then run the same command again: it resumes.",
            ) from error

    def steps(self) -> list[int]:
        """Steps with a complete checkpoint, the newest first."""
        if not self._folder.is_dir():
            return []
        found = (_NAME.fullmatch(path.name) for path in self._folder.iterdir())
        return sorted(int(match[1]) for match in found if match and _sidecar(self.path(int(match[1]))).is_file())[::-1]

    def latest(self, device: torch.device) -> tuple[dict[str, Any] | None, list[str]]:
        """The newest sound state, or None, and a sentence for each damaged checkpoint that was passed over.

        Raises CheckpointError where there are checkpoints and all are damaged, or the newest sound one is of another
        version of the kit.
        """
        complaints: list[str] = []
        for step in self.steps():
            path = self.path(step)
            damage = _damage(path)
            if not damage:
                return _load(path, device), complaints
            complaints.append(f"{path.name} is damaged ({damage}): falling back to the checkpoint before it.")
        if complaints:
            raise CheckpointError(
                f"Every checkpoint in {self._folder} is damaged: {', '.join(map(str, self.steps()))}.",
                "Training is not begun anew unasked: what was trained may still be restored from a copy.",
                f"To begin anew, delete {self._folder} and run the same command again.",
            )
        return None, complaints

    def path(self, step: int) -> Path:
        return self._folder / f"step-{step:08d}.pt"


def refuse_other(path: Path, state: dict[str, Any], error: Exception) -> CheckpointError:
    """The error of a state that the code at hand cannot take in."""
    told = " ".join(str(error).split())[:200]
    return CheckpointError(
        f"{path} does not fit this run's network and optimizer: {told}", _written_by(state), _ways_out(path, state)
    )


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


def _load(path: Path, device: torch.device) -> dict[str, Any]:
    """The state in a file whose bytes are sound; raises CheckpointError where another version of the kit wrote it."""
    try:
        state = torch.load(path, map_location=device, weights_only=True)
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


def _written_by(state: dict[str, Any]) -> str:
    kit, here = state.get("kit"), kit_version()
    before = f"version {kit['version']}, commit {kit['commit']}" if isinstance(kit, dict) else "an unknown version"
    return f"It was written by {before} of the kit; this is version {here['version']}, commit {here['commit']}."


def _ways_out(path: Path, state: dict[str, Any]) -> str:
    kit = state.get("kit")
    commit = kit["commit"] if isinstance(kit, dict) else None
    before = f"go on with that commit (git checkout {commit})" if commit else "go on with the version that wrote it"
    return f"Either {before}, or begin anew: delete {path.parent}, or pass another --run."


def random_state() -> dict[str, Any]:
    """The state of torch's generators, as a checkpoint can hold it."""
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"].cpu())
    if state["cuda"]:
        torch.cuda.set_rng_state_all([generator.cpu() for generator in state["cuda"]])
