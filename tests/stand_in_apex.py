"""apex.contrib.groupbn for machines without a GPU: the kernel's own terms, by torch's operators.

It takes what the kernel takes, float16 with the channels last and contiguous, and looks that gradients come so, too.
"""

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm


class _Normalised(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, z: Tensor | None, module: "BatchNorm2d_NHWC", *weights: Tensor) -> Tensor:
        with torch.enable_grad():
            given = [tensor.detach().float().requires_grad_() for tensor in (x, *weights)]
            images, weight, bias = given
            sums = functional.batch_norm(
                images.permute(0, 3, 1, 2), module.running_mean, module.running_var, weight, bias, True,
                module.momentum, module.eps,
            ).permute(0, 2, 3, 1)  # fmt: skip
            added = None if z is None else z.detach().float().requires_grad_()
            sums = sums if added is None else sums + added
            answer = sums.relu() if module.fuse_relu else sums
        ctx.answer, ctx.given, ctx.added = answer, given, added
        return answer.detach().half().contiguous()

    @staticmethod
    def backward(ctx: Any, errors: Tensor) -> tuple[Any, ...]:
        assert errors.dtype == torch.float16
        assert errors.is_contiguous()
        inputs = [*ctx.given, *([] if ctx.added is None else [ctx.added])]
        images, weight, bias, *added = torch.autograd.grad(ctx.answer, inputs, errors.float())
        return images.half(), added[0].half() if added else None, None, weight, bias


class BatchNorm2d_NHWC(_BatchNorm):  # noqa: N801, apex's name
    def __init__(
        self,
        num_features: int,
        fuse_relu: bool = False,
        bn_group: int = 1,
        max_cta_per_sm: int = 2,
        cta_launch_margin: int = 12,
        multi_stream: bool = False,
    ) -> None:
        super().__init__(num_features)
        self.fuse_relu, self.bn_group = fuse_relu, bn_group

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        assert self.training
        for tensor in (x, z):
            assert tensor is None or (tensor.dtype == torch.float16 and tensor.is_contiguous())
        assert z is None or self.fuse_relu
        answer: Tensor = _Normalised.apply(x, z, self, self.weight, self.bias)
        return answer


def install(patch: pytest.MonkeyPatch) -> None:
    """Let `import apex.contrib.groupbn` find it."""
    names = ("apex", "apex.contrib", "apex.contrib.groupbn")
    modules = {name: ModuleType(name) for name in names}
    modules["apex.contrib.groupbn"].BatchNorm2d_NHWC = BatchNorm2d_NHWC  # type: ignore[attr-defined]
    for name, module in modules.items():
        patch.setitem(sys.modules, name, module)
