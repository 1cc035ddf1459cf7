"""The page that compares machines: what to rent, every model's figures, where the rest went, and what cannot be.

It is read without a script and asks nothing of any other place.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from benchmarks.compare import Group, figures, group, how
from benchmarks.comparison.bars import group_bars
from benchmarks.comparison.impossible import impossible
from benchmarks.comparison.rent import Goal, Range, is_gpu, leave_one_out, predict
from benchmarks.comparison.rungs import Rung, rungs
from benchmarks.prices import dollars_per_million, price_of
from benchmarks.published import RECIPES, Row
from benchmarks.record import Record, is_ranked
from common import report
from common.errors import KitError
from common.language.telling import tell
from common.machine.prices import Price
from common.report.elements import Section, bar, details, join, paragraph, table
from common.report.plots import Line, xy_chart


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What the page is made of."""

    records: Sequence[Record]
    published: Sequence[Row]
    prices: Sequence[Price]
    goal: Goal


def page(sources: Sources) -> str:
    """One HTML page that needs nothing beside it."""
    folders = [Path(__file__).parent, Path(report.__file__).parent]
    environment = Environment(
        loader=FileSystemLoader(folders), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.globals["tell"] = tell
    sections = [section for section in _sections(sources) if section is not None]
    return environment.get_template("compare.html").render(sections=sections, summary=_summary(sources))


def _summary(sources: Sources) -> str:
    valid = sum(record.validity.valid for record in sources.records)
    devices = len({record.device for record in sources.records})
    return (
        f"{len(sources.records)} records of {devices} {'machine' if devices == 1 else 'machines'}, {valid} valid; "
        f"{len(sources.published)} published figures; {len(sources.prices)} instances, "
        f"prices of {max((str(price.date) for price in sources.prices), default='no day')}"
    )


def _sections(sources: Sources) -> Iterator[Section | None]:
    yield rent(sources)
    trained = [one for one in group(sources.records) if one.records[0].kind != "comparison"]
    compared = [one for one in group(sources.records) if one.records[0].kind == "comparison"]
    yield _speeds("How fast each model is", trained, sources.published)
    yield ladders(sources.records)
    yield scaling(sources.records)
    yield latency(sources.records)
    yield costs(sources.records, sources.prices)
    yield history(trained)
    yield cannot_be(sources)
    yield _speeds("Beside other software, in turns", compared, ())


def rent(sources: Sources) -> Section:
    """The goal on every instance, and how far such predictions could be trusted on the records themselves."""
    title = f"What to rent for {sources.goal}"
    try:
        found = predict(sources.goal, sources.records, sources.prices)
    except KitError as error:
        return Section(title, join(paragraph(line) for line in str(error).splitlines()), anchor="rent")
    head = ("Instance", "GPUs", "vCPU", "$ per hour", "Hours", "Dollars", "Samples/s", "Limit", "Records")
    cells = [
        (
            one.price.instance, _gpus(one.price), one.price.vcpus, f"{one.price.usd_per_hour:.2f}", _range(one.hours),
            _range(one.dollars), _range(one.rate), one.limit, " ".join(one.records),
        )
        for one in found
        if one.rate is not None
    ]  # fmt: skip
    missing = [(one.price.instance, _gpus(one.price), one.reason) for one in found if one.rate is None]
    unknown = details(f"{len(missing)} instances without a figure", table(("Instance", "GPUs", "Why"), missing))
    told = "Low, likely and high, from the intervals of the records named; nothing is said of GPUs without one."
    trust = paragraph(f"{told} {_trust(sources.records)}")
    measured = table(head, cells, numeric=(2, 3, 4, 5, 6)) if cells else Markup("")
    return Section(title, trust + measured + unknown, anchor="rent")


def ladders(records: Sequence[Record]) -> Section | None:
    """A ladder per valid record."""
    parts = []
    for record in filter(is_ranked, records):
        found = rungs(record)
        if len(found) > 1:
            name = f"{record.workload.model} on {record.device}, {how(record)}"
            parts.append(paragraph(name) + _ladder(found))
    if not parts:
        return None
    told = "From the peak down: what is left at each rung, and where the rest of the rung above it went."
    return Section("Where the rest went", paragraph(told) + join(parts), anchor="ladder")


def scaling(records: Sequence[Record]) -> Section | None:
    """Throughput over ranks, with the line on which each rank adds as much as one alone."""
    parts = []
    for (model, device, told), members in _series(record for record in records if record.evidence.ranks.size > 1):
        points = {1: 0.0}
        for record in filter(is_ranked, members):
            ranks = record.evidence.ranks
            if ranks.together_samples_per_s and ranks.alone_samples_per_s:
                points |= {1: ranks.alone_samples_per_s, ranks.size: ranks.together_samples_per_s}
        if len(points) > 1:
            x = np.array(sorted(points), float)
            lines = [
                Line("each as one alone", x, x * points[1], "muted", smoothed=True),
                Line("measured", x, np.array([points[int(each)] for each in x]), markers=True),
            ]
            title = f"{model} on {device}, {told}"
            parts.append(xy_chart(title, lines, "processes", f"{members[0].workload.sample_unit}s per second"))
    return Section("More GPUs", join(parts), anchor="scaling") if parts else None


def latency(records: Sequence[Record]) -> Section | None:
    """Latency over throughput of what was served, and the knee: the most throughput per millisecond that is waited."""
    parts = []
    for (model, device, told), members in _series(record for record in records if record.kind == "serve"):
        points = sorted(
            (windows.samples_per_s.median, windows.step_ms.p99, record.workload.concurrency or 1)
            for record in filter(is_ranked, members)
            for windows in record.measurements.values()
        )
        if not points:
            continue
        knee = max(points, key=lambda point: point[0] / point[1])
        line = Line("99th percentile", np.array([p[0] for p in points]), np.array([p[1] for p in points]), markers=True)
        caption = f"The knee is at {knee[0]:,.4g} per second and {knee[1]:.4g} ms, {knee[2]} requests in flight."
        parts.append(xy_chart(f"{model} on {device}, {told}", [line], "answers per second", "ms", caption))
    return Section("Latency and throughput", join(parts), anchor="latency") if parts else None


def costs(records: Sequence[Record], prices: Sequence[Price]) -> Section | None:
    """Dollars and joules per million samples, where the instance or the energy is known."""
    cells = []
    for record in filter(is_ranked, records):
        windows = record.measurements.get("end_to_end") or record.measurements.get("compute_only")
        if windows is None:
            continue
        seen = record.evidence.telemetry.get("end_to_end") or record.evidence.telemetry.get("compute_only")
        samples = sum(window.samples for window in windows.windows)
        joules = seen.energy_j / samples * 1e6 if seen is not None and seen.energy_j is not None else None
        price = _price_of(record, prices)
        dollars = dollars_per_million(price.usd_per_hour, windows.samples_per_s.median) if price is not None else None
        if joules is not None or dollars is not None:
            told = (f"{dollars:.3g}" if dollars else "not known", price.instance if price else "not known")
            cells.append((record.workload.model, record.device, how(record), *told, f"{joules:,.4g}" if joules else ""))
    if not cells:
        return None
    head = ("Model", "Machine", "How", "Dollars per million", "Instance", "Joules per million")
    return Section("What a million samples cost", table(head, cells, numeric=(3, 5)), anchor="costs")


def history(groups: Sequence[Group]) -> Section | None:
    """The same measurement on other days; it is shown, and never fails a check."""
    cells = []
    for one in groups:
        for record in one.records:
            same = [
                other for other in one.records if (other.device, other.workload) == (record.device, record.workload)
            ]
            if len(same) > 1 and record is same[0]:
                days = [(other.created[:10], figures(other)[-1]) for other in filter(is_ranked, same)]
                told = ", ".join(f"{day}: {figure.text()}" for day, figure in days)
                cells.append((record.workload.model, record.device, how(record), told))
    if not cells:
        return None
    return Section("Other days", table(("Model", "Machine", "How", "Figures"), cells), anchor="history")


def cannot_be(sources: Sources) -> Section | None:
    """Published figures that no hardware makes."""
    work = {}
    for name, recipe in RECIPES.items():
        for record in sources.records:
            if record.workload.model == recipe and record.evidence.work is not None and record.kind == "train":
                work[name] = record.evidence.work.flop_per_sample
    found = impossible(sources.published, work)
    if not found:
        return None
    cells = [
        (f"{one.row.num_gpus} × {one.row.gpu}", one.row.model, f"{one.row.value:,.6g} {one.row.unit}",
         f"{one.finding.code}: {one.finding.text}", one.row.source)
        for one in found
    ]  # fmt: skip
    told = "Nobody validates a table of throughputs. Each of these would have been refused here, by the code it names."
    head = ("Hardware", "Model", "Published", "What refuses it", "Source")
    return Section("Numbers that cannot be", paragraph(told) + table(head, cells, numeric=(2,)), anchor="cannot-be")


def _speeds(title: str, groups: Sequence[Group], published: Sequence[Row]) -> Section | None:
    if not groups:
        return None
    content = join(Markup("<h3>{}</h3>{}").format(one.title, group_bars(one, published)) for one in groups)
    note = "Bars are on the scale of the valid records; what was made by another protocol is outlined and says how."
    return Section(title, paragraph(note if published else "Ratios, with their 95 % intervals.") + content)


def _ladder(found: Sequence[Rung]) -> Markup:
    top = found[0].samples_per_s
    cells = [
        (
            rung.name, f"{rung.samples_per_s:,.4g}", bar(rung.samples_per_s / top), f"{rung.samples_per_s / top:.1%}",
            f"{rung.loss:.1%} lost: {rung.lost_to}" if number else "",
        )
        for number, rung in enumerate(found)
    ]  # fmt: skip
    return table(("Rung", "Samples/s", "", "Left", "Lost since the last"), cells, numeric=(1, 3))


def _series(records: Iterator[Record]) -> Iterator[tuple[tuple[str, str, str], list[Record]]]:
    found: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        name = record.device if record.evidence.ranks.size == 1 else record.device.rpartition("-x")[0] or record.device
        found.setdefault((record.workload.model, name, record.workload.precision), []).append(record)
    yield from found.items()


def _price_of(record: Record, prices: Sequence[Price]) -> Price | None:
    """The instance that the cloud named; else the cheapest with exactly the GPUs that worked."""
    cloud, gpus = record.evidence.worker.cloud, record.evidence.worker.gpus
    if cloud is not None:
        return price_of(cloud.instance, prices)
    fitting = [
        price
        for price in prices
        if gpus and price.num_gpus == len(gpus) and is_gpu(price, gpus[0].name, gpus[0].memory_gb)
    ]
    return min(fitting, key=lambda price: price.usd_per_hour, default=None)


def _trust(records: Sequence[Record]) -> str:
    errors = [abs(left.error) for left in leave_one_out(list(filter(is_ranked, records)))]
    if not errors:
        return "No record could be predicted from others yet."
    return f"Of {len(errors)} records, each predicted from the others, the worst was off by {max(errors):.0%}."


def _gpus(price: Price) -> str:
    return f"{price.num_gpus} × {price.gpu}".replace(" ", "\u00a0") if price.num_gpus else price.gpu


def _range(values: Range | None) -> str:
    if values is None:
        return ""
    low, likely, high = (f"{each:,.0f}" if each >= 100 else f"{each:.3g}" for each in values)
    return f"{likely} ({low} – {high})"
