"""The recommenders' sections of a run's page: metrics by protocol, baselines, what is recommended, to whom."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from challenges.recommendation.histories.histories import HistorySplit
from common.files import read_json
from common.language.telling import english, grouped, retell, tell
from common.positions import evenly_spread
from common.report.elements import Markup, Section, facts, folded_table, join, notice, paragraph, percentage, table
from common.run.run_directory import RunDirectory

SHOWN_USERS, SHOWN_HISTORY = 8, 6  # examples, and items of a history that are named
UNDERSTOOD = (
    english("format"), english("columns"), english("ratings"), english("events"), english("times"),
    english("titles"), english("splits"),
)  # fmt: skip
"""What the check says of how data was taken."""
HEAD_SHARE = 0.01  # the most popular share of the catalogue that popularity bias is told by


def sections(run: RunDirectory, split: HistorySplit) -> list[Section]:
    """As far as the run has got: the data from the start, rankings once it was evaluated."""
    parts = [_data(split, read_json(run.data / "check.json"))]
    if not (run.evaluation_file.is_file() and run.predictions_file.is_file()):
        return parts
    evaluation = run.evaluation()
    baselines = run.baselines()
    with np.load(run.predictions_file) as columns:
        predictions = dict(columns)
    return [
        _protocols(evaluation, baselines, run.description()["model"], run.training().get("settled", "")),
        _recommended(split, predictions),
        _examples(split, predictions),
        *parts,
    ]


def _protocols(
    evaluation: Mapping[str, Any], baselines: Mapping[str, Mapping[str, float]], model: str, settled: str
) -> Section:
    """One table per protocol: figures of two protocols never stand in one row. settled: what training ended with."""
    metrics, intervals = evaluation["metrics"], evaluation["intervals"]
    names = [name for name in metrics if "/" in name]
    parts = [
        paragraph(
            tell(
                "The same scores give very different figures by protocol: a held-out item among a hundred others is "
                "far easier to find than among the whole catalogue. Compare within a table only."
            )
        ),
        *([paragraph(retell(settled))] if settled else []),
    ]
    same = coinciding([metrics, *baselines.values()], names)
    for protocol in same:
        shown = [name for name in names if name.endswith(f"/{protocol}")]
        head = ("", *(name.split("/")[0] for name in shown))
        rows = [
            (model, *(f"{metrics[name]:.4f}" for name in shown)),
            (tell("95 % interval"), *(_interval(intervals.get(name)) for name in shown)),
            *((retell(other), *(f"{figures[name]:.4f}" for name in shown)) for other, figures in baselines.items()),
        ]
        parts += [Markup("<h3>{}</h3>").format(_title(protocol)), table(head, rows, numeric=range(1, len(head)))]
        if same[protocol]:
            others = "; ".join(_title(other) for other in same[protocol])
            told = tell("The catalogue is so small that these are the same figures as: {others}.", others=others)
            parts.append(paragraph(told))
    return Section("Rankings by protocol", join(parts))


def coinciding(rows: Sequence[Mapping[str, float]], names: Sequence[str]) -> dict[str, list[str]]:
    """Protocol -> later ones whose figures (kind@cutoff/protocol) are all among its own, in every row.

    Lists of unseen items are the whole catalogue where it has no more.
    """
    figures = {
        protocol: {
            name.split("/")[0]: [row.get(name) for row in rows] for name in names if name.endswith(f"/{protocol}")
        }
        for protocol in dict.fromkeys(name.split("/")[1] for name in names)
    }
    same: dict[str, list[str]] = {}
    for protocol, own in figures.items():
        first = next((other for other in same if own.items() <= figures[other].items()), None)
        if first is None:
            same[protocol] = []
        else:
            same[first].append(protocol)
    return same


def _title(protocol: str) -> str:
    kind, _, count = protocol.partition("-")
    titles = {
        "full": tell("Among all items the user has not seen"),
        "uniform": tell("Among {count} unseen items drawn evenly", count=count),
        "popularity": tell("Among {count} unseen items drawn by popularity", count=count),
        "ncf": tell("Among the data's own lists of {count} items", count=count),
    }
    return titles[kind]


def _interval(interval: list[float] | None) -> str:
    return tell("{low:.4f} to {high:.4f}", low=interval[0], high=interval[1]) if interval else ""


def _recommended(split: HistorySplit, predictions: Mapping[str, np.ndarray]) -> Section:
    """How much of the catalogue is ever recommended, and how popular it is beside what users take themselves."""
    items = predictions["top_items"]
    items = items[items >= 0]
    counts = np.bincount(items, minlength=split.num_items)
    popularity = split.popularity()
    head = np.argsort(-popularity, kind="stable")[: max(1, round(HEAD_SHARE * split.num_items))]
    taken = np.isin(split.targets.items, head).mean()
    recommended = counts[head].sum() / max(1, counts.sum())
    body = facts(
        [
            (tell("Items per list"), predictions["top_items"].shape[1]),
            (tell("Catalogue in anyone's list"), percentage(float((counts > 0).mean()))),
            (
                tell("Gini coefficient of the recommendations"),
                tell("{gini:.3f} (0: all alike, 1: one item for all)", gini=_gini(counts)),
            ),
            (tell("Lists made of the most popular {share:.0%}", share=HEAD_SHARE), percentage(float(recommended))),
            (tell("Held-out items among the most popular {share:.0%}", share=HEAD_SHARE), percentage(float(taken))),
        ]
    )
    if recommended > 2 * taken:
        told = tell("The model recommends popular items more than twice as often as users take them.")
        body += notice(told, "warning")
    return Section("What is recommended", body)


def _gini(counts: np.ndarray) -> float:
    ordered = np.sort(counts).astype(np.float64)
    if not ordered.sum():
        return 0.0
    places = np.arange(1, len(ordered) + 1)
    return float((2 * places - len(ordered) - 1) @ ordered / (len(ordered) * ordered.sum()))


def _examples(split: HistorySplit, predictions: Mapping[str, np.ndarray]) -> Section:
    """Users spread from the best to the worst answered one."""
    order = np.argsort(predictions["rank"], kind="stable")
    chosen = order[evenly_spread(len(order), SHOWN_USERS)]
    rows = []
    for row in chosen.tolist():
        user = int(predictions["index"][row])
        held_out = set(split.targets.of(user).tolist())
        listed = [
            Markup("<b>{}</b>").format(_name(split, item)) if item in held_out else _name(split, item)
            for item in predictions["top_items"][row].tolist()
            if item >= 0
        ]
        rows.append(
            (
                join([_name(split, item) for item in split.seen.of(user)[-SHOWN_HISTORY:].tolist()], "; "),
                join([_name(split, item) for item in sorted(held_out)][:SHOWN_HISTORY], "; "),
                grouped(int(predictions["rank"][row]) + 1),
                join(listed, "; "),
            )
        )
    head = (tell("told last"), tell("held out"), tell("place"), tell("recommended (found ones in bold)"))
    return Section("Examples, from the best to the worst answered user", folded_table(head, rows, numeric=(2,)))


def _name(split: HistorySplit, item: int) -> Markup:
    return Markup("{}").format(str(split.titles[item]) or str(split.item_ids[item]))


def _data(split: HistorySplit, record: Mapping[str, Any]) -> Section:
    counts = record["counts"]
    body = facts(
        [
            (tell("Protocol"), split.protocol),
            (tell("Training users"), grouped(split.num_users)),
            (tell("Items"), grouped(split.num_items)),
            (tell("Training interactions"), grouped(len(split.train.items))),
            (tell("Judged users"), grouped(split.num_judged)),
            (tell("Held-out items"), grouped(counts["targets"])),
            (tell("Equal times"), retell(str(split.facts["tie_rule"]))),
            *(
                (tell("Understood {name}", name=retell(name)), retell(sentence))
                for name, sentence in record.get("understood", {}).items()
            ),
        ]
    )
    warnings = [notice(retell(text), "warning") for text in record["warnings"]]
    remarks = [notice(retell(text)) for text in record["comparable"]]
    return Section("Data and what it can be compared with", body + join([*warnings, *remarks]))
