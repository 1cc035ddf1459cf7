"""Fused tables against one nn.EmbeddingBag per column, and their optimizers against written-out updates."""

import copy

import pytest
import torch
from torch import nn

from challenges.recommendation.clicks import tables
from challenges.recommendation.clicks.sparse_optimizers import (
    ROW_EPS,
    RowAdagrad,
    RowFtrl,
    RowSgd,
    RowwiseAdagrad,
    rounded_at_random,
    summed_by_row,
)
from challenges.recommendation.clicks.tables import Bag, FusedTable, gather
from common.training.optimizers import Ftrl
from tests.recommendation.clicks.logs import KINDS, SIZES, padded_bags, rows, spec

ROW_KINDS = (RowSgd, RowwiseAdagrad, RowAdagrad, RowFtrl)
LOG = rows(spec(), 64)
BAG = Bag(LOG["kinds__values"], LOG["kinds__offsets"])


def table(width=4, is_sparse=True, dtype=torch.float32):
    torch.manual_seed(0)
    return FusedTable((*SIZES, KINDS), width, bags=1, is_sparse=is_sparse, dtype=dtype)


def separate(fused):
    """The same rows in a table for each column."""
    parts = fused.weight.detach().float().split(fused.rows)
    return nn.ModuleList(nn.EmbeddingBag.from_pretrained(part.clone(), freeze=False, mode="mean") for part in parts)


def looked_up(bags):
    singles = [bag(LOG["categorical"][:, [i]].long()) for i, bag in enumerate(bags[:-1])]
    return torch.stack([*singles, bags[-1](BAG.values.long(), BAG.offsets[:-1])], 1)


