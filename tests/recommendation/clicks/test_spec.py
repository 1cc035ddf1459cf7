"""features.json is read as it was written, and what does not fit is told by column."""

import json
from dataclasses import replace

import pytest

from challenges.recommendation.clicks.spec import (
    FILE,
    Categorical,
    Cross,
    Dense,
    FeatureSpec,
    Label,
    MultiHot,
    require_columns,
    require_same,
)
from common.errors import DamagedFileError, DataError

SPEC = FeatureSpec(
    dense=(Dense(name="age", transform="none", mean=38.5, deviation=13.6, edges=(17.0, 90.0)),),
    categorical=(Categorical(name="job", cardinality=17), Categorical(name="sex", cardinality=4)),
    multi_hot=(MultiHot(name="genres", cardinality=20, separator=";"),),
    label=Label(name="bought", values={"no": 0, "yes": 1}),
    group="job",
    crosses=(Cross(columns=("job", "sex"), buckets=100),),
)


def test_reading_undoes_writing(tmp_path):
    SPEC.write(tmp_path)
    assert FeatureSpec.read(tmp_path) == FeatureSpec.read(tmp_path / FILE) == SPEC
    require_same(SPEC, FeatureSpec.read(tmp_path), "it")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"dense": ()}, "column age should be dense and is absent"),
        ({"dense": (), "categorical": (*SPEC.categorical, Categorical(name="age"))}, "age should be dense and is cat"),
        ({"categorical": (replace(SPEC.categorical[0], cardinality=18), SPEC.categorical[1])},
         "column job should be of cardinality 17 and is of cardinality 18"),
        ({"categorical": SPEC.categorical[::-1]}, "column job should be number 1 of its kind and is number 2"),
        ({"multi_hot": (replace(SPEC.multi_hot[0], separator="|"),)}, "genres should be of separator ; and is of"),
        ({"label": Label(name="bought")}, "column bought should be the label with no=0 yes=1"),
        ({"group": "sex"}, "column job should be categorical and the group and is categorical"),
        ({"crosses": (Cross(columns=("job", "sex"), buckets=99),)}, "job x sex should be a cross of 100 buckets"),
    ],
)  # fmt: skip
def test_the_first_difference_is_named(change, told):
    with pytest.raises(DataError, match=told):
        require_same(SPEC, replace(SPEC, **change), "data/prepared")


def test_a_missing_column_is_named():
    with pytest.raises(DataError, match=r"a.csv: column sex should be categorical and is missing"):
        require_columns(SPEC, ["age", "job", "genres"], "a.csv", label=False)
    with pytest.raises(DataError, match="column bought should be the label and is missing"):
        require_columns(SPEC, ["age", "job", "genres", "sex"], "a.csv", label=True)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"dense": (Dense(name="a"), Dense(name="a"))}, "Column a stands twice"),
        ({}, "names no dense, categorical or multi-hot"),
        ({"dense": (Dense(name="a"),), "label": Label(values={"0": 0})}, "The label label is said to be 0=0"),
        ({"dense": (Dense(name="a"),), "crosses": (Cross(columns=("a", "b"), buckets=9),)}, "no categorical column a"),
    ],
)
def test_specs_that_cannot_be_are_refused(fields, told):
    with pytest.raises(DataError, match=told):
        FeatureSpec(**fields)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format": "kit.features/9"}, "is kit.features/9"),
        ({"dense": [{"name": "a", "transform": "sqrt"}]}, "dense.0.transform"),
        ({"colour": 1}, "unknown field colour"),
    ],
)
def test_files_that_cannot_be_are_refused(tmp_path, change, told):
    SPEC.write(tmp_path)
    value = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps(value | change))
    with pytest.raises(DataError if "format" in change else DamagedFileError, match=told):
        FeatureSpec.read(tmp_path)


def test_an_absent_file_is_told(tmp_path):
    with pytest.raises(DataError, match="There is no"):
        FeatureSpec.read(tmp_path)
