import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.machine.processes import map_in_processes, usable_cores


def square(number: int) -> int:
    return number * number


def fragile(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 5:
        os._exit(9)
    return number


def failing(number: int) -> int:
    raise OSError(28, "No space left on device")


def lost(number: int, exit_code: int | None) -> tuple[int, int | None]:
    return number, exit_code


def test_every_item_is_answered_once():
    results = map_in_processes(square, range(20), 2, when_lost=lost)
    assert sorted(results) == [number * number for number in range(20)]
    assert list(map_in_processes(square, [], 2, when_lost=lost)) == []


def test_a_dying_process_costs_one_item():
    results = list(map_in_processes(fragile, range(8), 2, when_lost=lost, quiet=True))
    assert {result for result in results if isinstance(result, tuple)} == {(3, -signal.SIGKILL), (5, 9)}
    assert sorted(result for result in results if isinstance(result, int)) == [0, 1, 2, 4, 6, 7]


def test_what_the_function_raises_is_raised_here():
    with pytest.raises(OSError, match="No space left"):
        list(map_in_processes(failing, range(4), 1, when_lost=lost))


def test_processes_end_with_their_parent(tmp_path):
    program = (
        "import time\nfrom pathlib import Path\nfrom common.machine.processes import map_in_processes\n"
        "from tests.common.machine.test_processes import note_and_wait\n"
        "if __name__ == '__main__':\n"
        f"    list(map_in_processes(note_and_wait, [{str(tmp_path)!r}] * 2, 2, when_lost=None))"
    )
    script = tmp_path / "program.py"
    script.write_text(program)
    root = Path(__file__).parents[3]
    parent = subprocess.Popen([sys.executable, script], env={**os.environ, "PYTHONPATH": str(root)}, cwd=root)
    while len(children := list(tmp_path.glob("*.pid"))) < 2:
        assert parent.poll() is None
        time.sleep(0.02)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while any(is_running(int(child.stem)) for child in children):
        assert time.monotonic() < deadline, "a process outlived its parent"
        time.sleep(0.02)


def note_and_wait(folder: str) -> int:
    (Path(folder) / f"{os.getpid()}.pid").touch()
    time.sleep(0.5)
    return 0


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "10000 100000\n"}, 1),
        ({"cpu.max": "3200000 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({}, 8),
    ],
)
def test_a_containers_quota_counts_as_cores(tmp_path, monkeypatch, files, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert usable_cores(tmp_path) == cores
