"""Mult-VAE and Mult-DAE."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from challenges.recommendation.histories.data import UserData
from challenges.recommendation.vae_cf.model import Autoencoder, HistoryEncoder
from challenges.recommendation.vae_cf.recipes import RECIPES, AnnealingConfig, ModelConfig
from challenges.recommendation.vae_cf.task import VaeCfTask, kl_divergence, log_likelihood
from common.errors import InterruptedRunError, RecipeError
from common.export.onnx import export_onnx
from common.export.runner import OnnxRunner, OpenVinoRunner
from common.run.recipe import from_json, to_json
from common.run.run_directory import RunDirectory
from common.training.trainer import Trainer
from tests.common.training.test_trainer import StopAfter
from tests.recommendation.planted import CPU, taste_split
from tests.toy import FP32

SPLIT = taste_split()


def recipe(kind="vae", hidden=(24,), **training):
    base = RECIPES["demo"]
    fields = {"epochs": 6, "batch_size": 16, "checkpoint_every": 7, "evaluate_every": 3, "log_every": 5, **training}
    return dataclasses.replace(
        base,
        target=None,
        model=ModelConfig(kind=kind, hidden=hidden, latent=8),
        annealing=AnnealingConfig(cap=0.2, steps=200),
        optimizer=dataclasses.replace(base.optimizer, peak_lr=0.01),
        training=dataclasses.replace(base.training, **fields),
    )


def trainer(folder, chosen, **parts):
    torch.manual_seed(0)
    data = UserData(SPLIT, device=CPU, seed=chosen.training.seed)
    return Trainer(VaeCfTask(chosen, SPLIT), data, chosen, RunDirectory(folder), device=CPU, precision=FP32, **parts)


def random_entries(num_rows=7, num_items=30, seed=0):
    random = np.random.default_rng(seed)
    items = [random.permutation(num_items)[: random.integers(0, 9)] for _ in range(num_rows)]
    row = torch.repeat_interleave(torch.tensor([len(i) for i in items]))
    return row, torch.as_tensor(np.concatenate(items)), num_rows


def dense_rows(row, item, num_rows, num_items):
    return torch.zeros(num_rows, num_items).index_put((row, item), torch.ones(len(row)))


def test_the_first_layer_equals_a_linear_layer_on_normalised_rows():
    row, item, num_rows = random_entries()
    layer = HistoryEncoder(30, 5, dropout=0.5).eval()
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    marks = dense_rows(row, item, num_rows, 30)
    expected = functional.linear(functional.normalize(marks), layer.weight.t(), layer.bias)
    torch.testing.assert_close(layer(row, item, num_rows), expected)
    torch.testing.assert_close(layer.of_marks(marks), expected)
    ours, theirs = (torch.autograd.grad(v.square().sum(), layer.weight)[0] for v in (layer(row, item, 7), expected))
    torch.testing.assert_close(ours, theirs)


def test_dropout_hides_half_of_the_items_and_doubles_the_rest():
    layer = HistoryEncoder(400, 400, dropout=0.5)
    torch.nn.init.eye_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    torch.manual_seed(0)
    shown = layer(torch.zeros(400, dtype=torch.int64), torch.arange(400), 1)
    torch.testing.assert_close(shown.unique(), torch.tensor([0.0, 2 / 20]))
    assert 150 < (shown > 0).sum() < 250


def test_the_likelihood_equals_a_written_out_one():
    row, item, num_rows = random_entries()
    logits = torch.randn(num_rows, 30, generator=torch.Generator().manual_seed(1))
    expected = [
        sum(math.log(logits[r].double().softmax(0)[i]) for i in item[row == r].tolist()) for r in range(num_rows)
    ]
    torch.testing.assert_close(log_likelihood(logits, row, item), torch.tensor(expected))


def test_the_kl_divergence_equals_torchs():
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(5, 8, generator=generator), torch.randn(5, 8, generator=generator)
    normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    standard = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    torch.testing.assert_close(
        kl_divergence(mean, log_variance), torch.distributions.kl_divergence(normal, standard).sum(1)
    )
    assert kl_divergence(torch.zeros(1, 3), torch.zeros(1, 3)).item() == 0


@pytest.mark.parametrize("noise", [1.0, 0.1])
def test_the_codes_are_drawn_in_training_only_and_have_the_stated_spread(noise):
    torch.manual_seed(0)
    model = Autoencoder(num_items=30, hidden=(), latent=1, dropout=0.0, noise=noise)
    row, item = torch.arange(4000), torch.full((4000,), 3)
    with torch.no_grad():
        model.decoder[0].weight.fill_(1.0)
        model.decoder[0].bias.zero_()
        logits, mean, log_variance = model(row, item, 4000)
        drawn = logits[:, 0]
        assert abs(drawn.mean() - mean[0]) < 0.1
        assert abs(drawn.std() / (0.5 * log_variance[0]).exp() / noise - 1) < 0.05
        torch.testing.assert_close(model.eval()(row, item, 4000)[0][:, :1], mean)


@pytest.mark.parametrize(("kind", "code"), [("vae", 400), ("dae", 200)])
def test_layers_are_the_papers(kind, code):
    def shapes(model):
        return [tuple(p.shape) for name, p in model.named_parameters() if name.endswith("weight")]

    published = Autoencoder(num_items=90, kind=kind, hidden=(600,))
    assert shapes(published) == [(90, 600), (code, 600), (600, 200), (90, 600)]
    assert shapes(Autoencoder(num_items=90, kind=kind, hidden=())) == [(90, code), (90, 200)]
    deepest = shapes(Autoencoder(num_items=90, kind=kind, hidden=(600, 500)))
    assert deepest == [(90, 600), (500, 600), (code, 500), (500, 200), (600, 500), (90, 600)]


@pytest.mark.parametrize(("num_items", "millions"), [(20_720, 25.2), (20_112, 24.5)])
def test_parameters_on_movielens_20m(num_items, millions):
    with torch.device("meta"):
        model = Autoencoder(num_items=num_items)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


def test_beta_rises_by_equal_steps_up_to_its_cap():
    task = VaeCfTask(recipe(), SPLIT)
    betas = [task.prepare_batch({"row": torch.arange(2)}, step)["beta"].item() for step in (0, 10, 40, 1000)]
    assert betas == pytest.approx([0, 0.05, 0.2, 0.2])


@pytest.mark.parametrize("kind", ["vae", "dae"])
def test_training_finds_the_planted_taste(tmp_path, kind):
    outcome = trainer(tmp_path, recipe(kind, epochs=20, evaluate_every=20)).fit()
    assert outcome.evaluation.metrics["recall@10/full"] > 0.95
    chance = 6 / (60 - 7)  # of the ten best, at random
    assert outcome.evaluation.metrics["recall@10/full"] > 3 * chance


@pytest.mark.parametrize("stop", [4, 11])
def test_an_interrupted_run_ends_as_the_whole_one_does(tmp_path, stop):
    whole = trainer(tmp_path / "whole", recipe(epochs=2)).fit()
    with pytest.raises(InterruptedRunError):
        trainer(tmp_path / "cut", recipe(epochs=2), observers=(StopAfter(stop),)).fit()
    resumed = trainer(tmp_path / "cut", recipe(epochs=2)).fit()
    assert resumed.evaluation.metrics == whole.evaluation.metrics
    for name, value in whole.task.state_dict().items():
        assert torch.equal(value, resumed.task.state_dict()[name]), name


@pytest.mark.parametrize("kind", ["vae", "dae"])
def test_exported_graphs_answer_as_the_evaluation_does(tmp_path, kind):
    torch.manual_seed(0)
    task = VaeCfTask(recipe(kind), SPLIT).eval()
    example = {"history": torch.tensor([[1, 2, 3, -1], [4, 5, -1, -1]])}
    path = export_onnx(task.inference_module(), task.signature(), tmp_path / "model.onnx", example=example)
    histories = SPLIT.seen.padded(11)[:3]
    histories[1, 4:] = -1
    histories[2, 0] = 999  # no item
    with torch.no_grad():
        items, scores = task.inference_module()(torch.as_tensor(histories))
        marks = torch.zeros(3, 60)
        marks[0, histories[0][histories[0] >= 0]] = 1
        row, item = marks[:1].nonzero(as_tuple=True)
        logits, _, _ = task.model(row, item, 1)
    assert items[0].tolist() == logits[0].masked_fill(marks[0] > 0, -1e9).topk(10).indices.tolist()
    for runner in (OnnxRunner(path, threads=1), OpenVinoRunner(path)):
        answer = runner({"history": histories})
        assert (answer["items"] == items.numpy()).all()
        np.testing.assert_allclose(answer["scores"], scores.numpy(), atol=1e-4)
        alone = runner({"history": histories[:1, :8]})
        assert (alone["items"] == items[:1].numpy()).all()
        runner.close()


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_their_record(name):
    assert from_json(type(RECIPES[name]), to_json(RECIPES[name])) == RECIPES[name]


def test_senseless_sizes_are_refused():
    for wrong in ({"latent": 0}, {"hidden": (600, 0)}, {"dropout": 1.0}, {"noise": -1.0}):
        with pytest.raises(RecipeError):
            ModelConfig(**wrong)
    with pytest.raises(RecipeError):
        AnnealingConfig(steps=0)


def test_a_captured_step_is_refused():
    with pytest.raises(RecipeError, match="cuda-graphs was chosen for vae_cf"):
        recipe(cuda_graphs=True)
