"""The state of torch's generators on every rank, as a checkpoint can hold it, for any number of ranks to go on from."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from common.machine.distributed import from_all_ranks


def generator_states(device: torch.device) -> list[dict[str, Any]]:
    """Of every rank the states of the CPU's generator and of its device's; to be called by all."""
    on_gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return from_all_ranks({"cpu": torch.get_rng_state(), "cuda": on_gpu})


def seed_generators(seed: int, rank: int) -> None:
    """Give each rank numbers of its own, the first those of the seed, where all have drawn alike so far."""
    if rank > 0:
        torch.manual_seed(int(np.random.default_rng([seed, rank]).integers(2**63)))


def restore_generators(states: Sequence[dict[str, Any]], rank: int, device: torch.device) -> None:
    """Go on from this rank's states; a rank that was not there goes on from where it is."""
    if rank >= len(states):
        return
    state = states[rank]
    torch.set_rng_state(state["cpu"].cpu())
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
