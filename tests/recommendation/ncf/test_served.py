"""The exported graph answers no user with another's items, whatever number it is asked with."""

import torch

from challenges.recommendation.histories.top_items import LOWEST
from challenges.recommendation.ncf.model import NeuMF
from challenges.recommendation.ncf.task import TopItems


def test_a_user_that_is_none_gets_nothing_and_spoils_no_batch():
    torch.manual_seed(0)
    module = TopItems(NeuMF(num_users=5, num_items=7).eval(), 3)
    seen = torch.full((4, 2), -1)
    seen[3] = torch.tensor([0, 10**7])
    items, scores = module(user=torch.tensor([[4], [-1], [10**9], [4]]), seen=seen)
    alone, alone_scores = module(user=torch.tensor([[4]]), seen=seen[:1])
    assert items[0].tolist() == alone[0].tolist()
    torch.testing.assert_close(scores[0], alone_scores[0])
    assert (scores[1:3] <= LOWEST).all()
    assert (scores[[0, 3]] > LOWEST).all()
    assert 0 not in items[3].tolist()
