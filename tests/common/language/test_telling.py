"""Messages are told in the language of whoever asks, and texts that were kept in English are known again."""

import threading

import pytest

from common.language import telling
from common.language.telling import NARROW_BLANK, english, grouped, in_this_language, retell, speaking, tell, tell_count


def test_a_message_is_told_in_the_language_of_the_block_alone():
    with speaking("es"):
        assert tell("Learning rate") == "Tasa de aprendizaje"
        with speaking("en"):
            assert tell("Learning rate") == "Learning rate"
        assert telling.language() == "es"
    assert tell("Learning rate") == "Learning rate"


def test_digits_are_grouped_as_the_language_groups_them():
    assert (grouped(12345), tell("{count:,} more", count=12345)) == ("12,345", "12,345 more")
    with speaking("es"):
        assert grouped(12345) == f"12{NARROW_BLANK}345"
        assert tell("{count:,} more", count=12345) == f"12{NARROW_BLANK}345 más"
        assert tell("{error:.4f} (ECE, {bins} bins)", error=0.5, bins=3).startswith("0.5000"), "the point stays"


def test_one_and_many():
    with speaking("es"):
        told = [tell_count("{count} box", "{count} boxes", count) for count in (0, 1, 2)]
    assert told == ["0 cajas", "1 caja", "2 cajas"]


def test_what_is_no_message_stays_as_it_is():
    with speaking("es"):
        assert tell("never heard {of}", of=1) == "never heard 1"
        for text in ("never heard of", "This is no video.", "a box in the way", "3 core values", "low to high"):
            assert retell(text) == text
        assert retell("") == ""


def test_kept_english_is_told_again_with_its_values():
    kept = english("The target is for {wanted}. This data is {found}.", wanted="a.b", found="some (x) rows")
    assert kept == "The target is for a.b. This data is some (x) rows."
    assert retell(kept) == kept
    with speaking("es"):
        assert retell(kept) == "El objetivo vale para a.b. Estos datos son some (x) rows."


def test_messages_inside_a_kept_text_are_told_again_too():
    rule = english("the fastest in {required}", required="fp32")
    kept = english("{p50_ms:.1f} ms for one sample, {rule}", p50_ms=4.5, rule=rule)
    with speaking("es"):
        assert retell(kept) == "4.5 ms por muestra, el más rápido en fp32"


def test_grouped_digits_of_a_kept_text_are_grouped_anew():
    kept = english("{never:,} of {items:,} targets occur in no training history.", never=1234, items=98765)
    with speaking("es"):
        assert retell(kept).startswith(f"1{NARROW_BLANK}234 de 98{NARROW_BLANK}765 ")


def test_messages_with_commas_between_are_each_known_again():
    roles = [english("{role} is {column!r}", role=role, column=f"{role} 1") for role in ("user", "item")]
    kept = english("{roles}; not read: {columns}", roles=", ".join(roles), columns="'a', 'b'")
    with speaking("es"):
        assert retell(kept) == "usuario es 'user 1', ítem es 'item 1'; no se leen: 'a', 'b'"
        assert retell("data, test, none") == "data, test, none", "words alone may be the data's own"


def test_the_wordier_message_is_the_one_that_is_known_again():
    kept = english("finds {names} and {others:,} other things", names="cat, dog", others=3)
    with speaking("es"):
        assert retell(kept) == "detecta cat, dog y otras 3 clases de objetos"


def test_the_datas_own_words_are_not_told_again():
    kept = english("class {name:s}", name="label")
    with speaking("es"):
        assert retell("label") == "etiqueta"
        assert retell(kept) == "clase label"


def test_a_function_keeps_its_language_in_another_thread():
    heard = []
    with speaking("es"):
        said = in_this_language(lambda: heard.append(tell("Loss")))
    thread = threading.Thread(target=said)
    thread.start()
    thread.join()
    assert heard == ["Pérdida"]


@pytest.mark.parametrize(
    ("environment", "spoken"),
    [
        ({}, "en"),
        ({"LANG": "es_MX.UTF-8"}, "es"),
        ({"LANG": "es_ES", "LC_ALL": "C"}, "en"),
        ({"LANG": "en_GB", "LANGUAGE": "de:es:en"}, "es"),
        ({"LANG": "fr_FR.UTF-8"}, "en"),
        ({"LANG": "", "LC_MESSAGES": "es@euro"}, "es"),
    ],
)
def test_the_environment_chooses_as_gettext_lets_it(environment, spoken):
    assert telling.language_of(environment) == spoken


@pytest.mark.parametrize(
    ("header", "spoken"),
    [
        ("", "en"),
        ("es-AR,es;q=0.9,en;q=0.8", "es"),
        ("en;q=0.5, es;q=0.7", "es"),
        ("fr, en;q=0.1, es;q=0", "en"),
        ("*", "en"),
        (";q=,,es;q=x", "en"),
    ],
)
def test_a_browser_chooses_by_weight(header, spoken):
    assert telling.language_accepted(header) == spoken
