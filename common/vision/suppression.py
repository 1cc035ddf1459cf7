"""Non-maximum suppression over many images and classes at once, in eager mode and as operators that can be exported.

Greedy suppression looks at a group's boxes best first and keeps a box unless one that was kept overlaps it too much.
Here all groups take turns together. In each turn the best few boxes of every group that are still open, its leaders,
are decided, and whatever overlaps a kept leader is dropped. The boxes before a leader are decided or leaders too, so
that the leaders' fate depends on each other only: a leader is kept exactly if no better leader that is kept overlaps
it. Starting from "all are kept" and applying that rule to all at once, the best leader is right at once, and after each
round so is every leader whose better overlapping ones were right before. A round that changes nothing has therefore
reached the one answer that fits the rule, which is the greedy one. Few turns of few rounds are usual.
"""

import torch
from torch import Tensor

LEADERS = 16
"""Boxes of a group that are decided in one turn: more of them judge more pairs, fewer of them take more turns."""


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of every box of `first` with every box of `second`; 0 where the union has no area.

    first:   (..., n, 4) left, top, right, bottom
    second:  (..., m, 4)
    returns: (..., n, m)
    """
    left, top, right, bottom = first.movedim(-1, 0).unsqueeze(-1).contiguous()
    other_left, other_top, other_right, other_bottom = second.movedim(-1, 0).unsqueeze(-2).contiguous()
    width = (torch.minimum(right, other_right) - torch.maximum(left, other_left)).clamp_(min=0)
    height = (torch.minimum(bottom, other_bottom) - torch.maximum(top, other_top)).clamp_(min=0)
    shared = width.mul_(height)
    area, other_area = (right - left) * (bottom - top), (other_right - other_left) * (other_bottom - other_top)
    union = (area + other_area).sub_(shared)
    return shared.div_(union.clamp_(min=torch.finfo(union.dtype).tiny))


def keep_best(boxes: Tensor, starts: Tensor, counts: Tensor, iou_threshold: float) -> Tensor:
    """Greedy suppression in many groups at once.

    A box is dropped if a better one of its group that is kept overlaps it by more than `iou_threshold`; boxes without
    an area overlap nothing. The device is synchronised a few times, however many groups there are.

    boxes:   (row, 4) float32 left, top, right, bottom; each group's rows follow one another, best first
    starts:  (group,) int64, the group's first row
    counts:  (group,) int64, the group's number of rows, which may be 0
    returns: (row,) bool, False also for rows of no group
    """
    keep = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    leader = torch.arange(LEADERS, device=boxes.device)
    lengths = counts[counts > 0]
    firsts, group, place = _spread(lengths)
    row = (starts[counts > 0] - firsts).index_select(0, group) + torch.arange(len(group), device=boxes.device)
    sides = boxes.index_select(0, row).t().contiguous()  # of the open boxes
    while len(row):
        # beyond the end of a short group these are later boxes, which none of the group takes for better ones
        leaders = (firsts.unsqueeze(1) + leader).clamp_(max=len(row) - 1)  # (group, leader)
        rivals = sides.index_select(1, leaders.flatten()).unflatten(1, leaders.shape).index_select(1, group)
        overlaps = iou(sides.t().unsqueeze(1), rivals.movedim(0, -1)).squeeze(1) > iou_threshold  # (open, leader)
        overlaps &= leader < place.unsqueeze(1)
        kept = _decide(overlaps.index_select(0, leaders.flatten()).unflatten(0, leaders.shape))
        dropped = (overlaps & kept.index_select(0, group)).any(1)
        is_leader = place < LEADERS
        keep.index_copy_(0, row, is_leader & ~dropped)
        stays = (is_leader | dropped).logical_not_().nonzero().squeeze(1)
        row, sides = row.index_select(0, stays), sides.index_select(1, stays)
        firsts, group, place = _spread(group.index_select(0, stays).unique_consecutive(return_counts=True)[1])
    return keep


def _spread(lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For groups of these lengths that follow one another: each one's first row; each row's group, and place in it."""
    firsts = lengths.cumsum(0) - lengths
    group = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
    return firsts, group, torch.arange(len(group), device=lengths.device) - firsts.index_select(0, group)


