"""Every model's run has a page, and every model and recipe is known to the command line."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import shtab

from challenges.parser import build_parser
from common.language.telling import speaking
from common.run.result import read_result
from common.stages.next_steps import next_steps
from common.stages.run_page import report
from tests.contracts.spoken import ENGLISH, left_in_english


def test_the_page_shows_the_result(line, run):
    page = report(line.challenge, run).read_text()
    metric = line.challenge.judgement.main_metric(line.recipe, run.evaluation()["metrics"])
    assert metric in page
    assert line.challenge.model in page
    assert "://" not in page.replace("http://www.w3.org", ""), "it needs nothing from elsewhere"


def test_no_english_is_left_in_the_spanish_page(line, run):
    original = report(line.challenge, run).read_text()
    with speaking("es"):
        translated = report(line.challenge, run).read_text()
    report(line.challenge, run)
    assert '<html lang="es">' in translated
    assert left_in_english(original, translated, names_of(run)) == []


def test_advice_is_told_in_spanish(line, run):
    found = replace(line.challenge.judgement.evidence(run), counts={"ant": 1, "bee": 99, "cat": 99})
    result = read_result(run.result_file)
    with speaking("es"):
        told = next_steps(run, result, found)
    assert not [text for text in told if ENGLISH.search(text.partition(": ")[0])]


def names_of(run):
    """Where the data lies, and its items."""
    path = run.data / "split.npz"
    with np.load(path) if path.is_file() else nullcontext({}) as columns:
        return [run.description()["data"]["root"], *map(str, columns.get("titles", ()))]


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
