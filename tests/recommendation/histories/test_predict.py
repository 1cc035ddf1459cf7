"""What `kit predict` makes of the names it is told."""

import numpy as np
import pytest

from challenges.recommendation.histories.predict import positions_of, unknown_items
from common.errors import DataError
from tests.recommendation.worlds import build_split


@pytest.fixture
def split():
    made = build_split([[0, 1]], [[2]], num_items=3)
    object.__setattr__(made, "titles", np.array(["Heat", "Up", "up"]))
    return made


def test_unknown_items_are_told_with_the_nearest_and_left_out(split):
    assert positions_of(split, ["0", "heat", "Heart", "-1"]).tolist() == [[0, 0]]
    assert unknown_items(split, ["0", "heat", "Heart\x1b", "-1"]) == [
        "unknown item, left out: Heart\\x1b (did you mean: Heat?)",
        "unknown item, left out: -1",
    ]
    assert unknown_items(split, [str(number) for number in range(90, 98)])[-1] == "unknown items, left out: 5 more"


def test_a_title_of_two_items_is_not_guessed(split):
    assert unknown_items(split, ["UP"]) == ["unknown item, left out: UP (did you mean: 1; 2?)"]


def test_nothing_but_unknown_items_is_refused(split):
    with pytest.raises(DataError, match=r"3 items has none of 'Hea', '9'\.(?s:.*)Did you mean: Heat\?"):
        positions_of(split, ["Hea", "9"])
