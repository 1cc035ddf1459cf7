"""Metrics against scikit-learn, and their sums over ranks."""

import math

import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing
from sklearn.metrics import top_k_accuracy_score

from common.training.metrics import Accuracy, Mean, reduce_metrics

CLASSES = 12


def predictions(samples=203, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(samples, CLASSES, generator=random), torch.randint(CLASSES, (samples,), generator=random)


def test_accuracy_equals_scikit_learns_over_uneven_batches():
    logits, label = predictions()
    accuracy = Accuracy(topk=(1, 3, 5))
    for part in torch.arange(len(label)).split(32):
        accuracy.update(logits[part], label[part])
    expected = {
        f"top{k}": top_k_accuracy_score(label.numpy(), logits.numpy(), k=k, labels=np.arange(CLASSES))
        for k in (1, 3, 5)
    }
    assert accuracy.compute() == pytest.approx(expected, abs=1e-12)


def test_top1_is_argmax_with_equal_logits_too():
    logits, label = predictions()
    logits = logits.round()  # many ties
    accuracy = Accuracy(topk=(1,))
    accuracy.update(logits, label)
    assert accuracy.compute()["top1"] == (logits.argmax(1) == label).double().mean().item()


def test_a_model_that_answers_nan_scores_nothing():
    accuracy = Accuracy(topk=(1, 5))
    accuracy.update(torch.full((4, CLASSES), torch.nan), torch.arange(4))
    assert accuracy.compute() == {"top1": 0.0, "top5": 0.0}


def test_top5_of_two_classes_is_one():
    accuracy = Accuracy()
    accuracy.update(torch.randn(6, 2), torch.tensor([0, 1, 0, 1, 1, 0]))
    assert accuracy.compute()["top5"] == 1.0


def test_mean_weighs_by_samples():
    values, counts = [2.0, 5.0, 11.0], [32, 32, 7]
    mean = Mean()
    for value, count in zip(values, counts, strict=True):
        mean.update(torch.tensor(value), count)
    assert mean.compute() == pytest.approx(np.average(values, weights=counts), abs=1e-12)


def test_mean_keeps_small_values_beside_large_sums():
    mean = Mean()
    mean.update(torch.tensor(1.0), 2**25)
    for _ in range(100):
        mean.update(torch.tensor(0.5))
    assert mean.compute() == (2**25 + 50) / (2**25 + 100)


def test_non_finite_losses_stay_visible():
    mean = Mean()
    mean.update(torch.tensor(torch.nan), 3)
    assert math.isnan(mean.compute())


@pytest.mark.parametrize("metric", [Mean(), Accuracy()])
def test_a_metric_of_nothing_is_refused(metric):
    with pytest.raises(ValueError, match="before any sample"):
        metric.compute()


def test_topk_must_be_positive():
    with pytest.raises(ValueError, match="from 1"):
        Accuracy(topk=(0, 1))


def test_alone_there_is_nothing_to_add_up():
    accuracy = Accuracy()
    accuracy.update(*predictions())
    before = accuracy.compute()
    accuracy.reduce()
    assert accuracy.compute() == before
    with pytest.raises(ValueError, match="twice"):
        accuracy.reduce()


def test_several_metrics_travel_in_one_message(monkeypatch):
    messages = []

    def double(packed):
        messages.append(packed.numel())
        packed.mul_(2)

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", double)
    mean, accuracy = Mean(), Accuracy()
    mean.update(3.0, 4)
    accuracy.update(torch.tensor([[0.0, 1.0]]), torch.tensor([1]))
    reduce_metrics(mean, accuracy)
    assert messages == [2 + 3]
    assert mean.totals.tolist() == [24.0, 8.0]
    assert accuracy.totals.tolist() == [2, 2, 2]


def _evaluate_share(rank, store, results):
    """Count every second batch of 16; the last rank's last batch is short, as at the end of a validation set."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    logits, label = predictions(samples=71)
    mean, accuracy = Mean(), Accuracy()
    for part in torch.arange(len(label)).split(16)[rank::2]:
        mean.update(torch.nn.functional.cross_entropy(logits[part], label[part]), len(part))
        accuracy.update(logits[part], label[part])
    reduce_metrics(mean, accuracy)
    torch.save([mean.compute(), accuracy.compute()], f"{results}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_give_the_metrics_of_one(tmp_path):
    torch.multiprocessing.spawn(_evaluate_share, (str(tmp_path / "store"), str(tmp_path)), nprocs=2)
    logits, label = predictions(samples=71)
    loss = torch.nn.functional.cross_entropy(logits, label).item()
    for rank in range(2):
        mean, accuracy = torch.load(tmp_path / f"{rank}.pt")
        assert mean == pytest.approx(loss, rel=1e-6)
        assert accuracy["top1"] == (logits.argmax(1) == label).double().mean().item()
