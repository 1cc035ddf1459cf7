"""Small awkward inputs after public reports: `kit check` reads each rightly or refuses it with its cause.

The expected results are data: classification.toml, detection.toml and recommendation.toml beside this file. A case has

folder = "cls-12bit/data"            where the input lies under the folder of cases
model  = "resnet50"
code   = 0                           the exit code, 0 where left out
says   = ["regular expression", …]   each is found in what is printed
never  = ["regular expression", …]   none is
facts  = { "counts.train.bee" = 20 } values of check.json, found by keys with dots between
"""

import json
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from challenges.__main__ import main

CASES = Path(os.environ.get("KIT_TEST_CASES", Path(__file__).parents[3] / "shared" / "cases"))


def expected() -> Iterator[Any]:
    for file in sorted(Path(__file__).parent.glob("*.toml")):
        for case in tomllib.loads(file.read_text(encoding="utf-8"))["case"]:
            yield pytest.param(case, id=case["folder"])


@pytest.mark.parametrize("case", list(expected()))
def test_an_awkward_input_is_understood_or_refused_with_its_cause(case, tmp_path, monkeypatch, capsys):
    given = CASES / case["folder"]
    if not given.exists():
        pytest.skip(f"no case at {given}: set KIT_TEST_CASES to run this test")
    monkeypatch.setenv("CHALLENGE_KIT_CACHE", str(tmp_path))
    code = main(["check", "--model", case["model"], str(given)])
    captured = capsys.readouterr()
    printed = " ".join((captured.out + captured.err).split())
    assert code == case.get("code", 0), printed
    for pattern in case.get("says", []):
        assert re.search(pattern, printed), (pattern, printed)
    for pattern in case.get("never", []):
        assert not re.search(pattern, printed), (pattern, printed)
    if case.get("facts"):
        (record,) = [json.loads(file.read_text()) for file in tmp_path.glob("checks/*/check.json")]
        assert {key: _value(record, key) for key in case["facts"]} == case["facts"]


def _value(record: Any, key: str) -> Any:
    for part in key.split("."):
        record = record[part]
    return record
