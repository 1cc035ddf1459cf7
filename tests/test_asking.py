"""`kit client` and `kit load` fit every served model, and tell what is wrong with a question before it is sent."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from challenges import asking
from challenges.registry import dialogues
from common.errors import KitError
from common.question import Question
from common.serving.problems import UnknownModelError

NAMED = ("items", "scores", "count", "identifiers", "titles", "unknown")
TENSORS = {
    "resnet50": (("encoded",), ("probabilities",)),
    "ssd300": (("encoded",), ("boxes", "scores", "labels", "names", "count")),
    "bert4rec": (("history",), NAMED),
    "ncf": (("user", "seen"), NAMED),
    "dlrm": (("price", "word"), ("probability", "logit")),
    "odd": (("pixels",), ("scores",)),
}
"""A served model's inputs and outputs."""
PICTURE = (Path("cat.jpg"),)


class FakeClient:
    """Knows the models of TENSORS and answers every recommender with one item."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}

    def metadata(self, model: str) -> dict[str, Any]:
        if model not in TENSORS:
            raise UnknownModelError(f"The server has no model {model}.")
        inputs, outputs = ([{"name": name} for name in names] for names in TENSORS[model])
        return {"inputs": inputs, "outputs": outputs}

    def served(self, names: Any) -> list[str]:
        return [name for name in names if name in TENSORS]

    def infer(self, model: str, inputs: dict[str, np.ndarray], *, classes: int = 0) -> dict[str, np.ndarray]:
        assert not classes
        self.asked = {name: array.tolist() for name, array in inputs.items()}
        return {
            "identifiers": np.array([[b"b2", b""]], object),
            "titles": np.array([["[red]Été\x1b[2J".encode(), b""]], object),
            "scores": np.array([[1.5, 0]]),
            "count": np.array([[1]]),
            "unknown": np.array([[b"zz\x07", b""]], object),
        }


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("model", "asked", "expected"),
    [
        ("bert4rec", Question(history=("12", "Up")), {"history": [["12", "Up"]]}),
        ("ncf", Question(user="ann"), {"user": [["ann"]], "seen": [[""]]}),
        ("ncf", Question(user="ann", history=("12",)), {"user": [["ann"]], "seen": [["12"]]}),
    ],
)
def test_recommenders_are_asked_by_name_and_printed_without_control_characters(
    model: str, asked: Question, expected: Any
) -> None:
    client, console = FakeClient(), Console(width=100, record=True)
    asking.ask(client, model, asked, console)
    assert client.asked == expected
    printed = console.export_text()
    assert "b2" in printed
    assert "[red]Été\\x1b[2J" in printed
    assert "1.500" in printed
    assert "unknown item, left out: zz\\x07" in printed
    (batch,) = asking.batches(client, model, asked)
    assert {name: array.tolist() for name, array in batch.items()} == expected


@pytest.mark.parametrize("model", TENSORS)
def test_every_model_is_of_one_kind(model: str) -> None:
    inputs, outputs = map(set, TENSORS[model])
    assert sum(dialogue.fits(inputs, outputs) for dialogue in dialogues()) == (model != "odd")


@pytest.mark.parametrize(
    ("model", "asked", "words"),
    [
        ("bert4rec", Question(PICTURE), "asked with files.\nIt answers to --history ITEM"),
        ("bert4rec", Question(history=("1",), user="1"), "answers to --history"),
        ("ncf", Question(history=("1",)), "asked with --history ITEM ....\nIt answers to --user USER"),
        ("resnet50", Question(user="1"), "answers to files, --top-k COUNT"),
        ("resnet50", Question(PICTURE, threshold=0.0), "asked with files, --threshold SCORE"),
        ("ssd300", Question(PICTURE, top_k=3), "asked with files, --top-k COUNT"),
        ("resnet50", Question(), "asked with nothing"),
        ("odd", Question(user="1"), "odd takes pixels"),
    ],
)
def test_a_question_that_does_not_fit_is_told(model: str, asked: Question, words: str) -> None:
    for ask in (
        lambda: asking.ask(FakeClient(), model, asked, Console()),
        lambda: asking.batches(FakeClient(), model, asked),
    ):
        with pytest.raises(KitError) as caught:
            ask()
        assert caught.value.exit_code == 2
        assert words in str(caught.value)


def test_a_wrong_name_lists_the_served_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(TENSORS, "vae-cf-demo-1a", (("history",), NAMED))  # as a server names the run of that folder
    (tmp_path / "runs" / "vae_cf-demo-1a").mkdir(parents=True)
    (tmp_path / "runs" / "...").mkdir()
    with pytest.raises(UnknownModelError, match=r"It serves resnet50, ssd300, ncf, bert4rec, dlrm, vae-cf-demo-1a\."):
        asking.ask(FakeClient(), "resnet-50", Question(PICTURE), Console())
    monkeypatch.setitem(globals(), "TENSORS", {})
    with pytest.raises(UnknownModelError, match="none of this kit's models"):
        asking.ask(FakeClient(), "resnet-50", Question(PICTURE), Console())


def test_a_missing_file_is_told_before_the_load(tmp_path: Path) -> None:
    with pytest.raises(KitError, match=r"missing\.jpg cannot be read"):
        asking.batches(FakeClient(), "resnet50", Question((Path("missing.jpg"),)))
