"""The line from data to report: each stage is skipped when its inputs have not changed, and resumes when cut off."""

import contextlib
import datetime
import functools
import hashlib
import importlib.util
import math
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from common.challenge import Challenge, CheckedData
from common.errors import DataError, RecipeError, ServingError
from common.failures import explain
from common.files import cache_folder, copy_file, remove_leftovers, write_json
from common.language.telling import tell
from common.machine.device import DeviceChoice, repeat_exactly, select_device
from common.machine.distributed import Meeting, World, barrier, world_from_environment
from common.machine.environment import collect_environment, kit_version
from common.machine.precision import select_precision
from common.report.page import write_report
from common.run import fitting
from common.run.overrides import chosen_fields
from common.run.recipe import Recipe
from common.run.result import Interval, Kit, Result, decide, ranked, result_line
from common.run.run_directory import Entry, RunDirectory
from common.slug import slug
from common.stages.held_out import judge_own_test
from common.stages.judging import can_be_read, is_of_weights, judge, keep_evaluation
from common.stages.next_steps import next_steps
from common.stages.pace import within
from common.storage.run_lock import hold
from common.terminal.console import say
from common.training.forecast import Forecaster
from common.training.generators import seed_generators
from common.training.observers import JsonLines, Observer, Profiler, ProgressReport, RunFacts, TensorBoard
from common.training.task import DataModule
from common.training.trainer import Trainer


@dataclass(frozen=True)
class Request:
    """What the user asked to train."""

    challenge: Challenge[Any, Any, Any]
    recipe_name: str
    recipe: Recipe
    data: Path | None = None
    """None for the generated demo data."""
    run: Path | None = None
    """None for a folder under runs/ that the recipe and the data name."""
    device: DeviceChoice = "auto"
    overrides: tuple[str, ...] = ()
    asked: str | None = None
    """Digest of the recipe before its epochs were measured, where they were."""


@contextlib.contextmanager
def checked(request: Request, console: Console, *, alone: bool = True) -> Iterator[tuple[CheckedData, Path]]:
    """Scan the request's data; gives what was found and the folder that holds the manifest, as long as the block runs.

    alone: keep other processes from checking the same data in another way meanwhile.
    """
    challenge = request.challenge
    root = challenge.demo_data(console) if request.data is None else request.data
    output = _check_folder(root)
    output.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        if alone:
            reader = not os.access(output, os.W_OK)
            held.enter_context(hold(output, "check", shared=reader, waiting=functools.partial(say, console)))
            remove_leftovers(output)
        yield challenge.check(root, request.recipe, output, console), output


def fitted(request: Request, folder: Path, console: Console) -> Request:
    """The request with its recipe fitted to the data whose check is in `folder`, where the recipe asks for it."""
    if request.recipe.fit == "none":
        return request
    fits = request.challenge.fits(request.recipe, folder)
    recipe, told = fitting.apply(request.recipe, fits, chosen_fields(request.overrides))
    for line in told:
        say(console, line)
    return replace(request, recipe=recipe)


def paced(request: Request, run: RunDirectory, folder: Path, device: torch.device, console: Console) -> Request:
    """The request with its epochs measured, where it has minutes instead; a run that has begun keeps its own."""
    if request.recipe.training.minutes is None:
        return request
    if world_from_environment().size > 1:
        raise RecipeError(
            "training.minutes was given to several processes.", "Each would measure other epochs.",
            "Give --training.epochs.",
        )  # fmt: skip
    asked = request.recipe.digest()
    if run.run_file.is_file() and run.description().get("asked") == asked:
        return replace(request, recipe=run.recipe(request.challenge.recipe_class), asked=asked)
    recipe, told = within(request.challenge, request.recipe, folder, device, request.overrides)
    say(console, told)
    return replace(request, recipe=recipe, asked=asked)


def train(request: Request, console: Console) -> RunDirectory:
    """Train to the end of the recipe, or find it trained; returns the run directory."""
    with trained(request, console, "train") as run:
        return run


@contextlib.contextmanager
def trained(request: Request, console: Console, verb: str) -> Iterator[RunDirectory]:
    """Train to the end of the recipe, or find it trained; the run is this process's until the block ends."""
    repeat_exactly(request.recipe.training.deterministic)
    world = world_from_environment()
    device = select_device(request.device, world.local_rank)
    console.quiet = console.quiet or not world.is_main
    meeting = Meeting(world)
    with contextlib.ExitStack() as held:
        with meeting.main_first(), checked(request, console, alone=world.is_main) as (found, folder):
            request = fitted(request, folder, console)
            run = RunDirectory(request.run or _default_run(request, found))
            if world.is_main:
                held.enter_context(run.lock(verb))
            request = paced(request, run, folder, device, console)
            is_trained = _is_trained(run, request.recipe)
            if world.is_main and not is_trained:
                _prepare(run, request, found, folder)
                alone = request.challenge.open_data(request.recipe, run.data, device)
                _baselines(request.challenge, request.recipe, run, alone)
        with meeting.joined(device):
            if is_trained:
                say(console, f"train: {run.path} is trained already, nothing to do.")
            else:
                _fit(run, request, device, world, console)
        yield run


