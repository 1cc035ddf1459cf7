"""The page's sections on what was exported and served."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.files import read_json
from common.language.telling import retell, tell
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
    rows: list[tuple[object, ...]] = []
    with_cosines = any(row.get("cosine") is not None for row in record["rows"])
    for row in record["rows"]:
        label = f"{row['engine']} {row['precision']}"
        latency = f"{latencies[label]['p50_ms']:.1f}" if row["batch"] == 1 and label in latencies else ""
        rows.append(
            (
                label,
                row["batch"],
                tell("not finite") if row["absolute_error"] is None else f"{row['absolute_error']:.2g}",
                "" if row["relative_error"] is None else f"{row['relative_error']:.2%}",
                f"{row['agreement']:.1%}",
                "" if row["metric"] is None else f"{row['metric']:.4f}",
                *([f"{row['cosine']:.5f}"] if with_cosines else []),
                latency,
                tell("passed") if row["passed"] else "; ".join(map(retell, row["failures"])),
            )
        )
    left_out = record.get("left_out", {})  # runs before 2026-11-28 lack it
    blank = [""] * (6 + with_cosines)
    rows += [(label, *blank, tell("left out: {reason}", reason=retell(reason))) for label, reason in left_out.items()]
    cosine = (tell("embedding's cosine"),) if with_cosines else ()
    head = (
        tell("engine"), tell("batch"), tell("worst error"), tell("of range"), tell("same answer"), tell("metric"),
        *cosine, tell("ms for one"), "",
    )  # fmt: skip
    body = table(head, rows, numeric=range(1, 7 + with_cosines))
    choice = record["choice"]
    if choice:
        told = tell("Served: {engine} in {precision}: {why}.", **{**choice, "why": retell(choice["why"])})
        body += notice(told, "good")
    return Section("Every engine against the trained model", body)


def _served(record: Mapping[str, Any]) -> Section:
    """`drawn`: the examples' files are pictures with the answer drawn on them, to be shown large.

    Examples without a file are told in words: what was asked and answered.
    """
    same = record["same"] / max(1, record["compared"])
    pairs: list[tuple[str, object]] = [
        (tell("Engine"), tell("{engine} in {precision}", engine=record["engine"], precision=record["precision"])),
        (tell("Sent ({unit})", unit=retell(record["sent_unit"])), record["sent"]),
        (
            tell("As in the evaluation"),
            tell(
                "{same} of {compared} {unit} ({share:.1%})",
                same=record["same"],
                compared=record["compared"],
                unit=retell(record["unit"]),
                share=same,
            ),
        ),
        *([(tell("Right answer"), record["correct"])] if "correct" in record else []),
        (tell("Median milliseconds of a request"), f"{record['p50_ms']:.1f}"),
        (tell("Seconds until the server answered"), f"{record['start_seconds']:.1f}"),
    ]
    drawn = record.get("drawn", False)
    cards = [
        (picture(image, example["answer"]), _caption(example))
        for example in record["examples"]
        if "path" in example and (image := thumbnail(Path(example["path"]), LARGE if drawn else SIZE)) is not None
    ]
    told = [(example["asked"], example["answer"]) for example in record["examples"] if "asked" in example]
    intro = paragraph(
        tell(
            "A real Triton was started on this model and sent the validation {unit} as they are.",
            unit=retell(record["sent_unit"]),
        )
    )
    shown = (
        gallery(cards, large=drawn)
        if cards
        else table((tell("asked with"), tell("answered")), told)
        if told
        else Markup("")
    )
    return Section("Served by Triton", intro + facts(pairs) + shown)


def _caption(example: Mapping[str, Any]) -> str:
    if "label" not in example:
        return str(example["answer"])
    return tell("{answer} (is {label})", answer=example["answer"], label=example["label"])
