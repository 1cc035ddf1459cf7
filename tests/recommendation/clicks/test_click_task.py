"""Click models through the trainer, the exporter and the forecast of their memory."""

import dataclasses

import numpy as np
import pytest
import torch

from challenges.recommendation.clicks.baselines import baselines
from challenges.recommendation.clicks.comparison import ProbabilityComparison, judged
from challenges.recommendation.clicks.memory import MemoryNeed, memory_need, require_memory
from challenges.recommendation.clicks.metrics import auc
from challenges.recommendation.clicks.recipes import JudgingConfig, NumbersConfig, TablesConfig
from challenges.recommendation.clicks.spec import FIRST, RARE
from challenges.recommendation.dlrm.recipes import RECIPES as DLRM
from challenges.recommendation.dlrm.recipes import DlrmConfig, DlrmRecipe
from challenges.recommendation.dlrm.task import DlrmTask
from challenges.recommendation.wide_and_deep.recipes import RECIPES as WIDE_AND_DEEP
from challenges.recommendation.wide_and_deep.recipes import WideAndDeepConfig, WideAndDeepRecipe, WideConfig
from challenges.recommendation.wide_and_deep.task import WideAndDeepTask
from common.errors import InterruptedRunError, RecipeError
from common.export.onnx import export_onnx
from common.export.parity import compare
from common.export.runner import OnnxRunner, OpenVinoRunner
from common.machine.precision import Precision
from common.run.recipe import OptimizerConfig, TrainingConfig, from_json, to_json
from common.run.run_directory import RunDirectory
from common.training.averages import MovingAverage
from common.training.step import TrainStep
from common.training.task import StepSettings
from common.training.trainer import Trainer
from tests.common.training.test_trainer import StopAfter
from tests.recommendation.clicks.logs import ClickRows, padded_bags, rows, spec
from tests.toy import CPU, FP32

SPEC = spec()
FIELDS = {
    "summary": "a test",
    "numbers": NumbersConfig(encoding="scaled"),
    "judging": JudgingConfig(resamples=20),
    "optimizer": OptimizerConfig(name="adamw", peak_lr=5e-3, weight_decay=0.0, schedule="constant"),
}
TRAINING = TrainingConfig(epochs=3, batch_size=60, evaluate_every=3, checkpoint_every=7, log_every=5)


def dlrm(tables=TablesConfig(width=4, peak_lr=0.1), training=TRAINING, **model):  # noqa: B008
    return DlrmRecipe(**FIELDS, tables=tables, training=training, model=DlrmConfig(bottom=(8,), top=(16,), **model))


def wide_and_deep(optimizer="same", tables=TablesConfig(width=4, peak_lr=0.1), training=TRAINING):  # noqa: B008
    model = WideAndDeepConfig(hidden=(16,), dropout=0.1)
    return WideAndDeepRecipe(
        **FIELDS, tables=tables, training=training, model=model, wide=WideConfig(optimizer=optimizer, peak_lr=0.1)
    )


def task(recipe, described=SPEC):
    torch.manual_seed(0)
    return (DlrmTask if isinstance(recipe, DlrmRecipe) else WideAndDeepTask)(recipe, described)


def trainer(folder, recipe, described=SPEC, **parts):
    data = ClickRows(described)
    return Trainer(task(recipe, described), data, recipe, RunDirectory(folder), device=CPU, precision=FP32, **parts)


DENSE = TablesConfig(width=4, optimizer="dense")
KINDS = {
    "dlrm": dlrm(),
    "dcnv2": dlrm(interaction="dcnv2", cross_layers=2, cross_rank=4),
    "dlrm of half precision rows": dlrm(TablesConfig(width=4, peak_lr=0.1, dtype="fp16")),
    "wide and deep": wide_and_deep(),
    "wide and deep, as published": wide_and_deep("ftrl"),
    "wide and deep of dense tables": wide_and_deep("ftrl", DENSE),
}


@pytest.mark.parametrize("name", KINDS)
def test_training_finds_the_planted_truth(tmp_path, name):
    recipe = KINDS[name]
    longer = dataclasses.replace(recipe, training=dataclasses.replace(TRAINING, epochs=8, evaluate_every=8))
    found = trainer(tmp_path, longer).fit().evaluation
    assert found.metrics["auc"] > 0.78  # the truth itself: about .87
    low, high = found.intervals["auc"]
    assert low < found.metrics["auc"] < high
    assert {"gauc", "map@12", "auc/head", "auc/tail", "auc/unseen"} <= found.metrics.keys()
    assert found.metrics["auc"] == auc(found.predictions["label"], found.predictions["logit"])


