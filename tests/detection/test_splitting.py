import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from challenges.detection.annotations.splitting import draw_validation
from common.vision.image_folders import hash_order


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_no_class_loses_all_images_and_copies_stay_together(data):
    images, classes = data.draw(st.integers(2, 60)), data.draw(st.integers(1, 5))
    random = np.random.default_rng(data.draw(st.integers(0, 1000)))
    present = random.random((images, classes)) < random.uniform(0, 1, classes)
    units = [f"unit {random.integers(max(2, images // 2))}" for _ in range(images)]
    chosen = draw_validation(present, units, hash_order(set(units), 0), 0.25)
    assert len({(unit, bool(side)) for unit, side in zip(units, chosen, strict=True)}) == len(set(units))
    assert not chosen.all()
    for column in present.T:
        if column.any():
            assert (column & ~chosen).any()


def test_rare_and_common_classes_are_both_shared_out():
    random = np.random.default_rng(0)
    present = random.random((1000, 3)) < (0.9, 0.2, 0.01)
    units = [str(row) for row in range(1000)]
    chosen = draw_validation(present, units, hash_order(units, 0), 0.2)
    shares = (present & chosen[:, None]).sum(0) / present.sum(0)
    assert np.all(np.abs(shares - 0.2) < 0.04)
    assert abs(chosen.mean() - 0.2) < 0.02


def test_two_images_are_one_each():
    assert draw_validation(np.ones((2, 1), bool), ["a", "b"], ["b", "a"], 0.2).tolist() == [False, True]
    assert draw_validation(np.ones((1, 1), bool), ["a"], ["a"], 0.2).tolist() == [False]
