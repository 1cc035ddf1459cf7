"""Models that lean on item-to-item weights: as far as the held-out part is better found, in every way they answer."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from challenges.recommendation.bert4rec.challenge import CHALLENGE as BERT4REC
from challenges.recommendation.histories import item_pairs, leaning, ranking_task
from challenges.recommendation.histories.check import check
from challenges.recommendation.histories.device_histories import Ragged, multi_hot
from challenges.recommendation.histories.item_pairs import COMPANIONS, FOLLOWERS, SHRINKAGE, strongest_pairs
from challenges.recommendation.histories.leaning import (
    BLENDS,
    KEEPS,
    RIDGES,
    Leaning,
    choose_leaning,
    choosing_part,
    solved,
)
from challenges.recommendation.histories.neighbours import Neighbours
from challenges.recommendation.histories.top_items import faded
from challenges.recommendation.ncf.challenge import CHALLENGE as NCF
from challenges.recommendation.vae_cf.challenge import CHALLENGE as VAE_CF
from common.export.onnx import export_onnx
from common.export.runner import OnnxRunner
from common.machine.distributed import ALONE
from tests.ranks import on_ranks
from tests.recommendation.worlds import build_split

CPU = torch.device("cpu")
ALL = pytest.mark.parametrize("challenge", [NCF, VAE_CF, BERT4REC], ids=lambda challenge: challenge.model)


@pytest.fixture(scope="module")
def tribes(tmp_path_factory):
    """Eighty users of four tribes, each of which takes eight to eleven of its own twelve items."""
    random = np.random.default_rng(0)
    rows = [
        f"{user},{12 * (user % 4) + item},{time}"
        for user in range(80)
        for time, item in enumerate(random.permutation(12)[: 8 + user % 4])
    ]
    path = tmp_path_factory.mktemp("tribes") / "x.csv"
    path.write_text("user,item,time\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture
def opened(tribes, tmp_path):
    """A freshly initialised task of a challenge, its recipe and its data."""

    def build(challenge):
        recipe = challenge.recipes["own"]
        if challenge is BERT4REC:
            recipe = replace(recipe, history=replace(recipe.history, tuning_from=1))
        check(tribes, tmp_path, recipe.history)
        torch.manual_seed(0)
        data = challenge.open_data(recipe, tmp_path, CPU)
        return challenge.build_task(recipe, data).eval(), recipe, data

    return build


@ALL
def test_a_model_that_knows_nothing_leans_on_the_neighbours(challenge, opened):
    task, _, data = opened(challenge)
    value = lambda: task._value(data.tuning(), leaning.LEANS_BY).value  # noqa: E731
    with torch.no_grad():
        alone = value()
        best_leaning = choose_leaning(data.split, CPU)
        told = task.settle(data)
        chosen, values = task.neighbours, {}
        assert chosen.keep == best_leaning.keep
        for share in ranking_task.SHARES:
            task.neighbours = task._weights(data, data.split, best_leaning, share)
            values[share] = value()
    best = max(values, key=values.get)
    found = values[best]
    assert found > 1.5 * alone
    assert f"Item-to-item weights ({best_leaning.told()})" in told
    assert f"{best:g} times as spread" in told
    whole = data.split if challenge is VAE_CF else replace(data.split, train=data.split.seen)  # other users are judged
    expected = task._weights(data, whole, best_leaning, best)
    torch.testing.assert_close(chosen.state_dict(), expected.state_dict())
    assert f"{found:.4f}, the model alone {alone:.4f}" in told


def plain_pairs(histories, num_items, pairs):
    """Counts of pairs over the damped cosine of their items, pair after pair."""
    found, counts = np.zeros((num_items, num_items)), np.bincount(histories.items, minlength=num_items)
    for user in range(len(histories)):
        items = histories.of(user)
        for newer in range(len(items)):
            for older in range(max(0, newer - pairs.window), newer):
                count = pairs.decay ** (newer - older - 1)
                found[items[older], items[newer]] += count
                found[items[newer], items[older]] += pairs.backwards * count
    np.fill_diagonal(found, 0)
    return found / (np.sqrt(np.outer(counts, counts)) + SHRINKAGE)


def plain_ease(histories, num_items, ridge):
    marks = np.zeros((len(histories), num_items))
    for user in range(len(histories)):
        marks[user, histories.of(user)] = 1
    inverse = np.linalg.inv(marks.T @ marks + ridge * np.eye(num_items))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


def plain_scores(weights, told, keep):
    return sum((keep**age * weights[item] for age, item in enumerate(reversed(told))), np.zeros(len(weights)))


def plain_gain(split, parts, keep):
    """NDCG of each user's only target among unseen items by weights, each spread by its share, item after item."""
    scores = np.zeros((split.num_judged, split.num_items))
    for share, weights in parts:
        mine = np.array([plain_scores(weights, split.seen.of(user), keep) for user in range(split.num_judged)])
        scores += share * mine / mine.std(1, ddof=1).mean()
    gains = []
    for place in range(split.num_judged):
        target = split.targets.of(place)[0]
        unseen = np.setdiff1d(np.arange(split.num_items), split.seen.of(place))
        rank = int((scores[place, unseen] >= scores[place, target] - 1e-9).sum()) - 1
        gains.append(1 / np.log2(rank + 2))
    return np.mean(gains)


