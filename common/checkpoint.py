"""Checkpoints that survive a kill at any moment: whole or absent, verified when read, with a fallback."""

import re
from pathlib import Path
from typing import Any

import torch

from common.errors import CheckpointError, TrainingError
from common.files import atomic_writer, read_json, sha256, write_json

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
        path = self._path(step)
        try:
            with atomic_writer(path) as stream:
                torch.save(state, stream)
            write_json(_sidecar(path), {"step": step, "sha256": sha256(path), "bytes": path.stat().st_size})
        except (OSError, RuntimeError) as error:
            raise TrainingError(
                f"The checkpoint of step {step} could not be written to {self._folder}: {error}.",
                "Earlier checkpoints are untouched.",
                "Free some disk space or fix the folder's permissions, then run the same command again: it resumes.",
            ) from error
        for old in self.steps()[self._keep :]:
            self._path(old).unlink(missing_ok=True)
            _sidecar(self._path(old)).unlink(missing_ok=True)
        return path

    def steps(self) -> list[int]:
        """Steps with a complete checkpoint, the newest first."""
        if not self._folder.is_dir():
            return []
        found = (_NAME.fullmatch(path.name) for path in self._folder.iterdir())
        return sorted(int(match[1]) for match in found if match and _sidecar(self._path(int(match[1]))).is_file())[::-1]

    def latest(self, device: torch.device) -> tuple[dict[str, Any] | None, list[str]]:
        """The newest sound state, or None, and a sentence for each damaged checkpoint that was passed over."""
        complaints: list[str] = []
        for step in self.steps():
            path = self._path(step)
            try:
                if sha256(path) != read_json(_sidecar(path))["sha256"]:
                    raise CheckpointError("its bytes differ from its checksum")
                return torch.load(path, map_location=device, weights_only=True), complaints
            except Exception as error:  # whatever a damaged file provokes, the one before it is the answer
                complaints.append(f"{path.name} is damaged ({error}): falling back to the checkpoint before it.")
        return None, complaints

    def _path(self, step: int) -> Path:
        return self._folder / f"step-{step:08d}.pt"


def _sidecar(path: Path) -> Path:
    return path.with_suffix(".json")


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
