"""A step's work against counts made by hand, and the probe's figures against what they stand for."""

import csv
import datetime
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import prices, probe
from benchmarks.work import PEAKS_FILE, count_work, peak_of, utilisation
from tests.benchmarks.test_validity import probe_of

CPU = torch.device("cpu")


def test_the_work_of_a_training_step_is_that_of_three_products():
    """Forward and the two gradients of a layer: 3 × 2 × batch × in × out, less the gradient of the input."""
    layer, inputs = nn.Linear(32, 8, bias=False), torch.randn(4, 32)

    def step() -> int:
        layer(inputs).sum().backward()
        layer.zero_grad()
        return 4

    work = count_work(step)
    assert work.flop_per_sample * 4 == 2 * (2 * 4 * 32 * 8)
    weights, batch, answer = 32 * 8 * 4, 4 * 32 * 4, 4 * 8 * 4
    assert work.step_bytes >= 2 * weights + batch + answer  # the gradient is as large as the weights
    assert work.bytes_per_sample >= work.least_bytes_per_sample
    assert work.synchronisations == 0


def test_a_number_read_back_is_one_synchronisation():
    values = torch.ones(3)
    assert count_work(lambda: int(values.sum().item() > 0)).synchronisations == 1


def test_views_move_nothing_and_storages_count_once():
    values = torch.ones(10, 10)
    work = count_work(lambda: (values.t() + values, 1)[1])
    assert work.step_bytes == 2 * 400
    assert work.bytes_per_sample == 3 * 400
    assert work.allocations == 1


def test_a_table_is_read_only_where_it_is_looked_up():
    table, rows = torch.ones(1000, 4), torch.tensor([1, 2])
    work = count_work(lambda: (nn.functional.embedding(rows, table), 2)[1])
    assert work.step_bytes == 2 * 8 + 2 * (2 * 4 * 4)  # the rows' numbers, what is read and what is written


def test_a_step_that_a_cache_holds_has_no_bandwidth():
    values = torch.ones(1000)
    work = count_work(lambda: (values + 1, 1)[1])
    assert utilisation(work, 1e6, precision="fp32", probe=probe_of(cache=1 << 20), gpu=None).bandwidth is None
    found = utilisation(work, 1e6, precision="fp32", probe=probe_of(copy=100.0), gpu=None)
    assert found.bandwidth == pytest.approx(8000 * 1e6 / 1e9 / 100)


def test_ranks_share_the_work():
    work = count_work(lambda: (torch.mm(torch.ones(8, 8), torch.ones(8, 8)), 1)[1])
    one = utilisation(work, 1e9, precision="fp32", probe=probe_of(), gpu=None)
    assert utilisation(work, 1e9, precision="fp32", probe=probe_of(), gpu=None, ranks=2).mfu == pytest.approx(
        one.mfu / 2
    )


def test_the_probe_measures_this_machine(monkeypatch):
    monkeypatch.setattr(probe, "SIDES", {"cpu": (64, 128)})
    monkeypatch.setattr(probe, "COPIED", {"cpu": 1 << 20})
    monkeypatch.setattr(probe, "READ", 1 << 22)
    found = probe.probe(CPU, seconds=0.02)
    assert set(found.matmul_tflops) >= {"fp32"}
    assert all(value > 0 for value in (*found.matmul_tflops.values(), found.copy_gb_s, found.launch_us))
    assert 10 < found.jpeg_per_s_core < 10_000
    assert 40 < found.jpeg_kilobytes < 150  # as a photograph of that size has
    assert found.host_to_device_gb_s is None
    assert 0 <= found.busy_share <= 1
    assert torch.get_float32_matmul_precision() == "highest"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_published_row_has_a_source_a_date_a_protocol_and_a_unit():
    published = rows(PEAKS_FILE.with_name("published.csv"))
    assert len(published) >= 72
    for row in published:
        assert row["source_repo_or_title"], row
        assert row["source_path_or_section"], row
        assert row["date"][:4].isdigit(), row
        assert all(row[part] for part in ("software", "precision", "metric")), row  # the protocol
        assert row["unit"], row
        assert float(row["value"]) > 0, row
        assert int(row["num_gpus"]) >= 1, row


def test_every_price_has_a_date_and_a_source():
    found = prices.read(prices.PRICES)
    assert len(found) >= 26
    assert all(price.usd_per_hour > 0 and price.date and price.source for price in found)
    assert prices.price_of("g6e.2xlarge", found).vcpus == 8
    assert prices.price_of("x9.large", found) is None


def test_prices_without_a_date_are_refused(tmp_path):
    file = tmp_path / "prices.csv"
    file.write_text("instance,gpu,num_gpus,gpu_memory_gb,vcpus,usd_per_hour_on_demand,region,os,date,source\n"
                    "a.b,T4,1,16,4,0.5,us-east-1,Linux,,me\n")  # fmt: skip
    with pytest.raises(prices.PricesError, match="line 2 has no date") as told:
        prices.read(file)
    assert told.value.exit_code == 2


def test_a_file_without_the_columns_is_refused(tmp_path):
    file = tmp_path / "prices.csv"
    file.write_text("instance,price\na.b,1\n")
    with pytest.raises(prices.PricesError, match="usd_per_hour_on_demand"):
        prices.read(file)


def test_dollars_follow_from_the_rate():
    assert prices.dollars_per_million(3.6, 1000.0) == pytest.approx(1.0)


def test_every_peak_is_a_dense_figure_with_its_source():
    """A sparse figure among dense ones stands out: with each halving of the width tensor cores do twice as much."""
    found = rows(PEAKS_FILE)
    for row in found:
        assert float(row["dense_tflops"]) > 0, row
        assert float(row["gb_s"]) > 0, row
        assert "data sheet" in row["source"], row
        assert datetime.date.fromisoformat(row["checked"]), row
        assert row["precision"] in ("fp32", "tf32", "bf16", "fp16", "int8"), row
    by_gpu: dict[str, dict[str, float]] = {}
    for row in found:
        by_gpu.setdefault(row["name_pattern"], {})[row["precision"]] = float(row["dense_tflops"])
    for name, peaks in by_gpu.items():
        assert len([row for row in found if row["name_pattern"] == name]) == len(peaks), name
        if "bf16" in peaks:
            assert peaks["fp16"] == peaks["bf16"], name
            assert peaks["bf16"] == pytest.approx(2 * peaks["tf32"], rel=0.03), name
        if "int8" in peaks:
            assert peaks["int8"] == pytest.approx(2 * peaks["fp16"], rel=0.03), name
    assert peak_of("NVIDIA H200", "bf16").dense_tflops == 989.5
    assert peak_of("NVIDIA A10G", "bf16").dense_tflops == 70
    assert peak_of("NVIDIA A10", "bf16").dense_tflops == 125