@pytest.mark.parametrize("pairs", [FOLLOWERS, COMPANIONS], ids=["followers", "companions"])
@pytest.mark.parametrize("entries", [1, 700, 10**6])
def test_the_strongest_pairs_are_those_of_a_plain_loop(pairs, entries, monkeypatch):
    random = np.random.default_rng(0)
    lists = [random.integers(0, 9, random.integers(0, 15)).tolist() for _ in range(20)]
    split = build_split(lists, [[0]] * 20, num_items=9)
    monkeypatch.setattr(item_pairs, "ENTRIES", entries)
    monkeypatch.setattr(item_pairs, "STRONGEST", 4)
    others, weights = strongest_pairs(split.train, 9, pairs, CPU)
    plain = plain_pairs(split.train, 9, pairs)
    np.testing.assert_allclose(weights.numpy(), np.sort(plain, 1)[:, :-5:-1], rtol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(plain, others.numpy(), 1), weights.numpy(), rtol=1e-5)


def test_all_weights_and_the_strongest_add_the_same():
    random = np.random.default_rng(0)
    lists = [random.permutation(7)[:count].tolist() for count in (0, 1, 3, 7)]
    split = build_split([*lists, [5, 5, 5]], [[0]] * 5, num_items=7)
    few = Neighbours(torch.rand(7, 3), torch.stack([torch.randperm(7)[:3] for _ in range(7)]), keep=0.5)
    whole = Neighbours(few.whole(), keep=0.5)
    expected = np.array([plain_scores(whole.weights.numpy(), told, 0.5) for told in lists])
    history = torch.as_tensor([[-1] * (7 - len(told)) + told + [9] for told in lists])
    for weights in (few, whole, few.times(0.5).plus(few.times(0.5)), few.times(0.5).plus(whole.times(0.5))):
        of_users = weights.of_users(Ragged(split.train, CPU), torch.arange(5))
        np.testing.assert_allclose(of_users[:4], expected, rtol=1e-5)
        torch.testing.assert_close(of_users[4], whole.weights[5])  # a repeated item counts once
        np.testing.assert_allclose(weights(history), expected, rtol=1e-5)
    repeated = torch.as_tensor([[3, 3, -1, 2]])
    torch.testing.assert_close(few.fading_by(1.0)(repeated), whole.fading_by(1.0)(torch.as_tensor([[3, 2]])))


@pytest.mark.parametrize("ordered", [True, False])
def test_weights_are_chosen_by_what_a_plain_loop_finds(ordered, tmp_path):
    """Thirty users who walk through twelve items in a ring, or have seven of them in no order."""
    random = np.random.default_rng(0)
    walks = [
        [(start + step) % 12 for step in range(5 + start % 4)] if ordered else random.permutation(12)[:7]
        for start in range(30)
    ]
    rows = [f"{user},{item},{time}" for user, items in enumerate(walks) for time, item in enumerate(items)]
    (tmp_path / "x.csv").write_text("user,item,time\n" + "\n".join(rows) + "\n")
    split = check(tmp_path / "x.csv", tmp_path / "out", NCF.recipes["own"].history).split
    part = choosing_part(split)
    assert [part.seen.of(user).tolist() + part.targets.of(user).tolist() for user in range(30)] == [
        split.seen.of(user).tolist() for user in range(30)
    ]
    assert part.train.items.tolist() == part.seen.items.tolist()
    following = plain_pairs(part.train, 12, FOLLOWERS)
    plain = {
        Leaning(ridge if share else None, keep, share, more): plain_gain(
            part, [(share, plain_ease(part.train, 12, ridge)), (more, following)], keep
        )
        for ridge in RIDGES
        for keep in KEEPS
        for share, more in BLENDS
    }
    chosen = choose_leaning(split, CPU)
    assert plain[chosen] >= max(plain.values()) - 0.02
    assert chosen.following or not ordered
    users, seen = torch.arange(30), Ragged(split.seen, CPU)
    weights = solved(split, replace(chosen, together=1.0, following=1.0, ridge=125.0), seen, users)
    parts = [plain_ease(split.train, 12, 125.0), plain_pairs(split.train, 12, FOLLOWERS)]
    each = [np.array([plain_scores(one, split.seen.of(user), chosen.keep) for user in range(30)]) for one in parts]
    both = sum(scores / scores.std(1, ddof=1).mean() for scores in each)
    np.testing.assert_allclose(weights.of_users(seen, users), both / both.std(1, ddof=1).mean(), atol=1e-4)


