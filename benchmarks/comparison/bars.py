"""Every figure of a model under each other, on the scale of the valid ones, with what others published beside them."""

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from benchmarks.compare import Figure, Group, figures, how
from benchmarks.published import PRECISIONS, RECIPES, Row, protocol_of, why_not
from benchmarks.record import Record, is_ranked
from common.report.elements import bar, join

HEAD = ("Who", "How", "Figure", "", "95 %", "Date", "Remark")
STAGES = {"train": "end_to_end", "data": "data_only"}
"""The figure of a record's kind that published ones stand beside."""


def group_bars(one: Group, published: Sequence[Row]) -> Markup:
    """One table of a group's figures; invalid ones come last, apart, each with its reason."""
    scale: dict[str, float] = {}
    for record in filter(is_ranked, one.records):
        for figure in figures(record):
            scale[figure.name] = max(scale.get(figure.name, 0.0), figure.high)
    ranked = [_line(record, figure, scale) for record in one.records if is_ranked(record) for figure in figures(record)]
    apart = [_line(record, figure, {}) for record in one.records if not is_ranked(record) for figure in figures(record)]
    first = one.records[0]
    beside = list(_beside(first, published, scale.get(STAGES.get(first.kind, ""), 0.0)))
    head = join(Markup('<th scope="col">{}</th>').format(name) for name in HEAD)
    rows = join((*ranked, *beside, *apart))
    return Markup(
        '<div class="scroll"><table class="speeds"><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>'
    ).format(head, rows)


def rows_beside(record: Record, published: Sequence[Row]) -> list[Row]:
    """The published rows of a record's model and task."""
    model, kind = record.workload.model.partition("/")[0], {"train": "train", "inference": "infer"}.get(record.kind)
    return [
        row
        for row in published
        if RECIPES.get(row.model, "").partition("/")[0] == model and row.task == kind and row.metric == "throughput"
    ]


def tags(row: Row) -> list[str]:
    """In what a published row was made otherwise than a record here; only what its source says."""
    found = ["other container"]
    if row.precision not in PRECISIONS:
        return [*found, "its protocol is not told"]
    if reason := why_not(row):
        return [*found, reason]
    protocol = protocol_of(row)
    if protocol.synthetic:
        found.append("synthetic data")
    if row.model in ("resnet50", "ssd300-r50") and not protocol.channels_last:
        found.append("NCHW")
    if protocol.compile:
        found.append("compiled")
    return found + [f"{each} is not printed" for each in protocol.unknown]


def _line(record: Record, figure: Figure, scale: dict[str, float]) -> Markup:
    best = scale.get(figure.name)
    drawn = bar(figure.value / best, (figure.low / best, figure.high / best)) if best else ""
    cells = (record.device, how(record), f"{figure.name}: {figure.text()}", drawn, figure.interval(),
             record.created[:10], _remark(record))  # fmt: skip
    return _row("" if is_ranked(record) else "apart", cells)


def _beside(record: Record, published: Sequence[Row], best: float) -> Iterator[Markup]:
    for row in rows_beside(record, published):
        like = record.evidence.like
        same = like is not None and like.row == row.identifier and not like.differences
        drawn = bar(row.value / best) if best else ""
        who = f"{row.num_gpus} × {row.gpu}" if row.num_gpus > 1 else row.gpu
        told = "same protocol" if same else ", ".join(tags(row))
        cells = (who, f"published: {row.precision}, {row.software}", f"{row.value:,.0f} {row.unit}", drawn,
                 "", row.date, told)  # fmt: skip
        yield _row("published", cells)


def _row(kind: str, cells: Sequence[object]) -> Markup:
    return Markup('<tr class="{}">{}</tr>').format(kind, join(Markup("<td>{}</td>").format(cell) for cell in cells))


def _remark(record: Record) -> str:
    found = record.validity.reasons if not record.validity.valid else record.validity.warnings
    told = "; ".join(dict.fromkeys(f"{finding.code}: {finding.text}" for finding in found))
    return ("invalid. " if not record.validity.valid else "") + told
