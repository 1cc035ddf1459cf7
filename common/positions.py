"""Which of many to look at where some are enough."""

import numpy as np
from numpy.typing import NDArray


def evenly_spread(count: int, most: int) -> NDArray[np.int64]:
    """At most `most` of the positions 0 to count - 1, rising; the first and the last are among them."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(np.int64))
