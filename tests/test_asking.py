"""`kit client` and `kit load` fit every served model, and tell what is wrong with a question before it is sent."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from challenges import asking
from common.errors import KitError
from common.serving.problems import UnknownModelError

INPUTS = {"resnet50": "encoded", "bert4rec": "history", "ncf": "user", "odd": "pixels"}


class FakeClient:
    """Knows the models of INPUTS and answers every recommender with one item."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}

    def metadata(self, model: str) -> dict[str, Any]:
        if model not in INPUTS:
            raise UnknownModelError(f"The server has no model {model}.")
        return {"inputs": [{"name": INPUTS[model]}], "outputs": [{"name": "scores"}]}

    def served(self, names: Any) -> list[str]:
        return [name for name in names if name in INPUTS]

    def infer(self, model: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
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


def question(model: str, **given: Any) -> argparse.Namespace:
    return argparse.Namespace(**({"images": [], "history": [], "user": None, "model": model} | given))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (question("bert4rec", history=["12", "Up"]), {"history": [["12", "Up"]]}),
        (question("ncf", user="ann"), {"user": [["ann"]], "seen": [[""]]}),
        (question("ncf", user="ann", history=["12"]), {"user": [["ann"]], "seen": [["12"]]}),
    ],
)
def test_recommenders_are_asked_by_name_and_printed_without_control_characters(asked: Any, expected: Any) -> None:
    client, console = FakeClient(), Console(width=100, record=True)
    asking.show(client, asked, console)
    assert client.asked == expected
    printed = console.export_text()
    assert "b2" in printed
    assert "[red]Été\\x1b[2J" in printed
    assert "1.500" in printed
    assert "unknown item, left out: zz\\x07" in printed
    (batch,) = asking.batches(client, asked)
    assert {name: array.tolist() for name, array in batch.items()} == expected


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (question("bert4rec", images=["cat.jpg"]), "asked with image files.\nIt answers to --history ITEM"),
        (question("bert4rec", history=["1"], user="1"), "answers to --history"),
        (question("ncf", history=["1"]), "asked with --history ITEM ....\nIt answers to --user USER"),
        (question("resnet50", user="1"), "answers to image files"),
        (question("resnet50"), "asked with nothing"),
        (question("odd", user="1"), "odd takes pixels"),
    ],
)
def test_a_question_that_does_not_fit_is_told(asked: Any, words: str) -> None:
    for ask in (lambda: asking.show(FakeClient(), asked, Console()), lambda: asking.batches(FakeClient(), asked)):
        with pytest.raises(KitError) as caught:
            ask()
        assert caught.value.exit_code == 2
        assert words in str(caught.value)


def test_a_wrong_name_lists_the_served_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(INPUTS, "vae-cf-demo-1a", "history")  # as a server names the run of that folder
    (tmp_path / "runs" / "vae_cf-demo-1a").mkdir(parents=True)
    (tmp_path / "runs" / "...").mkdir()
    with pytest.raises(UnknownModelError, match=r"It serves resnet50, ncf, bert4rec, vae-cf-demo-1a\."):
        asking.show(FakeClient(), question("resnet-50", images=["cat.jpg"]), Console())
    monkeypatch.setitem(globals(), "INPUTS", {})
    with pytest.raises(UnknownModelError, match="none of this kit's models"):
        asking.show(FakeClient(), question("resnet-50", images=["cat.jpg"]), Console())


def test_a_missing_file_is_told_before_the_load(tmp_path: Path) -> None:
    with pytest.raises(KitError, match=r"missing\.jpg cannot be read"):
        asking.batches(FakeClient(), question("resnet50", images=["missing.jpg"]))
