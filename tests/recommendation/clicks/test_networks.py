"""Click networks against their papers' definitions, written out."""

import math

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from challenges.recommendation.clicks.layers import LowRankCrosses, PairProducts, padded
from challenges.recommendation.clicks.numbers import PiecewiseLinearNumbers, ScaledNumbers
from challenges.recommendation.clicks.spec import Categorical, Cross, Dense, FeatureSpec
from challenges.recommendation.dlrm.network import Dlrm
from challenges.recommendation.wide_and_deep.network import Crosses, WideAndDeep
from tests.recommendation.clicks.logs import rows, spec


def seeded(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), requires_grad=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pair_products_and_their_gradient(dtype):
    vectors, pairs = seeded(5, 6, 4), PairProducts(6)
    expected = torch.stack([(vectors[:, i] * vectors[:, j]).sum(1) for i in range(6) for j in range(i)], 1)
    ours = pairs(vectors.to(dtype))
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 3e-2}
    torch.testing.assert_close(ours.float(), expected, **tolerance)
    towards = torch.randn_like(expected)
    found, wanted = (torch.autograd.grad((v * towards).sum(), vectors)[0] for v in (ours.float(), expected))
    torch.testing.assert_close(found, wanted, **tolerance)


def test_crosses_are_the_papers():
    layer, inputs = LowRankCrosses(6, layers=2, rank=3), seeded(4, 6)
    state = inputs
    for down, up in zip(layer.down, layer.up, strict=True):
        state = inputs * (up.weight @ (down.weight @ state.t()) + up.bias[:, None]).t() + state
    torch.testing.assert_close(layer(inputs), state)


def test_dlrm_has_the_published_layers():
    """13 numbers and 26 columns of width 128: 351 products and 128 numbers are 479, padded to 480."""
    network = Dlrm(numbers=13, columns=26, width=128)
    shapes = [tuple(p.shape) for name, p in network.named_parameters() if name.endswith("weight")]
    assert shapes == [(512, 13), (256, 512), (128, 256), (1024, 480), (1024, 1024), (512, 1024), (256, 512), (1, 256)]
    crossed = Dlrm(numbers=13, columns=26, width=128, crosses=(3, 512))
    assert crossed.top[0].weight.shape == (1024, 27 * 128)


@pytest.mark.parametrize("crosses", [None, (2, 3)])
def test_dlrm_answers_as_its_parts_do(crosses):
    network, numbers, vectors = (
        Dlrm(numbers=3, columns=4, width=8, bottom=(5,), top=(7,), crosses=crosses),
        seeded(2, 3),
        seeded(2, 4, 8),
    )
    own = network.bottom(numbers)
    together = torch.cat([own[:, None], vectors], 1)
    if crosses is None:
        products = torch.stack([together[:, i] @ together[:, j].t() for i in range(5) for j in range(i)], -1)
        known = functional.pad(torch.cat([own, products.diagonal().t()], 1), (0, 6))  # 8 + 10, up to 24
    else:
        known = network.crosses(together.flatten(1))
    torch.testing.assert_close(network(numbers, vectors), network.logit(network.top(known)).squeeze(1))


def test_a_log_without_numbers_has_no_bottom():
    network = Dlrm(numbers=0, columns=4, width=8, top=(7,))
    assert network.bottom is None
    assert network(torch.zeros(2, 0), seeded(2, 4, 8)).shape == (2,)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(torch.zeros(2, 0), seeded(2, 4, 8))
    logits.sum().backward()


def test_wide_and_deep_adds_its_two_parts():
    network = WideAndDeep(numbers=2, columns=3, width=4, hidden=(6, 5), dropout=0.0)
    torch.nn.init.normal_(network.wide.weight)
    numbers, vectors, weights = seeded(2, 2), seeded(2, 3, 4), seeded(2, 5, 1)
    deep = network.logit(network.deep(torch.cat([numbers, vectors.flatten(1)], 1))).squeeze(1)
    expected = deep + numbers @ network.wide.weight[0] + weights.sum((1, 2))
    torch.testing.assert_close(network(numbers, vectors, weights), expected)


def test_few_combinations_get_a_bucket_each_and_many_share():
    log = rows(spec(), 500)
    ids = log["categorical"].long()
    exact = Crosses(spec(crosses=12 * 6))(log["categorical"])
    assert torch.equal(exact[:, 0], ids[:, 1] * 6 + ids[:, 2])
    hashed = Crosses(spec(crosses=30))(log["categorical"])[:, 0]
    assert hashed.min() >= 0
    assert hashed.max() < 30
    assert len(hashed.unique()) > 20
    same = exact[:, 0] == exact[:1, 0]
    assert (hashed[same] == hashed[0]).all()


def test_crosses_of_large_columns_stay_within_24_bits():
    names = ("a", "b", "c")
    columns = tuple(Categorical(name=name, cardinality=2**24 - 1) for name in names)
    crosses = Crosses(FeatureSpec(categorical=columns, crosses=(Cross(columns=names, buckets=50_000),)))
    ids = torch.randint(2**24 - 1, (20_000, 3), generator=torch.Generator().manual_seed(0))
    largest = []
    with _Watched(largest):
        codes = crosses(ids)[:, 0]
    assert max(largest) < 2**24
    counts = torch.bincount(codes, minlength=50_000)
    assert (counts == 0).float().mean() == pytest.approx(math.exp(-20_000 / 50_000), abs=0.01)  # as chance has it


class _Watched(TorchDispatchMode):
    """Notes the largest number of every result."""

    def __init__(self, largest: list[int]) -> None:
        super().__init__()
        self.largest = largest

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        if isinstance(result, torch.Tensor):
            self.largest.append(int(result.max()))
        return result


def test_padding_fills_up_with_zeros():
    assert padded([torch.ones(2, 5)]).tolist() == [[1] * 5 + [0] * 3] * 2
    assert padded([torch.ones(2, 5), torch.ones(2, 3)]).shape == (2, 8)


def test_piecewise_linear_codes_by_hand():
    columns = [Dense(name="a", edges=(0.0, 1.0, 3.0)), Dense(name="b", mean=1.0, deviation=2.0)]
    numbers = PiecewiseLinearNumbers(columns)
    codes = numbers(torch.tensor([[0.5, 3.0], [2.0, -1.0], [5.0, 1.0], [-1.0, 1.0]]))
    assert codes.tolist() == [[0.5, 0, 1], [1, 0.5, -1], [1, 2, 0], [-1, 0, 0]]
    assert numbers.width == 3


def test_scaled_numbers_of_a_constant_column_are_zero():
    scaled = ScaledNumbers([Dense(name="a", mean=2.0, deviation=4.0), Dense(name="b", mean=7.0, deviation=0.0)])
    assert scaled(torch.tensor([[10.0, 7.0]])).tolist() == [[2, 0]]
