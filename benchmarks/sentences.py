"""Figures within sentences of Markdown files, so that nobody types one: from outcomes, records and recipes.

    It reached <!-- figure:outcome:ncf/ml-1m-64:value -->0.7260<!-- /figure --> of 0.725.

| mark | what |
|---|---|
| `outcome:MODEL/RECIPE:FIELD` | of the newest run kept: value, low, high, target, baseline, epochs, seconds, minutes |
| `record:CHALLENGE/NAME:FIGURE` | of the newest record: a figure or a detail by its name |
| `recipe:MODEL/RECIPE:FIELD` | a field of the recipe, such as target, or training.epochs |
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence

from benchmarks.compare import figures
from benchmarks.outcomes import Outcome
from benchmarks.record import Record
from challenges.registry import find_recipe
from common.errors import KitError

FIGURE = re.compile(r"(<!-- figure:(?P<kind>[a-z]+):(?P<name>[^:>]+):(?P<field>[^>]+?) -->)[^<\n]*(<!-- /figure -->)")
OPENING = re.compile(r"<!-- figure:")
BEGINNING = re.compile(r"^<!-- figure:", re.MULTILINE)
MINUTE = 60
THOUSANDS = {"es": "\u202f"}
"""Language -> what stands between thousands; a comma elsewhere. Decimals have a point, as in what `kit` prints."""

Numbers = Mapping[str, float | None]


def with_figures(
    text: str, records: Sequence[Record], reached: Sequence[Outcome], where: str, language: str = "en"
) -> str:
    """`text` with every figure written anew.

    Raises KitError for a figure that nothing tells, and for one without its end.
    """
    found = list(FIGURE.finditer(text))
    if len(found) != len(OPENING.findall(text)):
        raise KitError(
            f"{where} has a mark of a figure that does not end, or is none.",
            "It is <!-- figure:KIND:NAME:FIELD -->…<!-- /figure --> on one line.",
        )
    if BEGINNING.search(text):
        raise KitError(f"{where} has a line that begins with a figure.", "Markdown takes such a line for HTML.")
    sources: dict[str, Callable[[str], Numbers | Mapping[str, str]]] = {
        "outcome": functools.partial(_of_outcome, reached),
        "record": functools.partial(_of_record, records),
        "recipe": _of_recipe,
    }

    def replace(match: re.Match[str]) -> str:
        kind, name, field = match["kind"], match["name"], match["field"]
        known = sources[kind](name) if kind in sources else {}
        value = known.get(field)
        if value is None:
            raise KitError(
                f"{where} asks for figure:{kind}:{name}:{field}, which nothing tells.",
                f"Told are {', '.join(known) or 'none of that name'}; kinds are {', '.join(sources)}.",
            )
        return f"{match[1]}{value if isinstance(value, str) else _written(value, language)}{match[5]}"

    return FIGURE.sub(replace, text)


def _written(value: float, language: str) -> str:
    """Shares and small numbers with four digits, larger ones whole."""
    if abs(value) < 1:
        return f"{value:.4f}"
    text = f"{value:,.0f}" if abs(value) >= 10 or value == round(value) else f"{value:.4g}"
    return text.replace(",", THOUSANDS.get(language, ","))


def _of_outcome(reached: Sequence[Outcome], name: str) -> Numbers:
    """Oldest come first, so that the last of that recipe is the newest."""
    runs = [one for one in reached if f"{one.model}/{one.recipe}" == name]
    if not runs:
        return {}
    run = runs[-1]
    low, high = run.interval or (None, None)
    return {
        "value": run.value,
        "low": low,
        "high": high,
        "target": run.target["value"] if run.target else None,
        "baseline": run.baseline["value"] if run.baseline else None,
        "epochs": run.epochs,
        "seconds": round(run.seconds),
        "minutes": round(run.seconds / MINUTE, 1),
    }


def _of_record(records: Sequence[Record], name: str) -> Mapping[str, str]:
    found = [one for one in records if f"{one.workload.challenge}/{one.name}" == name]
    if not found:
        return {}
    details = {key: f"{value:.3f}" if abs(value) < 1 else f"{value:,.0f}" for key, value in found[-1].details.items()}
    return {**details, **{figure.name: figure.text() for figure in figures(found[-1])}}


def _of_recipe(name: str) -> Numbers:
    """Every number among the fields, those of parts with a dot before them, as a flag names them."""
    recipe = find_recipe(name)[2]
    found: dict[str, float | None] = {"target": recipe.target.value if recipe.target else None}
    for part in (recipe.training, recipe.optimizer):
        prefix = "training" if part is recipe.training else "optimizer"
        for key, value in vars(part).items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                found[f"{prefix}.{key.replace('_', '-')}"] = value
    return found