@pytest.mark.parametrize("name", ["dlrm of half precision rows", "wide and deep, as published"])
def test_an_interrupted_run_ends_as_the_whole_one_does(tmp_path, name):
    whole = trainer(tmp_path / "whole", KINDS[name]).fit()
    with pytest.raises(InterruptedRunError):
        trainer(tmp_path / "cut", KINDS[name], observers=(StopAfter(11),)).fit()
    resumed = trainer(tmp_path / "cut", KINDS[name]).fit()
    assert resumed.evaluation.metrics == whole.evaluation.metrics
    for key, value in whole.task.state_dict().items():
        assert torch.equal(value, resumed.task.state_dict()[key]), key


@pytest.mark.parametrize("name", KINDS)
def test_a_step_that_is_not_finite_changes_nothing(name):
    model = task(KINDS[name])
    step = TrainStep(model, model.optimizers(10, 5.0), StepSettings(FP32, CPU))
    log = rows(SPEC, 60)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    step([{**log, "label": log["label"] * torch.nan}], 0)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    step([log], 1)
    assert not torch.equal(model.tables.weight, before["tables.weight"])


@pytest.mark.parametrize("name", ["dlrm", "dlrm of half precision rows", "wide and deep"])
def test_rows_that_are_read_in_bfloat16_learn_bit_for_bit_what_rounded_ones_do(name):
    described, bf16 = spec(multi_hot=False), Precision("bf16", torch.bfloat16)
    learnt = []
    for is_rounded in (True, False):
        model = task(KINDS[name], described)
        model.tables.is_rounded = is_rounded
        step = TrainStep(model, model.optimizers(10, 5.0), StepSettings(bf16, CPU))
        torch.manual_seed(1)
        for number in range(3):
            step([rows(described, 60, seed=number)], number)
        learnt.append(model.state_dict())
        model(rows(described, 60))["loss"].backward()
        assert model.tables.weight.grad.dtype == torch.float32  # without autocast
        with bf16.context(CPU):
            model.zero_grad()
            model(rows(described, 60))["loss"].backward()
        assert model.tables.weight.grad.dtype == (torch.bfloat16 if is_rounded else torch.float32)
    assert all(torch.equal(value, learnt[1][name]) for name, value in learnt[0].items())


@pytest.mark.parametrize(
    ("width", "micro_batch", "is_rounded"), [(128, "auto", True), (128, 30, False), (16, "auto", False)]
)
def test_wide_rows_of_a_single_pass_are_read_in_bfloat16(width, micro_batch, is_rounded):
    training = dataclasses.replace(TRAINING, micro_batch=micro_batch)
    assert task(dlrm(TablesConfig(width=width), training)).tables.is_rounded == is_rounded


def test_weights_are_chosen_on_rows_that_are_neither_learnt_nor_judged(tmp_path, monkeypatch):
    tuning = ClickRows(SPEC, held_out=300)
    monkeypatch.setattr(ClickRows, "tuning", lambda self: tuning)
    recipe = dlrm(training=dataclasses.replace(TRAINING, epochs=4, evaluate_every=1, patience=1))
    kept = trainer(tmp_path, recipe).fit()
    with torch.no_grad():
        value, error = kept.task.eval().held_out_value(ClickRows(SPEC))
        assert value == kept.task.evaluate(tuning.validation_batches()).metrics["auc"]
    assert 0 < error < 0.1
    assert (tmp_path / "checkpoints" / "chosen.pt").is_file()


def test_rates_follow_the_schedule_each_at_its_own_height():
    recipe = dataclasses.replace(
        KINDS["wide and deep, as published"], optimizer=OptimizerConfig(name="adamw", peak_lr=1.0)
    )
    model = task(recipe)
    kinds = [(type(one.optimizer).__name__, one.schedule(0)) for one in model.optimizers(10, 5.0)]
    assert kinds == [("MemoryOrderAdamW", 1.0), ("RowwiseAdagrad", 0.1), ("RowFtrl", 0.1), ("Ftrl", 0.1)]
    trained = [p for one in model.optimizers(10, 5.0) for group in one.optimizer.param_groups for p in group["params"]]
    assert sorted(map(id, trained)) == sorted(map(id, model.parameters()))


