"""The table of absolute figures: what each model reaches on each machine, and what share of the roof that is."""

from collections.abc import Sequence

from benchmarks.compare import markdown_table
from benchmarks.limits import limit_of, percent
from benchmarks.record import Record, is_ranked, short_commit

HEADER = (
    "machine", "model", "precision", "batch", "ranks", "samples/s", "95 % interval", "of the measured roof",
    "of the data sheet", "limit", "measured",
)  # fmt: skip
NOTHING = "No machine has been measured yet while nothing else ran on it: `make benchmark` does."


def table(records: Sequence[Record]) -> str:
    """A row for the newest valid training record of every machine, model, precision, batch and number of ranks.

    Smoke runs and records of the first version, which know no roof, are left out.
    """
    newest: dict[tuple[object, ...], Record] = {}
    for record in sorted(records, key=lambda record: record.created):
        if record.kind == record.name == "train" and is_ranked(record) and record.evidence.utilisation is not None:
            work = record.workload
            key = (record.device, work.model, work.data, work.precision, work.batch, work.compile, work.cuda_graphs)
            newest[(*key, record.evidence.ranks.size)] = record
    if not newest:
        return NOTHING + "\n"
    return "\n".join(markdown_table(HEADER, map(_row, sorted(newest.values(), key=_place)))) + "\n"


def _place(record: Record) -> tuple[str, str, int]:
    return record.device, record.workload.model, record.evidence.ranks.size


def _row(record: Record) -> tuple[str, ...]:
    work, shares = record.workload, record.evidence.utilisation
    assert shares is not None
    whole = record.measurements.get("end_to_end") or record.measurements["compute_only"]
    low, high = whole.samples_per_s.interval
    how = [work.precision, *(["compiled"] if work.compile else []), *(["CUDA graphs"] if work.cuda_graphs else [])]
    commit = short_commit(record.kit["commit"])
    return (
        record.device,
        f"`{work.model}`{', made-up inputs' if work.data == 'synthetic' else ''}",
        ", ".join(how),
        f"{work.batch:,}",
        str(record.evidence.ranks.size),
        f"{whole.samples_per_s.median:,.4g} {work.sample_unit}s/s",
        f"{low:,.4g} – {high:,.4g}",
        percent(shares.mfu) if shares.mfu is not None else "–",
        percent(shares.mfu_of_peak) if shares.mfu_of_peak is not None else "–",
        limit_of(record).partition(" limit")[0].partition(" are as fast")[0],
        f"{record.created[:10]}, {commit}",
    )
