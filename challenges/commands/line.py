"""The verbs of the line from data to a report: `kit challenge` walks them, the others are a step each."""

import argparse
import contextlib
import shlex
from collections.abc import Sequence
from pathlib import Path

from challenges.commands.asked import columns_of, new_console, open_run, question_of, request_of, require_data, say
from challenges.registry import HISTORIES, MODELS, find_model
from common.errors import KitError


def challenge(options: argparse.Namespace) -> None:
    """Several models walk one after the other; those that cannot read the data are left out, with the reason."""
    models = options.model
    if len(models) > 1 and options.data is not None and not options.help:
        models = readers_of(models, Path(options.data), options.columns)
    for model in models:
        _walk(options, model)


def readers_of(models: Sequence[str], root: Path, columns: str | None) -> Sequence[str]:
    """Those that can learn from the data; all, so that the first says what is wrong, where none can.

    columns: what --columns names, of data for histories.
    """
    if not root.exists():
        return models
    from challenges.choosing import unreadable

    reasons = {model: unreadable(find_model(model), root) for model in models}
    if columns is not None:
        told = "--columns says where users and items are, and it reads rows"
        reasons |= {model: told for model in models if find_model(model).wing != HISTORIES}
    readers = [model for model, reason in reasons.items() if not reason]
    for model, reason in reasons.items():
        if readers and reason:
            say(new_console(), f"{model} is left out: {reason}")
    return readers or models


def _walk(options: argparse.Namespace, model: str) -> None:
    entry = find_model(model)
    if options.recipe is None:
        name = entry.recipe_for(weights=bool(options.weights), data=bool(options.data))
        why = "--weights was given" if options.weights else "--data was given" if options.data else "no --data"
    else:
        name, why = options.recipe, "asked for"
    overrides = (*options.overrides, *(("--weights", options.weights) if options.weights else ()))
    request = request_of(options, f"{model}/{name}", overrides)
    if request is None:
        return
    from common.stages.workflow import walk

    console = new_console()
    console.print(f"recipe: {model}/{name} ({why})")
    walk(request, console)


def check(options: argparse.Namespace) -> None:
    root, console = Path(options.data), new_console()
    if options.model is None and root.exists():
        from challenges.choosing import choose_model

        chosen = choose_model(root)
        options.model = chosen.model
        others = " ".join(name for name in MODELS if name != chosen.model)
        say(console, f"model: {chosen.model}, since {chosen.why}; to choose another: --model, one of {others}")
    entry = find_model(options.model or "resnet50")
    require_data(entry, options.data)
    from common.stages.request import Request, checked

    recipe = entry.recipes()[entry.recipe_for_data]
    if options.columns is not None:
        from common.run.overrides import apply_overrides

        recipe = apply_overrides(recipe, columns_of(options, entry), "kit check")
    request = Request(entry.load(), entry.recipe_for_data, recipe, root)
    if options.similar is None and options.resplit is None:
        with checked(request, console) as (_, folder):
            say(console, f"Manifest and quarantine list: {folder}")
        return
    from challenges.parting import check_copies

    run = open_run(options.similar) if options.similar else None
    check_copies(request, options.similar is not None, run, options.resplit, console)


def prepare(options: argparse.Namespace) -> None:
    try:
        from challenges.recommendation.clicks.prepare.command import run
    except ModuleNotFoundError as error:
        if error.name != "polars":
            raise
        raise KitError("Polars is not installed.", "Preparing click logs needs it.", "pip install polars") from None
    run(options, new_console())


def train(options: argparse.Namespace) -> None:
    request = request_of(options, options.recipe, options.overrides)
    if request is None:
        return
    from common.stages.training_stage import train as run_training

    console = new_console()
    run = run_training(request, console)
    say(console, f"Next: kit evaluate {shlex.quote(str(run.path))}")


def lr_find(options: argparse.Namespace) -> None:
    request = request_of(options, options.recipe, options.overrides)
    if request is None:
        return
    from common.stages.lr_search import sweep_lr

    sweep_lr(request, new_console())


def evaluate(options: argparse.Namespace) -> None:
    challenge, run = open_run(options.run)
    from common.run.result import result_line
    from common.stages.run_page import report as write_report
    from common.stages.workflow import evaluate as run_evaluation

    console = new_console()
    if options.data is not None:
        require_data(find_model(challenge.model), options.data)
        from common.stages.held_out import judge_test

        with run.lock("evaluate"):
            told = judge_test(
                challenge, run, Path(options.data), console, precision=options.precision, device=options.device
            )
            write_report(challenge, run)
        say(console, told)
        return
    with run.lock("evaluate"):
        result = run_evaluation(challenge, run, console, precision=options.precision, device=options.device)
        write_report(challenge, run)
    say(console, result_line(result))


def predict(options: argparse.Namespace) -> None:
    challenge, run = open_run(options.run)
    from common.challenge import Trained
    from common.machine.device import select_device
    from common.question import require_answerable
    from common.storage.claimed_folder import claimed
    from common.storage.run_lock import hold

    question = question_of(options)
    require_answerable(challenge.model, question, challenge.predicts_from, "predict")
    run.require_weights()
    output = Path(options.output) if options.output else run.path / "predictions"
    with contextlib.ExitStack() as held:
        held.enter_context(run.lock("predict", shared=True))
        if options.output:
            held.enter_context(claimed(output, "predict"))
        elif question.inputs:  # a run that is served meanwhile takes the answers, too
            output.mkdir(exist_ok=True)
            held.enter_context(hold(output, "predict"))
        device = select_device(options.device)
        challenge.predict(Trained.load(challenge, run, device), question, output, device, new_console())


def report(options: argparse.Namespace) -> None:
    challenge, run = open_run(options.run)
    from common.stages.run_page import report as write_report

    with run.lock("report"):
        say(new_console(), f"Report: {write_report(challenge, run)}")


def export(options: argparse.Namespace) -> None:
    challenge, run = open_run(options.run)
    from common.stages.exporting import export as write_graphs

    with run.lock("export"):
        write_graphs(challenge, run, new_console(), embedding=options.embedding)


def parity(options: argparse.Namespace) -> None:
    challenge, run = open_run(options.run)
    from common.stages.deployment import chosen
    from common.stages.deployment import parity as compare_engines
    from common.stages.serving_stage import payload_folder, prove_served

    console = new_console()
    serves = payload_folder().is_dir()
    with run.lock("parity"):
        run.require_weights()
        if serves:
            run.require_evaluation()  # told before the engines are compared, which takes minutes
        compare_engines(challenge, run, console)
        if serves:
            choice, falls_back = chosen(run, options.precision), options.precision == "auto"
            prove_served(challenge, run, choice, console, limit=options.files, falls_back=falls_back)
