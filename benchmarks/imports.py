"""Other tools' results as published figures, never as records: what they do not tell stays unknown.

LoadGen's summary, the CSV files of perf_analyzer and of timm's benchmark.py, and DLLogger's JSON lines are read. They
do not name the hardware, and two of them not the model: both are taken from the file's name, as
`resnet50_a100-sxm4-80gb_offline.txt` has them, parted by underscores.
"""

import csv
import datetime
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.published import RECIPES, Row
from common.errors import KitError
from common.slug import slug

KINDS = "LoadGen's summary, CSV of perf_analyzer or of timm's benchmark.py, and JSON lines of DLLogger"
LOADGEN_RATES = ("Samples per second", "Completed samples per second", "Scheduled samples per second")
DLLOGGER = re.compile(r"^(?:DLLL )?(?P<json>\{.*\})\s*$", re.MULTILINE)
DLLOGGER_RATES = {
    "train.total_ips": ("train", "images/s"),
    "train.compute_ips": ("train", "images/s"),
    "train_throughput": ("train", "samples/s"),
    "throughput_train": ("train", "samples/s"),
    "average_train_throughput": ("train", "samples/s"),
    "val.total_ips": ("infer", "images/s"),
    "throughput": ("infer", "samples/s"),
}
"""What NVIDIA's examples call a throughput."""


class ImportedFileError(KitError):
    """A file of other tools' figures that is none of the known kinds, or holds no figure."""


def rows(path: Path) -> list[Row]:
    """The figures of one file. Raises ImportedFileError."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ImportedFileError(f"{path} cannot be read: {error}.", f"Read are {KINDS}.") from None
    day = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC).strftime("%Y-%m-%d")
    found = [replace(row, date=day) for row in _of_text(text, path.stem)]
    if not found:
        raise ImportedFileError(
            f"{path} holds no throughput that is understood.",
            f"Read are {KINDS}.",
            "A LoadGen run whose result is INVALID counts for nothing.",
        )
    return [replace(row, identifier=f"imported/{slug(path.stem)}-{number}") for number, row in enumerate(found, 1)]


def _of_text(text: str, stem: str) -> Iterator[Row]:
    first = text.lstrip().partition("\n")[0]
    if "MLPerf Results Summary" in text:
        yield from _loadgen(text, stem)
    elif "Inferences/Second" in first:
        yield from _perf_analyzer(text, stem)
    elif re.search(r"\b(infer|train)_samples_per_sec\b", first):
        yield from _timm(text, stem)
    else:
        yield from _dllogger(text, stem)


def loadgen_lines(text: str) -> dict[str, str]:
    """The `name : value` lines of a summary of MLPerf's load generator."""
    pairs = re.findall(r"^\s*([^:\n]+?)\s*:\s*(.+?)\s*$", text, re.MULTILINE)
    return {name.lstrip("* "): value for name, value in pairs}


def _loadgen(text: str, stem: str) -> Iterator[Row]:
    told = loadgen_lines(text)
    if told.get("Result is") != "VALID":
        return
    rate = next((told[name] for name in LOADGEN_RATES if name in told), None)
    if rate is not None:
        yield _row(stem, "infer", float(rate), "samples/s", "MLPerf LoadGen", f"{told['Scenario']}, valid")
    for name, value in told.items():
        if found := re.fullmatch(r"([\d.]+)th percentile latency \(ns\)", name):
            note = f"{told['Scenario']}, valid, {float(found[1]):g}th percentile"
            yield _row(stem, "infer", float(value) / 1e6, "ms", "MLPerf LoadGen", note, metric="latency")


def _perf_analyzer(text: str, stem: str) -> Iterator[Row]:
    for line in csv.DictReader(io.StringIO(text)):
        note = f"{line.get('Concurrency', '?')} in flight, p99 {float(line.get('p99 latency') or 0) / 1000:.4g} ms"
        yield _row(stem, "serve", float(line["Inferences/Second"]), "inferences/s", "perf_analyzer", note)


def _timm(text: str, stem: str) -> Iterator[Row]:
    for line in csv.DictReader(io.StringIO(text)):
        for task in ("infer", "train"):
            if rate := line.get(f"{task}_samples_per_sec"):
                row = _row(stem, task, float(rate), "images/s", "timm", "timm's benchmark.py makes its inputs up")
                batch = line.get(f"{task}_batch_size")
                yield replace(row, model=line["model"], batch=int(float(batch)) if batch else None)


def _dllogger(text: str, stem: str) -> Iterator[Row]:
    last: dict[str, Row] = {}
    for found in DLLOGGER.finditer(text):
        try:
            data = json.loads(found["json"]).get("data")
        except ValueError:
            continue
        for name, (task, unit) in DLLOGGER_RATES.items():
            if isinstance(data, dict) and isinstance(data.get(name), int | float):
                last[name] = _row(stem, task, float(data[name]), unit, "DLLogger", f"{name}, the last one logged")
    yield from last.values()


def _row(stem: str, task: str, value: float, unit: str, software: str, note: str, metric: str = "throughput") -> Row:
    model, _, rest = stem.partition("_")
    return Row(
        identifier="",
        model=model if model in RECIPES else stem,
        task=task,
        metric=metric,
        value=value,
        unit=unit,
        gpu=rest.partition("_")[0] or "not told",
        num_gpus=1,
        precision="not told",
        batch=None,
        software=software,
        source=f"imported: {stem}",
        date="",
        note=note,
    )
