"""A real Triton with pictures and recommenders: what some send hurts nobody else, and takes no memory for good."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from challenges.recommendation.histories.serving.asking import recommended
from challenges.recommendation.histories.serving.ensemble import HistoryLimits
from common.serving.encoded import padded
from common.serving.payload import Payload
from common.serving.problems import InvalidRequestError, ServerFaultError, explain
from common.serving.server import LocalServer
from tests.common.serving.colours import picture, write_repository
from tests.common.serving.test_server import UNDECODABLE
from tests.recommendation.histories.serving.shop import add_shop

pytestmark = pytest.mark.serving
HUGE = picture("red", 9_999, 9_999)
"""1.6 MB that decode to 300."""
GOOD_CLIENTS = 8
SECONDS = 3.0


def strings(*rows: list[str]) -> np.ndarray:
    return np.array(rows, dtype=object)


@pytest.fixture(scope="module")
def crowd(payload: Payload, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A ready server with `colours`, `slow`, `members` and `guests`, whose limits are the kit's own."""
    folder = tmp_path_factory.mktemp("crowd")
    add_shop(write_repository(folder / "repository", folder), folder, limits=HistoryLimits())
    with LocalServer(folder / "repository", payload, folder / "server.log") as server:
        server.wait_ready()
        yield server


def good_requests(number: int) -> list[tuple[str, dict[str, np.ndarray], Callable[[dict[str, np.ndarray]], bool]]]:
    """What one of many ordinary clients asks, and whether the answer is right."""
    colour = number % 3
    return [
        (
            "members",
            {"user": strings([("ann", "bob", "cy")[colour]]), "seen": strings([""])},
            lambda answer: recommended(answer)[0][0].identifier == ("b2", "f6", "b2")[colour],
        ),
        (
            "guests",
            {"history": strings(["a1", "c3"])},
            lambda answer: [item.identifier for item in recommended(answer)[0]] == ["b2", "d4", "e5", "f6"],
        ),
        (
            "colours",
            {"encoded": padded([picture(("red", "lime", "blue")[colour], 60 + number, 40)])},
            lambda answer: int(answer["scores"][0].argmax()) == colour,
        ),
    ]


POISONS = {
    "an unknown user": ("members", {"user": strings(["1000000000"]), "seen": strings([""])}, InvalidRequestError),
    "a negative user": ("members", {"user": strings(["-1"]), "seen": strings([""])}, InvalidRequestError),
    "a position no user has": (
        "members_model", {"user": np.array([[10**9]]), "seen": np.array([[-1]] * 1)}, ServerFaultError
    ),
    "unknown items": ("guests", {"history": strings(["-1", "999999"])}, InvalidRequestError),
    "no items at all": ("guests", {"history": np.zeros((1, 0), object)}, InvalidRequestError),
    "a long history": ("guests", {"history": strings(["a1"] * 100_000)}, InvalidRequestError),
    "long names": ("guests", {"history": strings(["x" * 1_000_000] * 9)}, InvalidRequestError),
    "long lists of positions": ("guests_model", {"history": np.zeros((1, 200_000), np.int64)}, InvalidRequestError),
    "no numbers": ("slow", {"value": np.array([[np.nan]], np.float32)}, InvalidRequestError),
    "a broken picture": ("colours", {"encoded": padded([UNDECODABLE])}, InvalidRequestError),
    "no picture": ("colours", {"encoded": padded([b"not an image"])}, InvalidRequestError),
    "huge pictures": ("colours", {"encoded": padded([HUGE] * 8)}, InvalidRequestError),
    "huge pictures without the check": ("colours_preprocessing", {"encoded": padded([picture("red", 30_000, 9_000,
                                                                                            kind="PNG")])},
                                        InvalidRequestError),
}  # fmt: skip


def ask(server: LocalServer, model: str, inputs: dict[str, np.ndarray]) -> Any:
    """The answer, or the kit's error."""
    with server.client("grpc", retries=0) as client:
        try:
            return client.infer(model, inputs)
        except Exception as error:
            return explain(error, model, "", 0)


def test_memory_comes_back_after_requests_beyond_the_budget(crowd: LocalServer) -> None:
    """The first test here: memory that an earlier one had taken would hide what these requests take."""
    for model, inputs, _ in good_requests(0):
        ask(crowd, model, inputs)
    before = crowd.memory_bytes()
    for _ in range(10):
        assert isinstance(ask(crowd, "colours", {"encoded": padded([HUGE] * 8)}), InvalidRequestError)
        assert isinstance(ask(crowd, "guests", {"history": strings(["a1"] * 300_000)}), InvalidRequestError)
    assert crowd.memory_bytes() <= 1.2 * before
    assert crowd.problem() is None


@pytest.mark.parametrize("poison", POISONS)
def test_each_poison_is_refused_in_words(crowd: LocalServer, poison: str) -> None:
    model, inputs, kind = POISONS[poison]
    started = time.monotonic()
    assert type(ask(crowd, model, inputs)) is kind
    assert time.monotonic() - started < 3


def test_good_clients_do_not_feel_the_poison_beside_them(crowd: LocalServer) -> None:  # noqa: C901  # two roles
    stop = threading.Event()
    wrong: list[Any] = []
    asked = [0] * GOOD_CLIENTS
    poisoned: list[str] = []

    def be_good(number: int) -> None:
        with crowd.client("grpc" if number % 2 else "http", retries=0) as client:
            while not stop.is_set():
                for model, inputs, is_right in good_requests(number):
                    try:
                        if not is_right(client.infer(model, inputs)):
                            wrong.append(model)
                    except Exception as error:
                        wrong.append(error)
                    asked[number] += 1

    def poison() -> None:
        while not stop.is_set():
            for name, (model, inputs, _) in POISONS.items():
                ask(crowd, model, inputs)
                poisoned.append(name)

    threads = [threading.Thread(target=be_good, args=(number,)) for number in range(GOOD_CLIENTS)]
    threads += [threading.Thread(target=poison) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(SECONDS)
    stop.set()
    for thread in threads:
        thread.join(30)
    assert wrong == []
    assert min(asked) >= 3
    assert set(poisoned) == set(POISONS)
