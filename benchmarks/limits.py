"""What limits a training, in a sentence with the figures that say so, and what would help."""

from benchmarks.record import Record
from benchmarks.validity import BUSY_SHARE

POOR_SCALING = 0.8  # of several ranks' throughput over theirs alone
NEAR = 0.5  # of a disk's speed: what a loader with a decoder behind it can hardly exceed
LAUNCHES = 0.6  # of a step's time that launching its operators alone would take


def limit_of(record: Record) -> str:
    """One sentence about the slowest part of a `train` record: the link, the disk, decoding, launches, or computing."""
    unit, ranks = f"{record.workload.sample_unit}s", record.evidence.ranks
    if ranks.size > 1 and ranks.efficiency is not None and ranks.efficiency < POOR_SCALING and not _waits(record):
        return _link(record)
    if record.split is None:
        return _compute(record, next(iter(record.measurements.values())).samples_per_s.median, unit)
    if record.split.bottleneck == "data":
        return _data(record)
    if record.split.bottleneck == "balanced":
        return (
            f"data and computing are as fast as each other, {record.split.data_only:,.4g} and "
            f"{record.split.compute_only:,.4g} {unit}/s: only both together would bring more."
        )
    return _compute(record, record.split.compute_only, unit)


def percent(share: float) -> str:
    """Two digits that say something, also of a small share: 42 %, 0.31 %."""
    return f"{100 * share:.2g} %" if abs(share) < 0.995 else f"{100 * share:.0f} %"


def _waits(record: Record) -> bool:
    return record.split is not None and record.split.bottleneck == "data"


def _link(record: Record) -> str:
    ranks, roofs = record.evidence.ranks, record.evidence.probe
    link = f", where an all-reduce moves {roofs.all_reduce_gb_s:.3g} GB/s" if roofs and roofs.all_reduce_gb_s else ""
    return (
        f"the link between ranks limits you: {ranks.size} reach {ranks.efficiency:.0%} of {ranks.size} times one"
        f"{link}; a larger batch for each talks less often."
    )


def _data(record: Record) -> str:
    split, roofs, unit = record.split, record.evidence.probe, f"{record.workload.sample_unit}s"
    assert split is not None
    could = f"computing could take {split.compute_only:,.4g}"
    kilobytes = record.details.get("mean_file_kilobytes")
    if kilobytes is None:
        return f"preparing batches limits you: it gives {split.data_only:,.4g} {unit}/s, and {could}."
    read = split.data_only * kilobytes / 1e6  # GB/s
    if roofs is not None and roofs.read_gb_s is not None and read >= NEAR * roofs.read_gb_s:
        return (
            f"reading limits you: {split.data_only:,.4g} {unit}/s of {kilobytes:,.0f} kB are {read:.3g} GB/s, the disk "
            f"gives {roofs.read_gb_s:.3g}, and {could}; keep the files on a faster disk or in memory."
        )
    cores = roofs.cores if roofs is not None else record.system["cpu"]["cores"]
    given = "1 core gives" if cores == 1 else f"{cores} cores give"
    return (
        f"decoding limits you: {given} {split.data_only:,.4g} {unit}/s, and {could}; "
        f"about {max(cores + 1, round(cores * split.compute_only / split.data_only))} cores would keep up."
    )


def _compute(record: Record, rate: float, unit: str) -> str:
    work, roofs, shares = record.evidence.work, record.evidence.probe, record.evidence.utilisation
    told = f"computing limits you: {rate:,.4g} {unit}/s"
    if work is not None and roofs is not None:
        launching = work.operators * roofs.launch_us / 1e6
        step = record.workload.batch / rate
        if launching >= LAUNCHES * step:
            return (
                f"launching operators limits you: {work.operators:,} a step at {roofs.launch_us:.3g} µs take "
                f"{launching / step:.0%} of it; a larger batch, --training.compile or --training.cuda-graphs has fewer."
            )
    if shares is not None and shares.mfu is not None:
        told += f", {percent(shares.mfu)} of what a product of matrices reaches here"
        if shares.bandwidth is not None and shares.bandwidth > shares.mfu:
            told += f" and {percent(shares.bandwidth)} of what a copy does"
        if roofs is not None and roofs.busy_share > BUSY_SHARE:
            told += " (which other work held down)"
    return told + "."
