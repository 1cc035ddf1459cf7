"""Every model's run has a page, and every model and recipe is known to the command line."""

import shtab

from challenges.parser import build_parser
from common.run.result import read_result
from common.stages.next_steps import next_steps
from common.stages.workflow import report


def test_the_page_shows_the_result(line, run):
    page = report(line.challenge, run).read_text()
    metric = line.challenge.judgement.main_metric(line.recipe, run.evaluation()["metrics"])
    assert metric in page
    assert line.challenge.model in page
    assert "://" not in page.replace("http://www.w3.org", ""), "it needs nothing from elsewhere"


def test_help_and_completion_know_it(line):
    completion, told = shtab.complete(build_parser(), shell="bash"), build_parser().format_help()
    assert all(f"{line.challenge.model}/{recipe}" in completion for recipe in line.challenge.recipes)
    assert "challenge" in told


def test_what_its_data_tells_is_of_its_own_classes(line, run):
    found = line.challenge.judgement.evidence(run)
    assert all(count >= 0 for count in found.counts.values())
    assert found.too_small.keys() <= (found.counts.keys() or found.too_small.keys())
    assert len(found.for_smaller) % 2 == 0
    assert isinstance(next_steps(run, read_result(run.result_file), found), list)
