"""What watches a run without steering it: progress, logs, profiler."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from common.files import naming, write_text
from common.run.run_directory import Entry, RunDirectory
from common.terminal.console import say


@dataclass(frozen=True)
class RunFacts:
    """What observers learn when a run starts."""

    run: RunDirectory
    first_step: int
    total_steps: int
    title: str


class Observer:
    """Watches a run on the main rank; every method may be left out."""

    def on_start(self, facts: RunFacts) -> None: ...
    def on_step(self, step: int) -> None: ...
    def on_entry(self, entry: Entry) -> None: ...
    def on_message(self, text: str) -> None: ...
    def on_end(self) -> None: ...


class Observers(Observer):
    """Several observers as one."""

    def __init__(self, members: Sequence[Observer]) -> None:
        self._members = members

    def on_start(self, facts: RunFacts) -> None:
        for member in self._members:
            member.on_start(facts)

    def on_step(self, step: int) -> None:
        for member in self._members:
            member.on_step(step)

    def on_entry(self, entry: Entry) -> None:
        for member in self._members:
            member.on_entry(entry)

    def on_message(self, text: str) -> None:
        for member in self._members:
            member.on_message(text)

    def on_end(self) -> None:
        for member in self._members:
            member.on_end()


class ProgressReport(Observer):
    """A progress bar on a terminal, a plain line now and then elsewhere."""

    plain_interval = 10.0  # seconds between plain lines

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._last_line = float("-inf")

    def on_start(self, facts: RunFacts) -> None:
        self._total = facts.total_steps
        if self._console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
                TextColumn("{task.fields[scalars]}"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
                console=self._console,
            )  # fmt: skip
            self._bar = self._progress.add_task(
                facts.title, total=facts.total_steps, completed=facts.first_step, scalars=""
            )
            self._progress.start()

    def on_step(self, step: int) -> None:
        if self._progress is not None:
            self._progress.update(self._bar, completed=step)

    def on_entry(self, entry: Entry) -> None:
        is_validation = entry["kind"] == "validation"
        if self._progress is not None and not is_validation:
            self._progress.update(self._bar, scalars=_scalars(entry))
        elif is_validation or time.monotonic() - self._last_line > self.plain_interval:
            self._last_line = time.monotonic()
            say(self._console, f"{entry['kind']:<10} step {entry['step']}/{self._total}  {_scalars(entry)}")

    def on_message(self, text: str) -> None:
        say(self._console, text)

    def on_end(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


class JsonLines(Observer):
    """metrics.jsonl: one object per entry; a resumed run first forgets what lies beyond its checkpoint.

    An entry that the log has already is not written twice: a run cut off after its last checkpoint evaluates again.
    """

    def __init__(self, tell: Callable[[str], None] = lambda _: None) -> None:
        self._tell = tell

    def on_start(self, facts: RunFacts) -> None:
        self._path = facts.run.metrics_file
        entries, damaged = facts.run.readable_metrics()
        if damaged:
            self._tell(f"{self._path}: {len(damaged)} damaged lines are left out, the first is line {damaged[0]}.")
        kept = [entry for entry in entries if entry["step"] <= facts.first_step]
        self._known = {(entry["kind"], entry["step"]) for entry in kept}
        write_text(self._path, "".join(json.dumps(entry) + "\n" for entry in kept))

    def on_entry(self, entry: Entry) -> None:
        key = (entry["kind"], entry["step"])
        if key in self._known:
            return
        self._known.add(key)
        with naming(self._path), self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")


class TensorBoard(Observer):
    """Event files under logs/tensorboard for `tensorboard --logdir`."""

    def on_start(self, facts: RunFacts) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(facts.run.logs / "tensorboard"), purge_step=facts.first_step + 1)

    def on_entry(self, entry: Entry) -> None:
        for name, value in entry.items():
            if name not in ("kind", "step") and isinstance(value, int | float):
                self._writer.add_scalar(f"{entry['kind']}/{name}", value, entry["step"])

    def on_end(self) -> None:
        self._writer.close()


class Profiler(Observer):
    """A torch profiler trace of the steps `first` to `last`, for chrome://tracing or Perfetto."""

    def __init__(self, first: int, last: int) -> None:
        self._first, self._last = first, last
        self._profile: torch.profiler.profile | None = None

    def on_start(self, facts: RunFacts) -> None:
        self._path: Path = facts.run.logs / f"profile-steps-{self._first}-{self._last}.json"
        self._path.parent.mkdir(parents=True, exist_ok=True)

    def on_step(self, step: int) -> None:
        if step == self._first - 1:
            self._profile = torch.profiler.profile(record_shapes=True)
            self._profile.start()
        elif step == self._last:
            self.on_end()

    def on_end(self) -> None:
        if self._profile is not None:
            self._profile.stop()
            self._profile.export_chrome_trace(str(self._path))
            self._profile = None


def _scalars(entry: Entry) -> str:
    shown = []
    for name, value in entry.items():
        if name in ("kind", "step", "seconds"):
            continue
        if name == "data_wait":
            shown.append(f"waiting for data {value:.0%}")
        elif name == "samples_per_s":
            shown.append(f"{value:.1f} samples/s")
        elif name == "epoch":
            shown.append(f"epoch {value:.1f}")
        else:
            shown.append(f"{name} {value:.4g}")
    return "  ".join(shown)