def test_the_moving_average_is_the_networks():
    model = task(dlrm())
    average = MovingAverage(model, 0.9, model.unaveraged())
    assert average.module.tables.weight is model.tables.weight
    assert model.tables.weight.requires_grad
    averaged = [p for p in average.module.parameters() if p is not model.tables.weight]
    assert not any(p.requires_grad for p in averaged)
    before = [p.clone() for p in averaged]
    step = TrainStep(model, model.optimizers(10, 5.0), StepSettings(FP32, CPU, average=average))
    step([rows(SPEC, 60)], 0)
    assert all(not torch.equal(p, b) for p, b in zip(averaged, before, strict=True))
    apart = task(dlrm(DENSE))
    assert MovingAverage(apart, 0.9, apart.unaveraged()).module.tables.weight is not apart.tables.weight


def test_some_ids_are_taken_for_unseen_ones_the_same_at_every_resume():
    model = task(dlrm(TablesConfig(width=4, unknown_share=0.25)))
    log = rows(SPEC, 500)
    first, again, later = (model.prepare_batch(log, step)["categorical"] for step in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    known = log["categorical"] >= FIRST
    assert torch.equal(first[~known], log["categorical"][~known])
    assert 0.2 < (first[known] == RARE).float().mean() < 0.3
    assert model.prepare_batch(log, 3)["categorical"].dtype == torch.int32


IDS_ONLY = spec(dense=0, multi_hot=False, crosses=0)


@pytest.mark.parametrize(
    ("name", "described"), [("wide and deep", SPEC), ("dcnv2", SPEC), ("dlrm", IDS_ONLY)], ids=["all", "dcnv2", "ids"]
)
def test_exported_graphs_answer_as_the_evaluation_does(tmp_path, name, described):
    model = task(KINDS[name], described).eval()
    path = export_onnx(model.inference_module(), model.signature(), tmp_path / "model.onnx", example=model.example())
    log = rows(described, 9)
    inputs = {"dense": log["dense"], "categorical": log["categorical"]}
    if described.multi_hot:
        inputs["multi_hot"] = padded_bags(log)
    arrays = {one.name: inputs[one.name].numpy() for one in model.signature().inputs}
    with torch.no_grad():
        expected = model.score(log).numpy()
    for runner in (OnnxRunner(path, threads=1), OpenVinoRunner(path)):
        answer = runner(arrays)
        np.testing.assert_allclose(answer["logit"][:, 0], expected, atol=1e-4)
        np.testing.assert_allclose(answer["probability"][:, 0], 1 / (1 + np.exp(-expected)), atol=1e-5)
        runner.close()


def test_examples_lie_within_the_spec():
    example = task(wide_and_deep()).example()
    last = [column.cardinality - 1 for column in SPEC.categorical]
    assert example["categorical"][0].tolist() == [0, 0, 0]
    assert example["categorical"][-1].tolist() == last
    assert example["multi_hot"].shape == (4, 1, 3)


class Shifted:
    """An engine whose logits are the reference's and a bit more."""

    name, precision, label = "shifted", "fp32", "shifted fp32"

    def __init__(self, shift, turned=1.0):
        self.shift, self.turned = shift, turned

    def __call__(self, inputs):
        logit = (self.turned * inputs["logit"] + self.shift).astype(np.float32)
        return {"probability": (1 / (1 + np.exp(-logit))).astype(np.float32), "logit": logit}


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (Shifted(0.0), None),
        (Shifted(3e-5), None),
        (Shifted(0.05), "calibration"),
        (Shifted(0.0, turned=1.2), "the log loss grew"),
        (Shifted(0.0, turned=-1.0), "the metric fell"),
    ],
)
def test_parity_of_probabilities(candidate, reason):
    random = np.random.default_rng(0)
    logit = random.normal(size=(400, 1)).astype(np.float32)
    label = (random.random(400) < 1 / (1 + np.exp(-logit[:, 0]))).astype(np.float32)

    def judge(runner):
        return judged(label, runner({"logit": logit})["logit"][:, 0])

    table = compare(
        Shifted(0.0), [candidate], {1: {"logit": logit[:1]}, 64: {"logit": logit[:64]}}, judge=judge,
        comparison=ProbabilityComparison(),
    )  # fmt: skip
    failures = " ".join(table.reasons("shifted fp32"))
    assert (reason in failures) if reason else not failures


