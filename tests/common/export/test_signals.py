"""A signal after several engines came and went finds the process well."""

import os
import signal
import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys
from pathlib import Path
from common.export.runner import OpenVinoRunner

first, second = OpenVinoRunner(Path(sys.argv[1])), OpenVinoRunner(Path(sys.argv[1]))
first.close()
second.close()
signal.signal(signal.SIGTERM, lambda *_: print("heard"))
os.kill(os.getpid(), signal.SIGTERM)
print("alive")
"""


@pytest.mark.parametrize("handler", ["faulthandler", "none"])
def test_a_signal_is_heard_after_two_models_were_closed_in_their_order(exported, handler):
    options = ["-X", "faulthandler"] if handler == "faulthandler" else []
    finished = subprocess.run(
        [sys.executable, *options, "-c", PROGRAM, str(exported.fp32)],
        capture_output=True, text=True, cwd=os.getcwd(), check=False,
    )  # fmt: skip
    assert finished.returncode != -signal.SIGSEGV, finished.stderr
    assert finished.stdout.split() == ["heard", "alive"]
