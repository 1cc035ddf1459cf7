"""The parts of `benchmarks.proof.prove_gpu`, each run as `python -m benchmarks.proof.gpu_parts PART FOLDER`.

Each prints a verdict. Sizes are a GPU's; on a CPU a part does a little of the same work, or says that it needs a GPU.
"""

import copy
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.proof.prove_gpu import Verdict
from benchmarks.proof.stand_ins import stand_in
from benchmarks.reads import Reads

HAS_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda", 0) if HAS_GPU else torch.device("cpu")
ON_A_CPU = ("momentum", "waits", "ladder", "recommenders")
"""The parts that do a little of their work where there is no GPU."""
STEPS = 20
SECONDS = 5.0 if HAS_GPU else 0.2  # of one measurement
WARMUP = 5 if HAS_GPU else 1  # steps
RECOMMENDERS = ("ncf", "vae_cf", "bert4rec", "dlrm", "wide_and_deep")
COPIES = {"ncf": 2**17, "vae_cf": 1, "bert4rec": 256, "dlrm": 2**14, "wide_and_deep": 2**14}
"""Samples of a step on a GPU; vae_cf's demo batch stays as it is."""
RUNGS: tuple[tuple[Literal["bf16", "fp16"], str], ...] = (
    ("bf16", "eager"), ("bf16", "compile"), ("bf16", "compile+graph"), ("fp16", "apex"), ("fp16", "apex+graph"),
    ("fp16", "eager"), ("fp16", "compile"), ("fp16", "compile+graph"), ("bf16", "graph"), ("bf16", "contiguous"),
)  # fmt: skip
"""Of the ladder, the most telling first: a number format, and what of the recipe's choices is taken beside it."""
DEVIATION = 0.225  # by which pixels in [0, 1] were divided, the mean of ImageNet's three
DRIFT = 2.0  # of 255, mean absolute difference of two decoders' pixels


def tests(folder: Path) -> Verdict:
    """The tests that are marked for a GPU."""
    if importlib.util.find_spec("pytest") is None:
        return Verdict("left out", "pytest is not installed")
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-m", "gpu"], capture_output=True, text=True)
    print(done.stdout, done.stderr)
    return Verdict("passed" if done.returncode == 0 else "failed", done.stdout.strip().splitlines()[-1])


def momentum(folder: Path) -> Verdict:
    """After a first step whose gradients overflow, fused SGD goes on as if that step had not been."""
    from common.machine.precision import Precision
    from common.run.recipe import OptimizerConfig
    from common.training.optimizers import build_optimizer

    features, target = torch.randn(64, 256, device=DEVICE), torch.randn(64, 256, device=DEVICE)
    start, ends = nn.Linear(256, 256).to(DEVICE), []
    for spoilt in (False, True):
        network = copy.deepcopy(start)
        optimizer = build_optimizer(
            OptimizerConfig(peak_lr=0.1), [{"params": list(network.parameters()), "weight_decay": 0.0}], DEVICE
        )
        scaler = Precision("fp16", torch.float16).scaler(DEVICE)
        for step in range(-int(spoilt), 3):
            loss = functional.mse_loss(network(features), target) * (torch.inf if step < 0 else 1)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        ends.append(network.weight.detach())
    difference = float((ends[0] - ends[1]).abs().max())
    return Verdict("passed" if difference < 1e-5 else "failed", "fused SGD", {"largest_difference": difference})


def waits(folder: Path) -> Verdict:
    """Where the host waits for the GPU in 20 steps of every model; on a CPU, how often a recommender's step would."""
    counts: dict[str, float] = {}
    places: list[str] = []
    for model in ("resnet50", "ssd300", *RECOMMENDERS) if HAS_GPU else RECOMMENDERS:
        try:
            step = _demo_step(model, None)
        except ImportError as error:
            places.append(f"{model} left out: {error}")
            continue
        step()
        found = _places_of_waits(step) if HAS_GPU else _reads(step)
        counts[f"{model}_waits_per_step"] = len(found) / STEPS
        places += sorted({f"{model} {place}" for place in found})
    if not HAS_GPU:
        return Verdict("measured", "; ".join(places), counts)
    return Verdict("passed" if not any(counts.values()) else "failed", "; ".join(places), counts)


