"""Two commits' training steps in turns: a slower one is told."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from benchmarks.against import ALLOWED, PAIRS, AgainstError, Verdict, compare, laid_out
from benchmarks.measure import Ratio
from challenges.__main__ import main


@pytest.mark.parametrize(
    ("interval", "slower", "word"),
    [((0.90, 0.94), True, "slower"), ((0.97, 0.99), False, "no slower"), ((1.05, 1.09), False, "faster")],
)
def test_the_interval_decides(interval, slower, word):
    verdict = Verdict(Ratio(median=sum(interval) / 2, interval=interval, pairs=8))
    assert verdict.slower is slower
    assert str(verdict).startswith(f"{word}: ")
    assert verdict.seen == pytest.approx(ALLOWED + (interval[1] - interval[0]) / 2)


def test_the_interval_is_students():
    """Held against scipy's own test of one sample."""
    ratios = [0.93, 0.99, 1.02, 0.95, 0.97]
    expected = ttest_1samp(np.log(ratios), 0.0).confidence_interval(0.95)
    found = Verdict.of(ratios).ratio
    assert np.log(found.interval) == pytest.approx((expected.low, expected.high))
    assert found.median == pytest.approx(np.prod(ratios) ** (1 / 5))
    assert found.pairs == 5


def measured(slower: float, seed: int) -> Verdict:
    """The verdict on made-up pairs of processes that differ by themselves, as those of a busy machine do."""
    noise = 0.03 * np.random.default_rng(seed).standard_normal(PAIRS)
    return Verdict.of(np.exp(noise) / (1 + slower))


def test_a_sleep_of_a_twelfth_is_told_on_a_busy_machine_and_an_equal_commit_passes_20_of_20():
    assert [measured(0.08, seed).slower for seed in range(20)] == [True] * 20
    assert [measured(0.0, seed).slower for seed in range(20)] == [False] * 20


def test_what_could_have_been_seen_is_told():
    """Half the interval beyond what is allowed: of a difference that large, half of all measurements tell."""
    same = [measured(0.0, seed) for seed in range(40)]
    low, high = same[0].ratio.interval
    assert str(same[0]).endswith(f"a difference of {ALLOWED + (high - low) / 2:.1%} could have been seen")
    typical = np.mean([verdict.seen for verdict in same])
    assert 0.03 < typical < 0.06
    assert 0.25 < np.mean([measured(typical, seed).slower for seed in range(40)]) < 0.75


def test_what_is_no_commit_is_refused(checkout: Path):
    with pytest.raises(AgainstError, match="no commit of this checkout"), laid_out("--nonsense", checkout):
        pass


def test_another_commits_files_go_with_the_block(checkout: Path):
    with laid_out("HEAD", checkout) as other:
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
        (["ncf", "--against", "HEAD", "--minutes", "0.1", "--device", "cpu"], "in which 2 pairs of processes fit"),
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
    verdict = compare("ncf", "HEAD", tree=checkout)
    assert verdict.slower, str(verdict)
