"""What a run reached on labelled data beside its validation split."""

from collections.abc import Mapping
from typing import Any

from common.language.telling import retell, tell
from common.report.elements import Section, facts, folded_table, join, notice, paragraph
from common.run.run_directory import RunDirectory


def held_out_section(run: RunDirectory) -> Section | None:
    """Every metric on the validation split and on each set judged beside it; None where there is no such set."""
    tests = run.test_evaluations()
    if not tests:
        return None
    judged = {tell("test: {name}", name=_name(test)) if test["test"]["own"] else _name(test): test for test in tests}
    if run.evaluation_file.is_file():
        judged = {tell("validation"): run.evaluation(), **judged}
    metrics = list(dict.fromkeys(name for evaluation in judged.values() for name in evaluation["metrics"]))
    rows = [(metric, *(_cell(evaluation, metric) for evaluation in judged.values())) for metric in metrics]
    intro = paragraph(
        tell("The verdict is about the validation split. Training saw none of these sets, and chose nothing on them.")
    )
    parts = [intro, folded_table((tell("metric"), *judged), rows, numeric=range(1, len(judged) + 1))]
    for test in tests:
        told = test["test"]
        words = tell(
            "{samples:,} {unit} in {root}, {precision}",
            samples=told["samples"], unit=retell(f"{told['unit']}s"), root=told["root"], precision=test["precision"],
        )  # fmt: skip
        parts.append(facts([(_name(test), words)]))
        parts += [notice(retell(warning), "warning") for warning in told["warnings"]]
    return Section("Tests", join(parts), anchor="tests")


def _name(evaluation: Mapping[str, Any]) -> str:
    return str(evaluation["test"]["root"]).rstrip("/").rsplit("/", 1)[-1]


def _cell(evaluation: Mapping[str, Any], metric: str) -> str:
    value, interval = evaluation["metrics"].get(metric), evaluation["intervals"].get(metric)
    if value is None:
        return ""
    if not interval:
        return f"{value:.4f}"
    return tell("{value:.4f} ({low:.4f} to {high:.4f})", value=value, low=interval[0], high=interval[1])
