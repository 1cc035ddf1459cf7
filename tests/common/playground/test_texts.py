"""What the page says for itself: escaped, without the machine's paths, in sentences."""

import pytest

from common.errors import DataError
from common.playground import texts
from common.playground.fields import Example, Option


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("/home/ada/runs/x/model.onnx is damaged", "model.onnx is damaged"),
        ("the folder /srv/data/ is empty", "the folder … is empty"),
        ("ask http://127.0.0.1:8000/v2/health", "ask http://127.0.0.1:8000/v2/health"),
        ("1/2 of it, and/or more", "1/2 of it, and/or more"),
    ],
)
def test_paths_are_cut_down(told, shown):
    assert texts.without_paths(told) == shown


def test_an_error_is_told_in_its_own_words_and_escaped():
    html = texts.told(DataError("<b> in /tmp/a/b.png is no picture.", "Pictures are JPEG.", "Try another."))
    assert "&lt;b&gt; in b.png is no picture. Pictures are JPEG. Try another." in html
    assert "/tmp" not in html


def test_an_unexpected_error_tells_nothing_of_the_inside():
    html = texts.told(ValueError("secret of /etc/passwd/x"))
    assert "secret" not in html
    assert "could not be answered" in html


def test_buttons_carry_their_numbers_and_values_as_data():
    html = texts.example_buttons([Example("a <i>"), Example("")])
    assert 'data-example="0"' in html
    assert "a &lt;i&gt;" in html
    assert "Example 2" in html
    html = texts.pick_buttons([Option('"x"', "<X>")], "pick", "+", "nothing")
    assert 'data-pick="&#34;x&#34;"' in html
    assert "&lt;X&gt;" in html
    assert "nothing" in texts.pick_buttons([], "pick", "+", "nothing")
