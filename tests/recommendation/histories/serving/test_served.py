"""Served recommenders, asked with names over the wire and on the command line."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.record import read_all
from challenges.__main__ import main
from challenges.recommendation.histories.serving.asking import recommend, recommended
from challenges.recommendation.histories.serving.ensemble import HistoryLimits
from common.files import read_json
from common.serving.payload import Payload
from common.serving.problems import InvalidRequestError
from common.serving.repository import ModelRepository
from common.serving.server import LocalServer
from tests.recommendation.histories.serving.shop import add_shop

pytestmark = pytest.mark.serving


def strings(*rows: list[str]) -> np.ndarray:
    return np.array(rows, dtype=object)


@pytest.fixture(scope="module")
def shop(payload: Payload, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A ready server with `members` and `guests`."""
    folder = tmp_path_factory.mktemp("shop")
    add_shop(ModelRepository(folder / "repository"), folder, limits=HistoryLimits())
    with LocalServer(folder / "repository", payload, folder / "server.log") as server:
        server.wait_ready()
        yield server


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_names_in_names_out(shop: LocalServer, protocol: Any) -> None:
    with shop.client(protocol) as client:
        told = client.infer("guests", {"history": strings(["É" + "té", "nothing", "DAS BOOT"], ["蓝色", "", ""])})
        assert [row.tolist() for row in told["unknown"]] == [[b"nothing", b"DAS BOOT"], [b"", b""]]
        first, second = recommended(told)
        assert [(item.identifier, item.title, item.score) for item in first][:2] == [
            ("b2", "Das Boot", 5.0), ("c3", "蓝色", 4.0)
        ]  # fmt: skip
        assert [item.identifier for item in second] == ["a1", "b2", "d4", "e5"]
        members = recommend(
            client, "members", {"user": strings(["bob"], ["dee"]), "seen": strings(["f6", ""], ["", ""])}
        )
        assert [[item.identifier for item in row] for row in members] == [["e5", "d4", "a1"], []]
        with pytest.raises(InvalidRequestError, match="user 2 of 2, '-1', is none of the 4 that were trained on"):
            recommend(client, "members", {"user": strings(["ann"], ["-1"]), "seen": strings([""], [""])})
        with pytest.raises(InvalidRequestError, match="no item of history 1 of 1 is known: '7'; the catalogue has 6"):
            recommend(client, "guests", {"history": strings(["7"])})
        with pytest.raises(InvalidRequestError, match="history has 10,001 entries, at most 10,000"):
            recommend(client, "guests", {"history": strings(["a1"] * 10_001)})


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        (["--model", "guests", "--history", "nothing", "a1", "das Boot", "c3"], ["b2", "d4", "e5", "f6"]),
        (["--model", "members", "--user", "bob"], ["f6", "e5", "d4", "a1"]),
        (["--model", "members", "--user", "bob", "--history", "f6"], ["e5", "d4", "a1"]),
        (["--model", "members", "--user", "dee"], []),
    ],
)
def test_the_command_line_asks_recommenders(
    shop: LocalServer, capsys: pytest.CaptureFixture[str], question: list[str], expected: list[str]
) -> None:
    assert main(["client", *question, "--url", shop.url("http")]) == 0
    printed = capsys.readouterr().out
    rows = [line.split("│")[2].strip() for line in printed.splitlines() if line.startswith("│")]
    assert rows == expected
    assert ("unknown item, left out: nothing" in printed) == ("nothing" in question)
    assert ("Nothing is left" in printed) == (not expected)


def test_the_command_line_loads_a_recommender(shop: LocalServer, tmp_path: Path) -> None:
    question = ["--model", "members", "--user", "bob", "--url", shop.url("http")]
    quick = ["--concurrency", "1", "--seconds", "1", "--output", str(tmp_path / "load.json")]
    assert main(["load", *question, *quick]) == 0
    record = read_json(tmp_path / "load.json")
    assert (record["schema"], record["kind"], record["workload"]["concurrency"]) == ("kit.bench/2", "serve", 1)
    assert record["measurements"]["concurrency-1"]["samples_per_s"]["median"] > 0
    assert record["details"]["concurrency-1_errors"] == 0


def test_mlperfs_generator_loads_a_recommender(shop: LocalServer, tmp_path: Path) -> None:
    pytest.importorskip("mlperf_loadgen")
    for scenario in ("SingleStream", "Offline"):
        command = [
            sys.executable, "-m", "benchmarks.loadgen", "members", "--user", "bob", "--url", shop.url("http"),
            "--scenario", scenario, "--seconds", "2", "--logs", str(tmp_path / scenario),
            "--output", str(tmp_path / "records"),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert "Result is: " in done.stdout, done.stderr
    assert {record.name for record in read_all([tmp_path / "records"])} == {"mlperf-singlestream", "mlperf-offline"}
