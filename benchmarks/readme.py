"""Fill the tables of Markdown files from committed records and recipes, or say that they are stale.

A table stands between `<!-- results:CHALLENGE/NAME -->` and `<!-- /results -->`, both on lines of their own; with
several names, separated by commas, one table holds them all. In the same way `recipes` is the table of all recipes and
their targets, `speed` that of every machine's absolute figures, `outcomes` that of what runs reached,
`outcomes:RECIPE,...` a short one of some, `own-interactions` that of own_interactions.py, `own-pictures` that of
own_data.py, and `picture` the line with which the run ended whose report docs/report.png shows. Figures within
sentences have marks of their own (sentences.py).

    python -m benchmarks.readme            rewrite
    python -m benchmarks.readme --check    exit with 1 where a table does not agree with the records
"""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated

import tyro

from benchmarks import absolute, outcomes
from benchmarks.command import run_command
from benchmarks.compare import Group, figures, group, markdown_table
from benchmarks.peers import own_table, picture_table
from benchmarks.picture import PICTURE, told_by
from benchmarks.record import RESULTS, Record, read_all, short_commit
from benchmarks.sentences import THOUSANDS, with_figures
from challenges.registry import MODELS
from common.errors import KitError
from common.files import write_text
from common.machine.environment import ROOT, told_processor

MARK = r"^<!-- (?P<kind>results|recipes|speed|outcomes|picture|own-(?:interactions|pictures))(?::(?P<names>\S+))? -->$"
OPENING = re.compile(MARK, re.MULTILINE)
BLOCK = re.compile(rf"{MARK}.*?^<!-- /(?P=kind) -->$", re.MULTILINE | re.DOTALL)
HEADER = ("work", "hardware", "precision", "batch", "result", "95 % interval", "measured")
STALE_EXIT_CODE = 1


def markdown_files() -> list[Path]:
    """Every Markdown file of the checkout that may hold tables."""
    folders = ("benchmarks", "challenges", "common", "containers", "docs")
    return sorted([*ROOT.glob("*.md"), *(file for folder in folders for file in (ROOT / folder).rglob("*.md"))])


def table(records: Sequence[Record]) -> str:
    """A column for every record that `_shown` chooses, a row for every figure."""
    shown = list(_shown(records))
    columns = [
        {name: f"{value} ({interval})" if interval else value for name, value, interval in _told(record)}
        for record in shown
    ]
    rows = [(name, *(column.get(name, "–") for column in columns)) for name in dict.fromkeys(chain(*columns))]
    return "\n".join(markdown_table(("result", *map(_heading, shown)), rows)) + "\n"


def joined(groups: Sequence[Group], where: str) -> str:
    """One table of several works, a row for every figure.

    Raises KitError where they were not measured on the same data by the same protocol.
    """
    titles = {_common_title(record) for one in groups for record in one.records}
    if len(titles) > 1:
        raise KitError(f"{where} asks for one table of what cannot be compared:", "; ".join(sorted(titles)))
    rows = []
    for one in groups:
        for record in _shown(one.records):
            hardware, precision, batch, measured = _origin(record)
            for name, value, interval in _told(record):
                rows.append((record.name, hardware, precision, batch, f"{name}: {value}", interval, measured))
    return f"{titles.pop()}\n\n" + "\n".join(markdown_table(HEADER, rows)) + "\n"


def filled(
    text: str, records: Sequence[Record], where: str, reached: Sequence[outcomes.Outcome] = (), language: str = "en"
) -> str:
    """`text` with every table and every figure made anew.

    language: of the sentences, for their figures; tables are English.
    Raises KitError for a table that no record belongs to, and for one without its closing mark.
    """
    makers: dict[str, Callable[[list[str]], str]] = {
        "results": lambda names: _results(records, names, where),
        "recipes": lambda _: promises(),
        "speed": lambda _: absolute.table(records),
        "outcomes": lambda names: (
            outcomes.brief_table(reached, names, where) if any(names) else outcomes.table(reached)
        ),
        "picture": lambda _: f"```\n{told_by(PICTURE)}\n```\n",
        "own-interactions": lambda _: own_table.table(records),
        "own-pictures": lambda _: picture_table.table(records),
    }

    def replace(match: re.Match[str]) -> str:
        first, *_, last = match[0].splitlines()
        return f"{first}\n\n{makers[match['kind']]((match['names'] or '').split(','))}\n{last}"

    if len(OPENING.findall(text)) != len(BLOCK.findall(text)):
        raise KitError(f"{where} has a table's mark without its end.", "A table ends with <!-- /results --> or so.")
    return with_figures(BLOCK.sub(replace, text), records, reached, where, language)


def _results(records: Sequence[Record], names: Sequence[str], where: str) -> str:
    """The tables of one work, CHALLENGE/NAME, or one table of several."""
    by_name: dict[str, list[Group]] = {}
    for one in group(records):
        by_name.setdefault(f"{one.records[0].workload.challenge}/{one.records[0].name}", []).append(one)
    for name in names:
        if name not in by_name:
            raise KitError(
                f"{where} asks for results:{name}, and no record is of that name.",
                f"Known: {', '.join(sorted(by_name)) or 'none'}.",
            )
    groups = [one for name in names for one in by_name[name]]
    if len(names) > 1:
        return joined(groups, where)
    return "\n".join(f"{one.title}\n\n{table(one.records)}" for one in groups)