def _places_of_waits(step: "_Stepper") -> list[str]:
    """File and line of every wait in some steps, as torch warns of it."""
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(STEPS):
            step()
    torch.cuda.set_sync_debug_mode("default")
    return [f"{Path(one.filename).name}:{one.lineno}" for one in caught if "synchroniz" in str(one.message)]


def _reads(step: "_Stepper") -> list[str]:
    """The operations of some steps that would wait on a GPU, whose scaler is taken."""
    from common.machine.precision import DeviceScaler

    step.scale_by(DeviceScaler("cpu", init_scale=1.0, growth_interval=2**31 - 1))
    counted = Reads()
    with counted:
        for _ in range(STEPS):
            step()
    return counted.reading


def ladder(folder: Path) -> Verdict:
    """ResNet-50 on made-up images: number formats, memory layouts, compiled and captured; images per second.

    The losses after some steps from one start tell whether a rung learns as the others do.
    """
    from challenges.classification.recipes import RECIPES
    from challenges.classification.task import ClassificationTask

    batch, size = (256, 224) if HAS_GPU else (2, 64)
    base = RECIPES["imagenet-90e"]
    images = torch.randn(batch, 3, size, size, device=DEVICE).contiguous(memory_format=torch.channels_last)
    fixed = {"images": images, "label": torch.arange(batch, device=DEVICE) % 1000}
    figures: dict[str, float] = {}
    told = []
    for precision, rung in RUNGS if HAS_GPU else RUNGS[:1]:
        choices = rung.split("+")
        training = replace(
            base.training, batch_size=batch, micro_batch=batch, precision=precision,
            channels_last="contiguous" not in choices, compile="compile" in choices, cuda_graphs="graph" in choices,
        )  # fmt: skip
        normalisation: Any = "apex" if "apex" in choices else "torch"
        recipe = replace(base, model=replace(base.model, normalisation=normalisation), training=training)
        try:
            torch.manual_seed(0)
            task = ClassificationTask(recipe, [1] * 1000)
            step = _Stepper(task, recipe, precision, fixed)
            losses = [step()["loss"].clone() for _ in range(WARMUP * 4)]
            figures[f"{precision}_{rung}_loss_after_{len(losses)}_steps"] = float(losses[-1])
            figures[f"{precision}_{rung}_images_per_s"] = _rate(step, batch)
            if HAS_GPU and rung == "eager":
                figures[f"{precision}_batch_norm_share"] = _share_of(step, "batch_norm")
        except Exception as error:
            told.append(f"{precision} {rung}: {type(error).__name__}: {str(error).splitlines()[0][:150]}")
        _tell(Verdict("measured", "; ".join(told), figures))  # of which compiling the next may leave nothing else
    if not figures:
        return Verdict("failed", "; ".join(told))
    rates = {name: value for name, value in figures.items() if name.endswith("_images_per_s")}
    fastest = max(rates, key=lambda name: rates[name]).removesuffix("_images_per_s").replace("_", " ")
    where = "" if HAS_GPU else " of two small images on the CPU"
    return Verdict("measured", "; ".join([*told, f"the fastest{where}: {fastest}"]), figures)


def detection(folder: Path) -> Verdict:
    """SSD300's steps on a demo batch repeated to 64 and 128 images."""
    return Verdict("measured", "", {f"batch_{n}_images_per_s": _rate(_demo_step("ssd300", n), n) for n in (64, 128)})


def recommenders(folder: Path) -> Verdict:
    """A large step and one evaluation of every recommender, on its demo data."""
    figures: dict[str, float] = {}
    told = []
    for model in RECOMMENDERS if HAS_GPU else ("vae_cf",):
        try:
            step = _demo_step(model, COPIES[model] if HAS_GPU else None)
            figures[f"{model}_samples_per_s"] = _rate(step, step.batch_size)
            started = time.perf_counter()
            step.evaluate()
            figures[f"{model}_evaluation_s"] = time.perf_counter() - started
        except Exception as error:
            told.append(f"{model}: {type(error).__name__}: {str(error).splitlines()[0][:150]}")
    return Verdict("measured" if figures else "failed", "; ".join(told), figures)


