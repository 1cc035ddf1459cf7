"""Two commits' training steps in turns: a slower one is told."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from benchmarks.against import ALLOWED, NOW, ROUNDS, SECONDS, THEN, AgainstError, Verdict, compare, worktree
from benchmarks.measure import Interleaved, Ratio, Warmup, Window, summarise
from challenges.__main__ import main


@pytest.mark.parametrize(
    ("interval", "slower", "word"),
    [((0.90, 0.94), True, "slower"), ((0.97, 0.99), False, "no slower"), ((1.05, 1.09), False, "faster")],
)
def test_the_interval_decides(interval, slower, word):
    verdict = Verdict(Ratio(median=sum(interval) / 2, interval=interval, pairs=20))
    assert verdict.slower is slower
    assert str(verdict).startswith(f"{word}: ")
    assert verdict.seen == pytest.approx(ALLOWED + (interval[1] - interval[0]) / 2)


def measured(slower: float, seed: int) -> Verdict:
    """The verdict on made-up timings of a busy machine, where rounds differ by 15 % and neighbouring blocks by 4 %."""
    draws = np.random.default_rng(seed)
    others = np.exp(0.15 * draws.standard_normal(ROUNDS))

    def side(rate: float):
        rates = rate * others * np.exp(0.04 * draws.standard_normal(ROUNDS))
        windows = [Window(seconds=SECONDS, steps=10, samples=int(1e6 * each * SECONDS)) for each in rates]
        return summarise(Warmup(seconds=1.0, steps=1, steady=True), windows, [SECONDS / 10] * 10 * ROUNDS, 0.8)

    return Verdict(Interleaved({NOW: side(1 / (1 + slower)), THEN: side(1.0)}).ratio(NOW, THEN))


def test_a_sleep_of_a_twelfth_is_told_on_a_busy_machine_and_an_equal_commit_passes_20_of_20():
    assert [measured(0.08, seed).slower for seed in range(20)] == [True] * 20
    assert [measured(0.0, seed).slower for seed in range(20)] == [False] * 20


def test_what_could_have_been_seen_is_told():
    """Half the interval beyond what is allowed: of a difference that large, half of all measurements tell."""
    same = measured(0.0, 0)
    low, high = same.ratio.interval
    assert 0.03 < same.seen < 0.08
    assert str(same).endswith(f"a difference of {ALLOWED + (high - low) / 2:.1%} could have been seen")
    found = [measured(same.seen, seed).slower for seed in range(40)]
    assert 0.2 < np.mean(found) < 0.95


def test_what_is_no_commit_is_refused(checkout: Path):
    with pytest.raises(AgainstError, match="no commit of this checkout"), worktree("--nonsense", checkout):
        pass


def test_another_commits_files_go_with_the_block(checkout: Path):
    with worktree("HEAD", checkout) as other:
        assert (other / "benchmarks" / "against.py").is_file()
    assert not other.exists()
    left = subprocess.run(["git", "-C", str(checkout), "worktree", "list"], capture_output=True, text=True, check=True)
    assert len(left.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["ncf", "dlrm", "--against", "HEAD"], "given with 2 models"),
        (["--against", "HEAD"], "given with 0 models"),
        (["ncf", "--against", "HEAD", "--like", "dle/ncf-a100-amp", "--output", "x"], "with --like and --output"),
        (["ncf", "--against", "HEAD", "--minutes", "0.1", "--device", "cpu"], "in which 6 rounds fit"),
        (["ncf", "--against", "--nonsense"], "--against"),
        (["ncf", "--against=none-such", "--device", "cpu"], "'none-such' is no commit"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_measured(arguments, told, capsys):
    try:
        code = main(["benchmark", *arguments])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert told in capsys.readouterr().err


@pytest.mark.slow
def test_a_planted_sleep_is_told(checkout: Path):
    """Of 8 % of the step, however long that takes here."""
    file, step = checkout / "benchmarks" / "throughput.py", "        losses = self._step([batch], self._done)\n"
    text = file.read_text()
    assert step in text
    sleep = "        time.sleep(0.08 * (time.perf_counter() - began))\n"
    file.write_text(text.replace(step, f"        began = time.perf_counter()\n{step}{sleep}"))
    verdict = compare("ncf", "HEAD", rounds=ROUNDS, seconds=SECONDS, tree=checkout)
    assert verdict.slower, str(verdict)
