"""One side of `kit benchmark --against`: a training step whenever it is asked for one.

    python -P benchmarks/side.py MODEL cpu|cuda

It is run as a file, in another commit's folder and with that commit's packages, so nothing of the kit is imported
before it begins. A line `start` on standard input makes a fresh process, which answers with its number and its device
after a first step, answers each `step` with how many samples that had, and `stop` with `stopped`, and ends.
"""

import os
import sys
from typing import TextIO


def main(model: str, device: str) -> None:
    """Start processes one after the other; what is imported here they need not import."""
    import benchmarks.bench
    import benchmarks.throughput  # noqa: F401

    answers, sys.stdout = sys.stdout, sys.stderr  # what the kit prints is no answer
    while sys.stdin.readline() == "start\n":
        child = os.fork()
        if not child:
            serve(model, device, answers)
            return
        if os.waitpid(child, 0)[1]:
            sys.exit(1)


def serve(model: str, device: str, answers: TextIO) -> None:
    """Answer until there is nothing more to do."""
    from benchmarks.bench import Asked, opened
    from benchmarks.throughput import TrainingWork
    from common.terminal.console import SafeConsole

    asked = Asked(model=model, device="cuda" if device == "cuda" else "cpu")
    with opened(asked, SafeConsole(quiet=True), (), smoke=True) as bench:
        work, batch, clock = TrainingWork(bench), bench.fixed_batch(), bench.clock()
        work(batch)
        print(os.getpid(), bench.device.type, file=answers, flush=True)
        while sys.stdin.readline() == "step\n":
            samples = work(batch)
            clock.wait()
            print(samples, file=answers, flush=True)
        print("stopped", file=answers, flush=True)  # only then may a next line come: this process would swallow it


if __name__ == "__main__":
    main(*sys.argv[1:])
