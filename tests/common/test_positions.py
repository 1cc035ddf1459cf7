"""Some of many positions, evenly spread."""

import numpy as np
import pytest

from common.positions import evenly_spread


@pytest.mark.parametrize(("count", "most", "expected"), [(0, 5, 0), (1, 5, 1), (5, 5, 5), (3, 100, 3), (1000, 7, 7)])
def test_positions_reach_from_end_to_end(count: int, most: int, expected: int) -> None:
    rows = evenly_spread(count, most)
    assert len(rows) == expected
    assert np.ptp(rows) == count - 1 if count else not len(rows)
    assert len(rows) < 2 or np.diff(rows).min() > 0
    assert len(rows) < 3 or np.ptp(np.diff(rows)) <= 1
