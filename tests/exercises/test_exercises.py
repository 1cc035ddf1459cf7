"""The exercises as written: every command can be typed, every figure is a record's, both languages are whole."""

import dataclasses
import json
import re

import pytest

from challenges.__main__ import main
from challenges.data_sets.table import DATA_SETS
from challenges.exercises import EXERCISES, LANGUAGES, find
from challenges.exercises.commanded import words_of
from challenges.exercises.loading import FILES, load
from challenges.exercises.recorded import OUTCOMES, read_outcomes, records_of
from challenges.parser import build_parser
from challenges.registry import MODELS, find_recipe
from common.errors import DamagedFileError, DataError, KitError
from common.run.overrides import apply_overrides
from tests.test_told_names import FIELD, FIELDS, FLAG, KNOWN_FLAGS, VERB, VERBS

APPLICATIONS = {
    *("medical images", "search for similar products", "archives", "traffic signs", "warehouse", "surveillance"),
    *("dangerous work", "travel", "finance"),
}
BY_NAME = {exercise.name: exercise for exercise in EXERCISES}
TELLS_ENGLISH = re.compile(r"\b(the|and|with|is|are|of|which|your|what)\b", re.IGNORECASE)
TELLS_SPANISH = re.compile(r"\b(el|los|las|una|que|con|por|para|es|qué)\b", re.IGNORECASE)


def told(exercise, language):
    """Its sentences, without what is typed."""
    texts = (exercise.title[language], exercise.text[language], exercise.hint[language])
    return re.sub(r"`[^`]*`", "", " ".join(texts))


@pytest.mark.parametrize("exercise", EXERCISES, ids=BY_NAME)
def test_every_command_can_be_typed(exercise):
    for line in exercise.lines:
        options, overrides = build_parser().parse_known_args(words_of(line))
        assert options.takes_overrides or not overrides
    asked = exercise.asked
    recipe = find_recipe(f"{asked.model}/{asked.recipe}")[2]
    changed = apply_overrides(recipe, asked.overrides, "kit")
    assert bool(asked.overrides) == (changed != recipe)
    assert asked.run == f"runs/{exercise.name}"
    if asked.data:
        assert f"{asked.model}/{asked.recipe}" in DATA_SETS[asked.data].recipes


def test_names_are_unique_and_every_model_and_application_has_its_own():
    assert len(BY_NAME) == len(EXERCISES)
    assert {exercise.model for exercise in EXERCISES} == set(MODELS)
    applied = [exercise for exercise in EXERCISES if exercise.application]
    assert {exercise.application for exercise in applied} == APPLICATIONS
    assert all(exercise.asked.data for exercise in applied)
    order = [MODELS[exercise.model].challenge for exercise in EXERCISES]
    assert order == sorted(order)


@pytest.mark.parametrize("exercise", EXERCISES, ids=BY_NAME)
def test_both_languages_are_whole_and_not_mixed(exercise):
    assert exercise.title["es"] != exercise.title["en"]
    assert not TELLS_ENGLISH.search(told(exercise, "es"))
    assert TELLS_SPANISH.search(told(exercise, "es"))
    assert not TELLS_SPANISH.search(told(exercise, "en"))
    for part in (exercise.text, exercise.hint):  # what is typed is the same in both
        typed = [sorted(re.findall(r"`[^`]*`", part[language])) for language in LANGUAGES]
        assert typed[0] == typed[1]


@pytest.mark.parametrize("exercise", EXERCISES, ids=BY_NAME)
def test_flags_fields_and_verbs_in_the_texts_are_there(exercise):
    for text in (*exercise.text.values(), *exercise.hint.values()):
        assert set(FLAG.findall(text)) <= KNOWN_FLAGS
        typed = " ".join(re.findall(r"`([^`]*)`", text))
        assert {verb for verb, _ in VERB.findall(typed)} <= set(VERBS)
        assert {f"--{name}" for name in FIELD.findall(text)} <= FIELDS


def test_an_expected_figure_is_the_newest_record_of_the_very_training():
    files = [json.loads(file.read_text()) for file in OUTCOMES.rglob("*.json")]
    wanted = max((one for one in files if one["recipe"] == "adult"), key=lambda one: one["created"])
    exercise = BY_NAME["finance"]
    assert exercise.expected.startswith(f"{wanted['metric']} {wanted['value']:.4f}")
    assert exercise.seconds == wanted["seconds"]
    recorded = {name for name, one in BY_NAME.items() if one.records}
    assert recorded >= {"blood-cells", "finance", "films-as-clicks", "guess-next", "whole-histories"}