def capture(folder: Path) -> Verdict:
    """A captured step and an eager one end with the same weights after 20 steps, while another thread allocates."""
    import threading

    from challenges.classification.recipes import RECIPES
    from challenges.classification.task import ClassificationTask

    ended = threading.Event()

    def allocate() -> None:
        while not ended.wait(0.001):
            torch.cuda.caching_allocator_delete(torch.cuda.caching_allocator_alloc(1 << 22))

    threading.Thread(target=allocate, daemon=True).start()
    fixed = {"images": torch.randn(32, 3, 64, 64, device=DEVICE), "label": torch.arange(32, device=DEVICE) % 10}
    ends = []
    for captured in (False, True):
        base = RECIPES["demo"]
        recipe = replace(base, training=replace(base.training, batch_size=32, micro_batch=32, cuda_graphs=captured))
        torch.manual_seed(0)
        task = ClassificationTask(recipe, [1] * 10)
        step = _Stepper(task, recipe, "fp32", fixed)
        for _ in range(STEPS):
            step()
        ends.append(torch.cat([parameter.detach().flatten() for parameter in task.parameters()]))
    ended.set()
    difference = float((ends[0] - ends[1]).norm() / ends[0].norm())
    return Verdict("passed" if difference < 1e-3 else "failed", "", {"relative_difference": difference})


def pixels(folder: Path) -> Verdict:
    """Pictures and windows of them, decoded on the GPU and on the CPU."""
    means = {}
    for what in ("training windows", "validation"):
        sides = []
        for device in (DEVICE, torch.device("cpu")):
            data = _demo("resnet50", device)[2]
            batches = data.train_batches(0, 16, 1) if what.startswith("training") else data.validation_batches()
            sides.append(next(iter(batches))["images"].float().cpu())
        means[f"{what.replace(' ', '_')}_mean_difference"] = float((sides[0] - sides[1]).abs().mean()) * 255 * DEVIATION
    return Verdict("passed" if max(means.values()) < DRIFT else "failed", "of 255", means)


def zero_copy(folder: Path) -> Verdict:
    """2,000 batches of the loader, read again after a busy stream, against what they held when they came."""
    batches, weights = _demo("resnet50", DEVICE)[2].train_batches(0, 16, 1), torch.randn(4096, 4096, device=DEVICE)
    changed = torch.zeros((), dtype=torch.int64, device=DEVICE)
    for _ in range(2000):
        images = next(batches)["images"]
        before = images.clone()
        weights = functional.normalize(weights @ weights)
        changed += (images != before).any()
    return Verdict("passed" if not changed.item() else "failed", "", {"changed_batches": float(changed)})


def overlap(folder: Path) -> Verdict:
    """Data alone, computing alone, and both together; the record is of the benchmarks' own kind."""
    shrunk = ("--smoke", "--recipe", "imagenet-50e", "--batch", "128", "--seconds", "24")
    return _command("benchmarks.throughput", "resnet50", *shrunk, "--output", str(folder))


def walk(folder: Path) -> Verdict:
    """The whole line on 300 generated photographs: data, training, export, parity and serving."""
    for name in ("nvidia.dali", "rich", "tyro", "PIL"):
        importlib.import_module(name)
    from challenges.classification import demo

    photographs = demo.generate(folder.absolute() / "photographs", images_per_class=(24, 6))
    chosen = ("--data", str(photographs), "--recipe", "photos", "--training.epochs", "10")
    return _command("challenges", "challenge", "resnet50", *chosen, "--run", str(folder / "run"))


PARTS: dict[str, Callable[[Path], Verdict]] = {
    "tests": tests, "momentum": momentum, "waits": waits, "ladder": ladder, "detection": detection,
    "recommenders": recommenders, "capture": capture, "pixels": pixels, "zero-copy": zero_copy, "overlap": overlap,
    "walk": walk,
}  # fmt: skip


