"""NeuMF's training step, its stages, and what is exported."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from challenges.recommendation.histories.data import InteractionData
from challenges.recommendation.histories.recipes import EvaluationConfig, HistoryConfig
from challenges.recommendation.ncf import task as task_module
from challenges.recommendation.ncf.model import pair_cells
from challenges.recommendation.ncf.recipes import (
    RECIPES,
    ModelConfig,
    NcfRecipe,
    NegativesConfig,
    PretrainingConfig,
)
from challenges.recommendation.ncf.task import STAGES, NcfTask
from common.errors import DataError, RecipeError
from common.machine.precision import Precision, quick_products
from common.run.recipe import OptimizerConfig, TrainingConfig, from_json, to_json
from common.training.averages import MovingAverage
from common.training.step import TrainStep
from common.training.task import StepSettings
from tests.recommendation.worlds import build_split, held_out_split, random_split

CPU = torch.device("cpu")
SPLIT = random_split()
PLAIN = NcfRecipe(
    summary="test",
    model=ModelConfig(factors=4, layers=(8, 6, 4)),
    evaluation=EvaluationConfig(cutoffs=(5,), uniform_negatives=10, popular_negatives=0),
    optimizer=OptimizerConfig(name="adamw", peak_lr=0.05, weight_decay=0.0, schedule="cosine"),
    training=TrainingConfig(epochs=6, batch_size=48),
)
PRETRAINED = replace(PLAIN, pretraining=PretrainingConfig(gmf_epochs=2, mlp_epochs=2, joint_lr_scale=0.5))


class Run:
    """A bare training whose state can be taken and given, as the trainer does it."""

    def __init__(self, recipe: NcfRecipe) -> None:
        torch.manual_seed(recipe.training.seed)
        self.task, self.data = NcfTask(recipe, SPLIT), InteractionData(SPLIT, device=CPU)
        self.per_epoch = self.data.num_train / recipe.training.batch_size
        self.total = round(recipe.training.epochs * self.per_epoch)
        self.optimizers = self.task.optimizers(self.total, self.per_epoch)
        self.task.set_trainable(0)
        self.step = TrainStep(self.task, self.optimizers, StepSettings(Precision("fp32", None), CPU))
        self.losses: list[float] = []

    def go(self, first: int, end: int) -> "Run":
        batches = self.data.train_batches(first, self.task.recipe.training.batch_size, 1)
        for step in range(first, end):
            if self.task.set_trainable(step):
                self.step.rebuild()
            self.losses.append(float(self.step([next(batches)], step)["loss"]))
        return self

    def resumed(self, done: int) -> "Run":
        other = Run(self.task.recipe)
        other.task.load_state_dict(self.task.state_dict())
        other.optimizers[0].optimizer.load_state_dict(deepcopy(self.optimizers[0].optimizer.state_dict()))
        other.task.set_trainable(done)
        other.step.rebuild()
        return other


def test_negatives_depend_on_step_seed_and_row_alone():
    task = NcfTask(PLAIN, SPLIT)
    batch = next(InteractionData(SPLIT, device=CPU).train_batches(0, 40, 1))
    items = task.prepare_batch(batch, 3)["items"]
    assert items.shape == (40, 5)
    torch.testing.assert_close(items[:, 0], batch["item"])
    for user, row in zip(batch["user"].tolist(), items.tolist(), strict=True):
        assert not set(row[1:]) & set(SPLIT.train.of(user).tolist())
    part = {name: tensor[10:20] for name, tensor in batch.items()}
    torch.testing.assert_close(NcfTask(PLAIN, SPLIT).prepare_batch(part, 3)["items"], items[10:20])
    assert not torch.equal(task.prepare_batch(batch, 4)["items"], items)


def test_negatives_may_come_from_all_items():
    recipe = replace(PLAIN, negatives=NegativesConfig(per_positive=200, unseen_only=False))
    batch = next(InteractionData(SPLIT, device=CPU).train_batches(0, 40, 1))
    drawn = NcfTask(recipe, SPLIT).prepare_batch(batch, 0)["items"][:, 1:]
    counts = torch.bincount(drawn.flatten(), minlength=60)
    assert abs(counts / counts.sum() - 1 / 60).max() < 0.006


def test_the_loss_is_the_binary_cross_entropy():
    task = NcfTask(PLAIN, SPLIT)
    batch = task.prepare_batch(next(InteractionData(SPLIT, device=CPU).train_batches(0, 40, 1)), 0)
    logits = task.model(batch["user"], batch["items"])
    label = torch.zeros_like(logits)
    label[:, 0] = 1
    torch.testing.assert_close(task.loss(batch)["loss"], functional.binary_cross_entropy_with_logits(logits, label))


@pytest.mark.parametrize("recipe", [PLAIN, PRETRAINED], ids=["plain", "pretrained"])
def test_training_learns_and_ranks(recipe):
    run = Run(replace(recipe, training=replace(recipe.training, epochs=24)))
    run.go(0, run.total)
    assert np.mean(run.losses[-10:]) < 0.75 * np.mean(run.losses[:2])
    task = run.task.eval()
    with torch.no_grad():
        evaluation = task.evaluate(run.data.validation_batches())
    assert set(evaluation.metrics) == {
        "hr@5/full", "ndcg@5/full", "mrr/full", "hr@5/uniform-10", "ndcg@5/uniform-10", "mrr/uniform-10"
    }  # fmt: skip


def test_pretraining_passes_through_its_stages():
    run, edges = Run(PRETRAINED), (0, 2, 4, 6)
    steps = [round(edge * run.per_epoch) for edge in edges]
    start = {name: value.clone() for name, value in run.task.state_dict().items()}
    for tower, begin, end in zip(("gmf", "mlp", "neumf"), steps, steps[1:], strict=False):
        run.go(begin, end)
        assert run.task.model.tower == tower
        moved = {
            name.split(".")[1] for name, value in run.task.state_dict().items()
            if name != "stage" and not torch.equal(value, start[name])
        }  # fmt: skip
        assert moved == ({"gmf"} if tower == "gmf" else {"gmf", "mlp"})
    schedule = run.optimizers[0].schedule
    assert [schedule(step) for step in steps[:3]] == pytest.approx([0.05, 0.05, 0.025])
    assert all(schedule(step - 1) < 0.002 for step in steps[1:])


@pytest.mark.parametrize("shift", [-2, 0, 1], ids=["before", "at", "after"])
@pytest.mark.parametrize("edge", [2, 4])
def test_a_resumed_run_joins_the_towers_exactly_once(edge, shift):
    run = Run(PRETRAINED)
    stop = round(edge * run.per_epoch) + shift
    run.go(0, stop)
    again = run.resumed(stop)
    run.go(stop, run.total)
    again.go(stop, run.total)
    assert again.losses == run.losses[stop:]
    for name, value in run.task.state_dict().items():
        assert torch.equal(value, again.task.state_dict()[name]), name


def test_a_moving_average_follows_the_stages():
    run = Run(PRETRAINED)
    average = MovingAverage(run.task, 0.8)
    towers, followed, expected = [], 0.0, []
    for step in range(run.total):
        run.go(step, step + 1)
        followed += (1 - average.share()) * (float(run.task.stage) - followed)
        expected.append(STAGES[round(followed)])
        average.update(run.task)
        with torch.no_grad():
            average.module.evaluate(run.data.validation_batches())
        towers.append(average.module.model.tower)
    assert towers == expected
    assert list(dict.fromkeys(towers)) == ["gmf", "mlp", "neumf"]
    assert towers.index("mlp") > round(2 * run.per_epoch)  # an average of both stages' weights is no tower of either
    fresh = NcfTask(PRETRAINED, SPLIT)
    fresh.load_state_dict(average.module.state_dict())
    assert torch.equal(fresh.stage, average.module.stage)


def test_a_finished_model_answers_with_both_towers():
    run = Run(PRETRAINED)
    run.go(0, run.total)
    fresh = NcfTask(PRETRAINED, SPLIT)
    fresh.model.load_state_dict(run.task.model.state_dict())
    user = torch.arange(5)
    torch.testing.assert_close(fresh.model.score_all(user), run.task.model.score_all(user))


def test_users_that_were_not_trained_on_are_refused():
    with pytest.raises(DataError, match="15 of 15"):
        NcfTask(PLAIN, held_out_split())


@pytest.mark.parametrize(
    "change",
    [
        {"history": HistoryConfig(protocol="held-out-users", held_out_users=5)},
        {"pretraining": PretrainingConfig(gmf_epochs=3, mlp_epochs=3)},
    ],
)
def test_recipes_that_contradict_themselves_are_refused(change):
    with pytest.raises(RecipeError):
        replace(PLAIN, **change)


@pytest.mark.parametrize(
    ("part", "values"),
    [
        (ModelConfig, {"layers": (7, 3)}),
        (ModelConfig, {"dropout": 1.0}),
        (NegativesConfig, {"per_positive": 0}),
        (PretrainingConfig, {"gmf_epochs": 2}),
        (PretrainingConfig, {"alpha": 1.0}),
    ],
)
def test_values_out_of_range_are_refused(part, values):
    with pytest.raises(RecipeError):
        part(**values)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_builds_and_survives_json(name):
    recipe = RECIPES[name]
    assert from_json(NcfRecipe, to_json(recipe)) == recipe
    assert recipe.optimizer.name != "sgd"
    task = NcfTask(recipe, SPLIT)
    task.optimizers(1000, 100.0)
    batch = task.prepare_batch(next(InteractionData(SPLIT, device=CPU).train_batches(0, 8, 1)), 0)
    assert task.loss(batch)["loss"].isfinite()


def test_exported_answers_equal_the_tasks(tmp_path):
    """ONNX Runtime and OpenVINO name the same ten items as the ranking of the scores."""
    pytest.importorskip("openvino")
    from common.export.onnx import export_onnx
    from common.export.runner import OnnxRunner, OpenVinoRunner

    task = NcfTask(PLAIN, SPLIT).eval()
    torch.manual_seed(0)
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    user = torch.arange(6)[:, None]
    seen = torch.as_tensor(SPLIT.seen.select(user[:, 0].numpy()).padded(30))
    path = export_onnx(task.inference_module(), task.signature(), tmp_path / "ncf.onnx",
                       example={"user": user, "seen": seen})  # fmt: skip
    scores = task.model.score_all(user[:, 0]).detach()
    for row in range(6):
        scores[row, SPLIT.seen.of(row)] = -torch.inf
    expected = scores.topk(10)
    for runner in (OnnxRunner(path, threads=1), OpenVinoRunner(path)):
        for width in (30, 41):
            padded = np.pad(seen.numpy(), ((0, 0), (0, width - 30)), constant_values=-1)
            answers = runner({"user": user.numpy(), "seen": padded})
            np.testing.assert_array_equal(answers["items"], expected.indices)
            np.testing.assert_allclose(answers["scores"], expected.values, atol=1e-4)


def test_the_served_batch_shrinks_with_the_catalogue():
    task = NcfTask(PLAIN, build_split([[0]], [[1]], num_items=400_000))
    assert task.signature().batch.maximum == 27
    assert task.signature().free["seen"].maximum >= 410_000  # all of it, and what a request names


@pytest.mark.parametrize("recipe", [PLAIN, PRETRAINED], ids=["plain", "pretrained"])
def test_ranking_lists_alone_tells_what_ranking_everything_tells_of_them(recipe):
    task = Run(recipe).go(0, 8).task.eval()
    task.recipe = replace(recipe, evaluation=replace(recipe.evaluation, lists_while_training=True))
    pairs = []
    task.model.register_forward_hook(lambda module, inputs, logits: pairs.append(logits.numel()))
    data = InteractionData(SPLIT, device=CPU)
    with torch.no_grad():
        whole, brief = task.evaluate(data.validation_batches()), task.evaluate_briefly(data.validation_batches())
    assert sum(pairs) == SPLIT.num_judged * 11
    assert brief.metrics.keys() == {name for name in whole.metrics if name.endswith("/uniform-10")}
    for name, value in brief.metrics.items():
        assert value == pytest.approx(whole.metrics[name]), name
    assert np.array_equal(brief.predictions["rank/uniform-10"], whole.predictions["rank/uniform-10"])


def test_lists_alone_are_refused_where_there_are_none():
    with pytest.raises(RecipeError, match="lists-while-training was chosen without lists"):
        replace(PLAIN, evaluation=EvaluationConfig(uniform_negatives=0, popular_negatives=0, lists_while_training=True))


def test_pairs_are_counted_beside_positives():
    assert NcfTask(replace(PLAIN, negatives=NegativesConfig(per_positive=4)), SPLIT).other_units() == {"pair": 5.0}


def test_a_gpu_scores_as_many_pairs_at_once_as_its_free_memory_holds(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (70 * 2**30, 80 * 2**30))
    assert 2**30 <= pair_cells(torch.device("cuda")) <= 70 * 2**30 // 16  # four layers in float32 are alive at once


def test_a_gpu_ranks_in_tf32_and_leaves_the_setting_as_it_was(monkeypatch):
    task, seen = NcfTask(PLAIN, SPLIT).eval(), []
    on_a_gpu = quick_products(torch.device("cuda"))
    monkeypatch.setattr(task_module, "quick_products", lambda device: on_a_gpu)
    task.model.register_forward_hook(lambda *_: seen.append(torch.get_float32_matmul_precision()))
    score_all = task.model.score_all
    monkeypatch.setattr(
        task.model, "score_all", lambda user: seen.append(torch.get_float32_matmul_precision()) or score_all(user)
    )
    before = torch.get_float32_matmul_precision()
    with torch.no_grad():
        task.evaluate(InteractionData(SPLIT, device=CPU).validation_batches())
    assert set(seen) == {"high"}
    assert torch.get_float32_matmul_precision() == before != "high"
    with quick_products(CPU):
        assert torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize("name", RECIPES)
def test_narrow_layers_are_computed_in_float32(name):
    recipe = RECIPES[name]
    assert (recipe.training.precision == "fp32") == (max(recipe.model.layers) <= 64)
