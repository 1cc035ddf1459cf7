"""The classification task: freezing, learning rates, seeded mixing, and figures that a plain loop gives too."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from challenges.classification.recipes import RECIPES, ClassificationRecipe, FinetuneConfig, ModelConfig
from challenges.classification.task import ClassificationTask
from common.errors import RecipeError
from common.run.result import wilson
from common.vision.preprocessing import ImagePreprocessing

SMALL = replace(
    RECIPES["finetune"],
    model=ModelConfig(depth=18, zero_init_last_norm=False),  # with it, gradients inside a block start at zero
    preprocessing=ImagePreprocessing(resize=32, crop=32),
    finetune=FinetuneConfig(freeze_epochs=2, stage_lr_decay=0.5),
)
LONG = 400  # steps, of 10 to an epoch


def batch(count=6, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "images": torch.randn(count, 3, 32, 32, generator=generator),
        "label": torch.randint(0, classes, (count,), generator=generator),
        "index": torch.arange(count),
    }


def build(recipe: ClassificationRecipe = SMALL, classes=3):
    torch.manual_seed(0)
    task = ClassificationTask(recipe, [10] * classes).train()
    (scheduled,) = task.optimizers(total_steps=LONG, steps_per_epoch=10)
    return task, scheduled


def train(task, scheduled, steps):
    for step in steps:
        task.set_trainable(step)
        scheduled.set_lr(step)
        task.loss(batch(seed=step))["loss"].backward()
        scheduled.optimizer.step()
        scheduled.optimizer.zero_grad()


def test_only_the_head_learns_while_frozen_and_statistics_stay():
    task, scheduled = build()
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    train(task, scheduled, range(3))
    changed = {name for name, value in task.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize(("steps", "frozen"), [(LONG, 20), (200, 10), (40, 2), (5, 0)])
def test_a_short_run_is_frozen_for_a_twentieth_at_most(steps, frozen):
    task, _ = build()
    task.optimizers(total_steps=steps, steps_per_epoch=10)
    task.set_trainable(0)
    found = []
    for step in range(steps):
        task.set_trainable(step)
        found += [] if task.model.conv1.weight.requires_grad else [step]
    assert found == list(range(frozen))


def test_everything_learns_after_the_freeze():
    task, scheduled = build()
    task.set_trainable(0)
    assert task.set_trainable(20) is True
    assert task.set_trainable(21) is False
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    train(task, scheduled, range(20, 23))
    unchanged = [name for name, value in task.model.state_dict().items() if torch.equal(value, before[name])]
    assert unchanged == []


def test_evaluation_mode_survives_a_change_of_what_is_frozen():
    task, _ = build()
    task.eval()
    task.set_trainable(0)
    assert not any(module.training for module in task.modules())


def test_earlier_stages_learn_more_slowly():
    task, scheduled = build()
    scheduled.set_lr(15)
    rates = {}
    for group in scheduled.optimizer.param_groups:
        for parameter in group["params"]:
            name = next(n for n, p in task.model.named_parameters() if p is parameter)
            rates[name.split(".")[0]] = group["lr"]
    assert rates["fc"] == pytest.approx(2 * rates["layer4"]) == pytest.approx(32 * rates["conv1"])


def test_mixing_depends_on_the_step_alone():
    task, _ = build(replace(SMALL, mixup_alpha=0.4))
    again, _ = build(replace(SMALL, mixup_alpha=0.4))
    first, second = task.prepare_batch(batch(), 7), again.prepare_batch(batch(), 7)
    assert torch.equal(first["images"], second["images"])
    assert torch.equal(first["label"], second["label"])
    assert not torch.equal(first["images"], task.prepare_batch(batch(), 8)["images"])


def test_a_share_of_the_batches_is_mixed_in_both_ways():
    task, _ = build(replace(SMALL, mixup_alpha=0.4, cutmix_alpha=1.0, mixed_share=0.5))
    given = batch(32)
    kinds = []
    for step in range(200):
        found = task.prepare_batch(given, step)
        if found is given:
            kinds.append("whole")
            continue
        whole = (found["images"][:, None] == given["images"][None]).all(2).any(1)  # each pixel is some picture's own
        kinds.append("cut" if whole.all() else "blended")
    assert {kind: kinds.count(kind) / 200 for kind in kinds} == pytest.approx(
        {"whole": 0.5, "cut": 0.25, "blended": 0.25}, abs=0.1
    )


@pytest.mark.parametrize("wrong", [{"mixed_share": 1.5}, {"mixup_alpha": -0.1}, {"cutmix_alpha": -1.0}])
def test_mixing_out_of_range_is_refused(wrong):
    with pytest.raises(RecipeError, match="third lies"):
        replace(SMALL, **wrong)


def test_evaluation_equals_a_plain_loop():
    task, _ = build(classes=7)
    task.eval()
    batches = [batch(5, 7, seed) | {"index": torch.arange(5) + 5 * seed} for seed in range(3)]
    with torch.no_grad():
        evaluation = task.evaluate(reversed(batches))
        logits = torch.cat([task.model(b["images"]) for b in batches])
    label = torch.cat([b["label"] for b in batches])
    hits = int((logits.argmax(1) == label).sum())
    top5 = (logits.topk(5).indices == label[:, None]).any(1).float().mean()
    assert evaluation.metrics["top1"] == hits / 15
    assert evaluation.metrics["top5"] == pytest.approx(float(top5))
    assert evaluation.metrics["loss"] == pytest.approx(float(nn.functional.cross_entropy(logits, label)), rel=1e-5)
    assert evaluation.intervals["top1"] == wilson(hits, 15)
    assert evaluation.predictions["index"].tolist() == list(range(15))
    assert evaluation.predictions["predicted"].tolist() == logits.argmax(1).tolist()
    np.testing.assert_allclose(
        evaluation.predictions["label_probability"], logits.softmax(1)[range(15), label], rtol=1e-4
    )


def test_signature_names_are_those_of_the_exported_module():
    task, _ = build()
    module, signature = task.inference_module().eval(), task.signature()
    with torch.no_grad():
        logits, probabilities = module(**{signature.inputs[0].name: batch(2)["images"]})
    assert logits.shape == probabilities.shape == (2, *signature.outputs[0].shape)
    assert torch.allclose(probabilities.sum(1), torch.ones(2))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_builds_and_its_loss_falls_on_a_repeated_batch(name):
    recipe = replace(RECIPES[name], model=ModelConfig(depth=18), finetune=FinetuneConfig(), mixup_alpha=0.0)
    task, scheduled = build(recipe)
    losses = []
    for _ in range(12):
        for group in scheduled.optimizer.param_groups:
            group["lr"] = 0.02 if recipe.optimizer.name == "sgd" else 0.002
        loss = task.loss(batch())["loss"]
        loss.backward()
        scheduled.optimizer.step()
        scheduled.optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert min(losses[-3:]) < 0.7 * losses[0]
