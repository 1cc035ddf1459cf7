"""Instructions of hot paths: what the command refuses and says, and one planted per cent that is caught."""

from pathlib import Path

import pytest

from benchmarks.watch import speed
from benchmarks.watch.hot_paths import PATHS, START, STOP, Valgrind
from benchmarks.watch.speed import ALLOWED, FILE, Count, SpeedError, count, main, why_not
from common.files import read_json, write_json

NAMES = ("manifest-scan", "click-encoding")


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """A file of counts, and what is counted now: what a test puts there, as many as committed where it is silent."""
    made_up: dict[str, int] = {}
    file = tmp_path / "speed.json"
    entries = {name: {"instructions": 100_000, "because": "first"} for name in NAMES}
    write_json(file, {"holds_for": speed.here(), "paths": entries})
    monkeypatch.setattr(speed, "FILE", file)
    monkeypatch.setattr(speed, "why_not", lambda: "")
    monkeypatch.setattr(speed, "count", lambda name: made_up.get(name, 100_000))
    return made_up


def test_a_change_is_told_both_ways_and_little_is_allowed(counted, capsys):
    assert main(NAMES) == 0
    counted |= {"manifest-scan": 100_499}
    assert main(NAMES) == 0
    counted |= {"manifest-scan": 100_600}
    assert main(NAMES) == 1
    told = capsys.readouterr().out
    assert "SPEED manifest-scan 100,600 instructions +0.600% CHANGED" in told
    assert "1 of 2 changed by more than 0.5%. Undo what made them change" in told
    counted |= {"manifest-scan": 90_000}
    assert main(NAMES) == 1


def test_changed_counts_are_written_with_their_reason_alone(counted, capsys):
    counted |= {"manifest-scan": 90_000, "click-encoding": 100_100}
    assert main(NAMES, update="a quicker walk") == 0
    assert read_json(speed.FILE)["paths"] == {
        "manifest-scan": {"instructions": 90_000, "because": "a quicker walk"},
        "click-encoding": {"instructions": 100_000, "because": "first"},
    }
    assert main(NAMES) == 0


def test_a_path_without_a_count_is_no_pass(counted, capsys):
    assert main(("manifest-read",)) == 1
    assert "manifest-read 100,000 instructions not committed yet" in capsys.readouterr().out


def test_counts_of_another_python_are_not_compared(counted):
    write_json(speed.FILE, {"holds_for": speed.here() | {"python": "3.99"}, "paths": {}})
    with pytest.raises(SpeedError, match=r"there 3\.99") as refused:
        main(())
    assert refused.value.exit_code == 2
    with pytest.raises(SpeedError, match="other versions"):
        main(NAMES, update="some of them only")
    assert main((), update="counted here") == 0
    assert set(read_json(speed.FILE)["paths"]) == set(PATHS)
    assert read_json(speed.FILE)["holds_for"] == speed.here()


@pytest.mark.parametrize(("names", "update", "told"), [(("scan",), None, "no hot path"), ((), " ", "reason is empty")])
def test_what_is_wrong_is_refused_at_once(names, update, told):
    with pytest.raises(SpeedError, match=told):
        main(names, update)


def test_without_valgrind_the_reason_is_told(monkeypatch, capsys):
    monkeypatch.setattr(speed.shutil, "which", lambda name: None)
    assert main(()) == 0
    assert capsys.readouterr().out == "SPEED skipped: valgrind is not here: apt-get install valgrind\n"
    monkeypatch.setattr(speed.platform, "machine", lambda: "aarch64")
    assert "this is aarch64" in why_not()


def test_every_path_has_a_count_with_a_reason():
    committed = read_json(FILE)
    assert set(committed["holds_for"]) == set(speed.here())
    assert list(committed["paths"]) == list(PATHS)
    for name, entry in committed["paths"].items():
        assert entry["instructions"] > 1_000_000, name
        assert entry["because"].strip(), name


@pytest.mark.parametrize("name", PATHS)
def test_every_path_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = PATHS[name]()
    run()
    run()


@pytest.mark.skipif(speed.platform.machine() != "x86_64", reason="the request is in x86-64's code")
def test_a_processor_does_nothing_for_a_request():
    valgrind = Valgrind()
    valgrind.ask(START)
    valgrind.ask(STOP)


@pytest.mark.slow
@pytest.mark.skipif(bool(why_not()), reason=why_not() or "instructions can be counted")
def test_one_per_cent_more_in_the_manifest_scan_is_caught(checkout: Path):
    """Planted as turns of a loop; that code lies elsewhere in memory is worth a quarter of a per cent by itself."""
    file, begin = checkout / "common" / "vision" / "image_folders.py", "    images: list[ListedFile] = []\n"
    text = file.read_text()
    assert begin in text

    def planted(turns: int) -> int:
        file.write_text(text.replace(begin, f"    for _ in [None] * {turns}:\n        pass\n{begin}"))
        return count("manifest-scan", checkout)

    before = count("manifest-scan", checkout)
    again = Count("manifest-scan", count("manifest-scan", checkout), before)
    assert abs(again.change) < ALLOWED / 10
    turns = round(0.01 * before / ((planted(10_000) - before) / 10_000))
    one = Count("manifest-scan", planted(turns), before)
    assert not one.holds
    assert one.change == pytest.approx(0.01, abs=0.004)
