"""The line from data to report: each stage is skipped when its inputs have not changed, and resumes when cut off."""

import importlib.util
import math
from typing import Any

import torch
from rich.console import Console

from common.challenge import Challenge
from common.errors import ServingError
from common.language.telling import tell
from common.machine.device import DeviceChoice
from common.machine.distributed import world_from_environment
from common.machine.environment import kit_version, now
from common.run.recipe import Recipe
from common.run.result import Interval, Kit, Result, decide, ranked, result_line
from common.run.run_directory import RunDirectory
from common.stages.held_out import judge_own_test
from common.stages.judging import baselines, can_be_read, is_of_weights, judge, keep_evaluation
from common.stages.next_steps import next_steps
from common.stages.request import Request
from common.stages.run_page import report
from common.stages.training_stage import trained
from common.terminal.console import say


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
        baselines=ranked(baselines(challenge, recipe, run, data), metric, recipe.target),
        steps=training["steps"],
        epochs=training["epochs"],
        wall_seconds=training["seconds"],
        samples_per_s=training["samples_per_s"],
        sample_unit=training["sample_unit"],
        other_rates=training.get("other_rates", {}),
        created=now(),
        report=str(run.report_file),
        kit=Kit(kit["version"], kit["commit"]),
    )
    result.write(run.result_file)
    return result


def _is_evaluated(run: RunDirectory, precision: str) -> bool:
    if not (run.evaluation_file.is_file() and can_be_read(run.predictions_file)):
        return False
    return is_of_weights(run, run.evaluation(), precision)
