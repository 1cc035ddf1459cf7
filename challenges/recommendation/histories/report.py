"""The recommenders' sections of a run's page: metrics by protocol, baselines, what is recommended, to whom."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from challenges.recommendation.histories.histories import HistorySplit
from common.files import read_json
from common.report.elements import Markup, Section, facts, folded_table, join, notice, paragraph, percentage, table
from common.run.run_directory import RunDirectory

SHOWN_USERS, SHOWN_HISTORY = 8, 6  # examples, and items of a history that are named
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
            "The same scores give very different figures by protocol: a held-out item among a hundred others is far "
            "easier to find than among the whole catalogue. Compare within a table only."
        ),
        *([paragraph(settled)] if settled else []),
    ]
    same = coinciding([metrics, *baselines.values()], names)
    for protocol in same:
        shown = [name for name in names if name.endswith(f"/{protocol}")]
        head = ("", *(name.split("/")[0] for name in shown))
        rows = [
            (model, *(f"{metrics[name]:.4f}" for name in shown)),
            ("95 % interval", *(_interval(intervals.get(name)) for name in shown)),
            *((other, *(f"{figures[name]:.4f}" for name in shown)) for other, figures in baselines.items()),
        ]
        parts += [Markup("<h3>{}</h3>").format(_title(protocol)), table(head, rows, numeric=range(1, len(head)))]
        if same[protocol]:
            others = " and ".join(_title(other).lower() for other in same[protocol])
            parts.append(
                paragraph(f"These are the figures {others}, too: the catalogue is so small that they coincide.")
            )
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
        "full": "Among all items the user has not seen",
        "uniform": f"Among {count} unseen items drawn evenly",
        "popularity": f"Among {count} unseen items drawn by popularity",
        "ncf": f"Among the data's own lists of {count} items",
    }
    return titles[kind]


def _interval(interval: list[float] | None) -> str:
    return f"{interval[0]:.4f} to {interval[1]:.4f}" if interval else ""


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
            ("Items per list", predictions["top_items"].shape[1]),
            ("Catalogue in anyone's list", percentage(float((counts > 0).mean()))),
            ("Gini coefficient of the recommendations", f"{_gini(counts):.3f} (0: all alike, 1: one item for all)"),
            (f"Lists made of the most popular {HEAD_SHARE:.0%}", percentage(float(recommended))),
            (f"Held-out items among the most popular {HEAD_SHARE:.0%}", percentage(float(taken))),
        ]
    )
    if recommended > 2 * taken:
        body += notice("The model recommends popular items more than twice as often as users take them.", "warning")
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
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(SHOWN_USERS, len(order))).astype(np.int64))]
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
                f"{int(predictions['rank'][row]) + 1:,}",
                join(listed, "; "),
            )
        )
    head = ("told last", "held out", "place", "recommended (found ones in bold)")
    return Section("Examples, from the best to the worst answered user", folded_table(head, rows, numeric=(2,)))


def _name(split: HistorySplit, item: int) -> Markup:
    return Markup("{}").format(str(split.titles[item]) or str(split.item_ids[item]))


def _data(split: HistorySplit, record: Mapping[str, Any]) -> Section:
    counts = record["counts"]
    body = facts(
        [
            ("Protocol", split.protocol),
            ("Training users", f"{split.num_users:,}"),
            ("Items", f"{split.num_items:,}"),
            ("Training interactions", f"{len(split.train.items):,}"),
            ("Judged users", f"{split.num_judged:,}"),
            ("Held-out items", f"{counts['targets']:,}"),
            ("Equal times", str(split.facts["tie_rule"])),
            *((f"Understood {name}", sentence) for name, sentence in record.get("understood", {}).items()),
        ]
    )
    warnings = [notice(text, "warning") for text in record["warnings"]]
    remarks = [notice(text) for text in record["comparable"]]
    return Section("Data and what it can be compared with", body + join([*warnings, *remarks]))