def _decide(overlaps: Tensor) -> Tensor:
    """The leaders that greedy suppression keeps.

    overlaps: (group, leader, better leader), whether the better one would drop the leader
    returns:  (group, leader) bool
    """
    weights = overlaps.float()
    keep = torch.ones(overlaps.shape[:2], dtype=torch.bool, device=overlaps.device)
    while True:
        following = torch.bmm(weights, keep.unsqueeze(2).float()).squeeze(2) == 0
        if torch.equal(following, keep):
            return keep
        keep = following


def falling(group: Tensor, scores: Tensor) -> Tensor:
    """Numbers that rise with the group and, within it, fall with the score, which must not be negative."""
    return (group << 32) + (2**31 - 1 - scores.view(torch.int32))  # such floats are ordered as their bits are


def ranks(group: Tensor, scores: Tensor, groups: int) -> Tensor:
    """Each row's place among those of its group, best first, of equals the earlier row; (row,) int64."""
    key, order = falling(group, scores).sort(stable=True)
    group = key >> 32
    starts = torch.searchsorted(group, torch.arange(groups, device=group.device))
    places = torch.arange(len(group), device=group.device) - starts.index_select(0, group)
    return torch.empty_like(places).scatter_(0, order, places)


def placed(rows: Tensor, group: Tensor, rank: Tensor, shape: tuple[int, int]) -> Tensor:
    """Rows put at (group, rank) of zeros (*shape, ...); those of a rank beyond the shape are left out."""
    slots = rows.new_zeros(shape[0] * shape[1] + 1, *rows.shape[1:])
    slot = torch.where(rank < shape[1], group * shape[1] + rank, shape[0] * shape[1])
    table: Tensor = slots.index_copy_(0, slot, rows)[:-1].unflatten(0, shape)
    return table


@torch.library.custom_op("kit::largest", mutates_args=())
def largest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest values of the last dimension and their positions, falling; of equals the first comes first.

    ONNX's TopK promises this order of equals, torch.topk does not. Zeros stand for nothing: their positions are any.
    values: (..., n) float32, none negative or NaN
    """
    table = values.flatten(0, -2)
    row, position = (table > 0).nonzero().t()
    found = table[row, position]
    rank, shape = ranks(row, found, len(table)), (len(table), count)
    size = (*values.shape[:-1], count)
    return placed(found, row, rank, shape).view(size), placed(position, row, rank, shape).view(size)


@largest.register_fake
def _(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    shape = (*values.shape[:-1], count)
    return values.new_empty(shape), values.new_empty(shape, dtype=torch.int64)


@torch.library.custom_op("kit::suppress", mutates_args=())
def suppress(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    num_labels: int,
    per_label: int,  # noqa: ARG001  # read by engines
    iou_threshold: float,
) -> Tensor:
    """Which candidates greedy suppression within their image and label keeps; see `keep_best`.

    boxes:     (batch, candidate, 4) float32 left, top, right, bottom
    scores:    (batch, candidate) float32, falling; those that score 0 are padding, and never kept
    labels:    (batch, candidate) int64, from 0 on, below `num_labels`
    per_label: the most candidates of one label in an image; engines size their buffers by it
    returns:   (batch, candidate) bool
    """
    batch = len(scores)
    images = torch.arange(batch, device=labels.device).unsqueeze(1)
    group = torch.where(scores > 0, images * num_labels + labels, batch * num_labels).flatten()
    sorted_group, order = group.sort(stable=True)
    bounds = torch.searchsorted(sorted_group, torch.arange(batch * num_labels + 1, device=group.device))
    keep = keep_best(boxes.flatten(0, 1)[order], bounds[:-1], bounds.diff(), iou_threshold)
    return torch.empty_like(keep).scatter_(0, order, keep).view_as(scores)


@suppress.register_fake
def _(_boxes: Tensor, scores: Tensor, *_: Tensor | float) -> Tensor:
    return scores.new_empty(scores.shape, dtype=torch.bool)
