"""Models that lean on item-to-item weights: as far as the held-out part is better found, in every way they answer."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from challenges.recommendation.bert4rec.challenge import CHALLENGE as BERT4REC
from challenges.recommendation.histories import neighbours, ranking_task
from challenges.recommendation.histories.baselines import ease_weights, multi_hot, solved_ease
from challenges.recommendation.histories.check import check
from challenges.recommendation.histories.device_histories import Ragged
from challenges.recommendation.histories.neighbours import KEEPS, RIDGES, choose_leaning, choosing_part
from challenges.recommendation.histories.top_items import faded
from challenges.recommendation.ncf.challenge import CHALLENGE as NCF
from challenges.recommendation.vae_cf.challenge import CHALLENGE as VAE_CF
from common.export.onnx import export_onnx
from common.export.runner import OnnxRunner
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
    value = lambda: task._value(data.tuning(), neighbours.LEANS_BY).value  # noqa: E731
    with torch.no_grad():
        alone = value()
        leaning = choose_leaning(data.split, CPU)
        told = task.settle(data)
        chosen, values = task.neighbours, {}
        assert task.fading == pytest.approx(leaning.keep)
        for share in ranking_task.SHARES:
            task.neighbours = share * task._weights(data, data.split, leaning)
            values[share] = value()
    best = max(values, key=values.get)
    found = values[best]
    assert found > 1.5 * alone
    assert f"ridge {leaning.ridge:g}" in told
    assert f"{best:g} times as spread" in told
    whole = data.split if challenge is VAE_CF else replace(data.split, train=data.split.seen)  # other users are judged
    torch.testing.assert_close(chosen, best * task._weights(data, whole, leaning))
    assert f"{found:.4f}, the model alone {alone:.4f}" in told


def plain_gain(split, ridge, keep):
    """NDCG of each user's only target among unseen items by EASE, item after item."""
    marks = np.zeros((split.num_users, split.num_items))
    for user in range(split.num_users):
        marks[user, split.train.of(user)] = 1
    inverse = np.linalg.inv(marks.T @ marks + ridge * np.eye(split.num_items))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    gains = []
    for place in range(split.num_judged):
        told, target = split.seen.of(place), split.targets.of(place)[0]
        scores = sum(keep**age * weights[item] for age, item in enumerate(reversed(told)))
        unseen = np.setdiff1d(np.arange(split.num_items), told)
        rank = int((scores[unseen] >= scores[target] - 1e-9).sum()) - 1
        gains.append(1 / np.log2(rank + 2))
    return np.mean(gains)


@pytest.mark.parametrize("ordered", [True, False])
def test_ridge_and_fading_are_chosen_by_what_a_plain_loop_finds(ordered, tmp_path):
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
    plain = {(ridge, keep): plain_gain(part, ridge, keep) for ridge in RIDGES for keep in KEEPS}
    leaning = choose_leaning(split, CPU)
    name_is_mrr = split.num_items < 100  # too few items for a cutoff of 100
    assert name_is_mrr
    assert plain[leaning.ridge, leaning.keep] >= max(plain.values()) - 0.02
    assert not ordered or leaning.keep < 1


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
def test_what_is_exported_and_kept_answers_as_it_was_judged(challenge, opened, tmp_path):
    task, recipe, data = opened(challenge)
    task.settle(data)
    task.keep = torch.tensor(0.7)  # whatever was chosen: that the newest count most is kept, too
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
    monkeypatch.setattr(neighbours, "ease_weights", lambda *where, l2: -ease_weights(*where, l2=l2))
    monkeypatch.setattr(neighbours, "solved_ease", lambda gram, l2: -solved_ease(gram, l2))
    assert "left out" in task.settle(data)
    assert task.neighbours is task.keep is None


def test_published_recipes_and_large_catalogues_stay_alone(opened, monkeypatch):
    task, recipe, data = opened(NCF)
    task.recipe = replace(recipe, neighbours="none")
    assert task.settle(data) == ""
    monkeypatch.setattr(ranking_task, "LARGEST_NEIGHBOURS", 10)
    task.recipe = recipe
    assert "48 items, 10 at most" in task.settle(data)
    assert task.neighbours is None
    recipes = {**NCF.recipes, **VAE_CF.recipes, **BERT4REC.recipes}
    assert {name for name, recipe in recipes.items() if recipe.neighbours != "none"} == {"own"}


def test_where_nothing_is_held_out_the_neighbours_count_for_more(tribes, tmp_path):
    recipe = BERT4REC.recipes["own"]
    check(tribes, tmp_path, recipe.history)
    data = BERT4REC.open_data(recipe, tmp_path, CPU)
    task = BERT4REC.build_task(recipe, data).eval()
    task.settle(data)
    with torch.no_grad():
        batch = next(iter(data.validation_batches()))
        scores = task.scores(batch)
        marks = torch.zeros_like(scores)
        for row, user in enumerate(batch["index"].tolist()):
            for age, item in enumerate(reversed(data.split.seen.of(user).tolist())):
                marks[row, item] = task.fading**age
        assert (marks @ task.neighbours).std(1).mean() == pytest.approx(2 * scores.std(1).mean().item(), rel=1e-4)
