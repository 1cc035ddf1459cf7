"""Batch normalisation with the addition and the ReLU that follow it, read and written once: NVIDIA's apex.

Its kernels are in apex.contrib.groupbn, where apex was built with its extension bnp. They take float16 in channels-last
memory on a GPU, as (batch, height, width, channel); running statistics, epsilon and momentum mean what torch's do.
"""

import contextlib
import importlib
import io
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import DeviceError


class FusedNorm(nn.BatchNorm2d):
    """Batch normalisation, a shortcut added where there is one, and ReLU; parameters are named as nn.BatchNorm2d's.

    relu: whether ReLU follows; without it nothing can be added.

    Trained by apex's kernel; evaluated, exported and frozen by torch's operators.
    """

    def __init__(self, channels: int, *, relu: bool = True) -> None:
        super().__init__(channels)
        self.relu = relu
        self._kernels: tuple[Any, ...] = ()  # a module of its own would have the parameters twice in every state

    def forward(self, features: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """features, shortcut: (batch, channel, height, width); returns the same shape."""
        assert self.relu or shortcut is None
        if not self.training:
            normed = super().forward(features)
            normed = normed if shortcut is None else normed + shortcut
            return normed.relu() if self.relu else normed
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        answer: Tensor = self._kernel()(*(_as_nhwc(tensor) for tensor in (features, shortcut) if tensor is not None))
        if answer.requires_grad:
            answer.register_hook(torch.Tensor.contiguous)  # which the kernel takes for granted, and a mean's is not
        return answer.permute(0, 3, 1, 2)

    def _kernel(self) -> Any:
        """apex's module with this one's parameters and statistics, which may have moved since the last step."""
        if not self._kernels:
            self._kernels = (load_apex()(self.num_features, fuse_relu=self.relu),)
        (kernel,) = self._kernels
        kernel.train()
        for name in ("weight", "bias", "running_mean", "running_var", "eps", "momentum"):
            setattr(kernel, name, getattr(self, name))
        return kernel


def _as_nhwc(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float16).permute(0, 2, 3, 1).contiguous()


def require_apex(device: torch.device) -> None:
    """Raise DeviceError where apex's kernels cannot normalise."""
    if device.type != "cuda":
        raise DeviceError(
            f"model.normalisation apex was chosen, and the device is {device}.",
            "NVIDIA's apex works on NVIDIA GPUs only.",
            "Use --model.normalisation torch there, which learns the same.",
        )
    load_apex()


def load_apex() -> Any:
    """The class of apex's kernels; DeviceError where there is none."""
    told = io.StringIO()
    try:
        with contextlib.redirect_stdout(told):  # where it was built without them, apex prints that
            return importlib.import_module("apex.contrib.groupbn").BatchNorm2d_NHWC
    except (ImportError, AttributeError) as error:
        reason = told.getvalue().strip() or str(error)
        raise DeviceError(
            f"model.normalisation apex was chosen, and its kernels are not here: {reason}.",
            "They come with NVIDIA's apex where it was built with its extension bnp.",
            "Work in NVIDIA's PyTorch image, build apex so, or use --model.normalisation torch.",
        ) from error
