"""Encoded rows become words that lead back to their ids, and a server's first step gives the ids that prepare gives."""

import importlib
import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from challenges.recommendation.clicks.answers import PADDING, Words, model_inputs
from challenges.recommendation.clicks.hashing import hash_texts, texts_of
from challenges.recommendation.clicks.spec import Categorical, Dense, FeatureSpec, MultiHot
from challenges.recommendation.clicks.transform import Transform
from common.errors import DataError
from common.serving.repository import STRINGS
from tests.common.serving.conftest import stub  # noqa: F401

SPEC = FeatureSpec(
    dense=(Dense(name="log"), Dense(name="plain", transform="none")),
    categorical=(Categorical(name="word", cardinality=5), Categorical(name="any", cardinality=1_000_003, hashed=True)),
    multi_hot=(
        MultiHot(name="several", cardinality=5, separator=" "),
        MultiHot(name="hashes", cardinality=99, hashed=True),
    ),
)


@pytest.fixture
def folder(tmp_path):
    SPEC.write(tmp_path)
    (tmp_path / "vocabulary").mkdir()
    for number, values in ((0, ["b", "a", "3"]), (2, ["x", "y", "z"])):
        pl.DataFrame({"value": values, "count": [3, 2, 1]}).write_parquet(tmp_path / f"vocabulary/{number:03}.parquet")
    return tmp_path


def random_inputs(rows=200):
    random = np.random.default_rng(0)
    hashed = random.integers(1, 1_000_003, rows)
    hashed[hashed == 1] = 0  # a hashed column knows nothing rare
    bags = np.full((rows, 2, 3), PADDING, np.int32)
    for row, length in enumerate(random.integers(0, 4, rows)):
        bags[row, 0, :length] = random.integers(1, 5, length)
        bags[row, 1, : 3 - length] = random.integers(2, 99, 3 - length)
    return {
        "dense": np.stack([np.log(random.exponential(9, rows) + 1), random.normal(size=rows)], 1).astype(np.float32),
        "categorical": np.stack([random.integers(0, 5, rows), hashed], 1).astype(np.int32),
        "multi_hot": bags,
    }


def test_words_lead_back_to_the_ids_that_they_were_made_of(folder):
    inputs = random_inputs()
    words = Words(SPEC, folder).of(inputs)
    assert {name: values.shape for name, values in words.items()} == dict.fromkeys(SPEC.raw_columns, (200, 1))
    request = {name: [text or None for text in values[:, 0]] for name, values in words.items()}
    found = model_inputs(SPEC, Transform.read(folder).answer_to(request))
    np.testing.assert_allclose(found.pop("dense"), inputs.pop("dense"), rtol=1e-5, atol=1e-6)
    for name, array in found.items():
        np.testing.assert_array_equal(array, inputs[name], name)


@pytest.mark.parametrize("divisor", [1, 7, 10**6, 2**31 - 3])
def test_a_text_is_found_for_every_remainder(divisor):
    remainders = np.unique(np.linspace(0, divisor - 1, 5).astype(np.int64))
    texts = texts_of(remainders, divisor)
    assert (hash_texts(pl.Series(texts)) % np.uint64(divisor)).tolist() == remainders.tolist()
    assert all(text == text.strip() and len(text) == 8 for text in texts)


def test_columns_may_not_have_the_names_of_a_served_models_tensors():
    for name in ("probability", "dense"):
        with pytest.raises(DataError, match=f"Column {name} has a name"):
            FeatureSpec(dense=(Dense(name=name),))
    with pytest.raises(DataError, match="Column row has a name"):
        FeatureSpec(multi_hot=(MultiHot(name="row"),))
    assert FeatureSpec(categorical=(Categorical(name="row"),)).raw_columns == ("row",)


@pytest.fixture
def step(folder, stub, monkeypatch):  # noqa: F811
    """The server's first step, whose strings come as the stub has them."""
    from challenges.recommendation.clicks.serving import ensemble

    stub.deserialize_bytes_tensor = None
    tensors = importlib.import_module("common.serving.backends.tensors")
    monkeypatch.setattr(tensors, "string_bytes", lambda tensor: tensor.owner)
    monkeypatch.setattr(tensors, "output_tensor", lambda name, array: stub.Tensor(name, array))
    for path in (STRINGS.parent, ensemble.STEP):
        monkeypatch.syspath_prepend(str(path))
    for name in ("model", "strings"):
        sys.modules.pop(name, None)
    model = importlib.import_module("model").TritonPythonModel()
    parameters = {"maximum_bytes": {"string_value": "4000"}}
    version = folder.name
    model.initialize(
        {
            "model_repository": str(folder.parent),
            "model_version": version,
            "model_config": json.dumps({"parameters": parameters}),
        }
    )
    yield model
    for name in ("model", "strings"):
        sys.modules.pop(name, None)


def packed(texts):
    encoded = [text.encode() for text in texts]
    return b"".join(len(text).to_bytes(4, "little") + text for text in encoded)


def test_a_request_with_a_bad_row_fails_alone(step):
    words = {name: ["1", "", "x"] for name in SPEC.raw_columns}
    good = {name: packed(texts) for name, texts in words.items()}
    long = good | {"word": packed(["1", "", "x" * 5000])}
    uneven = good | {"word": packed(["1", "x"])}
    cut = good | {"word": good["word"][:-1]}
    broken = good | {"word": (3).to_bytes(4, "little") + b"\xff\xfe\xfd" + packed(["", "x"])}
    answers = step.execute([good, long, uneven, cut, broken])
    assert [answer.error is None for answer in answers] == [True, False, False, False, True]
    expected = model_inputs(SPEC, step.transform.answer_to({name: ["1", None, "x"] for name in SPEC.raw_columns}))
    for name, array in expected.items():
        np.testing.assert_array_equal(answers[0].outputs[name], array)
    assert answers[4].outputs["categorical"][0, 0] == 1
    assert [answer.error.code for answer in answers[1:4]] == ["INVALID_ARG"] * 3
    assert "word has 5,013 bytes, at most 4,000" in str(answers[1].error)
    assert "different numbers of rows" in str(answers[2].error)
    assert "ends before its length" in str(answers[3].error)


def test_the_first_step_needs_no_torch():
    code = "import sys, challenges.recommendation.clicks.answers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
