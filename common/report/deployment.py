"""The page's sections on what was exported and served."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.files import read_json
from common.report.elements import Markup, Section, facts, gallery, notice, paragraph, picture, table
from common.report.pictures import LARGE, SIZE, thumbnail
from common.run.run_directory import RunDirectory


def deployment_sections(run: RunDirectory) -> list[Section]:
    """Parity of every engine and the answers of the server, as far as the run has them."""
    sections = []
    if run.parity_file.is_file():
        sections.append(_parity(read_json(run.parity_file)))
    if run.serving_file.is_file():
        sections.append(_served(read_json(run.serving_file)))
    return sections


def _parity(record: Mapping[str, Any]) -> Section:
    latencies = record["latency_batch_1"]
    rows = []
    for row in record["rows"]:
        label = f"{row['engine']} {row['precision']}"
        latency = f"{latencies[label]['p50_ms']:.1f}" if row["batch"] == 1 and label in latencies else ""
        rows.append(
            (
                label,
                row["batch"],
                "not finite" if row["absolute_error"] is None else f"{row['absolute_error']:.2g}",
                "" if row["relative_error"] is None else f"{row['relative_error']:.2%}",
                f"{row['agreement']:.1%}",
                "" if row["metric"] is None else f"{row['metric']:.4f}",
                latency,
                "passed" if row["passed"] else "; ".join(row["failures"]),
            )
        )
    left_out = record.get("left_out", {})  # runs before 2026-11-28 lack it
    rows += [(label, "", "", "", "", "", "", f"left out: {reason}") for label, reason in left_out.items()]
    head = ("engine", "batch", "worst error", "of range", "same answer", "metric", "ms for one", "")
    body = table(head, rows, numeric=range(1, 7))
    choice = record["choice"]
    if choice:
        body += notice(f"Served: {choice['engine']} in {choice['precision']}: {choice['why']}.", "good")
    return Section("Every engine against the trained model", body)


def _served(record: Mapping[str, Any]) -> Section:
    """`drawn`: the examples' files are pictures with the answer drawn on them, to be shown large.

    Examples without a file are told in words: what was asked and answered.
    """
    same = record["same"] / max(1, record["compared"])
    pairs: list[tuple[str, object]] = [
        ("Engine", f"{record['engine']} in {record['precision']}"),
        (f"{record['sent_unit'].capitalize()} sent", record["sent"]),
        ("As in the evaluation", f"{record['same']} of {record['compared']} {record['unit']} ({same:.1%})"),
        *([("Right answer", record["correct"])] if "correct" in record else []),
        ("Median milliseconds of a request", f"{record['p50_ms']:.1f}"),
        ("Seconds until the server answered", f"{record['start_seconds']:.1f}"),
    ]
    drawn = record.get("drawn", False)
    cards = [
        (picture(image, example["answer"]), _caption(example))
        for example in record["examples"]
        if "path" in example and (image := thumbnail(Path(example["path"]), LARGE if drawn else SIZE)) is not None
    ]
    told = [(example["asked"], example["answer"]) for example in record["examples"] if "asked" in example]
    intro = paragraph(
        f"A real Triton was started on this model and sent the validation {record['sent_unit']} as they are."
    )
    shown = gallery(cards, large=drawn) if cards else table(("asked with", "answered"), told) if told else Markup("")
    return Section("Served by Triton", intro + facts(pairs) + shown)


def _caption(example: Mapping[str, Any]) -> str:
    return f"{example['answer']} (is {example['label']})" if "label" in example else example["answer"]
