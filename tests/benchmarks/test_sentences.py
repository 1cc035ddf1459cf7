"""Figures within sentences come from records, and nothing else is told."""

import dataclasses

import pytest

from benchmarks.outcomes import OUTCOMES, read_all
from benchmarks.sentences import with_figures
from common.errors import KitError
from tests.benchmarks.builders import record

REACHED = read_all(OUTCOMES)


def told(mark: str, records=(), language: str = "en") -> str:
    text = with_figures(f"It is <!-- figure:{mark} -->old<!-- /figure -->.\n", records, REACHED, "a.md", language)
    assert text.startswith(f"It is <!-- figure:{mark} -->")
    assert text.endswith("<!-- /figure -->.\n")
    return text.partition("-->")[2].partition("<!--")[0]


def test_a_runs_figures():
    newest = [one for one in REACHED if (one.model, one.recipe) == ("ncf", "ml-1m-8")][-1]
    assert told("outcome:ncf/ml-1m-8:value") == f"{newest.value:.4f}"
    assert told("outcome:ncf/ml-1m-8:seconds") == f"{newest.seconds:.0f}"
    assert told("outcome:ncf/ml-1m-8:target") == "0.6850"


def test_a_recipes_fields():
    assert told("recipe:resnet50/imagenet-90e:optimizer.peak-lr") == "2.048"
    assert told("recipe:resnet50/imagenet-90e:training.batch-size") == "2,048"
    assert told("recipe:resnet50/imagenet-90e:training.batch-size", language="es") == "2\u202f048"
    assert told("recipe:ssd300/demo:target") == "0.5500"


def test_a_records_figures_and_details():
    one = dataclasses.replace(record(kind="comparison", ratio=2.0), details={"ssd ap": 0.5611, "windows": 2320.0})
    assert told("record:classification/loader:ours/peer", [record(1.0), one]) == "2.00 ×"
    assert told("record:classification/loader:ssd ap", [one]) == "0.561"
    assert told("record:classification/loader:windows", [one]) == "2,320"


@pytest.mark.parametrize(
    "mark",
    ["outcome:ncf/none:value", "outcome:ssd300/small:target", "recipe:resnet50/demo:epochs", "rumour:a/b:c"],
)
def test_what_nothing_tells_is_refused(mark):
    with pytest.raises(KitError, match=f"figure:{mark}, which nothing tells"):
        told(mark)


def test_marks_that_markdown_would_not_read_are_refused():
    with pytest.raises(KitError, match="does not end"):
        with_figures("A <!-- figure:recipe:resnet50/demo:target -->1", [], [], "a.md")
    with pytest.raises(KitError, match="begins with a figure"):
        with_figures("<!-- figure:recipe:resnet50/demo:target -->1<!-- /figure -->", [], [], "a.md")
