"""What is freed is kept, judged by the pages that Linux has to bring."""

import subprocess
import sys

import pytest

FAULTS = """
import resource
from sys import argv

import numpy as np

from common.machine.memory import keep_freed_memory

if argv[1] == "kept":
    keep_freed_memory()
for turn in range(6):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [np.ones(500_000 + 1000 * place) for place in range(12)]
    del tensors
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is asked")
def test_tensors_of_the_same_sizes_bring_no_new_pages():
    faults = {
        how: int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("given back", "kept")
    }
    assert faults["kept"] < 100 < faults["given back"]  # of twelve times 980 pages
