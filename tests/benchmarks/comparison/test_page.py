"""The page that compares machines: rents, bars, ladders, scaling, and numbers that cannot be."""

import dataclasses
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from benchmarks import imports, prices, published
from benchmarks.comparison.bars import tags
from benchmarks.comparison.page import Sources, page
from benchmarks.comparison.rent import Goal, is_gpu, leave_one_out, parse_goal, predict
from benchmarks.comparison.rungs import rungs
from benchmarks.record import RESULTS, Evidence, Finding, Validity, read_all
from tests.benchmarks.builders import planted, record, windows

PRICES = prices.read(prices.PRICES)
PUBLISHED = published.rows()
BY_NAME = {price.instance: price for price in PRICES}
SIX = (
    planted("NVIDIA L4", 720.0, 900.0),
    planted("NVIDIA L4", 940.0, 900.0, compile=True),
    planted("NVIDIA L40S", 2300.0, 1610.0, memory_gb=48.3, cores=4),
    planted("NVIDIA H100 80GB HBM3", 3000.0, 5200.0, memory_gb=85.0, cores=26, energy_j=30_000.0),
    planted("NVIDIA H100 80GB HBM3", 23_000.0, 24_000.0, memory_gb=85.0, ranks=(8, 2950.0, 21_500.0), cores=192),
    planted("NVIDIA H100 80GB HBM3", 570_000.0, 600_000.0, memory_gb=85.0, ranks=(4, 2950.0, 570_000.0), cores=96),
)


def html(*records):
    return page(Sources(records=records, published=PUBLISHED, prices=PRICES, goal=Goal("resnet50", 90.0)))


class Rows(HTMLParser):
    """The rows of all tables as (class, cells)."""

    def __init__(self, text):
        super().__init__()
        self.rows, self._cell = [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "tr":
            self.rows.append((dict(attributes).get("class"), []))
        if tag in ("td", "th") and self.rows:
            self.rows[-1][1].append("")
        self._cell = self._cell or tag in ("td", "th")

    def handle_endtag(self, tag):
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data):
        if self._cell and self.rows and self.rows[-1][1]:
            self.rows[-1][1][-1] += data


def test_the_impossible_record_stands_under_its_reason_and_sets_no_scale():
    text = html(*SIX)
    apart = [cells for kind, cells in Rows(text).rows if kind == "apart"]
    assert any("SUPERLINEAR" in cells[-1] for cells in apart)
    widths = [float(width) for width in re.findall(r'<b style="width:([\d.]+)%', text)]
    assert sum(width > 90 for width in widths) >= 2  # of the valid ones, the fastest reaches the end


def test_eager_and_compiled_rows_of_one_gpu_are_told_apart():
    cells = [cells for _, cells in Rows(html(*SIX)).rows if cells and cells[0] == "nvidia-l4"]
    assert len({cells[1] for cells in cells if "end_to_end" in cells[2]}) == 2


def test_published_rows_are_outlined_and_say_how_they_were_made():
    cells = [cells for kind, cells in Rows(html(*SIX)).rows if kind == "published"]
    h200 = next(cells for cells in cells if cells[0] == "H200-SXM-140GB")
    assert "synthetic data" in h200[-1]
    assert "NCHW" in h200[-1]


def test_the_page_asks_nothing_of_other_places_and_escapes_what_it_shows():
    text = html(dataclasses.replace(record(dataset="<b>x</b>")), *SIX)
    assert "<b>x</b>" not in text
    assert not re.search(r'(src|href)="(?!#|data:)', text)


def test_a_slow_cpu_is_not_sold_with_a_fast_gpu():
    found = {one.price.instance: one for one in predict(Goal("resnet50", 90.0), SIX, PRICES)}
    four, eight = found["g6e.xlarge"], found["g6e.2xlarge"]
    assert four.limit == "data"
    assert four.rate[1] == pytest.approx(1610 * 0.98)
    assert eight.limit == "compute"
    assert eight.rate[1] == pytest.approx(2300 * 0.98)
    assert four.hours[1] == pytest.approx(90 * 1_281_167 / four.rate[1] / 3600)
    assert four.dollars[1] == pytest.approx(four.hours[1] * BY_NAME["g6e.xlarge"].usd_per_hour)
    assert four.hours[0] < four.hours[1] < four.hours[2]