def promises() -> str:
    """Every recipe with its target and the target's source."""
    rows = []
    for model, entry in MODELS.items():
        for name, recipe in entry.recipes().items():
            target = f"{recipe.target.metric} {recipe.target.value:g}" if recipe.target else "none"
            rows.append((f"`{model}/{name}`", recipe.summary, target, recipe.target.source if recipe.target else ""))
    return "\n".join(markdown_table(("recipe", "what", "target", "source of the target"), rows)) + "\n"


def stale(files: Sequence[Path], records: Sequence[Record], reached: Sequence[outcomes.Outcome] = ()) -> list[Path]:
    """Files whose tables differ from what the records say."""
    return [file for file in files if file.read_text() != _fresh(file, records, reached)]


def main(
    files: Annotated[tuple[Path, ...], tyro.conf.Positional] = (), results: Path = RESULTS, check: bool = False
) -> int:
    """Fill the result tables of Markdown files.

    Args:
        files: The files; every Markdown file of the checkout where none is given.
        results: The folder of records.
        check: Change nothing; exit with 1 where a table is stale.
    """
    records = read_all([results]) if results.exists() else []
    reached = outcomes.read_all()
    outdated = stale(files or markdown_files(), records, reached)
    for file in outdated:
        if check:
            print(f"STALE {file}: run python -m benchmarks.readme", file=sys.stderr)
        else:
            write_text(file, _fresh(file, records, reached))
    return STALE_EXIT_CODE if check and outdated else 0


def _fresh(file: Path, records: Sequence[Record], reached: Sequence[outcomes.Outcome]) -> str:
    """The file's text as it should be; its language is that of its folder."""
    language = file.parent.name if file.parent.name in THOUSANDS else "en"
    return filled(file.read_text(), records, file.name, reached, language)


def _common_title(record: Record) -> str:
    workload, protocol = record.workload, record.protocol
    return (
        f"{workload.challenge}: {workload.data} data ({workload.dataset}), protocol {protocol.name}/{protocol.version}"
    )


def _shown(records: Sequence[Record]) -> Iterable[Record]:
    """The newest of every device, precision, batch, size and sides; an invalid one only where there is no valid one."""
    chosen: dict[tuple[object, ...], Record] = {}
    for record in records:
        key = (record.device, record.workload.precision, record.workload.batch, _sizes(record), *record.measurements)
        if record.validity.valid or key not in chosen or not chosen[key].validity.valid:
            chosen[key] = record
    return chosen.values()


def _sizes(record: Record) -> str:
    """Of embedding tables, where the record has some: their rows in all and the numbers in one."""
    known = [(name, record.details[name]) for name in ("rows", "width") if name in record.details]
    return "".join(f", {name} {value:,.0f}" for name, value in known)


def _origin(record: Record) -> tuple[str, str, str, str]:
    """Hardware and its software, precision, batch, and when and of which commit it was measured."""
    gpus = record.system["gpus"]
    cpu = record.system["cpu"]
    on_gpu = gpus and str(record.system["device"]).startswith("cuda")
    hardware = gpus[0]["name"] if on_gpu else told_processor(cpu)
    commit = short_commit(record.kit["commit"])
    return (
        f"{hardware}, torch {record.system['packages'].get('torch', '–')}",
        record.workload.precision,
        f"{record.workload.batch}{_sizes(record)}",
        f"{record.created[:10]}, {commit}",
    )


def _heading(record: Record) -> str:
    hardware, precision, batch, measured = _origin(record)
    return f"{hardware}<br>{precision}, batch {batch}<br>{measured}"


def _told(record: Record) -> list[tuple[str, str, str]]:
    """The name, value and interval of every figure, then of every metric that both sides were judged by."""
    reason = "" if record.validity.valid else f" (invalid: {record.validity.reasons[0].code})"
    told = [(figure.name, f"{figure.text()}{reason}", figure.interval()) for figure in figures(record)]
    return told + [(name, text, "") for name, text in _judged(record)]


def _judged(record: Record) -> list[tuple[str, str]]:
    """Metrics among the details, which stand there as `side metric`: one text for all sides of each.

    They belong to the training that reached them, and are not told again beside the speed of an evaluation.
    """
    if record.name.endswith("-evaluation"):
        return []
    metrics: dict[str, list[str]] = {}
    for name, value in record.details.items():
        side, _, metric = name.partition(" ")
        if metric:
            metrics.setdefault(metric, []).append(f"{side} {value:.4f}")
    epochs = record.details.get("epochs")
    when = f" after {epochs:g} epochs" if epochs else ""
    return [(f"{metric}{when}", ", ".join(sides)) for metric, sides in metrics.items()]


if __name__ == "__main__":
    run_command(main)
