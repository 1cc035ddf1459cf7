"""A run is one writer's or several readers'; the error says who has it."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from common.errors import KitError
from common.storage.run_lock import hold

ROOT = Path(__file__).parents[3]
HOLDER = """
import sys, pathlib
from common.storage.run_lock import hold
with hold(pathlib.Path(sys.argv[1]), "train"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_error_says_who_holds_a_run_and_a_kill_releases_it(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        holder = rf"`kit train`, process {process.pid} on {socket.gethostname()} since 20"
        told = rf"held by {holder}.*\n.*\n.*kill {process.pid}"
        for shared in (False, True):
            with pytest.raises(KitError, match=told), hold(tmp_path, "evaluate", shared=shared):
                pass
        process.send_signal(signal.SIGKILL)
    with hold(tmp_path, "evaluate"):
        assert len(list(tmp_path.glob(".held.*"))) == 1  # what the killed one said is gone
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_readers_share_a_run_and_keep_writers_out(tmp_path):
    with (
        hold(tmp_path, "serve", shared=True),
        hold(tmp_path, "predict", shared=True),
        pytest.raises(KitError, match=r"held by .*kit \w+`, process \d+.*; `kit"),
        hold(tmp_path, "report"),
    ):
        pass
    with hold(tmp_path, "report"):
        pass


def test_what_a_killed_reader_left_is_not_taken_for_a_holder(tmp_path):
    note = f'{{"verb": "serve", "process": {2**22 - 1}, "host": "{socket.gethostname()}", "since": 0}}'
    (tmp_path / ".held.a.json").write_text(note)
    with hold(tmp_path, "serve", shared=True), pytest.raises(KitError) as refused, hold(tmp_path, "report"):
        pass
    assert str(os.getpid()) in refused.value.given
    assert str(2**22 - 1) not in refused.value.given


def test_a_file_system_without_locks_is_told_and_used(tmp_path, monkeypatch, capsys):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with hold(tmp_path, "train"):
        assert "without locks" in capsys.readouterr().err


def test_a_reader_of_a_run_it_may_not_write_goes_on(tmp_path, monkeypatch):
    def read_only(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "open", read_only)
    with hold(tmp_path, "serve", shared=True):
        pass
    with pytest.raises(OSError, match="Read-only"), hold(tmp_path, "train"):
        pass


def test_what_others_make_for_oneself_too_is_waited_for(tmp_path):
    told = []
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        ending = threading.Timer(0.2, process.stdin.close)  # the end of its input ends the holder
        with hold(tmp_path, "check", waiting=lambda line: (told.append(line), ending.start())):
            assert process.wait() == 0
    (line,) = told
    assert f"held by `kit train`, process {process.pid}" in line
    assert line.endswith(": waiting until it is done")
