"""Drawing validation images where the data names none."""

import numpy as np


def draw_validation(present: np.ndarray, units: list[str], order: list[str], fraction: float) -> np.ndarray:
    """Choose about `fraction` of the images of every class for validation, rare classes first: (image,) bool.

    present: (image, class) bool. units: (image,), images with the same unit stay together.
    order:   the units in the order of choice.
    No class loses all of its images; one whose images all show a rarer class may get none for validation.
    """
    rows = {unit: row for row, unit in enumerate(order)}
    of_image = np.asarray([rows[unit] for unit in units], np.int64)
    shares = np.zeros((len(order), present.shape[1] + 1), np.int64)  # images of each unit by class, and in all
    np.add.at(shares, of_image, np.column_stack([present, np.ones(len(units), np.int64)]))
    totals, drawn = shares.sum(0), np.zeros(shares.shape[1], np.int64)
    open_units, chosen = np.ones(len(order), bool), np.zeros(len(order), bool)
    for column in np.argsort(totals, kind="stable"):
        wanted = max(round(fraction * totals[column]), 1)
        for unit in np.flatnonzero(open_units & (shares[:, column] > 0)):
            after = drawn + shares[unit]
            touched = shares[unit] > 0
            if after[column] <= wanted and (after < totals)[touched].all():
                drawn, chosen[unit] = after, True
            open_units[unit] = False
    return chosen[of_image]
