"""Every message has its translation, with the same places, and what is committed is what was compiled of it."""

import string

import pytest

pytest.importorskip("babel", reason="the catalogues are compared by Babel: make check")

from common.language import catalogue
from common.language.telling import LANGUAGES

OTHERS = [name for name in LANGUAGES if name != "en"]
REMEDY = "python -m common.language.catalogue writes the files anew; translate what it adds"


def places(text):
    return sorted({name for _, name, _, _ in string.Formatter().parse(text) if name is not None})


def forms(message):
    """(English, translated) of a message, and of each of its numbers."""
    if isinstance(message.id, str):
        return [(message.id, message.string)]
    return [(message.id[min(number, 1)], told) for number, told in enumerate(message.string)]


@pytest.fixture(scope="module")
def found():
    return catalogue.extracted()


def test_there_are_messages_of_every_kind(found):
    ids = {message.id for message in found}
    assert "Learning rate" in ids, "of tell"
    assert ("{count} box", "{count} boxes") in ids, "of tell_count"
    assert "bootstrap over validation images" in ids, "of english"
    assert "Confusion matrix" in ids, "of a section's title"
    assert "waiting for the first log point" in ids, "of a template"


@pytest.mark.parametrize("language", OTHERS)
def test_no_message_lacks_its_translation_and_none_is_left_over(language, found):
    told = {message.id for message in catalogue.read(language) if message.string}
    assert {message.id for message in found} - told == set(), REMEDY
    assert told - {message.id for message in found} == set(), REMEDY


@pytest.mark.parametrize("language", OTHERS)
def test_places_and_formats_agree(language):
    for message in catalogue.read(language):
        for original, translated in forms(message) if message.id else []:
            assert places(translated) == places(original), original
            assert translated.strip(), original
            if isinstance(message.id, str):  # so that it can stand where the English one stood
                assert translated[:1].isspace() == original[:1].isspace(), original
                assert translated[-1:].isspace() == original[-1:].isspace(), original


@pytest.mark.parametrize("language", OTHERS)
def test_sentences_end_alike(language):
    for message in catalogue.read(language):
        for original, translated in forms(message) if message.id else []:
            assert original.endswith(".") == translated.endswith("."), original


@pytest.mark.parametrize("language", OTHERS)
def test_the_compiled_file_is_of_the_committed_translations(language):
    assert catalogue.compiled(catalogue.read(language)) == catalogue.mo_file(language).read_bytes(), REMEDY