def test_what_no_record_supports_is_not_measured():
    found = {one.price.instance: one for one in predict(Goal("resnet50", 90.0), SIX, PRICES)}
    assert found["p6-b200.48xlarge"].reason == "not measured on B200"
    assert found["g6e.12xlarge"].reason == "not measured on 4 × L40S"
    assert "part of a GPU" in found["g6f.xlarge"].reason
    assert found["g6f.xlarge"].hours is None
    with_figures = [one.dollars is not None for one in predict(Goal("resnet50", 1.0), SIX, PRICES)]
    assert with_figures == sorted(with_figures, reverse=True)


@pytest.mark.parametrize(
    ("instance", "name", "memory", "same"),
    [
        ("g5.xlarge", "NVIDIA A10G", 23.7, True),
        ("g5.xlarge", "NVIDIA A10", 23.7, False),
        ("g6.xlarge", "NVIDIA L40S", 48.3, False),
        ("p4d.24xlarge", "NVIDIA A100-SXM4-40GB", 42.4, True),
        ("p4d.24xlarge", "NVIDIA A100-SXM4-80GB", 85.1, False),
        ("p5.4xlarge", "NVIDIA H100 80GB HBM3", 85.0, True),
        ("p5en.48xlarge", "NVIDIA H100 80GB HBM3", 85.0, False),
        ("g7.2xlarge", "NVIDIA RTX PRO 6000 Blackwell", 34.0, False),
    ],
)
def test_a_gpu_is_known_by_its_whole_name_and_its_memory(instance, name, memory, same):
    assert is_gpu(BY_NAME[instance], name, memory) is same


def test_each_record_is_predicted_from_the_others():
    two, four = planted("NVIDIA L4", 700.0, 400.0, cores=2), planted("NVIDIA L4", 710.0, 810.0, cores=4)
    found = leave_one_out([two, four])
    assert [left.predicted for left in found] == pytest.approx([405.0 * 0.98, 700.0 * 0.98])
    assert [abs(left.error) < 0.1 for left in found] == [True, True]
    assert not leave_one_out([two, planted("NVIDIA H100 80GB HBM3", 3000.0, 5000.0)])


def test_committed_records_of_one_and_two_cores_predict_each_other_within_a_tenth():
    found = [left for left in leave_one_out(read_all([RESULTS])) if not left.record.evidence.worker.gpus]
    assert {left.record.evidence.probe.cores for left in found} >= {1, 2}
    assert max(abs(left.error) for left in found) < 0.1


@pytest.mark.parametrize(
    ("text", "goal"),
    [
        ("resnet50 90 epochs", Goal("resnet50", 90.0)),
        (" ssd300/coco 6.5 epochs of 117,266 images", Goal("ssd300/coco", 6.5, 117_266)),
        ("ncf 1 epoch of 99_000", Goal("ncf", 1.0, 99_000)),
    ],
)
def test_goals_are_read(text, goal):
    assert parse_goal(text) == goal


@pytest.mark.parametrize("one", SIX[:5])
def test_what_is_left_on_the_ladder_multiplies_to_the_whole(one):
    ladder = rungs(one)
    assert ladder[0].name == "data sheet"
    assert math.prod(1 - rung.loss for rung in ladder) == pytest.approx(
        ladder[-1].samples_per_s / ladder[0].samples_per_s
    )
    assert all(math.isfinite(rung.loss) for rung in ladder)
    assert [rung.name for rung in ladder][-1] == ("end to end" if one.evidence.ranks.size == 1 else "of each rank")


def test_a_record_without_counted_work_has_no_ladder():
    assert rungs(dataclasses.replace(SIX[0], evidence=Evidence())) == []


