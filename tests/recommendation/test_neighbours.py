"""Models that lean on item-to-item weights: as far as the held-out part is better found, in every way they answer."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from challenges.recommendation.bert4rec.challenge import CHALLENGE as BERT4REC
from challenges.recommendation.histories import ranking_task
from challenges.recommendation.histories.baselines import ease_weights
from challenges.recommendation.histories.check import check
from challenges.recommendation.ncf.challenge import CHALLENGE as NCF
from challenges.recommendation.vae_cf.challenge import CHALLENGE as VAE_CF
from common.export.onnx import export_onnx
from common.export.runner import OnnxRunner

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
    value = lambda: task._value(data.tuning(), ranking_task.LEANS_BY).value  # noqa: E731
    with torch.no_grad():
        alone = value()
        told = task.settle(data)
        chosen, values = task.neighbours, {}
        for ridge in ranking_task.RIDGES:
            for share in ranking_task.SHARES:
                task.neighbours = share * task._weights(data, data.split, ridge)
                values[ridge, share] = value()
    ridge, best = max(values, key=values.get)
    found = values[ridge, best]
    assert found > 1.5 * alone
    assert f"ridge {ridge:g}, {best:g} times as spread" in told
    whole = data.split if challenge is VAE_CF else replace(data.split, train=data.split.seen)  # other users are judged
    torch.testing.assert_close(chosen, best * task._weights(data, whole, ridge))
    assert f"{found:.4f}, the model alone {alone:.4f}" in told


@ALL
def test_what_is_exported_and_kept_answers_as_it_was_judged(challenge, opened, tmp_path):
    task, recipe, data = opened(challenge)
    task.settle(data)
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
    monkeypatch.setattr(ranking_task, "ease_weights", lambda *where, l2: -ease_weights(*where, l2=l2))
    task.settle(data)
    assert task.neighbours is None


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
            marks[row, data.split.seen.of(user)] = 1
        assert (marks @ task.neighbours).std(1).mean() == pytest.approx(2 * scores.std(1).mean().item(), rel=1e-4)
