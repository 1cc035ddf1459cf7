"""The recipes for one's own data: what they hold out to choose by, what they draw from the data, what they advise."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from challenges.recommendation.bert4rec.challenge import CHALLENGE as BERT4REC
from challenges.recommendation.bert4rec.recipes import RECIPES
from challenges.recommendation.bert4rec.task import SequenceTask
from challenges.recommendation.files.readers import read
from challenges.recommendation.histories.check import check
from challenges.recommendation.histories.data import SequenceData, UserData
from challenges.recommendation.histories.fits import longest_window, short_histories, training_fits
from challenges.recommendation.histories.recipes import HistoryConfig
from challenges.recommendation.histories.report import coinciding
from challenges.recommendation.histories.splits import judged_users, split
from challenges.recommendation.ncf.challenge import CHALLENGE as NCF
from challenges.recommendation.ncf.challenge import brief_looks
from challenges.recommendation.vae_cf.challenge import CHALLENGE as VAE_CF
from common.run import fitting
from common.run.result import Baseline, Interval, Kit, Result
from tests.recommendation.worlds import build_split

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def purchases(tmp_path_factory):
    """Forty users with six to thirteen of fifty items in the order of time."""
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("purchases") / "x.csv"
    rows = [
        f"{user},{item},{time}"
        for user in range(40)
        for time, item in enumerate(random.permutation(50)[: 6 + user % 8])
    ]
    path.write_text("user,item,time\n" + "\n".join(rows) + "\n")
    return path


def test_the_last_item_but_one_of_half_the_users_is_kept_out_of_training(purchases):
    whole = split(read(purchases), HistoryConfig())
    parts = split(read(purchases), HistoryConfig(tuning_from=1))
    assert len(parts.tuning.users) == 20
    for place, user in enumerate(parts.tuning.users):
        history = whole.train.of(user).tolist()
        assert parts.train.of(user).tolist() == parts.tuning.seen.of(place).tolist() == history[:-1]
        assert parts.tuning.targets.of(place).tolist() == history[-1:]
        assert parts.seen.of(user).tolist() == history  # the model is told of it when it is judged
    assert len(parts.train.items) == len(whole.train.items) - 20
    assert (parts.targets.items == whole.targets.items).all()


def test_users_set_aside_choose_and_neither_train_nor_are_judged(purchases):
    parts = split(read(purchases), HistoryConfig(protocol="held-out-users", held_out_share=0.1))
    assert (parts.num_judged, len(parts.tuning.users), parts.num_users) == (8, 8, 24)
    assert set(parts.tuning.users) == set(parts.users) == {-1}
    for seen, found in ((parts.seen, parts.targets), (parts.tuning.seen, parts.tuning.targets)):
        assert all(not set(seen.of(n)) & set(found.of(n)) and len(found.of(n)) for n in range(8))


@pytest.mark.parametrize(("users", "judged"), [(200, 40), (943, 188), (6040, 1000), (50_000, 5000)])
def test_a_share_of_the_users_is_judged(users, judged):
    assert judged_users(users, 0.1) == judged


def test_the_tuning_part_is_kept_with_the_split_and_is_what_is_judged(purchases, tmp_path):
    check(purchases, tmp_path, HistoryConfig(tuning_from=1))
    report = check(purchases, tmp_path, HistoryConfig(tuning_from=1))
    assert report.reused
    data = UserData(report.split, device=CPU)
    tuning = data.tuning()
    assert tuning is data.tuning()
    assert (tuning.num_validation, data.num_validation) == (20, 40)
    batch = next(iter(tuning.validation_batches()))
    assert batch["entry_item"].tolist() == report.split.tuning.seen.items.tolist()
    assert next(iter(data.validation_batches()))["entry_item"].tolist() == report.split.seen.items.tolist()


def test_the_value_that_chooses_is_the_rank_among_all_items_of_the_tuning_part(purchases):
    parts = split(read(purchases), HistoryConfig(tuning_from=1))
    task = SequenceTask(RECIPES["own"], parts).eval()
    data = SequenceData(parts, length=50, validation_length=49, device=CPU)
    gains = []
    with torch.no_grad():
        for place in range(20):
            told = torch.as_tensor(parts.tuning.seen.of(place))
            scores = task.model.next_item_logits(told[None])[0]
            target = parts.tuning.targets.of(place)[0]
            own = scores[target].item()
            scores[told] = -torch.inf
            rank = int((scores > own).sum())
            gains.append(1 / np.log2(rank + 2) if rank < 10 else 0.0)
        value = task.held_out_value(data)
    assert value.value == pytest.approx(np.mean(gains), abs=1e-9)
    assert value.error == pytest.approx(np.std(gains) / 20**0.5, rel=0.2)  # from the bootstrap's interval


def test_batches_and_epochs_make_enough_steps_of_little_data():
    recipe = RECIPES["own"]
    fits, steps = training_fits(recipe, 200, "window")
    values = {fit.field: fit.value for fit in fits}
    assert values == {"training.batch_size": 32, "training.epochs": 100.0, "training.evaluate_every": 5.0}
    assert steps == 625
    fits, _ = training_fits(recipe, 100_000, "window")
    assert [fit.value for fit in fits] == [128, 15.0, 1.0]


def test_many_users_and_items_are_looked_at_by_lists_while_training():
    lists = [[user, user + 1, user + 2] for user in range(200)]
    recipe = NCF.recipes["own"]
    (fit,) = brief_looks(build_split(lists, [[0]] * 200, num_items=100_001), recipe)
    assert (fit.field, fit.value) == ("evaluation.lists_while_training", True)
    assert "20,000,200 pairs" in fit.reason
    assert not brief_looks(build_split(lists, [[0]] * 200, num_items=99_999), recipe)
    assert not brief_looks(build_split([[*range(2001)]] * 200, [[0]] * 200, num_items=100_001), recipe)
    alone = replace(recipe, evaluation=replace(recipe.evaluation, uniform_negatives=0, popular_negatives=0))
    assert not brief_looks(build_split(lists, [[0]] * 200, num_items=100_001), alone)


def test_windows_are_no_longer_than_histories():
    short = build_split([[*range(5)]] * 95 + [[*range(40)]] * 5, [[41]] * 100, num_items=50)
    assert longest_window(short, 50).value == 8  # 95 % of them have 6.75 items at most, and a place for what is asked
    assert {fit.field for fit in short_histories(short)} == {"sequence.mask_share", "sequence.last_item_share"}
    long = build_split([[*range(90)]] * 10, [[91]] * 10, num_items=100)
    assert longest_window(long, 50).value == 50
    assert short_histories(long) == []


@pytest.mark.parametrize("challenge", [BERT4REC, VAE_CF, NCF])
def test_own_recipes_follow_from_the_data(challenge, purchases, tmp_path):
    recipe = challenge.recipes["own"]
    assert (recipe.fit, recipe.training.patience) == ("data", 6)
    check(purchases, tmp_path, recipe.history)
    fits = challenge.fits(recipe, tmp_path)
    fitted, told = fitting.apply(recipe, fits, ())
    assert len(told) == len(fits)
    assert (challenge.open_data(fitted, tmp_path, CPU).tuning() is None) == (challenge is BERT4REC)  # too few users
    assert fitted.training.batch_size < recipe.training.batch_size


def test_what_hides_items_is_fitted_where_items_are_hidden(purchases, tmp_path):
    recipe = BERT4REC.recipes["own"]
    check(purchases, tmp_path, recipe.history)
    hiding = replace(recipe, model=replace(recipe.model, attention="bidirectional"))
    shares = [
        sorted(fit.field for fit in BERT4REC.fits(one, tmp_path) if fit.field.startswith("sequence."))
        for one in (recipe, hiding)
    ]
    assert shares == [[], ["sequence.last_item_share", "sequence.mask_share"]]


def result(value, low, high):
    return Result(
        model="bert4rec", recipe="own", metric="ndcg@10/full", value=value, interval=Interval(low, high, "by hand"),
        target=None, verdict="not-comparable", reason="", metrics={"ndcg@10/full": value},
        baselines=(Baseline("iALS", 0.2),), steps=1, epochs=1, wall_seconds=1, samples_per_s=1, sample_unit="sequence",
        created="", report="", kit=Kit("0"),
    )  # fmt: skip


def test_a_baseline_that_does_better_is_recommended_by_name():
    told = BERT4REC.judgement.below_baseline(result(0.15, 0.14, 0.16))
    assert told.startswith(
        "iALS does better than bert4rec on this data: ndcg@10/full 0.2000 against 0.1500. Recommend by iALS"
    )
    assert "within the interval of chance" in BERT4REC.judgement.below_baseline(result(0.15, 0.10, 0.21))


def test_protocols_that_coincide_are_shown_once():
    names = [
        "hr@10/full",
        "mrr/full",
        "hr@10/uniform-100",
        "mrr/uniform-100",
        "hr@10/popularity-100",
        "mrr/popularity-100",
    ]
    same = dict(zip(names, [0.2, 0.1, 0.2, 0.1, 0.3, 0.2], strict=True))
    assert coinciding([same, same], names) == {"full": ["uniform-100"], "popularity-100": []}
    assert list(coinciding([same, same | {"mrr/uniform-100": 0.11}], names)) == [
        "full",
        "uniform-100",
        "popularity-100",
    ]