def test_published_numbers_that_cannot_be_are_refused_by_their_code():
    rows = [cells for _, cells in Rows(html(*SIX)).rows]
    refused = [
        cells for cells in rows if len(cells) == 5 and cells[3].partition(":")[0] in ("SUPERLINEAR", "NOT_THE_GPU")
    ]
    assert any("13,346,100,000" in cells[2] or "1.33461e+10" in cells[2] for cells in refused)
    assert any(cells[3].startswith("NOT_THE_GPU") and "B200" in cells[0] for cells in refused)


def test_the_knee_and_the_scaling_are_drawn():
    served = [
        dataclasses.replace(
            record(kind="serve", concurrency=number, engine="triton"), measurements={"requests": windows(rate)}
        )
        for number, rate in ((1, 100.0), (4, 350.0), (16, 380.0))
    ]
    text = html(*SIX, *served)
    assert "The knee is at" in text
    assert "each as one alone" in text
    assert "Joules per million" in text


def test_a_goal_that_nothing_supports_is_told_on_the_page():
    invalid = Validity(valid=False, reasons=(Finding(code="UNSTEADY", text="It varied."),))
    assert "make benchmark MODEL=resnet50" in html(record(valid=invalid))


LOADGEN = """
================================================
MLPerf Results Summary
================================================
SUT name : kit
Scenario : {scenario}
Mode     : PerformanceOnly
{figure}
Result is : {result}
"""
OFFLINE = LOADGEN.format(scenario="Offline", figure="Samples per second: 812.5", result="VALID")
SINGLE = LOADGEN.format(scenario="SingleStream", figure="90.0th percentile latency (ns) : 8463462", result="VALID")
PERF = "Concurrency,Inferences/Second,Client Send,p50 latency,p99 latency\n4,119.25,30,33000,41250\n"
TIMM = "model,infer_samples_per_sec,infer_step_time,infer_batch_size\nresnet50,2543.21,100.6,256\n"
DLLOGGER = "".join(f'DLLL {{"step": [], "data": {{"train.total_ips": {rate}}}}}\n' for rate in (800.0, 1201.5))
IMPORTED = {
    "resnet50_h100_offline.txt": (OFFLINE, 812.5, "samples/s", "h100"),
    "resnet50_cpu_single.txt": (SINGLE, 8.463462, "ms", "cpu"),
    "resnet50_t4_perf.csv": (PERF, 119.25, "inferences/s", "t4"),
    "timm_a10g.csv": (TIMM, 2543.21, "images/s", "a10g"),
    "resnet50_v100_log.json": (DLLOGGER, 1201.5, "images/s", "v100"),
}


@pytest.mark.parametrize("name", IMPORTED)
def test_other_tools_figures_become_published_rows(name, tmp_path):
    text, value, unit, gpu = IMPORTED[name]
    (tmp_path / name).write_text(text)
    (row,) = imports.rows(tmp_path / name)
    assert (row.value, row.unit, row.gpu) == (value, unit, gpu)
    assert row.identifier.startswith("imported/")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", row.date)
    assert "its protocol is not told" in tags(row)


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", LOADGEN.format(scenario="Offline", figure="Samples per second: 1", result="INVALID")]
)
def test_files_without_a_figure_that_counts_are_refused(text, tmp_path):
    (tmp_path / "x.txt").write_text(text)
    with pytest.raises(imports.ImportedFileError, match="INVALID counts for nothing"):
        imports.rows(tmp_path / "x.txt")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
@pytest.mark.parametrize("width", [400, 1300])
def test_no_text_is_cut_off_in_a_browser(width, tmp_path):
    """Nothing but a table within its own scroller is wider than the window."""
    script = """<script>addEventListener("load", () => {
      const cut = [...document.querySelectorAll("td")].filter((one) => one.scrollWidth > one.clientWidth + 1);
      document.title = [document.documentElement.scrollWidth, innerWidth, cut.length];
    })</script>"""
    file = tmp_path / "page.html"
    file.write_text(html(*SIX).replace("</body>", script + "</body>"))
    command = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--window-size={width},900",
        "--dump-dom",
        f"file://{file}",
    ]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    whole, window, cut = map(int, re.search(r"<title>(\d+),(\d+),(\d+)</title>", dom).groups())
    assert whole <= window
    assert cut == 0
