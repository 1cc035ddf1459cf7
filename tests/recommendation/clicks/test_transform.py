"""Raw values become the ids that an obvious implementation gives, in a request as in preparing."""

import numpy as np
import polars as pl
import pytest

from challenges.recommendation.clicks.hashing import hash_texts
from challenges.recommendation.clicks.prepare.guess import Asked, csv_table
from challenges.recommendation.clicks.spec import Categorical, Dense, FeatureSpec, MultiHot
from challenges.recommendation.clicks.transform import Transform
from challenges.recommendation.clicks.vocabulary import Vocabulary
from common.errors import DataError
from tests.recommendation.clicks.builders import column_of, prepared

TRANSFORM = Transform(
    FeatureSpec(
        dense=(Dense(name="log"), Dense(name="plain", transform="none", missing=7)),
        categorical=(Categorical(name="word", cardinality=5), Categorical(name="any", cardinality=12, hashed=True)),
        multi_hot=(MultiHot(name="several", cardinality=5),),
    ),
    (Vocabulary.of(pl.Series(["b", "a", "3"])), None, Vocabulary.of(pl.Series(["x", "y", "z"]))),
)


def splitmix(state):
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = (state ^ (state >> shift)) * factor % 2**64
    return state ^ (state >> 31)


def slow_hash(text):
    content = text.encode()
    state = splitmix(len(content))
    for begin in range(0, len(content), 8):
        state = splitmix(state ^ int.from_bytes(content[begin : begin + 8], "little"))
    return state


def test_the_hash_is_that_of_the_bytes_one_after_the_other():
    texts = ["", "a", "68fd1e64", "ä" * 5, "123456789", "a text of several words " * 9, None]
    found = hash_texts(pl.Series(texts))
    assert found.tolist() == [slow_hash(text or "") for text in texts]
    assert hash_texts(pl.Series(texts)[2:4]).tolist() == found[2:4].tolist()
    assert hash_texts(pl.Series([], dtype=pl.String)).tolist() == []


def test_a_vocabulary_finds_what_a_dictionary_finds():
    values = pl.Series(np.random.default_rng(0).permutation(5_000)).cast(pl.String)
    vocabulary = Vocabulary.of(values[:3_000])
    known = {value: place + 2 for place, value in enumerate(values[:3_000])}
    assert vocabulary.find(hash_texts(values)).tolist() == [known.get(value, 1) for value in values]
    assert Vocabulary.of(values[:0]).find(hash_texts(values[:2])).tolist() == [1, 1]


def test_a_request_may_hold_text_numbers_and_nothing():
    found = TRANSFORM.answer_to(
        {
            "log": [0, "4", None, "", -3],
            "plain": [1.5, " 2 ", None, True, "-9"],
            "word": ["a", 3, 3.0, None, "never seen"],
            "any": ["3", 3, "3.0", "", None],
            "several": ["x|y", "", None, ["z", "never seen"], " y "],
        }
    )
    np.testing.assert_allclose(found.dense[:, 0], np.log([3, 7, 3, 3, 1]), rtol=1e-6)
    assert found.dense[:, 1].tolist() == [1.5, 2, 7, 1, -9]
    assert found.categorical[:, 0].tolist() == [3, 4, 4, 0, 1]
    hashed = 2 + slow_hash("3") % 10
    assert found.categorical[:, 1].tolist() == [hashed, hashed, hashed, 0, 0]
    values, offsets = found.multi_hot["several"]
    assert (values.tolist(), offsets.tolist()) == ([2, 3, 4, 1, 3], [0, 2, 2, 2, 4, 5])


def test_a_server_counts_what_is_no_number_as_missing():
    request = {"word": ["a"] * 4, "any": ["a"] * 4, "several": ["x"] * 4}
    found = TRANSFORM.answer_to(
        {**request, "log": [float("nan"), "inf", -1e9, "no"], "plain": [float("-inf"), "x", 1, 2]}
    )
    np.testing.assert_allclose(found.dense[:, 0], np.log([3, 3, 1, 3]), rtol=1e-6)
    assert found.dense[:, 1].tolist() == [7, 7, 1, 2]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"word": None}, "column word should be categorical and is missing"),
        ({"word": ["a", "b"]}, "different numbers of rows"),
        ({"word": [{"a": 1}]}, "column word holds dict"),
        ({"word": [["a"]]}, "Column word holds List"),
        ({"plain": [["a"]]}, "Column plain holds List"),
        ({"several": [3]}, "Column several holds Int64"),
    ],
)
def test_requests_that_cannot_be_answered(change, told):
    request = {"log": [1], "plain": [1], "word": ["a"], "any": ["a"], "several": ["x"]} | change
    with pytest.raises(DataError, match=told):
        TRANSFORM.answer_to({name: values for name, values in request.items() if values is not None})


def test_preparing_and_serving_give_a_thousand_random_rows_equal_ids(tmp_path):
    random = np.random.default_rng(1)
    rows = 1_000
    raw = {
        "label": random.integers(0, 2, rows).tolist(),
        "amount": [None if random.random() < 0.1 else round(float(random.exponential(90)), 2) for _ in range(rows)],
        "item_id": random.zipf(1.5, rows).clip(0, 400).tolist(),
        "word": [None if random.random() < 0.1 else f"wörd, {random.zipf(1.6)}" for _ in range(rows)],
        "tags": ["|".join(random.choice(list("abcdef"), random.integers(0, 4))) or None for _ in range(rows)],
    }
    source = tmp_path / "clicks.csv"
    pl.DataFrame(raw).write_csv(source)
    table, spec = csv_table(source, Asked(), lambda line: None)
    assert [type(column).__name__ for column in spec.features] == ["Dense", "Categorical", "Categorical", "MultiHot"]
    folder = prepared(table, spec, tmp_path / "out", threshold=2)
    served = folder.transform().answer_to({name: raw[name] for name in spec.raw_columns})
    order = np.argsort(split_of_rows(table), kind="stable")
    for name in ("dense", "categorical"):
        written = np.concatenate([column_of(folder, split, name) for split in folder.rows])
        np.testing.assert_array_equal(written, getattr(served, name)[order])
    values, offsets = served.multi_hot["tags"]
    mine = [values[offsets[row] : offsets[row + 1]].tolist() for row in order]
    written = [row.tolist() for split in folder.rows for row in column_of(folder, split, "tags")]
    assert written == mine


def split_of_rows(table):
    from challenges.recommendation.clicks.prepare.job import dealt

    (chunk,) = table.chunks({})
    return dealt(chunk, 1_000)
