"""Every model's run can be tried on a page: its fields, examples, answers and corrections."""

from dataclasses import replace

import pytest

from common.errors import KitError
from common.language.telling import retell, speaking
from common.playground.fields import PicksField, PictureField
from common.playground.session import Engine
from common.playground.texts import told
from common.stages.request import Request
from common.stages.training_stage import train
from tests.contracts.line import CONSOLE
from tests.contracts.spoken import ENGLISH, left_in_english
from tests.contracts.test_pages import names_of

KEPT = 8  # examples that are corrected


@pytest.fixture
def session(line, trained):
    with trained.reference() as runner:
        yield line.challenge.playground.open(trained, Engine("torch", runner))


def settings(session):
    return {field.name: field.low for field in session.controls}


def test_its_fields_have_names_and_labels(session):
    names = [field.name for field in (*session.fields, *session.controls)]
    assert len(names) == len(set(names)) > 0
    assert all(field.label for field in session.fields)
    assert session.about
    assert not session.about.endswith(".")


def test_an_example_is_answered_in_html_that_needs_nothing_from_elsewhere(session, line):
    examples = session.examples()
    assert examples
    assert all(example.caption or example.picture for example in examples)
    html = str(session.show(session.ask(session.example(0)), settings(session)))
    assert "<" in html
    assert "://" not in html
    assert str(line.folder) not in html
    assert str(line.root) not in html


def test_no_english_is_left_where_the_page_is_spanish(session, line):
    def shown():
        told = [retell(session.about), *(example.caption for example in session.examples())]
        told += [part for field in (*session.fields, *session.controls) for part in (field.told, retell(field.help))]
        answer = session.ask(session.example(0))
        verdict = session.verdict(answer, settings(session))
        body = str(session.show(answer, settings(session)))
        return body + "".join(f"<p>{text}</p>" for text in [*told, verdict.question if verdict else ""])

    original = shown()
    with speaking("es"):
        translated = shown()
    assert left_in_english(original, translated, names_of(line.run)) == []
    assert original != translated


def test_what_nobody_filled_in_is_refused_in_a_sentence_but_for_rows_of_which_any_cell_may_be_empty(session):
    if any(isinstance(field, PictureField | PicksField) for field in session.fields):
        with pytest.raises(KitError, match=r"\w+ \w+") as refused:
            session.ask({})
        with speaking("es"):
            assert not ENGLISH.search(told(refused.value).striptags())
    else:
        assert session.show(session.ask({}), settings(session))


def test_corrections_are_training_data(session, line, tmp_path):
    if session.verdict_kind is None:
        with pytest.raises(KitError):
            session.keep(session.ask(session.example(0)), {}, [], tmp_path)
        return
    options = [option.value for option in session.verdict(session.ask(session.example(0)), settings(session)).options]
    for number in range(min(KEPT, len(session.examples()))):
        answer = session.ask(session.example(number))
        right = [options[number % 2]] if session.verdict_kind == "one" else ["0"]
        assert session.keep(answer, settings(session), right, tmp_path / "kept")
    with pytest.raises(KitError):
        session.keep(answer, settings(session), ["no such thing"], tmp_path / "kept")
    (tmp_path / "check").mkdir()
    checked = line.challenge.check(tmp_path / "kept", line.recipe, tmp_path / "check", CONSOLE)
    assert checked.summary["images"] == min(KEPT, len(session.examples()))
    training = replace(line.recipe.training, epochs=2.0, evaluate_every=2.0)
    recipe = replace(line.recipe, weights=line.run.weights_file, training=training)
    again = train(Request(line.challenge, "demo", recipe, tmp_path / "kept", tmp_path / "again", "cpu"), CONSOLE)
    assert again.weights_file.is_file(), "it is trained with the corrections"
    assert again.description()["data"]["root"] == str(tmp_path / "kept")