class _Stepper:
    """Training steps on one batch that stays in the device's memory."""

    def __init__(
        self, task: Any, recipe: Any, precision: Any, batch: dict[str, Tensor], data: Any = None, batch_size: int = 0
    ) -> None:
        from benchmarks.steps import ready_step
        from common.machine.precision import select_precision

        self._step: Any = ready_step(task, recipe, select_precision(precision, DEVICE), DEVICE)
        self._task, self._data, self._batch, self.batch_size, self._done = task, data, batch, batch_size, 0

    def __call__(self) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self._step([self._batch], self._done)
        self._done += 1
        return losses

    def scale_by(self, scaler: torch.amp.GradScaler) -> None:
        self._step.scaler = scaler

    def evaluate(self) -> None:
        with torch.no_grad():
            self._task.eval().evaluate(self._data.validation_batches())


def _demo(model: str, device: torch.device) -> tuple[Any, Any, Any]:
    """A challenge, a recipe for its sample data, and this data, checked."""
    from rich.console import Console

    from challenges.registry import MODELS

    challenge, console = MODELS[model].load(), Console(quiet=True)
    recipe = challenge.recipes["small" if model == "ssd300" else "demo"]  # whose demo sees less than 300 pixels
    with tempfile.TemporaryDirectory() as folder:
        challenge.check(challenge.sample_data(console), recipe, Path(folder), console)
        return challenge, recipe, challenge.open_data(recipe, Path(folder), device)


def _demo_step(model: str, size: int | None) -> _Stepper:
    """Steps of a model on its demo data, with one batch of the recipe's size or repeated to `size` samples."""
    challenge, recipe, data = _demo(model, DEVICE)
    batch_size = min(recipe.training.batch_size, data.num_train)
    batch = {name: value.clone() for name, value in next(iter(data.train_batches(0, batch_size, 1))).items()}
    if size is not None and size > batch_size:
        times = size // batch_size
        batch = {name: value.repeat(times, *[1] * (value.ndim - 1)) for name, value in batch.items()}
        batch_size *= times
    task = challenge.build_task(recipe, data)
    return _Stepper(task, recipe, "auto", batch, data, batch_size)


def _wait() -> None:
    if HAS_GPU:
        torch.cuda.synchronize()


def _rate(step: Callable[[], dict[str, Tensor]], samples: int) -> float:
    """Samples per second; raises where a loss is not finite."""
    for _ in range(WARMUP):
        losses = step()
    _wait()
    started, steps = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS:
        for _ in range(STEPS if HAS_GPU else 1):
            losses = step()
        _wait()
        steps += STEPS if HAS_GPU else 1
    seconds = time.perf_counter() - started
    if not bool(losses["loss"].isfinite()):
        raise ArithmeticError("the loss is not finite")
    return steps * samples / seconds


def _share_of(step: Callable[[], dict[str, Tensor]], name: str) -> float:
    """Of the GPU's time in one step, the part of kernels under operations with `name` in theirs."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
    ) as seen:
        step()
        _wait()
    events = seen.key_averages()
    total = sum(event.self_device_time_total for event in events)
    part = sum(event.self_device_time_total for event in events if name in event.key)
    return float(part / max(total, 1))


def _tell(verdict: Verdict) -> None:
    """Print a verdict as a line of JSON."""
    sys.stderr.flush()
    print(json.dumps(asdict(verdict)), flush=True)


def _command(module: str, *arguments: str) -> Verdict:
    """A command of the kit, by its exit code; its last line is told."""
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True)
    lines = (done.stdout.strip() or done.stderr.strip()).splitlines()
    return Verdict("passed" if done.returncode == 0 else "failed", lines[-1][:300] if lines else "")


def main() -> None:
    """Run one part; print its verdict as a line of JSON."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    stand_in()
    try:
        found = PARTS[name](folder) if HAS_GPU or name in ON_A_CPU else Verdict("needs a GPU")
    except ImportError as error:
        found = Verdict("left out", f"{error.name or error} is not installed")
    _tell(found)


if __name__ == "__main__":
    main()
