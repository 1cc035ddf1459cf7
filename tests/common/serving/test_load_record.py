"""Where the record of a load is written: over nothing of the user's."""

import json

import pytest
from rich.console import Console

from common.errors import ServingError
from common.serving.load import LOAD_RECORD, SERVE_RECORD, LoadGenerator, LoadPlan
from common.stages.serving_stage import drive_load


@pytest.mark.parametrize("content", ["my notes", "[]", '{"kind": "other"}', ""])
def test_a_file_that_is_no_record_is_refused_before_anything_is_sent(tmp_path, content):
    output = tmp_path / "notes.json"
    output.write_text(content)
    with pytest.raises(ServingError, match=r"notes\.json is there and is no record"):
        drive(output)
    assert output.read_text() == content


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(ServingError, match="no record"):
        drive(tmp_path)


@pytest.mark.parametrize("record", [None, {"kind": LOAD_RECORD}, {"kind": SERVE_RECORD}])
def test_an_earlier_record_stands_in_no_way(tmp_path, record):
    output = tmp_path / "load.json"
    if record:
        output.write_text(json.dumps(record))
    with pytest.raises(ServingError, match=r"127\.0\.0\.1:9"):  # nobody listens there
        drive(output)


def drive(output):
    plan = LoadPlan(concurrencies=(1,), seconds=0.1)
    drive_load(LoadGenerator("127.0.0.1:9", "http", "ncf", [{}]), plan, output, Console(quiet=True))