@pytest.mark.parametrize("is_sparse", [True, False])
def test_rows_and_gradients_are_those_of_a_table_for_each_column(is_sparse):
    fused = table(is_sparse=is_sparse)
    bags = separate(fused)
    ours, theirs = fused(LOG["categorical"], [BAG]), looked_up(bags)
    torch.testing.assert_close(ours, theirs)
    towards = torch.randn(ours.shape)
    for answer in (ours, theirs):
        (answer * towards).sum().backward()
    expected = torch.cat([bag.weight.grad for bag in bags])
    assert fused.weight.grad.is_sparse == is_sparse
    torch.testing.assert_close(fused.weight.grad.to_dense(), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_padded_bags_answer_as_those_with_offsets(dtype):
    fused = table(dtype=dtype)
    with torch.no_grad():
        ragged, padded = fused(LOG["categorical"], [BAG]), fused(LOG["categorical"], padded_bags(LOG))
    torch.testing.assert_close(ragged, padded)
    assert ragged.dtype == torch.float32
    assert (ragged[BAG.offsets.diff() == 0, -1] == 0).all()  # an empty bag


def test_rows_start_within_their_own_columns_bound():
    for part, count in zip(table().weight.split((*SIZES, KINDS)), (*SIZES, KINDS), strict=True):
        assert 0.7 * count**-0.5 < part.abs().max() <= count**-0.5


def sparse_gradient(width=4):
    index = torch.tensor([5, 0, 5, 2, 5, 0])
    return index, torch.randn(6, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("numbers", "stretches"), [(4, 3), (12, 2), (tables.STRETCH, 1)])
def test_equal_rows_are_added_up_once_in_stretches(monkeypatch, numbers, stretches, dtype):
    monkeypatch.setattr(tables, "STRETCH", numbers)
    index, values = sparse_gradient()
    gradient = torch.sparse_coo_tensor(index[None], values.to(dtype), (7, 4), check_invariants=True)
    found = list(summed_by_row(gradient))
    assert len(found) == stretches
    named, sums = map(torch.cat, zip(*found, strict=True))
    expected = gradient.float().coalesce()
    torch.testing.assert_close(named, expected.indices()[0])
    torch.testing.assert_close(sums, expected.values(), rtol=0, atol=1e-6)
    none = torch.sparse_coo_tensor(torch.empty(1, 0), values[:0], (7, 4), check_invariants=True)
    assert list(summed_by_row(none)) == []


@pytest.mark.parametrize("kept", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("read", [torch.float32, torch.float16, torch.bfloat16])
def test_rows_are_read_in_any_type_a_stretch_at_a_time(monkeypatch, kept, read):
    monkeypatch.setattr(tables, "STRETCH", 8)
    weight, index = torch.randn(9, 4).to(kept), torch.tensor([8, 0, 3, 3, 7])
    assert torch.equal(gather(weight, index, read), weight[index].to(read))


def trained(kind, weight, steps=3, **options):
    optimizer = kind([weight], **options)
    for step in range(steps):
        index, values = sparse_gradient(weight.shape[1])
        weight.grad = torch.sparse_coo_tensor(index[None], values * (step + 1), weight.shape, check_invariants=True)
        if not issubclass(kind, ROW_KINDS):
            weight.grad = weight.grad.to_dense()
        optimizer.step()
    return optimizer


def weights(width=4, dtype=torch.float32):
    weight = nn.Parameter(torch.randn(7, width, generator=torch.Generator().manual_seed(0)).to(dtype))
    weight.grad_dtype = torch.float32
    return weight


def test_sgd_equals_torchs():
    ours, theirs = weights(), weights()
    trained(RowSgd, ours, lr=0.1)
    trained(torch.optim.SGD, theirs, lr=0.1)
    torch.testing.assert_close(ours, theirs)


def test_rowwise_adagrad_equals_a_written_out_one():
    ours, expected = weights(), weights().detach().clone()
    trained(RowwiseAdagrad, ours, lr=0.1)
    total = torch.zeros(7)
    for step in range(3):
        index, values = sparse_gradient()
        gradient = torch.zeros(7, 4).index_add(0, index, values * (step + 1))
        total += gradient.square().mean(1)
        expected -= 0.1 * gradient / (total.sqrt() + 1e-8)[:, None]
    torch.testing.assert_close(ours.detach(), expected)


def test_adagrad_equals_torchs():
    ours, theirs = weights(), weights()
    trained(RowAdagrad, ours, lr=0.1)
    trained(torch.optim.Adagrad, theirs, lr=0.1, eps=ROW_EPS)
    torch.testing.assert_close(ours, theirs)


def test_ftrl_equals_the_dense_one_on_the_rows_that_were_read():
    ours, theirs = weights(1), weights(1)
    trained(RowFtrl, ours, lr=0.1, l1=0.3, l2=0.01)
    trained(Ftrl, theirs, lr=0.1, l1=0.3, weight_decay=0.01)
    read = sparse_gradient()[0].unique()
    torch.testing.assert_close(ours[read], theirs[read])


@pytest.mark.parametrize("kind", ROW_KINDS)
def test_rows_that_no_sample_read_stay_bit_for_bit(kind):
    before, weight = weights().detach().clone(), weights()
    trained(kind, weight)
    others = [1, 3, 4, 6]
    assert torch.equal(weight.detach()[others], before[others])
    assert not torch.equal(weight.detach()[[0, 2, 5]], before[[0, 2, 5]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_saved_optimizer_goes_on_as_if_it_had_never_stopped(dtype):
    whole, cut = weights(dtype=dtype), weights(dtype=dtype)
    torch.manual_seed(0)
    first, half = trained(RowwiseAdagrad, whole), trained(RowwiseAdagrad, cut)
    saved = copy.deepcopy(half.state_dict())
    fresh = RowwiseAdagrad([cut])
    fresh.load_state_dict(saved)
    assert fresh.state[cut]["sum"].dtype == torch.float32
    torch.testing.assert_close(fresh.state[cut]["sum"], first.state[whole]["sum"], rtol=0, atol=0)


def test_half_precision_rounds_to_a_neighbour_and_keeps_the_mean():
    values = torch.tensor([1.0003, -0.01234567, 3e-6, 700.1, 0.0, 65504.0])
    torch.manual_seed(0)
    drawn = torch.stack([rounded_at_random(values).float() for _ in range(4000)])
    step = torch.tensor([2**-10, 2**-17, 2**-24, 2**-1, 1.0, 32.0])
    assert ((drawn - values).abs() < step).all()
    assert ((drawn.mean(0) - values).abs() < 0.05 * step).all()


def test_small_updates_of_half_precision_rows_are_not_lost():
    weight = FusedTable((1,), 64, dtype=torch.float16).weight
    weight.data.fill_(1)
    optimizer = RowSgd([weight], lr=1e-4)
    torch.manual_seed(0)
    for _ in range(200):
        weight.grad = torch.sparse_coo_tensor([[0]], torch.ones(1, 64), weight.shape, check_invariants=True)
        optimizer.step()
    assert abs(weight.float().mean().item() - 0.98) < 1e-3  # to the nearest, each step of 1e-4 would leave 1
