"""What a run reached on labelled data beside its validation split."""

from collections.abc import Mapping
from typing import Any

from common.report.elements import Section, facts, folded_table, join, notice, paragraph
from common.run.run_directory import RunDirectory


def held_out_section(run: RunDirectory) -> Section | None:
    """Every metric on the validation split and on each set judged beside it; None where there is no such set."""
    tests = run.test_evaluations()
    if not tests:
        return None
    judged = {f"test: {_name(test)}" if test["test"]["own"] else _name(test): test for test in tests}
    if run.evaluation_file.is_file():
        judged = {"validation": run.evaluation(), **judged}
    metrics = list(dict.fromkeys(name for evaluation in judged.values() for name in evaluation["metrics"]))
    rows = [(metric, *(_cell(evaluation, metric) for evaluation in judged.values())) for metric in metrics]
    words = paragraph(
        "The verdict is about the validation split. Training saw none of these sets, and chose nothing on them."
    )
    parts = [words, folded_table(("metric", *judged), rows, numeric=range(1, len(judged) + 1))]
    for test in tests:
        told = test["test"]
        parts.append(
            facts([(_name(test), f"{told['samples']:,} {told['unit']}s in {told['root']}, {test['precision']}")])
        )
        parts += [notice(warning, "warning") for warning in told["warnings"]]
    return Section("Tests", join(parts), anchor="tests")


def _name(evaluation: Mapping[str, Any]) -> str:
    return str(evaluation["test"]["root"]).rstrip("/").rsplit("/", 1)[-1]


def _cell(evaluation: Mapping[str, Any], metric: str) -> str:
    value, interval = evaluation["metrics"].get(metric), evaluation["intervals"].get(metric)
    if value is None:
        return ""
    return f"{value:.4f}" + (f" ({interval[0]:.4f} to {interval[1]:.4f})" if interval else "")