def test_older_items_count_less_in_the_graph_and_in_batches():
    lists = [[3, 0, 4], [], [1], [2, 4, 0, 1]]
    split = build_split(lists, [[5]] * 4, num_items=6)
    expected = torch.zeros(4, 6)
    for row, items in enumerate(lists):
        for age, item in enumerate(reversed(items)):
            expected[row, item] = 0.5**age
    torch.testing.assert_close(multi_hot(Ragged(split.train, CPU), torch.arange(4), 6, 0.5), expected)
    history = torch.as_tensor([[-1, 3, -1, 0, 4, 9], [-1] * 6, [1, -1, -1, 6, -1, -1], [-1, -1, 2, 4, 0, 1]])
    torch.testing.assert_close(faded(history, 6, 0.5), expected)


@ALL
@pytest.mark.parametrize("largest_ease", [10, 5000], ids=["the strongest", "all weights"])
def test_what_is_exported_and_kept_answers_as_it_was_judged(challenge, largest_ease, opened, tmp_path, monkeypatch):
    monkeypatch.setattr(leaning, "LARGEST_EASE", largest_ease)
    monkeypatch.setattr(item_pairs, "STRONGEST", 9)
    task, recipe, data = opened(challenge)
    task.leaning = Leaning(500.0 if largest_ease > 48 else None, 0.7, 1.0, 1.0)  # that older items fade is kept, too
    task.settle(data)
    assert task.neighbours.weights.shape == (48, 48 if largest_ease > 48 else 18)
    with torch.no_grad():
        judged = task.evaluate(data.validation_batches()).predictions["top_items"]
    challenge.weights.save(task, data, recipe, tmp_path / "weights.safetensors")
    other = challenge.build_task(recipe, data)
    challenge.weights.load(other, tmp_path / "weights.safetensors")
    inputs = challenge.questions.of_judged(data.split, np.arange(len(judged)))
    example = {name: torch.as_tensor(array[:4]) for name, array in inputs.items()}
    path = export_onnx(other.eval().inference_module(), other.signature(), tmp_path / "model.onnx", example=example)
    answers = [
        OnnxRunner(path)({name: array[row : row + 1] for name, array in inputs.items()})["items"][0]
        for row in range(0, len(judged), 16)
    ]
    found = [len(set(answer) & set(expected)) for answer, expected in zip(answers, judged[::16], strict=True)]
    assert np.mean(found) >= 9.5  # of ten; equal scores may change places


def test_a_model_that_does_better_alone_stays_alone(opened, monkeypatch):
    task, _, data = opened(VAE_CF)
    monkeypatch.setattr(ranking_task, "solved", lambda *where: solved(*where).times(-1))
    assert "left out" in task.settle(data)
    assert task.neighbours is None


def test_published_recipes_and_huge_catalogues_stay_alone(opened, monkeypatch):
    task, recipe, data = opened(NCF)
    task.recipe = replace(recipe, neighbours="none")
    assert task.settle(data) == ""
    monkeypatch.setattr(ranking_task, "LARGEST_CATALOGUE", 10)
    task.recipe = recipe
    assert "48 items, 10 at most" in task.settle(data)
    assert task.neighbours is None
    recipes = {**NCF.recipes, **VAE_CF.recipes, **BERT4REC.recipes}
    assert {name for name, recipe in recipes.items() if recipe.neighbours != "none"} == {"own"}


def _settled(world, challenge, checked, output):
    torch.manual_seed(0)
    recipe = challenge.recipes["own"]
    data = challenge.open_data(recipe, checked, CPU, world)
    task = challenge.build_task(recipe, data).eval()
    task.settle(data)
    torch.save(task.neighbours.state_dict(), output / f"{world.rank}-of-{world.size}.pt")


@ALL
def test_several_processes_choose_what_one_does(challenge, tribes, tmp_path):
    check(tribes, tmp_path / "checked", challenge.recipes["own"].history)
    _settled(ALONE, challenge, tmp_path / "checked", tmp_path)
    on_ranks(2, _settled, challenge, tmp_path / "checked", tmp_path)
    alone, *others = (torch.load(tmp_path / name) for name in ("0-of-1.pt", "0-of-2.pt", "1-of-2.pt"))
    for other in others:
        torch.testing.assert_close(other, alone)


def test_where_nothing_is_held_out_the_neighbours_count_for_more(tribes, tmp_path):
    recipe = BERT4REC.recipes["own"]
    check(tribes, tmp_path, recipe.history)
    data = BERT4REC.open_data(recipe, tmp_path, CPU)
    task = BERT4REC.build_task(recipe, data).eval()
    task.settle(data)
    with torch.no_grad():
        batch = next(iter(data.validation_batches()))
        scores = task.scores(batch)
        added = task.neighbours.of_users(Ragged(data.split.seen, CPU), batch["index"])
    assert added.std(1).mean() == pytest.approx(2 * scores.std(1).mean().item(), rel=1e-4)