def test_without_a_record_it_is_the_target_or_to_be_measured():
    found = {exercise.name: exercise for exercise in load(FILES, ())}
    assert found["finance"].expected == "auc ≥ 0.918"
    assert found["blood-cells"].expected == ""
    assert found["halve-learning-rate"].expected == ""  # the target is for the recipe as it is written
    assert {exercise.seconds for exercise in found.values()} == {None}


def test_a_record_counts_for_its_own_settings_and_data_alone():
    outcomes = read_outcomes()
    asked = BY_NAME["blood-cells"].asked
    assert records_of(asked, outcomes)
    assert not records_of(dataclasses.replace(asked, data="voc2007"), outcomes)
    assert not records_of(dataclasses.replace(asked, overrides=("--training.epochs", "5")), outcomes)
    newer = dataclasses.replace(outcomes[0], asked=asked, created="9", device="NVIDIA H200")
    devices = records_of(asked, (newer, *outcomes))
    assert len(devices) == 2
    assert devices[1] == newer.recorded


def test_an_outcome_that_is_cut_is_told(tmp_path):
    (tmp_path / "one.json").write_text('{"model": "ncf"}')
    with pytest.raises(DamagedFileError, match="lacks"):
        read_outcomes(tmp_path)


GOOD = """
[[exercise]]
name = "one"
model = "ncf"
command = "kit challenge ncf"
checks = ["reached"]
title = {es = "Uno", en = "One"}
text = {es = "Un texto", en = "A text"}
hint = {es = "Una pista", en = "A hint"}
"""


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("[[exercise]]", "[[exercise", "no list of exercises"),
        ("[[exercise]]", "[[others]]", "'exercise'"),
        ('hint = {es = "Una pista", en = "A hint"}', 'hint = {es = "Una pista"}', "hint of one"),
        ('en = "A text"', 'en = " "', "text of one"),
        ('name = "one"', 'name = "One!"', "no name"),
        ('checks = ["reached"]', "checks = []", "no check"),
        ('checks = ["reached"]', 'checks = ["touched"]', "asks for touched"),
        ('model = "ncf"', 'model = "dlrm"', "trains ncf"),
        ('model = "ncf"', 'model = "ncf"\ndifficulty = 3', "difficulty"),
    ],
)
def test_a_file_that_is_none_is_told(tmp_path, before, after, told):
    file = tmp_path / "one.toml"
    file.write_text(GOOD)
    assert load([file], ())[0].title["es"] == "Uno"
    file.write_text(GOOD.replace(before, after))
    with pytest.raises(KitError, match=re.escape(told)):
        load([file], ())


def test_a_misspelt_name_is_offered_the_nearest():
    with pytest.raises(DataError, match="Did you mean halve-learning-rate"):
        find("half-learning-rate")


@pytest.mark.parametrize(
    ("language", "measure", "around"),
    [
        ("en", "measure it", ("Commands:", "expected: ", "training: ", "Hint: ", "Then: ")),
        ("es", "mídelo", ("Órdenes:", "cifra esperada: ", "entrenamiento: ", "Pista: ", "Después: ")),
    ],
)
def test_they_are_listed_and_shown(language, measure, around, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["exercise", "list", "--lang", language]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in BY_NAME)
    assert measure in listed
    assert main(["exercise", "list", "ssd300", "--lang", language]) == 0
    assert "halve-learning-rate" not in capsys.readouterr().out
    assert main(["exercise", "show", "two-processes", "--lang", language]) == 0
    shown = capsys.readouterr().out
    assert BY_NAME["two-processes"].title[language] in shown
    assert all(words in shown for words in around)
    assert "kit exercise check two-processes runs/two-processes" in shown


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (["list", "resnet"], "There is no model 'resnet'"),
        (["show"], "names no exercise"),
        (["check", "first-walk"], "which run shows"),
        (["check", "first-wall", "runs/x"], "Did you mean first-walk"),
    ],
)
def test_what_is_missing_is_told(line, told, capsys):
    assert main(["exercise", *line]) == 2
    assert told in capsys.readouterr().err
