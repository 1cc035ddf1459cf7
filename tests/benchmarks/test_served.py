"""A run behind a server of this machine: what is asked of it, and when there is nothing to ask."""

from types import SimpleNamespace

import pytest

from benchmarks import served
from benchmarks.plan import Item, plan_of
from benchmarks.record import Finding, Validity
from common.errors import ServingError
from common.serving.dialogue import Dialogue
from common.stages.deployment import Choice
from tests.benchmarks.builders import record


class Face:
    """As much of a challenge as a run that is served is asked by."""

    dialogue = SimpleNamespace(example="--user USER")

    def __init__(self, *words):
        self.words = words

    def example(self, run):
        return self.words


@pytest.fixture
def run(monkeypatch):
    """A run of ncf whose parity chose `engine`, and a machine with a server or without."""

    def made(*words, engine="openvino", installed=True):
        challenge = SimpleNamespace(served=Face(*words))
        monkeypatch.setattr(served, "find_model", lambda model: SimpleNamespace(load=lambda: challenge))
        monkeypatch.setattr(served, "chosen", lambda run, precision: Choice(engine, "fp32", "fast"))
        monkeypatch.setattr(served, "Payload", lambda folder: SimpleNamespace(is_installed=lambda: installed))
        return SimpleNamespace(description=lambda: {"model": "ncf"})

    return made


def test_a_run_with_a_question_of_its_own_can_be_served(run):
    assert served.why_not(run("--user=196")) == ""
    assert isinstance(Face.dialogue.example, str)
    assert "example" in Dialogue.__annotations__


@pytest.mark.parametrize(
    ("words", "options", "told"),
    [
        (("--user", "USER"), {}, "no question of its own"),
        (("--user=1",), {"engine": "tensorrt"}, "no backend for TensorRT"),
        (("--user=1",), {"installed": False}, "make triton"),
    ],
)
def test_why_a_run_cannot_be_served_is_said(run, words, options, told):
    assert told in served.why_not(run(*words, **options))


def test_a_run_without_parity_is_not_served(run, monkeypatch):
    made = run("--user=1")

    def refuse(*_):
        raise ServingError("no export was proven")

    monkeypatch.setattr(served, "chosen", refuse)
    assert "no export was proven" in served.why_not(made)


def test_the_client_would_ask_the_same():
    question = served.question_of(("--history", "12", "A Title"))
    assert (question.history, question.user, question.inputs) == (("12", "A Title"), None, ())
    assert served.question_of(("--user=-1",)).user == "-1"


def test_a_smoke_run_is_labelled_and_not_judged_by_its_length():
    short = Validity(valid=False, reasons=(Finding(code="TOO_SHORT", text="short"),))
    made = served.labelled(record(valid=short), smoke=True)
    assert made.validity.valid
    assert [warning.code for warning in made.validity.warnings] == ["SMOKE"]
    wrong = Validity(valid=False, reasons=(Finding(code="OUTPUT_MISMATCH", text="other"),))
    assert not served.labelled(record(valid=wrong), smoke=True).validity.valid
    assert served.labelled(record(valid=short), smoke=False).validity == short


def test_only_what_can_be_served_is_planned():
    made = plan_of(("ncf", "dlrm"), (1,), 30, quick=False, on_gpu=False, exported=["ncf", "dlrm"], served=["ncf"])
    assert [item for item in made.items if item.what == "served"] == [Item("ncf", "served")]
