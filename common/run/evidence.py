"""What a run's data tells of why the run is no better: facts alone, of which `stages/next_steps.py` makes advice."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Nothing unless a challenge knows it.

    counts:      training samples of each class. unit: what they are samples of, in the plural.
    too_small:   share of each class's objects that are smaller than anything the network looks for.
    for_smaller: flags with which it looks for smaller ones; empty where there are none.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    unit: str = "samples"
    too_small: Mapping[str, float] = field(default_factory=dict)
    for_smaller: tuple[str, ...] = ()
