"""MLPerf's load generator: its verdict is kept, and where it is installed it really runs."""

import subprocess
import sys
import time

import pytest

from benchmarks import loadgen
from benchmarks.loadgen import SUMMARY, Settings, capacity, drive, read_summary, record_of
from benchmarks.record import read, write
from common.errors import KitError, ServingError

TEXT = """\
SUT name : PySUT
Scenario : {scenario}
Mode     : PerformanceOnly
{rate}
Result is : {verdict}
  Min duration satisfied : {duration}
  Min queries satisfied : Yes
Recommendations:
 * Processed at least 64 queries (430).
50.00 percentile latency (ns)   : 5209541
90.00 percentile latency (ns)   : 8794479
99.00 percentile latency (ns)   : 43671289
"""


def summary(tmp_path, scenario="SingleStream", *, valid=True, rate="QPS w/o loadgen overhead        : 143.78"):
    verdict, duration = ("VALID", "Yes") if valid else ("INVALID", "NO")
    (tmp_path / SUMMARY).write_text(TEXT.format(scenario=scenario, rate=rate, verdict=verdict, duration=duration))
    return read_summary(tmp_path / SUMMARY)


@pytest.mark.parametrize(
    ("scenario", "rate", "expected"),
    [
        ("SingleStream", "QPS w/o loadgen overhead        : 143.78", 143.78),
        ("Offline", "Samples per second: 1097.46", 1097.46),
        ("Server", "Completed samples per second    : 94.20", 94.2),
    ],
)
def test_a_summary_becomes_a_serve_record(tmp_path, scenario, rate, expected):
    settings = Settings(scenario=scenario, seconds=60.0)
    record = record_of("resnet50", settings, summary(tmp_path, scenario, rate=rate), (224,))
    again = read(write(record, tmp_path / "records"))
    assert (again.kind, again.name, again.workload.challenge) == (
        "serve",
        f"mlperf-{scenario.lower()}",
        "classification",
    )
    (windows,) = again.measurements.values()
    assert windows.samples_per_s.median == pytest.approx(expected)
    assert windows.step_ms.p99 == pytest.approx(43.6713)
    assert again.validity.valid


def test_what_the_generator_finds_invalid_is_invalid(tmp_path):
    record = record_of("resnet50", Settings(seconds=60.0), summary(tmp_path, valid=False), ())
    (reason,) = record.validity.reasons
    assert "says INVALID: Min duration satisfied: NO" in reason.text


def test_a_file_that_is_no_summary_is_refused(tmp_path):
    (tmp_path / SUMMARY).write_text("my notes: all fine\n")
    with pytest.raises(KitError, match="is no summary"):
        read_summary(tmp_path / SUMMARY)
    with pytest.raises(KitError, match="is no summary"):
        read_summary(tmp_path / "absent.txt")


def test_without_the_generator_the_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    with pytest.raises(KitError, match="pip install mlcommons-loadgen"):
        loadgen.main("resnet50", Settings())


def test_the_capacity_is_what_all_clients_reach(monkeypatch):
    monkeypatch.setattr(loadgen, "CAPACITY_SECONDS", 0.2)
    asked = []

    def ask(index: int) -> None:
        asked.append(index)
        time.sleep(0.02)

    assert 20 < capacity(ask, 3, 4) < 210
    assert set(asked) == {0, 1, 2}


def test_the_generator_itself_sends_every_request(tmp_path):
    """In a process of its own: it ends a process whose queries it thinks lost."""
    pytest.importorskip("mlperf_loadgen")
    code = (
        "import sys, time; from pathlib import Path; from benchmarks.loadgen import Settings, drive\n"
        "made = Settings(scenario=sys.argv[1], seconds=1.0, rate=300.0, logs=Path(sys.argv[2]))\n"
        "print(drive(lambda index: time.sleep(.004), 3, made)['Result is'])"
    )
    for scenario in ("SingleStream", "Offline"):
        done = subprocess.run(
            [sys.executable, "-c", code, scenario, str(tmp_path / scenario)], capture_output=True, text=True, timeout=60
        )
        assert done.stdout.strip().splitlines()[-1] in ("VALID", "INVALID"), done.stderr


def test_an_offline_query_that_ended_too_soon_is_sent_again(monkeypatch, tmp_path):
    rates = []

    def sent(ask, count, settings, rate):
        rates.append(rate)
        enough = "Yes" if rate > 100 else "NO"
        return {"Result is": "VALID", "Samples per second": "80", "Min duration satisfied": enough}

    monkeypatch.setattr(loadgen, "_sent", sent)
    made = drive(lambda index: None, 1, Settings(scenario="Offline", rate=20.0, logs=tmp_path))
    assert (rates, made["Min duration satisfied"]) == ([20.0, 120.0], "Yes")
    drive(lambda index: None, 1, Settings(scenario="SingleStream", rate=20.0, logs=tmp_path))
    assert rates[2:] == [20.0]


def test_a_request_that_fails_is_no_measurement(tmp_path, monkeypatch):
    class Generator:
        """As much of the generator as one query passes through."""

        class Plain:
            def __init__(self, *_):
                self.id = self.index = 0

        LogSettings = LogOutputSettings = TestSettings = Plain
        QuerySampleResponse = staticmethod(lambda *answer: answer)
        TestScenario = type("TestScenario", (), {"SingleStream": 0})
        TestMode = type("TestMode", (), {"PerformanceOnly": 0})

        def __init__(self):
            self.answered = []

        def ConstructSUT(self, issue, flush):  # noqa: N802
            self.issue = issue
            return 1

        def ConstructQSL(self, *_):  # noqa: N802
            return 2

        def StartTestWithLogSettings(self, *_):  # noqa: N802
            self.issue([self.Plain()])

        def QuerySamplesComplete(self, answers):  # noqa: N802
            self.answered += answers

        def DestroyQSL(self, *_): ...  # noqa: N802

        DestroySUT = DestroyQSL

    monkeypatch.setattr(loadgen, "_generator", Generator)

    def fail(index):
        raise ConnectionError("refused")

    with pytest.raises(ServingError, match="1 requests failed, the first: refused"):
        drive(fail, 1, Settings(rate=1.0, logs=tmp_path))
