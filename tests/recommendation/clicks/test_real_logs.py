"""What everyone has: Criteo's rows, the census, and MovieLens 1M as clicks, counted."""

import pytest

from challenges.recommendation.clicks.prepare.ready import adult, criteo, movielens, movielens_autoint
from tests.recommendation.clicks.builders import prepared


@pytest.mark.dataset
def test_criteos_own_rows(tmp_path, shared_data):
    told = []
    reader, spec = criteo(shared_data / "recsys/criteo", told.append)
    found = prepared(reader, spec, tmp_path / "out")
    assert found.rows == {"train": 7_200, "validation": 409, "test": 391}
    assert [line.split(",")[1] for line in told] == [" another layout"] * 3


@pytest.mark.dataset
def test_adult_and_its_official_test(tmp_path, shared_data):
    found = prepared(*adult(shared_data / "recsys/adult", print), tmp_path / "out")
    assert found.rows == {"train": 32_561, "test": 16_281}
    assert found.positives == {"train": 7_841, "test": 3_846}


@pytest.mark.dataset
@pytest.mark.slow
@pytest.mark.parametrize("fields", [movielens, movielens_autoint])
def test_movielens_as_clicks(tmp_path, shared_data, fields):
    found = prepared(*fields(shared_data / "recsys/ml-1m", print), tmp_path / "out")
    assert sum(found.rows.values()) == 738_830
    assert sum(found.positives.values()) == 575_204  # 245 ratings of the copy are unknown
    assert ("film" in found.spec.raw_columns) == (fields is movielens)
