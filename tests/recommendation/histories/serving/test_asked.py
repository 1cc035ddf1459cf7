"""Names to positions and back, in this process with a stand-in for the stub's module."""

import importlib
import json
import struct
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from challenges.recommendation.histories.serving.asked.naming import Catalogue
from challenges.recommendation.histories.serving.ensemble import STEPS
from common.serving.repository import STRINGS
from tests.common.serving.colours import FakeRequest
from tests.common.serving.test_backends import started
from tests.recommendation.histories.serving.shop import HAD, IDENTIFIERS, SEEN, TITLES, USERS

LIMITS = {"maximum_names": 5, "maximum_bytes": 60}


def test_a_catalogue_finds_identifiers_before_titles_and_no_title_that_two_items_share() -> None:
    catalogue = Catalogue(["1", "2", "Up"], ["Up", "Heat", "heat "])
    assert [catalogue.find(name) for name in ("2", "Up", "up", "HEAT", "heat ", "", "-1")] == [
        1,
        2,
        0,
        1,
        2,
        None,
        None,
    ]
    twins = Catalogue(IDENTIFIERS, TITLES)
    assert twins.find("das boot") is None
    assert twins.nearest("das boot") == ["b2", "d4"]
    assert twins.nearest("das boat") == ["Das Boot"]
    assert twins.nearest("zzzzzz") == []
    assert twins.like() == "'a1' or 'f6'"


def strings(*rows: list[str]) -> np.ndarray:
    return np.array(rows, dtype=object)


