"""Runs as their files tell of them, without a training."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from challenges.registry import find_recipe
from common.files import write_json
from common.run.fitting import Fit, apply
from common.run.result import Baseline, Interval, Kit, Result
from common.run.run_directory import RunDirectory


def write_run(
    path: Path, identifier: str, *, fields: Mapping[str, Any] | None = None, data: str = "/made/up", **result: Any
) -> RunDirectory:
    """A finished run.

    fields: of the recipe, with dots between, that differ from its own. result: fields of the outcome likewise.
    """
    _, name, recipe = find_recipe(identifier)
    changed, _ = apply(recipe, [Fit(field, value, "") for field, value in (fields or {}).items()], ())
    model = identifier.partition("/")[0]
    run = RunDirectory(path)
    described = {"root": data, "fingerprint": "0"}
    run.create(changed, {"model": model, "recipe": name, "command": "kit train", "overrides": [], "data": described})
    metric = recipe.target.metric if recipe.target else "top1"
    value = result.pop("value", 0.5)
    outcome = Result(
        model=model, recipe=name, metric=metric, value=value, interval=Interval(value - 0.01, value + 0.01, "made up"),
        target=recipe.target, verdict="missed" if recipe.target else "not-comparable", reason="Made up.",
        metrics={metric: value}, baselines=(Baseline("popularity", 0.4),), steps=1, epochs=1.0, wall_seconds=1.0,
        samples_per_s=1.0, sample_unit="sample", created="2026-01-01T00:00:00+00:00", report="index.html", kit=Kit("0"),
    )  # fmt: skip
    dataclasses.replace(outcome, **result).write(run.result_file)
    write_json(run.environment_file, {"precision": "fp32", "world_size": 1})
    return run