def test_baselines_find_the_planted_truth():
    data = ClickRows(SPEC, count=3000)

    def train():
        return [data.train]

    many = [rows(SPEC, 100, seed=seed) for seed in range(10, 40)]
    found = baselines(SPEC, lambda: many, data.validation_batches)
    assert list(found) == ["rate", "logistic regression", "factorisation machine"]
    assert found["logistic regression"]["auc"] > 0.8
    assert found["factorisation machine"]["auc"] > 0.75
    assert found["logistic regression"]["log_loss"] < found["rate"]["log_loss"]
    assert baselines(SPEC, lambda: many, data.validation_batches) == found


def test_memory_is_what_training_takes():
    recipe = dlrm()
    model = task(recipe)
    step = TrainStep(model, model.optimizers(10, 5.0), StepSettings(FP32, CPU))
    step([rows(SPEC, 60)], 0)
    need = memory_need(recipe, sum(model.tables.rows), 4)
    assert need.tables == model.tables.weight.nbytes
    assert need.optimizer == model.optimizers(10, 5.0)[1].optimizer.param_groups[0]["params"][0].shape[0] * 4


@pytest.mark.parametrize(
    ("tables", "free", "advice"),
    [
        (TablesConfig(width=16), 5, ("--tables.dtype fp16", "--tables.width 12")),
        (TablesConfig(width=16), 2, ("--tables.width 4", "--max-rows, 32% of")),
        (TablesConfig(width=16, optimizer="dense"), 8, ("rowwise-adagrad",)),
        (TablesConfig(width=16), 7, None),
    ],
)
def test_too_little_memory_is_told_before_anything_is_allocated(tables, free, advice):
    recipe = dlrm(tables)
    need = memory_need(recipe, 100_000_000, 26)
    assert isinstance(need, MemoryNeed)
    if advice is None:
        require_memory(recipe, need, free * 2**30)
        return
    with pytest.raises(RecipeError) as refused:
        require_memory(recipe, need, free * 2**30)
    assert f"{free}.0 are free" in str(refused.value)
    assert all(part in str(refused.value) for part in advice)
    assert refused.value.exit_code == 2


def test_a_model_too_large_for_this_machine_is_refused():
    described = spec(sizes=(2**45, 3), multi_hot=False, crosses=0)
    with pytest.raises(RecipeError, match="GiB"):
        task(dlrm(), described)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: DlrmRecipe(**{**FIELDS, "optimizer": OptimizerConfig(clip_norm=1.0)}),
        lambda: dlrm(training=TrainingConfig(cuda_graphs=True)),
        lambda: TablesConfig(optimizer="dense", dtype="fp16"),
        lambda: TablesConfig(optimizer="sgd", weight_decay=0.1),
        lambda: TablesConfig(width=0),
        lambda: TablesConfig(unknown_share=1.0),
        lambda: DlrmConfig(top=(0,)),
        lambda: WideAndDeepConfig(dropout=1.0),
        lambda: WideConfig(l1=-1.0),
        lambda: JudgingConfig(cutoff=0),
    ],
)
def test_what_cannot_work_is_refused(wrong):
    with pytest.raises(RecipeError):
        wrong()


@pytest.mark.parametrize("recipes", [DLRM, WIDE_AND_DEEP], ids=["dlrm", "wide_and_deep"])
def test_recipes_survive_their_record(recipes):
    for recipe in recipes.values():
        assert from_json(type(recipe), to_json(recipe)) == recipe


def test_whole_tables_with_an_optimizer_of_their_own_are_for_one_process():
    model, dense, settings = task(dlrm()), task(dlrm(DENSE)), StepSettings(FP32, CPU, world_size=2)
    with pytest.raises(RecipeError, match=r"(?s)2 processes were started with .*--tables\.shard row"):
        model.own_step(model.optimizers(10, 5.0), settings)
    assert dense.own_step(dense.optimizers(10, 5.0), settings) is None
