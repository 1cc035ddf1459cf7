"""Judging a toy run on other data: what is kept, what is reused, what is told, and what is left alone."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from common.challenge import CheckedData
from common.files import write_json
from common.report.held_out import held_out_section
from common.run.run_directory import RunDirectory
from common.stages.held_out import judge_own_test, judge_test
from common.terminal.console import SafeConsole
from tests.toy import ToyData, ToyTask, toy_recipe


class ToyChallenge:
    """As much of a challenge as judging asks for. fingerprint: of whatever data is checked."""

    model, recipe_class = "toy", type(toy_recipe())
    judgement = SimpleNamespace(main_metric=lambda recipe, metrics: "top1")
    weights = SimpleNamespace(load=lambda task, path: None)
    fingerprint, checked, judged = "one", 0, 0

    def check_test(self, root, run, recipe, output, console):
        self.checked += 1
        return CheckedData(root, self.fingerprint, {"samples": 23, "unit": "point", "own": False, "warnings": ["<b>&"]})

    def own_test(self, run, output):
        return None

    def open_data(self, recipe, checked, device):
        self.judged += 1
        return ToyData()

    def build_task(self, recipe, data):
        return ToyTask(recipe)


@pytest.fixture
def run(tmp_path):
    found = RunDirectory(tmp_path / "run")
    found.create(toy_recipe(), {"model": "toy", "recipe": "demo", "command": "kit", "data": {}})
    found.weights_file.write_bytes(b"weights")
    write_json(found.training_file, dict.fromkeys(("steps", "epochs", "seconds", "samples_per_s", "sample_unit"), 1))
    return found


def test_a_test_is_kept_beside_the_run_and_judged_again_only_when_something_changed(run, tmp_path):
    challenge, console = ToyChallenge(), SafeConsole()
    root = tmp_path / "a b"
    root.mkdir()

    def line() -> str:
        return judge_test(challenge, run, root, console)

    first = line()
    assert first.startswith("TEST toy/demo top1=0.")
    assert first.endswith(f"points=23 data='{root}' report={run.report_file}")
    assert (line(), challenge.judged) == (first, 1)
    run.weights_file.write_bytes(b"other weights")
    line()
    assert challenge.judged == 2
    challenge.fingerprint = "two"
    line()
    assert challenge.judged == 3
    assert not run.evaluation_file.exists()
    assert not run.result_file.exists()
    assert len(run.test_evaluations()) == 1


def test_folders_of_one_name_are_kept_apart_and_shown_beside_validation(run, tmp_path):
    for name in ("x/set", "y/set"):
        (tmp_path / name).mkdir(parents=True)
        judge_test(ToyChallenge(), run, tmp_path / name, SafeConsole())
    assert judge_own_test(ToyChallenge(), run, SafeConsole()) is None
    assert len(run.test_evaluations()) == 2
    section = held_out_section(run)
    assert section is not None
    assert str(tmp_path / "y" / "set") in section.html
    assert "&lt;b&gt;&amp;" in section.html
    assert held_out_section(RunDirectory(Path("nowhere"))) is None