def evaluate(
    challenge: Challenge[Any, Any, Any],
    run: RunDirectory,
    console: Console,
    *,
    precision: str = "fp32",
    device: DeviceChoice = "auto",
) -> Result:
    """Evaluate a trained run's weights on every validation sample, and test sample, and decide about its target."""
    recipe = run.recipe(challenge.recipe_class)
    run.require_weights()
    if _is_evaluated(run, precision):
        console.print("evaluate: nothing changed since the last evaluation.")
    else:
        evaluation = judge(challenge, recipe, run, run.data, device, precision)
        keep_evaluation(run, run.predictions_file, run.evaluation_file, evaluation, precision)
    told = judge_own_test(challenge, run, console, precision=precision, device=device)
    if told is not None:
        say(console, told)
    result = _conclude(challenge, recipe, run)
    advice = challenge.judgement.below_baseline(result) if result.is_below_baseline else ""
    if advice:
        say(console, advice)
    return result


def report(challenge: Challenge[Any, Any, Any], run: RunDirectory) -> Path:
    """Write the run's page from whatever the run holds."""
    return write_report(run, challenge.page.sections(run, run.recipe(challenge.recipe_class)))


def walk(request: Request, console: Console) -> Result:
    """The whole line, ending with the RESULT line."""
    challenge = request.challenge
    with trained(request, console, "challenge") as run:
        result = evaluate(challenge, run, console, device=request.device)
        if world_from_environment().size == 1:
            _deploy(challenge, run, console)
        report(challenge, run)
    say(console, result_line(result))
    for told in next_steps(run, result, challenge.judgement.evidence(run)):
        say(console, tell("next: {advice}", advice=told))
    return result


def _deploy(challenge: Challenge[Any, Any, Any], run: RunDirectory, console: Console) -> None:
    """Export, prove and write the repository, and prove it with a server where this installation has one."""
    if importlib.util.find_spec("onnx") is None:
        console.print(
            "export: left out, the serving packages are not installed: make, or pip install '.[serve,quantize]'"
        )
        return
    from common.serving.releases import container_release
    from common.stages.deployment import parity
    from common.stages.exporting import export
    from common.stages.serving_stage import payload_folder, prove_served, write_for

    export(challenge, run, console)
    choice = parity(challenge, run, console)
    if payload_folder().is_dir():
        prove_served(challenge, run, choice, console)
    else:
        console.print("serve: left out, there is no Triton server here: make triton")
    try:
        write_for([(challenge, run)], console, container_release())
    except ServingError as error:
        say(console, f"repository: left out: {' '.join(str(error).splitlines())}")


class LiveReport(Observer):
    """Refreshes the run's page at every evaluation; a page that cannot be drawn never stops a training."""

    def __init__(self, challenge: Challenge[Any, Any, Any], console: Console) -> None:
        self._challenge, self._console = challenge, console

    def on_start(self, facts: RunFacts) -> None:
        self._run = facts.run
        self._refresh()

    def on_entry(self, entry: Entry) -> None:
        if entry["kind"] == "validation":
            self._refresh()

    def _refresh(self) -> None:
        try:
            report(self._challenge, self._run)
        except Exception as error:
            told = " ".join(str(explain(error) or repr(error)).splitlines())
            say(self._console, f"The report could not be refreshed: {told}")


def _prepare(run: RunDirectory, request: Request, checked: CheckedData, folder: Path) -> None:
    """Create the run directory, or confirm that it belongs to this very request, and keep the check in it."""
    description = {
        "model": request.challenge.model,
        "recipe": request.recipe_name,
        "command": shlex.join(["kit", *sys.argv[1:]]),
        "overrides": list(request.overrides),
        "asked": request.asked,
        "data": {"root": str(checked.root.resolve()), "fingerprint": checked.fingerprint, **checked.summary},
        "created": _now(),
    }
    run.create(request.recipe, description)
    if run.description()["data"]["fingerprint"] != checked.fingerprint:
        raise DataError(
            f"The files under {checked.root} changed since the run in {run.path} began.",
            "A run belongs to one state of its data.",
            "Pass another --run, or leave --run out: changed data gets a new folder.",
        )
    _copy(folder, run.data)


