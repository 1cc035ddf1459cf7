"""The moving average of a module's weights, which follows closely at first and never remembers the start."""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from common.errors import RecipeError

WARMUP = 9  # after t updates the average reaches back over t / WARMUP of them, until `decay` allows no more


class MovingAverage(nn.Module):
    """A copy `module` of a network that follows it: after each update, a share of the old and the rest new.

    The share after t updates is min(decay, t / (t + 9)): the first update copies, and however short a run is, its end
    outweighs its beginning (step 1 of 30 counts less than a millionth). The idea is that of `num_updates` in
    TensorFlow's ExponentialMovingAverage. Normalisation statistics are averaged too: they belong to the averaged
    weights; whole numbers are copied.

    shared: parameters that are not averaged: the copy has the network's own, as they are now.

    An update is one call for the list of all tensors and never waits for the device. Build it when the network is on
    its device.
    """

    def __init__(self, network: nn.Module, decay: float, shared: Iterable[nn.Parameter] = ()) -> None:
        super().__init__()
        if not 0 < decay < 1:
            raise RecipeError(f"training.ema-decay is {decay}.", "It must be above 0 and below 1.")
        self.decay, self.updates = decay, 0
        kept = {id(parameter): parameter for parameter in shared}
        self._shared = kept.keys()
        self.module = copy.deepcopy(network, dict(kept))
        for parameter in self.module.parameters():
            if id(parameter) not in self._shared:
                parameter.requires_grad_(False)

    def share(self) -> float:
        """How much of the average the next update keeps."""
        return min(self.decay, self.updates / (self.updates + WARMUP))

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the network's present weights."""
        averages, counters = self._tensors(self.module)
        present, present_counters = self._tensors(network)
        torch._foreach_lerp_(averages, present, 1 - self.share())
        if counters:
            torch._foreach_copy_(counters, present_counters)
        self.updates += 1

    def get_extra_state(self) -> int:
        return self.updates

    def set_extra_state(self, state: int) -> None:
        self.updates = state

    def _tensors(self, network: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
        """The parameters and buffers that can be averaged, and those that count."""
        both = [tensor for tensor in (*network.parameters(), *network.buffers()) if id(tensor) not in self._shared]
        return [t for t in both if t.is_floating_point()], [t for t in both if not t.is_floating_point()]
