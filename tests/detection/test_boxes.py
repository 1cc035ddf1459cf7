"""Default boxes against published figures, the forms and overlaps of boxes, matching against a slow version."""

import pytest
import torch

from challenges.detection.boxes import SSD128, SSD192, SSD300, SSD512, centres, corners, decode, encode, iou, match

ANCHORS = SSD300.boxes()


def random_boxes(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(*shape, 2, generator=generator) * 0.8
    return torch.cat([first, first + 0.02 + torch.rand(*shape, 2, generator=generator) * 0.4], dim=-1).clamp(max=1)


def test_default_boxes_are_the_published_ones():
    assert ANCHORS.shape == (SSD300.count, 4) == (8732, 4)
    assert ANCHORS[0].tolist() == pytest.approx([0.013333, 0.013333, 0.07, 0.07], abs=1e-6)
    assert ANCHORS[-1].tolist() == pytest.approx([0.5, 0.5, 0.615183, 1.0], abs=1e-6)
    sums = ANCHORS.double().sum(0).tolist()
    assert sums == pytest.approx([4443.14667, 4443.14667, 1171.96768, 1171.96768], abs=1e-4)
    assert SSD300.shapes_per_cell == (4, 6, 6, 6, 4, 4)


def test_boxes_are_ordered_by_shape_then_row_then_column():
    cells = 38 * 38
    assert torch.equal(ANCHORS[:cells, 2:], ANCHORS[:1, 2:].expand(cells, 2))
    assert ANCHORS[1, 0] > ANCHORS[0, 0]
    assert ANCHORS[1, 1] == ANCHORS[0, 1]
    shapes = ANCHORS[: 4 * cells : cells, 2:] * 300
    root = 2**0.5
    expected = [[21, 21], [(21 * 45) ** 0.5] * 2, [21 * root, 21 / root], [21 / root, 21 * root]]
    torch.testing.assert_close(shapes, torch.tensor(expected))


def test_clamping_takes_the_last_cells_of_the_coarse_map_to_the_border():
    unclamped = torch.arange(10) * 32 / 300 + 16 / 300
    assert unclamped[-1] > 1  # the tenth column's centre lies outside the image
    coarse = ANCHORS[5776 + 2166 : 5776 + 2166 + 600]
    assert (coarse[:, :2] == 1).any(1).sum() == 114


def test_ssd512_has_the_papers_number_of_boxes():
    assert len(SSD512.boxes()) == SSD512.count == 24_564


@pytest.mark.parametrize(("small", "count"), [(SSD128, 1_524), (SSD192, 3_424)], ids=["128", "192"])
def test_small_inputs_are_covered_on_every_map(small, count):
    boxes, side = small.boxes(), small.image_size
    assert len(boxes) == small.count == count
    centres_of_finest = boxes[: small.maps[0] ** 2, :2]
    torch.testing.assert_close(centres_of_finest[[0, -1]], torch.tensor([[4 / side] * 2, [1 - 4 / side] * 2]))
    assert boxes[-4, :2].tolist() == [0.5, 0.5]
    assert all(cells * step == side for cells, step in zip(small.maps, small.steps, strict=True))


def test_forms_undo_each_other():
    boxes = random_boxes(5, 7)
    torch.testing.assert_close(corners(centres(boxes)), boxes)


def test_decoding_undoes_encoding():
    boxes = random_boxes(3, len(ANCHORS))
    torch.testing.assert_close(decode(encode(boxes, ANCHORS), ANCHORS), boxes, atol=1e-5, rtol=1e-5)


def test_offsets_of_zero_mean_the_anchor():
    torch.testing.assert_close(decode(torch.zeros(1, len(ANCHORS), 4), ANCHORS)[0], corners(ANCHORS))


def test_overlaps_by_hand():
    first = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.5, 0.5], [0.2, 0.2, 0.2, 0.9]])
    second = torch.tensor([[0.0, 0.0, 0.5, 1.0], [0.5, 0.5, 1.0, 1.0], [0.2, 0.2, 0.2, 0.9]])
    expected = torch.tensor([[0.5, 0.25, 0.0], [0.5, 0.0, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(iou(first, second), expected)


def slow_iou(first, second):
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    union = sum(areas) - shared
    return shared / union if union > 0 else 0.0


def slow_match(boxes, labels, anchors, threshold):
    """For one image: per anchor the position of the box it learns, or None."""
    overlaps = [[slow_iou(box, anchor) for anchor in anchors] for box in boxes]
    chosen = [None] * len(anchors)
    for place in range(len(anchors)):
        best = None
        for box, label in enumerate(labels):
            if label and overlaps[box][place] >= threshold and (best is None or overlaps[box][place] > best[0]):
                best = (overlaps[box][place], box)
        chosen[place] = best and best[1]
    for box, label in enumerate(labels):
        best = max(overlaps[box])
        if label and best > 0:
            chosen[overlaps[box].index(best)] = box
    return chosen


def grid_boxes(*shape, generator):
    """Boxes on a coarse grid: many equal overlaps, all numbers exact, some without an area."""
    first = torch.randint(0, 7, (*shape, 2), generator=generator)
    last = torch.minimum(first + torch.randint(0, 5, (*shape, 2), generator=generator), torch.tensor(8))
    return torch.cat([first, last], dim=-1) / 8


@pytest.mark.parametrize("seed", range(4))
def test_matching_equals_the_slow_version(seed):
    generator = torch.Generator().manual_seed(seed)
    anchors = centres(grid_boxes(50, generator=generator))
    anchors = anchors[(anchors[:, 2:] > 0).all(1)]
    boxes = grid_boxes(30, 6, generator=generator)
    labels = torch.randint(0, 4, (30, 6), generator=generator)
    labels[0] = 0
    boxes[labels == 0] = 0
    offsets, answers = match(boxes, labels, anchors)
    for image in range(30):
        chosen = slow_match(boxes[image].tolist(), labels[image].tolist(), corners(anchors).tolist(), 0.5)
        expected = [0 if box is None else int(labels[image, box]) for box in chosen]
        assert answers[image].tolist() == expected
        for place, box in enumerate(chosen):
            wanted = torch.zeros(4) if box is None else encode(boxes[image, box], anchors[place])
            torch.testing.assert_close(offsets[image, place], wanted)


def test_matching_real_default_boxes_equals_the_slow_version():
    boxes, labels = random_boxes(1, 3), torch.tensor([[2, 1, 2]])
    chosen = slow_match(boxes[0].tolist(), [2, 1, 2], corners(ANCHORS).tolist(), 0.5)
    _, answers = match(boxes, labels, ANCHORS)
    assert answers[0].tolist() == [0 if box is None else [2, 1, 2][box] for box in chosen]


def test_every_box_gets_an_anchor_and_the_later_of_two_equal_ones_wins():
    box = torch.tensor([[[0.4, 0.4, 0.41, 0.41], [0.4, 0.4, 0.41, 0.41]]])
    _, labels = match(box, torch.tensor([[1, 2]]), ANCHORS)
    assert labels[labels > 0].tolist() == [2]


def test_padding_changes_nothing():
    boxes, labels = random_boxes(2, 4), torch.tensor([[1, 2, 3, 1], [2, 2, 0, 0]])
    more = torch.cat([boxes, torch.zeros(2, 3, 4)], 1), torch.cat([labels, torch.zeros(2, 3, dtype=torch.int64)], 1)
    for ours, padded in zip(match(boxes, labels, ANCHORS), match(*more, ANCHORS), strict=True):
        assert torch.equal(ours, padded)


@pytest.mark.parametrize("count", [0, 3])
def test_images_without_boxes_are_background(count):
    offsets, labels = match(torch.zeros(2, count, 4), torch.zeros(2, count, dtype=torch.int64), ANCHORS)
    assert offsets.shape == (2, 8732, 4)
    assert not offsets.any()
    assert not labels.any()


def test_boxes_without_an_area_are_not_learnt():
    boxes = torch.tensor([[[0.3, 0.3, 0.3, 0.8], [0.2, 0.2, 0.6, 0.6]]])
    offsets, labels = match(boxes, torch.tensor([[1, 2]]), ANCHORS)
    assert set(labels.unique().tolist()) == {0, 2}
    assert offsets.isfinite().all()
