"""Optimizers and what they act on: parameter groups, LAMB, FTRL, the choice of implementation."""

import importlib
import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, overload

import torch
from torch import Tensor, nn

from common.errors import DeviceError, RecipeError
from common.run.recipe import OptimizerConfig
from common.training.schedules import Schedule
from common.training.task import ScheduledOptimizer

ADAM_EPSILON = 1e-8  # PyTorch's and the paper's
LAMB_EPSILON = 1e-6  # the authors' code and NVIDIA's apex


def parameter_groups(
    module: nn.Module,
    *,
    weight_decay: float,
    decay_norm_and_bias: bool,
    lr_scales: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Sort a module's parameters, each exactly once and in their own order, into groups for an optimizer.

    Normalisation weights and biases, the parameters with at most one dimension, are not decayed unless asked for.
    Frozen parameters are included: without a gradient an optimizer leaves them alone.

    lr_scales: first part of a parameter's name, whole words between dots -> factor on the learning rate; the longest
               match counts, 1 where none does.
    returns:   groups with `params`, `weight_decay`, `lr_scale` and `name`.
    Raises RecipeError for a negative scale and for one that matches no parameter.
    """
    lr_scales = lr_scales or {}
    _require_scales(lr_scales, module)
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in module.named_parameters():
        prefix = max((prefix for prefix in lr_scales if _starts(name, prefix)), key=len, default=None)
        scale = 1.0 if prefix is None else lr_scales[prefix]
        decays = parameter.ndim > 1 or decay_norm_and_bias
        group = groups.setdefault(
            (scale, decays),
            {
                "params": [],
                "weight_decay": weight_decay if decays else 0.0,
                "lr_scale": scale,
                "name": f"{'decay' if decays else 'no-decay'} lr-scale={scale:g}",
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


def scheduled_optimizer(
    module: nn.Module, config: OptimizerConfig, schedule: Schedule, *, lr_scales: Mapping[str, float] | None = None
) -> ScheduledOptimizer:
    """The recipe's optimizer over all of a module's parameters, where these are."""
    groups = parameter_groups(
        module,
        weight_decay=config.weight_decay,
        decay_norm_and_bias=config.decay_norm_and_bias,
        lr_scales=lr_scales,
    )
    return ScheduledOptimizer(build_optimizer(config, groups, next(module.parameters()).device), schedule)


def stage_scales(module: nn.Module, stages: Sequence[tuple[str, nn.Module]], factor: float) -> dict[str, float]:
    """Learning-rate scales that shrink by `factor` per stage from the head down.

    stages:  from stem to head, parts of `module`; the last one gets 1.
    returns: name of each of their parameters in `module` -> scale, for `parameter_groups`
    Source:  Howard and Ruder 2018, arXiv:1801.06146, discriminative fine-tuning.
    """
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return {
        names[id(parameter)]: factor ** (len(stages) - 1 - position)
        for position, (_, stage) in enumerate(stages)
        for parameter in stage.parameters()
    }


def build_optimizer(
    config: OptimizerConfig, groups: Iterable[dict[str, Any]], device: torch.device | str
) -> torch.optim.Optimizer:
    """The recipe's optimizer over `parameter_groups`; its learning rate is set at every step by the schedule.

    auto: torch's fused implementation on GPUs and CPUs, the quickest on both; foreach for LAMB, which torch lacks, for
          RMSProp, and for Adagrad on GPUs.
    Raises RecipeError for a combination that does not exist, DeviceError where apex cannot work.
    """
    if config.nesterov and config.momentum <= 0:
        raise RecipeError(
            f"optimizer.nesterov was chosen with optimizer.momentum {config.momentum}.", "It needs a momentum above 0."
        )
    _require_implementation(config, torch.device(device))
    if config.implementation == "apex":
        return _apex_optimizer(config, list(groups), torch.device(device))
    if config.name == "lamb":
        return Lamb(groups, lr=config.peak_lr, betas=config.betas)
    if config.name == "ftrl":
        return Ftrl(groups, lr=config.peak_lr)
    if config.name == "rmsprop":
        return torch.optim.RMSprop(
            groups, lr=config.peak_lr, alpha=config.betas[1], momentum=config.momentum, foreach=True
        )
    foreach_only = config.name == "adagrad" and torch.device(device).type != "cpu"
    kernel = {"foreach": True} if config.implementation == "foreach" or foreach_only else {"fused": True}
    fused_on_cpu = "fused" in kernel and torch.device(device).type == "cpu"
    if config.name == "adagrad":
        built: torch.optim.Optimizer = torch.optim.Adagrad(groups, lr=config.peak_lr, **kernel)
    elif config.name == "adamw":
        adamw = MemoryOrderAdamW if fused_on_cpu else torch.optim.AdamW
        built = adamw(groups, lr=config.peak_lr, betas=config.betas, eps=ADAM_EPSILON, **kernel)
    else:
        built = torch.optim.SGD(groups, lr=config.peak_lr, momentum=config.momentum, nesterov=config.nesterov, **kernel)
        if config.momentum:
            built.register_step_pre_hook(_begin_momentum)
    if fused_on_cpu:
        built.register_step_pre_hook(_lay_out_gradients)
    return built


def _lay_out_gradients(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Lay each gradient out as its weight is.

    torch's fused kernels for CPUs read both from end to end, whatever their strides say, and would pair weights with
    other weights' gradients.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is not None and not gradient.is_sparse and not _in_one_order(parameter, gradient):
                parameter.grad = torch.empty_like(parameter).copy_(gradient)


def _in_one_order(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors of one shape lie alike in memory, whatever strides they state for dimensions of size one."""
    return first.stride() == second.stride() or (first.is_contiguous() and second.is_contiguous())


def _line(tensor: Tensor) -> Tensor:
    """A view of all that a channels-last tensor holds, in the order of memory; any other as it is."""
    if tensor.is_contiguous() or not tensor.is_contiguous(memory_format=torch.channels_last):
        return tensor
    return tensor.as_strided((tensor.numel(),), (1,))


def _begin_momentum(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Begin momentum at zero: torch's fused kernel leaves it unwritten where the first gradients are not finite."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None and optimizer.state[parameter].get("momentum_buffer") is None:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def _require_implementation(config: OptimizerConfig, device: torch.device) -> None:
    """Raise RecipeError where the implementation that was asked for does not exist."""
    kinds = {"lamb": ("auto", "foreach", "apex"), "ftrl": ("auto",), "rmsprop": ("auto", "foreach")}
    kinds["adagrad"] = ("auto", "foreach", "fused") if device.type == "cpu" else ("auto", "foreach")
    if config.name in kinds and config.implementation not in kinds[config.name]:
        raise RecipeError(
            f"optimizer.implementation {config.implementation} was chosen for {config.name}.",
            f"On {device.type} it is there as {', '.join(kinds[config.name])}.",
        )


class MemoryOrderAdamW(torch.optim.AdamW):
    """torch's fused AdamW on a CPU, given channels-last tensors as what they are in memory: one line of numbers.

    The kernel copies each of them otherwise, a quarter of a ResNet-50's update or more. The weights are the same bits.
    """

    def _init_group(
        self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor], *states: list[Tensor]
    ) -> bool:
        is_complex: bool = torch.optim.AdamW._init_group(self, group, parameters, gradients, *states)
        for tensors in (parameters, gradients, *states):
            tensors[:] = [_line(tensor) for tensor in tensors]
        return is_complex


class GroupOptimizer(torch.optim.Optimizer):
    """Updates one group of parameters after the other; the device is never synchronised."""

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._update_group(group)
        return loss

    @abstractmethod
    def _update_group(self, group: dict[str, Any]) -> None:
        """Update every parameter of a group that has a gradient."""


class Lamb(GroupOptimizer):
    """Adam with decoupled decay whose step is as long, per tensor, as the tensor's own norm times the learning rate.

    Tensors without weight decay (normalisation weights and biases) take plain Adam steps, as in the authors' code.
    Equals apex's FusedLAMB without its clipping of the global gradient norm.
    Source: You et al. 2020, arXiv:1904.00962, algorithm 2.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = LAMB_EPSILON,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def _update_group(self, group: dict[str, Any]) -> None:
        params = [parameter for parameter in group["params"] if parameter.grad is not None]
        if params:
            updates = self._adam_directions(params, group)
            if group["weight_decay"]:
                torch._foreach_add_(updates, params, alpha=group["weight_decay"])
                _scale_to_norms(updates, params)
            torch._foreach_add_(params, updates, alpha=-group["lr"])

    def _adam_directions(self, params: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        """Update both moments and return their bias-corrected quotient per tensor."""
        beta1, beta2 = group["betas"]
        for parameter in params:
            state = self.state[parameter]
            if not state:
                state.update(step=0, exp_avg=torch.zeros_like(parameter), exp_avg_sq=torch.zeros_like(parameter))
            state["step"] += 1
        states = [self.state[parameter] for parameter in params]
        gradients = [parameter.grad for parameter in params if parameter.grad is not None]
        first, second = [state["exp_avg"] for state in states], [state["exp_avg_sq"] for state in states]
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, value=1 - beta2)
        deviations = torch._foreach_sqrt(second)
        torch._foreach_div_(deviations, [math.sqrt(1 - beta2 ** state["step"]) for state in states])
        torch._foreach_add_(deviations, group["eps"])
        directions = torch._foreach_div(first, deviations)
        torch._foreach_div_(directions, [1 - beta1 ** state["step"] for state in states])
        return list(directions)


class Ftrl(GroupOptimizer):
    """FTRL-proximal; a group's weight decay is its L2 penalty.

    l1:    the penalty by which most weights become exactly zero.
    start: of the sums of squares.
    Source: McMahan et al. 2013, "Ad click prediction: a view from the trenches", algorithm 1, with beta 0 and a start
    as in TensorFlow; weights start where they are, as there.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.02,
        l1: float = 0.0,
        start: float = 0.1,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "l1": l1, "start": start, "weight_decay": weight_decay})
        for group in self.param_groups:
            for parameter in group["params"]:
                squares = torch.full_like(parameter, group["start"])
                self.state[parameter].update(squares=squares, linear=torch.zeros_like(parameter))

    def _update_group(self, group: dict[str, Any]) -> None:
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            state = self.state[parameter]
            values, squares, linear = ftrl_update(
                parameter, parameter.grad, state["squares"], state["linear"],
                lr=group["lr"], l1=group["l1"], l2=group["weight_decay"],
            )  # fmt: skip
            parameter.copy_(values)
            state["squares"].copy_(squares)
            state["linear"].copy_(linear)


