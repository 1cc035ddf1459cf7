"""What runs reached: read from a run directory, written once, shown with its protocol, seeds together."""

import dataclasses
import json

import pytest

from benchmarks.outcomes import Outcome, brief_table, main, of_run, read_all, table, write
from benchmarks.record import RecordError
from common.errors import KitError
from common.files import write_json
from common.run.recipe import Target
from common.run.result import Baseline, Interval, Kit, Result
from common.run.run_directory import RunDirectory
from tests.benchmarks.builders import ENVIRONMENT

TARGET = Target(metric="hr@10/full", value=0.3, source="a paper", protocol="its data")


@pytest.fixture
def evaluated(tmp_path):
    """A run directory with what `kit evaluate` leaves."""
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    result = Result(
        model="ncf", recipe="own", metric="hr@10/full", value=0.3125, interval=Interval(0.3, 0.325, "bootstrap"),
        target=TARGET, verdict="reached", reason="It is above.", metrics={"hr@10/full": 0.3125},
        baselines=(Baseline(name="popularity", value=0.1),), steps=40, epochs=2.0, wall_seconds=12.5,
        samples_per_s=100.0, sample_unit="interaction", created="2026-11-20T10:00:00+00:00",
        report="report.html", kit=Kit("0.1.0"),
    )  # fmt: skip
    result.write(run.result_file)
    write_json(run.environment_file, ENVIRONMENT)
    write_json(
        run.run_file,
        {
            "model": "ncf",
            "recipe": "own",
            "recipe_digest": "1a2b3c4d",
            "command": "kit train ncf/own",
            "overrides": ["--weights", "/home/somebody/weights.pth"],
            "data": {"root": "/home/somebody/ml-1m", "protocol": "leave-one-out", "users": 6040},
        },
    )
    return run.path


def with_seed(outcome: Outcome, seed: int, value: float) -> Outcome:
    return dataclasses.replace(outcome, overrides=("--training.seed", str(seed)), value=value)


def test_a_run_is_kept_without_its_paths(evaluated, tmp_path):
    outcome = of_run(evaluated)
    assert (outcome.value, outcome.interval, outcome.seconds) == (0.3125, (0.3, 0.325), 12.5)
    assert outcome.dataset == "ml-1m"
    assert outcome.data == {"protocol": "leave-one-out", "users": 6040}
    path = write(outcome, tmp_path / "kept")
    assert "somebody" not in path.read_text()
    assert read_all(tmp_path / "kept") == [outcome]


def test_an_outcome_is_kept_once(evaluated, tmp_path):
    outcome = of_run(evaluated)
    write(outcome, tmp_path)
    with pytest.raises(RecordError, match="exists"):
        write(outcome, tmp_path)


def test_a_row_says_what_was_reached_of_what_in_which_time(evaluated):
    row = table([of_run(evaluated)]).splitlines()[2]
    reached = ("0.3125", "0.3000 – 0.3250", "0.3: reached", "popularity 0.1000", "2 epochs, 12 s")
    where = ("`ncf/own` `--weights weights.pth` on ml-1m", "AMD EPYC 9B45, 2 cores, bf16", "2026-11-20, 01234567")
    assert all(part in row for part in reached + where)


def test_seeds_share_a_row_with_their_mean(evaluated):
    one = of_run(evaluated)
    rows = table([with_seed(one, 0, 0.2), with_seed(one, 1, 0.3), with_seed(one, 2, 0.4), one]).splitlines()[2:]
    assert "0.3000, mean of 3 seeds" in rows[0]
    assert "0.2000 – 0.4000, the seeds" in rows[0]
    assert len(rows) == 2  # the run with other flags stands alone


def test_a_newer_run_of_the_same_seed_takes_the_place(evaluated):
    one = of_run(evaluated)
    rows = table([with_seed(one, 0, 0.2), with_seed(one, 0, 0.4)]).splitlines()[2:]
    assert len(rows) == 1
    assert "0.4000" in rows[0]


def test_changed_files_are_said(evaluated):
    outcome = of_run(evaluated)
    assert "with changes" in table([dataclasses.replace(outcome, kit={**outcome.kit, "dirty": True})])


def test_runs_without_a_result_and_other_files_are_refused(evaluated, tmp_path):
    (evaluated / "result.json").unlink()
    with pytest.raises(KitError, match="no result yet"):
        main((evaluated,), tmp_path / "kept")
    (tmp_path / "other.json").write_text(json.dumps({"schema": "kit.bench/1"}))
    with pytest.raises(RecordError, match=r"no kit\.outcome/1 file"):
        read_all(tmp_path)


def test_a_short_table_has_the_asked_recipes_in_their_order(evaluated):
    one = of_run(evaluated)
    other = dataclasses.replace(one, recipe="ml-1m-8", value=0.5)
    header, _, *rows = brief_table([one, other], ["ncf/ml-1m-8", "ncf/own"], "README.md").splitlines()
    assert header == "| recipe | metric | reached | target | baseline | training | hardware |"
    assert [row.split(" | ")[2] for row in rows] == ["0.5000", "0.3125"]
    with pytest.raises(KitError, match=r"outcomes:ncf/ml-20m(.|\n)*Kept: ncf/own"):
        brief_table([one], ["ncf/ml-20m"], "README.md")
