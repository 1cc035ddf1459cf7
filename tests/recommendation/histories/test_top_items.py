"""The best unseen items."""

import torch

from challenges.recommendation.histories.top_items import SEEN, best_unseen, history_signature, list_sizes, marked


def test_seen_items_are_never_answered_and_padding_hides_nothing():
    scores = torch.tensor([[5.0, 4, 3, 2, 1], [5.0, 4, 3, 2, 1]])
    items, best = best_unseen(scores, torch.tensor([[0, 2, -1], [-1, -1, -1]]), 3)
    assert items.tolist() == [[1, 3, 4], [0, 1, 2]]
    assert best.tolist() == [[4, 2, 1], [5, 4, 3]]


def test_too_few_unseen_items_show_in_the_score():
    items, best = best_unseen(torch.ones(1, 3), torch.tensor([[0, 1]]), 2)
    assert items[0, 0] == 2
    assert best[0, 1] == SEEN


def test_marks_count_repetitions_once_and_leave_strangers_out():
    assert marked(torch.tensor([[1, 1, -1, 7, 3]]), 4).tolist() == [[0, 1, 0, 1]]


def test_the_longest_list_that_a_server_sends_is_in_the_range_that_engines_are_built_for():
    sizes = history_signature(10).free["history"]
    assert (sizes.minimum, sizes.maximum) == (1, 16_384)  # 10,000 names, filled up to a power of two
    assert list_sizes(16_384).maximum == 16_384
    assert list_sizes(16_385).maximum == 32_768