def ftrl_update(
    values: Tensor, gradient: Tensor, squares: Tensor, linear: Tensor, *, lr: float, l1: float, l2: float
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of FTRL-proximal: the new values, sums of squares and linear terms, all of the values' shape."""
    after = squares + gradient.square()
    linear = linear + gradient - (after.sqrt() - squares.sqrt()) / lr * values
    fresh = (linear.clamp(-l1, l1) - linear) / (after.sqrt() / lr + 2 * l2)
    return fresh, after, linear


def _scale_to_norms(updates: list[Tensor], params: list[Tensor]) -> None:
    """Multiply each update by the ratio of its parameter's norm to its own; by 1 where either is zero."""
    lengths, targets = torch.stack(torch._foreach_norm(updates)), torch.stack(torch._foreach_norm(params))
    ratios = torch.where((lengths > 0) & (targets > 0), targets / lengths, 1.0)
    torch._foreach_mul_(updates, list(ratios.unbind()))


def _apex_optimizer(
    config: OptimizerConfig, groups: list[dict[str, Any]], device: torch.device
) -> torch.optim.Optimizer:
    if device.type != "cuda":
        raise DeviceError(
            f"optimizer.implementation apex was chosen, and the device is {device}.",
            "NVIDIA's apex works on NVIDIA GPUs only.",
            "Use --optimizer.implementation auto.",
        )
    lr, betas = config.peak_lr, config.betas
    try:
        apex = importlib.import_module("apex.optimizers")
        if config.name == "adamw":
            built: torch.optim.Optimizer = apex.FusedAdam(
                groups, lr=lr, betas=betas, eps=ADAM_EPSILON, adam_w_mode=True
            )
        elif config.name == "lamb":  # an infinite maximal norm: clipping is the trainer's business
            built = apex.FusedLAMB(groups, lr=lr, betas=betas, eps=LAMB_EPSILON, max_grad_norm=math.inf)
        else:
            built = apex.FusedSGD(groups, lr=lr, momentum=config.momentum, nesterov=config.nesterov)
        return built
    except (ImportError, AttributeError, RuntimeError) as error:  # RuntimeError: apex built without its CUDA kernels
        raise DeviceError(
            f"optimizer.implementation apex was chosen, and NVIDIA's apex cannot be used here: {error}.",
            "It comes with NVIDIA's PyTorch image; the package named apex on the Python index is unrelated software.",
            "Run in that image, build NVIDIA's apex from its source, or use --optimizer.implementation auto.",
        ) from error


def _starts(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def _require_scales(lr_scales: Mapping[str, float], module: nn.Module) -> None:
    names = [name for name, _ in module.named_parameters()]
    for prefix, scale in lr_scales.items():
        if scale < 0:
            raise RecipeError(f"The learning-rate scale of {prefix} is {scale}.", "It must not be negative.")
        if not any(_starts(name, prefix) for name in names):
            known = ", ".join(dict.fromkeys(name.split(".")[0] for name in names))
            raise RecipeError(f"A learning-rate scale names {prefix}, and no parameter does.", f"There are: {known}.")
