"""Suppression in groups and its operators, against plain loops."""

import pytest
import torch

from common.vision import suppression
from common.vision.suppression import iou, keep_best, largest, suppress


def random_boxes(*shape, generator, spread=1.0):
    first = spread * torch.rand(*shape, 2, generator=generator)
    return torch.cat([first, first + 0.1 + 0.3 * torch.rand(*shape, 2, generator=generator)], dim=-1)


def slow_keep(boxes, threshold):
    """Greedy suppression of boxes that come best first."""
    overlaps = iou(boxes, boxes).tolist()
    kept = []
    for place in range(len(boxes)):
        if all(overlaps[better][place] <= threshold for better in kept):
            kept.append(place)
    return kept


@pytest.mark.parametrize("spread", [0.1, 1.0, 5.0])  # from one heap to hardly an overlap
@pytest.mark.parametrize("leaders", [1, 4, 16])
def test_groups_of_all_lengths_equal_plain_loops(spread, leaders, monkeypatch):
    monkeypatch.setattr(suppression, "LEADERS", leaders)
    generator = torch.Generator().manual_seed(leaders)
    lengths = [0, 1, 2, 3, 4, 5, 15, 16, 17, 33, 80, 0, 1]
    starts = [3 + sum(lengths[:place]) + place for place in range(len(lengths))]  # a row of no group between them
    boxes = random_boxes(starts[-1] + 9, generator=generator, spread=spread)
    keep = keep_best(boxes, torch.tensor(starts), torch.tensor(lengths), 0.5)
    expected = torch.zeros(len(boxes), dtype=torch.bool)
    for start, length in zip(starts, lengths, strict=True):
        for place in slow_keep(boxes[start : start + length], 0.5):
            expected[start + place] = True
    assert torch.equal(keep, expected)


def test_a_chain_takes_every_second_box():
    """Each box overlaps its neighbours alone: the longest way to the answer."""
    left = 0.3 * torch.arange(100.0)
    boxes = torch.stack([left, torch.zeros(100), left + 1, torch.ones(100)], dim=1)
    keep = keep_best(boxes, torch.tensor([0]), torch.tensor([100]), 0.5)
    assert keep.tolist() == [True, False] * 50


def test_an_overlap_of_exactly_the_threshold_keeps_both():
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.5]])
    one_group = torch.tensor([0]), torch.tensor([2])
    assert keep_best(boxes, *one_group, 0.5).tolist() == [True, True]
    assert keep_best(boxes, *one_group, 0.49).tolist() == [True, False]


def test_boxes_without_an_area_overlap_nothing():
    boxes = torch.tensor([[0.5, 0.5, 0.5, 0.5]] * 3 + [[0.0, 0.0, 1.0, 1.0]])
    assert keep_best(boxes, torch.tensor([0]), torch.tensor([4]), 0.1).tolist() == [True] * 4


def test_no_boxes_at_all():
    nothing = torch.zeros(0, dtype=torch.int64)
    assert keep_best(torch.zeros(0, 4), nothing, nothing, 0.5).shape == (0,)
    assert keep_best(
        torch.zeros(0, 4), torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64), 0.5
    ).shape == (0,)


def test_suppress_works_per_image_and_label():
    generator = torch.Generator().manual_seed(2)
    boxes = random_boxes(3, 60, generator=generator)
    scores = torch.rand(3, 60, generator=generator).sort(1, descending=True).values
    scores[0, 40:] = 0
    scores[2] = 0
    labels = torch.randint(0, 4, (3, 60), generator=generator)
    keep = suppress(boxes, scores, labels, 4, 60, 0.4)
    for image in range(3):
        for label in range(4):
            own = ((labels[image] == label) & (scores[image] > 0)).nonzero().squeeze(1)
            expected = own[slow_keep(boxes[image, own], 0.4)]
            assert torch.equal((keep[image] & (labels[image] == label)).nonzero().squeeze(1), expected)


def test_the_first_of_equals_comes_first():
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(0, 5, (7, 3, 500), generator=generator) / 4
    found, places = largest(values, 40)
    expected = values.sort(dim=-1, descending=True, stable=True)
    assert torch.equal(found, expected.values[..., :40])
    assert torch.equal(places, expected.indices[..., :40])


def test_fewer_values_than_asked_for_are_followed_by_zeros():
    values = torch.tensor([[0.0, 0.5, 0.0, 0.5], [0.0, 0.0, 0.0, 0.0]])
    found, places = largest(values, 3)
    assert found.tolist() == [[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]
    assert places[0, :2].tolist() == [1, 3]


@pytest.mark.parametrize(
    ("operator", "inputs"),
    [
        (torch.ops.kit.largest, (torch.rand(2, 3, 20), 4)),
        (
            torch.ops.kit.suppress,
            (torch.rand(2, 9, 4), torch.rand(2, 9), torch.zeros(2, 9, dtype=torch.int64), 1, 9, 0.5),
        ),
    ],
)
def test_operators_keep_torchs_rules(operator, inputs):
    torch.library.opcheck(operator, inputs, test_utils=("test_schema", "test_faketensor"))
