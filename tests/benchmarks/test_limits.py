"""A bottleneck that was planted is named: decoding, the disk, computing, launching, and the link between ranks."""

import dataclasses
import time

import pytest

from benchmarks.limits import limit_of, percent
from benchmarks.measure import interleave
from benchmarks.record import Evidence, Ranks, split_of
from benchmarks.work import Utilisation, Work
from tests.benchmarks.builders import record
from tests.benchmarks.test_validity import probe_of

WORK = Work(
    flop_per_sample=1e9, bytes_per_sample=1e6, least_bytes_per_sample=1e5, step_bytes=1e7, operators=500,
    synchronisations=0, allocations=400,
)  # fmt: skip


def measured(*, data: float, compute: float, batch=8, kilobytes=None, ranks=None, probe=None, work=WORK):
    """A record of parts that really take so many milliseconds a step."""

    def part(milliseconds):
        def step() -> int:
            time.sleep(milliseconds / 1000)
            return batch

        return step

    parts = {"data_only": part(data), "compute_only": part(compute), "end_to_end": part(max(data, compute) + 0.1)}
    found = interleave(parts, warmup_seconds=0.03, rounds=3, block_seconds=0.06)
    sides, overlap = found.sides, found.ratio("end_to_end", "data_only", "compute_only")
    evidence = Evidence(
        probe=probe or probe_of(),
        work=work,
        ranks=ranks or Ranks(),
        utilisation=Utilisation(tflops=1.0, gb_s=None, mfu=0.42),
    )
    return dataclasses.replace(
        record(batch=batch),
        measurements=sides,
        split=split_of(sides["data_only"], sides["compute_only"], sides["end_to_end"], overlap),
        details={} if kilobytes is None else {"mean_file_kilobytes": kilobytes},
        evidence=evidence,
    )


def test_slow_decoding_is_named_with_the_cores_that_would_keep_up():
    told = limit_of(measured(data=18, compute=6, kilobytes=110.0))
    assert told.startswith("decoding limits you: 2 cores give ")
    assert 3 <= int(told.partition("about ")[2].split()[0]) <= 12


def test_a_slow_disk_is_named():
    slow = dataclasses.replace(probe_of(), read_gb_s=0.04)
    assert limit_of(measured(data=18, compute=6, kilobytes=110.0, probe=slow)).startswith("reading limits you")


def test_batches_that_are_no_files_are_named_so():
    assert limit_of(measured(data=18, compute=6)).startswith("preparing batches limits you")


def test_slow_computing_is_named_with_its_share_of_the_roof():
    told = limit_of(measured(data=3, compute=18, kilobytes=110.0))
    assert told.startswith("computing limits you")
    assert "42 % of what a product of matrices reaches here" in told


def test_launching_is_named_where_it_fills_a_step():
    many = dataclasses.replace(WORK, operators=25_000)  # at 2 µs each of the probe's
    assert limit_of(measured(data=3, compute=18, work=many)).startswith("launching operators limits you: 25,000 a step")


def test_a_slow_link_between_ranks_is_named():
    ranks = Ranks(size=2, scaling="weak", alone="00c0ffee", alone_samples_per_s=100.0, together_samples_per_s=110.0,
                  efficiency=0.55)  # fmt: skip
    probe = dataclasses.replace(probe_of(), all_reduce_gb_s=0.4, ranks=2)
    told = limit_of(measured(data=3, compute=18, ranks=ranks, probe=probe))
    assert told.startswith("the link between ranks limits you: 2 reach 55% of 2 times one")
    assert "0.4 GB/s" in told
    assert limit_of(measured(data=18, compute=3, ranks=ranks, kilobytes=110.0)).startswith("decoding")


def test_parts_that_are_as_fast_as_each_other_limit_together():
    found = measured(data=20, compute=18)
    data = found.measurements["data_only"]
    split = split_of(data, data, found.measurements["end_to_end"], found.split.overlap_efficiency)
    assert "as fast as each other" in limit_of(dataclasses.replace(found, split=split))


@pytest.mark.parametrize(("share", "told"), [(0.42, "42 %"), (0.0031, "0.31 %"), (1.25, "125 %"), (0.999, "100 %")])
def test_shares_keep_two_digits(share, told):
    assert percent(share) == told
