"""NeuMF against the network of the paper written out."""

import pytest
import torch
from torch import nn

from challenges.recommendation.ncf import model as ncf
from challenges.recommendation.ncf.model import NeuMF


def build(**more) -> NeuMF:
    torch.manual_seed(0)
    network = NeuMF(**({"num_users": 9, "num_items": 40, "factors": 4, "layers": (12, 10, 6, 5)} | more)).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
    return network


@torch.no_grad()
def written_out(network: NeuMF, user: int, item: int) -> float:
    """One pair, as in figure 3 of the paper: embeddings joined, layers, towers joined, one last layer."""
    gmf, mlp = network.gmf, network.mlp
    product = gmf.user.weight[user] * gmf.item.weight[item]
    state = torch.cat([mlp.user.weight[user], mlp.item.weight[item]])
    first = torch.cat([mlp.first_user.weight, mlp.first_item.weight], 1)
    state = (first @ state + mlp.first_user.bias).relu()
    for layer in mlp.hidden:
        state = (layer.weight @ state + layer.bias).relu()
    weight = torch.cat([gmf.predict.weight[0], mlp.predict.weight[0]])
    return float(weight @ torch.cat([product, state]) + gmf.predict.bias + mlp.predict.bias)


def test_the_network_is_the_papers():
    network = build()
    user, item = torch.tensor([0, 8, 3]), torch.tensor([[1, 39], [0, 5], [7, 7]])
    expected = [[written_out(network, u, i) for i in row] for u, row in zip(user.tolist(), item.tolist(), strict=True)]
    torch.testing.assert_close(network(user, item), torch.tensor(expected))


@pytest.mark.parametrize("tower", ["neumf", "gmf", "mlp"])
def test_whole_rows_equal_pairs(tower, monkeypatch):
    network = build(tower=tower)
    user, everything = torch.tensor([4, 0, 8]), torch.arange(40)
    expected = network(user, everything.expand(3, -1))
    torch.testing.assert_close(network.score_all(user), expected)
    monkeypatch.setattr(ncf, "PAIR_CELLS", 1)
    torch.testing.assert_close(network.score_all(user), expected)


def test_tables_may_be_projected_before_or_after_the_lookup():
    network = build()
    few, many = torch.tensor([[3, 4]]), torch.arange(40).repeat(2)[None]  # fewer and more than there are items
    torch.testing.assert_close(network(torch.tensor([1]), few), network(torch.tensor([1]), many)[:, 3:5])
    results = []
    for item in (torch.tensor([[3, 3, 5]]), torch.tensor([[3, 3, 5] + [7] * 60])):
        network.zero_grad()
        network(torch.tensor([1]), item)[:, :3].sum().backward()
        results.append(network.mlp.item.weight.grad.clone())
    torch.testing.assert_close(*results)


def test_rows_read_in_half_give_what_mixed_precision_gives(monkeypatch):
    """As on a GPU, whose part is played by what decides. What differs is where numbers are rounded to eight bits."""
    user, item = torch.arange(9).repeat(8), torch.randint(0, 40, (72, 5), generator=torch.Generator().manual_seed(0))
    answers = []
    for half in (False, True):
        monkeypatch.setattr(ncf, "gathers_half", lambda device, half=half: half)
        network, read = build(), []
        monkeypatch.setattr(ncf, "rows_of", lambda table, index, read=read: read.append(table.dtype) or table[index])
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(user, item).float()
        logits.sum().backward()
        assert set(read) == {torch.bfloat16 if half else torch.float32}
        grads = [parameter.grad.flatten() for parameter in network.parameters()]
        answers.append((logits.detach(), torch.cat(grads)))
    for whole, half in zip(*answers, strict=True):
        assert 0 < float((whole - half).norm() / whole.norm()) < 0.02


def test_only_a_gpu_in_bfloat16_reads_half(monkeypatch):
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    enabled, dtype = {"cuda": True, "cpu": True}, {"cuda": torch.bfloat16, "cpu": torch.bfloat16}
    monkeypatch.setattr(torch, "is_autocast_enabled", enabled.get)
    monkeypatch.setattr(torch, "get_autocast_dtype", dtype.get)
    assert (ncf.gathers_half(cuda), ncf.gathers_half(cpu)) == (True, False)
    dtype["cuda"] = torch.float16
    assert not ncf.gathers_half(cuda)
    enabled["cuda"] = False
    assert not ncf.gathers_half(cuda)


def test_mixing_averages_the_towers():
    network = build()
    user, item = torch.arange(9), torch.arange(40).expand(9, -1)
    network.tower = "gmf"
    gmf = network(user, item)
    network.tower = "mlp"
    mlp = network(user, item)
    network.tower = "neumf"
    network.mix(0.3)
    torch.testing.assert_close(network(user, item), 0.3 * gmf + 0.7 * mlp)


def test_nvidias_variant_has_its_number_of_parameters():
    with torch.device("meta"):
        network = NeuMF(num_users=138_493, num_items=26_744, factors=64, layers=(256, 256, 128, 64), dropout=0.5)
    one_bias_more = 1  # each tower brings its own
    assert sum(parameter.numel() for parameter in network.parameters()) - one_bias_more == 31_832_577


def test_dropout_acts_in_training_only():
    network = build(dropout=0.5)
    user, item = torch.tensor([1]), torch.arange(40)[None]
    torch.testing.assert_close(network(user, item), network(user, item))
    network.train()
    assert not torch.equal(network(user, item), network(user, item))


@pytest.mark.parametrize("layers", [(8,), (7, 4)])
def test_impossible_layers_are_refused(layers):
    with pytest.raises(ValueError, match="layers"):
        NeuMF(num_users=2, num_items=2, layers=layers)


@pytest.mark.gpu
def test_a_gpu_adds_the_gradients_of_half_rows_up_in_float32():
    """Thousands of pairs a row: rounded after each, the sums would be off by far more than one rounding."""
    device, drawn = torch.device("cuda"), torch.Generator("cuda").manual_seed(0)
    table = torch.randn(10, 64, device=device, generator=drawn).bfloat16().requires_grad_()
    index = torch.randint(0, 10, (100_000,), device=device, generator=drawn)
    errors = (1 + torch.randn(100_000, 64, device=device, generator=drawn)).bfloat16()
    ncf.rows_of(table, index).backward(errors)
    expected = torch.zeros(10, 64, dtype=torch.float64, device=device).index_add_(0, index, errors.double())
    torch.testing.assert_close(table.grad.double(), expected, rtol=2**-7, atol=1e-3 * float(expected.abs().max()))