def _copy(folder: Path, target: Path) -> None:
    """Copy a check's files, each whole or not at all, and check.json, which vouches for the others, as the last."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    for path in sorted(files, key=lambda path: (path.name == "check.json", path)):
        copy_file(path, target / path.relative_to(folder))


def _fit(run: RunDirectory, request: Request, device: torch.device, world: World, console: Console) -> None:
    challenge, recipe = request.challenge, request.recipe
    training = recipe.training
    torch.manual_seed(training.seed)
    precision = select_precision(training.precision, device)
    data = challenge.open_data(recipe, run.data, device, world)
    task = challenge.build_task(recipe, data)
    challenge.weights.start(task, data, recipe, console)
    observers: list[Observer] = []
    if world.is_main:
        run.record_environment(
            collect_environment(device=str(device), precision=precision.name, world_size=world.size), _now()
        )
        challenge.page.keep_samples(run, recipe, data)
        observers = [
            JsonLines(functools.partial(say, console)),
            TensorBoard(),
            ProgressReport(console),
            Forecaster(
                recipe,
                (data.num_train, data.num_validation),
                functools.partial(say, console),
                runs_late=device.type == "cuda",
            ),
            LiveReport(challenge, console),
        ]
        if training.profile_steps:
            observers.append(Profiler(*training.profile_steps))
        say(
            console,
            f"train: {challenge.model}/{request.recipe_name} on {device} in {precision.name}, "
            f"{data.num_train} training and {data.num_validation} validation {data.sample_unit}s, run {run.path}",
        )
    seed_generators(training.seed, world.rank)
    trainer = Trainer(
        task, data, recipe, run, device=device, precision=precision, world=world, observers=tuple(observers)
    )
    outcome = trainer.fit()
    settled = outcome.task.eval().settle(data)
    if settled:
        say(console, settled)
    outcome.task.gather()
    if world.is_main:
        challenge.weights.save(outcome.task, data, recipe, run.weights_file)
        write_json(
            run.training_file,
            {
                "steps": outcome.steps,
                "epochs": outcome.epochs,
                "seconds": outcome.seconds,
                "samples_per_s": outcome.samples_per_s,
                "sample_unit": data.sample_unit,
                "other_rates": {
                    unit: outcome.samples_per_s * count for unit, count in outcome.task.other_units().items()
                },
                "raw_metrics": outcome.raw_metrics,
                "settled": settled,
            },
        )
    barrier()


def _conclude(challenge: Challenge[Any, Any, Any], recipe: Recipe, run: RunDirectory) -> Result:
    """Write result.json from the evaluation and the training's figures."""
    evaluation, training, description = run.evaluation(), run.training(), run.description()
    data = challenge.open_data(recipe, run.data, torch.device("cpu"))
    metrics = {name: math.nan if value is None else value for name, value in evaluation["metrics"].items()}
    comparable, why = challenge.judgement.comparability(recipe, data)
    verdict, reason = decide(recipe.target, metrics, comparable, why)
    metric = challenge.judgement.main_metric(recipe, metrics)
    interval = evaluation["intervals"].get(metric)
    kit = kit_version()
    result = Result(
        model=challenge.model,
        recipe=description["recipe"],
        metric=metric,
        value=metrics[metric],
        interval=Interval(low=interval[0], high=interval[1], method=evaluation["interval_method"])
        if interval
        else None,
        target=recipe.target if recipe.target and recipe.target.metric == metric else None,
        verdict=verdict,
        reason=reason,
        metrics=metrics,
        baselines=ranked(_baselines(challenge, recipe, run, data), metric, recipe.target),
        steps=training["steps"],
        epochs=training["epochs"],
        wall_seconds=training["seconds"],
        samples_per_s=training["samples_per_s"],
        sample_unit=training["sample_unit"],
        other_rates=training.get("other_rates", {}),
        created=_now(),
        report=str(run.report_file),
        kit=Kit(kit["version"], kit["commit"]),
    )
    result.write(run.result_file)
    return result


def _baselines(challenge: Challenge[Any, Any, Any], recipe: Recipe, run: RunDirectory, data: DataModule) -> Any:
    """Name -> metric -> value of what the run is held against, computed once."""
    if not run.baselines_file.is_file():
        write_json(run.baselines_file, challenge.judgement.baselines(recipe, data))
    return run.baselines()


def _default_run(request: Request, checked: CheckedData) -> Path:
    """A folder name that the same command on the same data gives again, and no other does."""
    key = hashlib.sha256(f"{request.recipe.digest()} {checked.fingerprint}".encode()).hexdigest()[:8]
    parts = [request.challenge.model, request.recipe_name]
    if request.data is not None:
        parts.append(slug(request.data.resolve().name))
    return Path("runs") / "-".join([*parts, key])


def _check_folder(root: Path) -> Path:
    resolved = root.resolve()
    return cache_folder() / "checks" / f"{slug(resolved.name)}-{hashlib.sha256(os.fsencode(resolved)).hexdigest()[:8]}"


def _is_trained(run: RunDirectory, recipe: Recipe) -> bool:
    """Whether nothing is left to train; a run whose weights were deleted has to write them again."""
    if not (run.training_file.is_file() and run.weights_file.is_file()):
        return False
    return bool(run.description()["recipe_digest"] == recipe.digest())


def _is_evaluated(run: RunDirectory, precision: str) -> bool:
    if not (run.evaluation_file.is_file() and can_be_read(run.predictions_file)):
        return False
    return is_of_weights(run, run.evaluation(), precision)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
