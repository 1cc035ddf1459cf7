"""Which runs stand side by side on the page."""

from pathlib import Path
from types import SimpleNamespace

from common.playground.fields import NumberField, PictureField
from common.playground.page import Shown, groups_of
from common.playground.session import Engine


class Pictures(SimpleNamespace):
    fields = (PictureField(name="picture", label="Picture"),)


class Others(Pictures):
    pass


class Rows(SimpleNamespace):
    fields = (NumberField(name="age", label="age"),)


def test_runs_that_take_any_picture_stand_side_by_side_by_kind_and_others_alone():
    sessions = [Pictures(), Rows(), Pictures(), Others(), Rows()]
    shown = [Shown(session, Engine("test"), Path()) for session in sessions]
    grouped = [[sessions.index(one.session) for one in group] for group in groups_of(shown)]
    assert [len(group) for group in grouped] == [2, 1, 1, 1]


def test_what_goes_wrong_inside_is_told_without_its_words(capsys):
    class Faulty(Pictures):
        def ask(self, values):
            raise ZeroDivisionError("secret")

    answer, problem = Shown(Faulty(), Engine("test"), Path()).ask({})
    assert answer is None
    assert "secret" not in problem
    assert "secret" in capsys.readouterr().err