@pytest.fixture(params=["history", "seen"])
def asked(request: pytest.FixtureRequest, stub: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The step before a model of histories, and the one before a model of users."""
    knows_users = request.param == "seen"
    (tmp_path / "1").mkdir()
    catalogue = {"identifiers": IDENTIFIERS, "titles": TITLES, "users": USERS if knows_users else ()}
    (tmp_path / "1" / "catalogue.json").write_text(json.dumps(catalogue))
    offsets = np.cumsum([0, *map(len, HAD)])
    np.savez(tmp_path / "1" / "training.npz", offsets=offsets, items=[item for items in HAD for item in items])
    inputs = [*([{"name": "user"}] if knows_users else []), {"name": request.param}]
    parameters = {name: {"string_value": str(value)} for name, value in LIMITS.items()}
    for folder in (STEPS / "asked", STRINGS.parent):  # as Triton does with the copies in the repository
        monkeypatch.syspath_prepend(folder)
    model = started("challenges.recommendation.histories.serving.asked", tmp_path, input=inputs, parameters=parameters)
    module = importlib.import_module("challenges.recommendation.histories.serving.asked.model")
    monkeypatch.setattr(importlib.import_module("strings"), "string_bytes", serialised)
    monkeypatch.setattr(module, "string_tensor", stub.Tensor)
    return model


def serialised(tensor: Any) -> bytes:
    texts = [text if isinstance(text, bytes) else text.encode() for text in tensor.owner.ravel()]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def answer(asked: Any, **inputs: np.ndarray) -> Any:
    """The step's response to `history`, which a model of users gets as `seen`, and to `user`."""
    if asked.history == "seen" and "user" not in inputs:
        inputs["user"] = strings(*[["cy"]] * len(inputs["history"]))
    inputs[asked.history] = inputs.pop("history")
    return asked.execute([FakeRequest(**inputs)])[0]


def test_names_become_positions_and_unknown_ones_are_told(asked: Any) -> None:
    response = answer(asked, history=strings(["f6", "nobody", "ÉTÉ"], ["", "b2", ""]))
    positions = response.outputs[f"{asked.history}_positions"]
    assert positions.dtype == np.int64
    assert positions.tolist() == [[5, 0, *[-1] * 6], [1, *[-1] * 7]]
    assert response.outputs["unknown"].tolist() == [["nobody"], [""]]


def test_what_a_known_user_had_and_names_is_told_once_the_newest_last(asked: Any) -> None:
    if asked.history == "seen":
        response = answer(asked, history=strings(["b2", "a1", "b2"]), user=strings(["bob"]))  # who had b2, then c3
        assert response.outputs["seen_positions"][0].tolist() == [2, 0, 1, *[-1] * 5]


def test_a_history_of_unknown_items_is_refused_and_an_empty_one_is_not(asked: Any) -> None:
    response = answer(asked, history=strings(["-1", "7"]))
    if asked.history == "seen":
        assert response.outputs["unknown"].tolist() == [["-1", "7"]]
    else:
        assert response.error.code == "INVALID_ARG"
        assert str(response.error) == (
            "no item of history 1 of 1 is known: '-1', '7'; the catalogue has 6 items, named by title or by "
            "identifiers like 'a1' or 'f6'"
        )
    assert answer(asked, history=strings([""])).error is None


@pytest.mark.parametrize(
    ("history", "words"),
    [
        (strings(["a1"] * 6), "has 6 entries, at most 5 are taken"),
        (strings(["x" * 57]), "has 61 bytes, at most 60 are taken"),
        (strings([]), "holds 0 strings for the shape (1, 0)"),
    ],
)
def test_what_is_too_long_is_refused(asked: Any, history: np.ndarray, words: str) -> None:
    response = answer(asked, history=history)
    assert response.error.code == "INVALID_ARG"
    assert str(response.error) == f"{asked.history} {words}" + (" in a request" if "bytes" in words else "")


@pytest.mark.parametrize("content", [b"\x05\0\0\0abc", b"\xff\xff\xff\xff", b"\x01\0"])
def test_damaged_strings_are_refused(asked: Any, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(importlib.import_module("strings"), "string_bytes", lambda tensor: content)
    assert answer(asked, history=strings(["a1"])).error.code == "INVALID_ARG"


@pytest.mark.parametrize("asked", ["seen"], indirect=True)
def test_users_are_known_by_name_and_get_nothing_they_had(asked: Any) -> None:
    response = answer(asked, user=strings(["bob"], [""]), history=strings(["f6"], [""]))
    assert response.outputs["user_position"].tolist() == [[1], [0]]
    assert response.outputs["seen_positions"].tolist() == [[1, 2, 5, *[-1] * 5], [0, 1, 2, 3, 4, 5, -1, -1]]
    refused = answer(asked, user=strings(["ann"], ["1000000000"]), history=strings([""], [""]))
    assert str(refused.error) == (
        "user 2 of 2, '1000000000', is none of the 4 that were trained on; their identifiers look like 'ann' or 'dee'"
    )


def test_what_was_told_is_not_recommended(stub: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "catalogue.json").write_text(json.dumps({"identifiers": IDENTIFIERS, "titles": TITLES}))
    model = started(
        "challenges.recommendation.histories.serving.items",
        tmp_path,
        parameters={"lowest_score": {"string_value": str(SEEN / 2)}},
    )
    module = importlib.import_module("challenges.recommendation.histories.serving.items.model")
    monkeypatch.setattr(module, "string_tensor", stub.Tensor)
    logits = np.array([[1.5, -2, SEEN], [SEEN, SEEN, SEEN]], np.float32)
    outputs = model.execute([FakeRequest(positions=np.array([[2, 0, 1], [0, 1, 2]]), logits=logits)])[0].outputs
    assert outputs["count"].tolist() == [[2], [0]]
    assert outputs["items"].tolist() == [[2, 0, -1], [-1, -1, -1]]
    assert outputs["scores"].tolist() == [[1.5, -2, 0], [0, 0, 0]]
    assert outputs["identifiers"].tolist() == [["c3", "a1", ""], ["", "", ""]]
    assert outputs["titles"].tolist() == [["蓝色", "Été", ""], ["", "", ""]]
    stray = model.execute([FakeRequest(positions=np.array([[6]]), logits=logits[:1, :1])])[0]
    assert stray.error.code == "INTERNAL"
