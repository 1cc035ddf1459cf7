"""Training speed of every model of the registry by the same lines; the figures mean nothing here."""

import os
import subprocess
import sys
import time

import pytest
import torch
import tyro
from rich.console import Console

from benchmarks import throughput
from benchmarks.bench import Asked, chosen_recipe, opened
from benchmarks.record import read, read_all, write
from benchmarks.throughput import Timing, TrainingWork, measure_training
from challenges.registry import MODELS
from common.errors import KitError, RecipeError

SHORT = Timing(rounds=3, most_rounds=3, block_seconds=0.25, warmup_seconds=0.1, settle_seconds=0.0, smoke=True)
QUIET = Console(quiet=True)


@pytest.mark.parametrize(
    "model", [name if name == "ncf" else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
)
def test_a_model_of_the_registry_becomes_a_valid_smoke_record(model, tmp_path):
    with opened(Asked(model=model, device="cpu", batch=8), QUIET, ("kit", "benchmark", model), smoke=True) as bench:
        record = measure_training(bench, SHORT)
    again = read(write(record, tmp_path))
    assert again.workload == record.workload
    assert (record.workload.model, record.workload.batch, record.workload.data) == (f"{model}/demo", 8, "demo")
    assert set(record.measurements) == {"data_only", "compute_only", "end_to_end"}
    assert [reason.code for reason in record.validity.reasons] == []
    assert "SMOKE" in [warning.code for warning in record.validity.warnings]
    work = record.evidence.work
    assert work.flop_per_sample > 0
    assert work.operators > 10
    assert record.evidence.utilisation.tflops > 0


def test_made_up_inputs_are_only_computed_and_told(tmp_path):
    asked = Asked(model="ncf", device="cpu", batch=8, synthetic=True)
    with opened(asked, QUIET, ("x",), smoke=True) as bench:
        record = measure_training(bench, SHORT)
    assert set(record.measurements) == {"compute_only"}
    assert (record.workload.data, record.split) == ("synthetic", None)
    assert "SYNTHETIC_DATA" in [warning.code for warning in record.validity.warnings]


def test_a_step_trains_and_tells_its_samples():
    with opened(Asked(model="ncf", device="cpu", batch=16), QUIET, ("x",), smoke=True) as bench:
        work, fixed = TrainingWork(bench), bench.fixed_batch()
        assert [work(fixed), work(fixed)] == [16, 16]
        assert work.losses_were_finite
        with torch.no_grad():
            work._step.task.get_parameter(next(iter(dict(work._step.task.named_parameters())))).fill_(torch.nan)
        work(fixed)
        assert not work.losses_were_finite


def test_the_recipe_is_the_published_one_unless_everything_is_shrunk():
    assert chosen_recipe(Asked(model="ncf"), smoke=True)[1] == "demo"
    _, _, recipe = chosen_recipe(Asked(model="resnet50"), smoke=False)
    assert recipe.target is not None
    assert recipe.preprocessing.crop == 224
    assert chosen_recipe(Asked(model="ncf", recipe="ml-20m"), smoke=True)[1] == "ml-20m"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (Asked(model="resnet5"), "Did you mean resnet50"),
        (Asked(model="ncf", recipe="dem"), "Did you mean ncf/demo"),
    ],
)
def test_what_is_unknown_is_refused_with_the_nearest(asked, told):
    with pytest.raises(RecipeError, match=told) as error, opened(asked, QUIET, ("x",)):
        pass
    assert error.value.exit_code == 2


def test_a_batch_larger_than_the_data_is_refused():
    asked = Asked(model="ncf", device="cpu", batch=10**8)
    with pytest.raises(KitError, match="training samples"), opened(asked, QUIET, ("x",), smoke=True):
        pass


def test_time_is_shared_out_over_the_works():
    timing = Timing.within(300.0, 3)
    assert 3 * (timing.warmup_seconds + timing.rounds * (timing.block_seconds + timing.settle_seconds)) < 400
    assert Timing.within(300.0, 3, smoke=True).most_rounds == Timing.within(300.0, 3, smoke=True).rounds


@pytest.mark.slow
def test_two_ranks_become_a_record_of_their_scaling(tmp_path):
    """Alone they would reach more than two do: the record says so, and one that claims otherwise is SUPERLINEAR."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m",
        "benchmarks.throughput", "ncf", "--smoke", "--device", "cpu", "--batch", "64", "--seconds", "3",
        "--alone", "00c0ffee:1.0", "--output", str(tmp_path),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    (record,) = read_all([tmp_path])
    ranks = record.evidence.ranks
    assert (ranks.size, ranks.scaling, ranks.alone, record.workload.batch) == (2, "weak", "00c0ffee", 128)
    assert ranks.together_samples_per_s == record.measurements["end_to_end"].samples_per_s.median
    assert record.evidence.probe.all_reduce_gb_s > 0
    assert [reason.code for reason in record.validity.reasons] == ["SUPERLINEAR"]


def test_a_cpus_batch_is_what_a_second_holds(monkeypatch):
    class Slow(TrainingWork):
        def __init__(self, bench, **_):
            self.size = bench.batch_size

        def __call__(self, batch):
            time.sleep(0.01 * self.size)
            return self.size

    monkeypatch.setattr(throughput, "TrainingWork", Slow)
    with opened(Asked(model="ncf", device="cpu"), QUIET, ("x",)) as bench:
        assert bench.batch_size == 4096
        assert throughput.paced(bench).batch_size in (16, 32, 64)
    with opened(Asked(model="ncf", device="cpu", batch=512), QUIET, ("x",)) as bench:
        assert throughput.paced(bench).batch_size == 512


def test_flags_of_the_recipe_reach_each_rank_as_they_are():
    flags = ("--training.precision", "bf16", "--training.no-channels-last")
    given = tyro.cli(
        throughput.Settings, args=[f"--override={flag}" for flag in flags], config=(tyro.conf.OmitArgPrefixes,)
    )
    assert given.override == flags
    recipe = chosen_recipe(Asked(model="ncf", overrides=given.override), smoke=True)[2]
    assert (recipe.training.precision, recipe.training.channels_last) == ("bf16", False)


def test_a_rate_that_is_none_is_refused():
    from common.machine.distributed import World

    with pytest.raises(KitError, match="identifier and rate"):
        throughput._ranks(World(0, 2, 0, 2), throughput.Settings(alone="00c0ffee:fast"))
