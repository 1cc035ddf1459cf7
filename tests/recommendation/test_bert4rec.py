"""BERT4Rec and SASRec with cross-entropy."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional

from challenges.recommendation.bert4rec.losses import CHUNK_BYTES, catalogue_cross_entropy, sampled_cross_entropy
from challenges.recommendation.bert4rec.masking import hide_items, num_predictions
from challenges.recommendation.bert4rec.model import Dropout, SequenceTransformer, right_aligned
from challenges.recommendation.bert4rec.recipes import RECIPES, Bert4RecRecipe, ModelConfig, SequenceConfig
from challenges.recommendation.bert4rec.task import SequenceTask
from challenges.recommendation.histories.data import SequenceData
from common.errors import InterruptedRunError, RecipeError
from common.export.onnx import export_onnx
from common.export.runner import OnnxRunner, OpenVinoRunner
from common.run.recipe import OptimizerConfig, TrainingConfig, from_json, to_json
from common.run.run_directory import RunDirectory
from common.training.optimizers import parameter_groups
from common.training.randomness import random_numbers
from common.training.trainer import Trainer
from tests.common.training.test_trainer import StopAfter
from tests.recommendation.planted import CPU, cycle_split
from tests.toy import FP32

SPLIT = cycle_split()
ATTENTIONS = ("bidirectional", "causal")


def recipe(attention="bidirectional", sequence=SequenceConfig(mask_share=0.3, last_item_share=0.3), **training):  # noqa: B008 (frozen)
    fields = {"epochs": 6, "batch_size": 16, "checkpoint_every": 7, "evaluate_every": 3, "log_every": 5, **training}
    return Bert4RecRecipe(
        summary="small",
        model=ModelConfig(
            attention=attention, length=10, width=32, num_layers=1, num_heads=2, feedforward=32, dropout=0.1
        ),
        sequence=sequence,
        optimizer=OptimizerConfig(name="adamw", peak_lr=0.01, weight_decay=0.01, clip_norm=5, warmup_epochs=1),
        training=TrainingConfig(**fields),
    )


def small_model(attention="bidirectional", **sizes):
    torch.manual_seed(0)
    arguments = {"num_items": 40, "length": 10, "width": 32, "num_layers": 2, "feedforward": 32, **sizes}
    model = SequenceTransformer(causal=attention == "causal", **arguments)
    with torch.no_grad():  # the first values are so small that everything would look alike
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def trainer(folder, chosen, **parts):
    torch.manual_seed(0)
    data = SequenceData(
        SPLIT, length=chosen.window, validation_length=chosen.told, stride=chosen.stride, device=CPU,
        seed=chosen.training.seed,
    )  # fmt: skip
    return Trainer(SequenceTask(chosen, SPLIT), data, chosen, RunDirectory(folder), device=CPU, precision=FP32, **parts)


def windows(count=400, length=10, num_items=40, seed=0):
    """(count, length) right-aligned sequences of 1 to `length` items."""
    random = np.random.default_rng(seed)
    items = torch.as_tensor(random.integers(num_items, size=(count, length)))
    filled = torch.as_tensor(random.integers(1, length + 1, size=count))
    return items.masked_fill(torch.arange(length) < length - filled[:, None], -1)


def hidden(items, *, share=0.2, last_item_share=0.1, step=0):
    numbers = random_numbers(0, step, torch.arange(len(items)), items.shape[1] + 1)
    return hide_items(items, numbers, share=share, last_item_share=last_item_share, mask_item=40)


def test_the_stated_share_of_every_sequence_is_hidden_and_always_by_the_mask():
    items = windows()
    shown, positions, labels = hidden(items, share=0.3, last_item_share=0.0)
    changed = shown != items
    assert (shown[changed] == 40).all()
    length = (items >= 0).sum(1)
    assert torch.equal(changed.sum(1), (length * 0.3).round().clamp(min=1).long())
    assert (items[changed] >= 0).all()
    assert positions.shape == labels.shape == (400, num_predictions(10, 0.3)) == (400, 3)
    used = labels >= 0
    assert torch.equal(labels[used], items.gather(1, positions)[used])
    assert torch.equal(used.sum(1), changed.sum(1))
    assert (shown.gather(1, positions)[used] == 40).all()


def test_every_position_is_hidden_equally_often():
    items = torch.arange(10).repeat(20_000, 1)
    _, positions, _ = hidden(items, share=0.2, last_item_share=0.0)
    frequency = torch.bincount(positions.flatten(), minlength=10) / 20_000
    assert (frequency - 0.2).abs().max() < 0.012  # four deviations


def test_some_sequences_hide_their_last_item_alone():
    items = torch.arange(10).repeat(20_000, 1)
    shown, positions, labels = hidden(items, share=0.3, last_item_share=0.25)
    alone = (labels >= 0).sum(1) == 1
    assert abs(alone.float().mean() - 0.25) < 0.0125
    assert (positions[alone, 0] == 9).all()
    assert (labels[alone, 0] == 9).all()
    assert ((shown == 40).sum(1)[alone] == 1).all()


def test_masks_change_with_the_step_and_depend_on_the_row_alone():
    items = windows(64)
    first, again, later = (hidden(items, step=step)[0] for step in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    task, batch = SequenceTask(recipe(), SPLIT), {"items": items, "row": torch.arange(64)}
    whole = task.prepare_batch(batch, 5)
    for part in (slice(0, 16), slice(16, 64)):
        cut = task.prepare_batch({name: value[part] for name, value in batch.items()}, 5)
        assert all(torch.equal(value, whole[name][part]) for name, value in cut.items())


@pytest.mark.parametrize("chunk", [300, 2**20], ids=["chunks", "at-once"])
def test_the_loss_and_its_gradients_equal_plain_cross_entropy(monkeypatch, chunk):
    monkeypatch.setitem(CHUNK_BYTES, "cpu", chunk)
    generator = torch.Generator().manual_seed(0)
    states, weights, bias = (torch.randn(*size, generator=generator) for size in ((23, 8), (31, 8), (31,)))
    labels = torch.randint(-1, 31, (23,), generator=generator)
    labels[:3] = -1
    inputs = [tensor.requires_grad_() for tensor in (states, weights, bias)]
    ours = 3 * catalogue_cross_entropy(*inputs, labels)
    theirs = 3 * functional.cross_entropy(functional.linear(*inputs), labels, ignore_index=-1)
    torch.testing.assert_close(ours, theirs)
    for one, other in zip(torch.autograd.grad(ours, inputs), torch.autograd.grad(theirs, inputs), strict=True):
        torch.testing.assert_close(one, other)


def test_the_loss_follows_autocast_and_survives_certainty():
    states, weights = torch.full((2, 4), 40.0, requires_grad=True), torch.tensor([[40.0] * 4, [-40.0] * 4])
    loss = catalogue_cross_entropy(states, weights, torch.zeros(2), torch.tensor([0, 1]))
    assert torch.isfinite(loss)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        small = catalogue_cross_entropy(states * 0.01, weights * 0.01, torch.zeros(2), torch.tensor([0, 1]))
    expected = functional.cross_entropy(states * 0.01 @ weights.t() * 0.01, torch.tensor([0, 1]))
    torch.testing.assert_close(small, expected, rtol=0.02, atol=0.0)
    assert small.dtype == torch.float32


def test_sampled_cross_entropy_is_exact_with_every_item_and_right_on_average():
    generator = torch.Generator().manual_seed(0)
    states, weights, bias = (torch.randn(*size, generator=generator) for size in ((9, 6), (50, 6), (50,)))
    labels = torch.randint(0, 50, (9,), generator=generator)
    labels[4] = -1
    exact = functional.cross_entropy(functional.linear(states, weights, bias), labels, ignore_index=-1)
    arguments = (states, weights, bias, labels)
    torch.testing.assert_close(sampled_cross_entropy(*arguments, torch.arange(50)), exact)
    draws = [
        sampled_cross_entropy(*arguments, torch.randint(50, (40,), generator=generator)).item() for _ in range(300)
    ]
    assert np.mean(draws) == pytest.approx(exact.item(), rel=0.1)


def test_input_and_output_share_the_items_vectors():
    model = small_model()
    assert model.item_weights.data_ptr() == model.item.weight.data_ptr()
    assert [name for name, p in model.named_parameters() if p.shape[0] in (40, 42)] == ["bias", "item.weight"]
    model(torch.tensor([[1, 2, 3]])).sum().backward()
    through_input = model.item.weight.grad.clone()
    model.logits(torch.randn(2, 32)).logsumexp(1).sum().backward()
    assert (model.item.weight.grad != through_input)[:40].any(1).all(), "every item's output weight has a gradient"


def test_first_values_are_cut_off_normal_ones():
    model = SequenceTransformer(num_items=2000, length=50, width=64)
    for tensor, deviation in ((model.item.weight, 0.02), (model.blocks[0].expand.weight, 0.125)):
        assert tensor.abs().max() <= 2 * deviation
        assert tensor.std().item() == pytest.approx(0.88 * deviation, rel=0.05)  # cutting off takes 12 %
    assert model.bias.abs().max() == 0


def test_norms_and_biases_are_not_decayed():
    model = small_model()
    names = {name for name, _ in model.named_parameters()}
    groups = parameter_groups(model, weight_decay=0.01, decay_norm_and_bias=False)
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    kept = {name for name, p in model.named_parameters() if id(p) not in decayed}
    assert kept == {name for name in names if "norm" in name or name.endswith("bias") or name == "head.2.weight"}


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_padding_changes_nothing(attention):
    model, items = small_model(attention), torch.tensor([[5, 9, 2, 7]])
    padded = functional.pad(items, (6, 0), value=-1)
    torch.testing.assert_close(model(padded)[:, 6:], model(items))
    torch.testing.assert_close(model.next_item_logits(items), model.next_item_logits(padded))


def test_causal_positions_see_no_later_item_and_bidirectional_ones_do():
    one, other = torch.tensor([[5, 9, 2, 7]]), torch.tensor([[5, 9, 2, 8]])
    causal, both = small_model("causal"), small_model()
    torch.testing.assert_close(causal(one)[:, :3], causal(other)[:, :3])
    assert not torch.allclose(causal(one)[:, 3], causal(other)[:, 3])
    assert not torch.allclose(both(one)[:, 0], both(other)[:, 0])


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_attention_equals_a_written_out_one(attention):
    model, items = small_model(attention), torch.tensor([[-1, 5, 9, 2]])
    block, states = model.blocks[0], torch.randn(1, 4, 32)
    seen = torch.zeros(4, 4, dtype=torch.bool)
    for query in range(4):
        for key in range(4):
            seen[query, key] = items[0, key] >= 0 and (attention == "bidirectional" or key <= query)
    seen[0, 0] = True  # of an empty position, whose answer nobody asks for
    query, key, value = block.project(states).chunk(3, dim=-1)
    parts = []
    for head in (slice(0, 16), slice(16, 32)):
        weight = (query[..., head] @ key[..., head].mT / 4).masked_fill(~seen, -torch.inf).softmax(-1)
        parts.append(weight @ value[..., head])
    after = block.attention_norm(states + block.merge(torch.cat(parts, -1)))
    after = block.output_norm(after + block.contract(functional.gelu(block.expand(after))))
    torch.testing.assert_close(block(states, seen[None, None])[:, 1:], after[:, 1:])


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_the_last_positions_alone_are_answered_as_among_all(attention):
    model, items = small_model(attention), torch.tensor([[-1, 5, 9, 2], [3, 5, 9, 8]])
    torch.testing.assert_close(model(items, last=2), model(items)[:, -2:])


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_only_the_newest_items_are_read(attention):
    model = small_model(attention)
    long = torch.arange(25)[None]
    assert torch.equal(model.next_item_logits(long), model.next_item_logits(long[:, -10:]))
    assert torch.isfinite(model.next_item_logits(torch.full((2, 3), -1))).all()


def test_histories_are_moved_to_the_right_without_gaps_and_strangers():
    history = torch.tensor([[1, 2, -1, 3, -1], [-1, -1, -1, -1, -1], [4, 5, 6, 7, 8], [4, 99, 6, -7, -1]])
    expected = [[1, 2, 3], [-1, -1, -1], [6, 7, 8], [-1, 4, 6]]
    assert right_aligned(history, 3, 40).tolist() == expected
    assert right_aligned(history[:1], 6, 40).tolist() == [[-1, -1, -1, 1, 2, 3]]


def test_dropout_keeps_the_mean_and_drops_its_share():
    torch.manual_seed(0)
    layer, values = Dropout(0.2), torch.ones(101, 1000)
    dropped = layer(values)
    assert (dropped == 0).float().mean() == pytest.approx(51 / 256, abs=0.005)
    assert dropped.mean() == pytest.approx(1, abs=0.005)
    by_column = (dropped == 0).float().mean(0)[:8]
    assert (by_column - 0.2).abs().max() < 0.2, "all eight bytes of a number are used alike"
    assert layer.eval()(values) is values


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_training_finds_the_planted_order(tmp_path, attention):
    chosen = recipe(attention, epochs=25, evaluate_every=25)
    metrics = trainer(tmp_path, chosen).fit().evaluation.metrics
    assert metrics["hr@10/full"] > 0.95
    assert metrics["ndcg@10/full"] > 0.7


def test_training_with_sampled_items_finds_the_planted_order(tmp_path):
    sequence = SequenceConfig(mask_share=0.3, last_item_share=0.3, sampled_items=20)
    metrics = trainer(tmp_path, recipe(sequence=sequence, epochs=25, evaluate_every=25)).fit().evaluation.metrics
    assert metrics["hr@10/full"] > 0.9


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("stop", [4, 11])
def test_an_interrupted_run_ends_as_the_whole_one_does(tmp_path, stop, attention):
    chosen = recipe(attention, epochs=2)
    whole = trainer(tmp_path / "whole", chosen).fit()
    with pytest.raises(InterruptedRunError):
        trainer(tmp_path / "cut", chosen, observers=(StopAfter(stop),)).fit()
    resumed = trainer(tmp_path / "cut", chosen).fit()
    assert resumed.evaluation.metrics == whole.evaluation.metrics
    for name, value in whole.task.state_dict().items():
        assert torch.equal(value, resumed.task.state_dict()[name]), name


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_exported_graphs_answer_as_the_evaluation_does(tmp_path, attention):
    task = SequenceTask(recipe(attention), SPLIT)
    task.model.load_state_dict(small_model(attention, num_layers=1).state_dict())
    task.eval()
    example = {"history": torch.tensor([[1, 2, 3, -1], [4, 5, -1, -1]])}
    path = export_onnx(task.inference_module(), task.signature(), tmp_path / "model.onnx", example=example)
    histories = np.array([[1, 4, 7, 10, 13, -1], [9, -1, 12, -1, -1, -1], [3, 3, 99, 6, 9, 12], [-1] * 6])
    with torch.no_grad():
        items, scores = task.inference_module()(torch.as_tensor(histories))
        logits = task.model.next_item_logits(torch.tensor([[1, 4, 7, 10, 13]]))[0]
    logits[[1, 4, 7, 10, 13]] = -1e9
    assert items[0].tolist() == logits.topk(10).indices.tolist()
    long = np.arange(25)[None]
    for runner in (OnnxRunner(path, threads=1), OpenVinoRunner(path)):
        answer = runner({"history": histories})
        assert (answer["items"] == items.numpy()).all()
        np.testing.assert_allclose(answer["scores"], scores.numpy(), atol=1e-4)
        assert (runner({"history": histories[:1, :5]})["items"] == items[:1].numpy()).all()
        with torch.no_grad():
            expected, _ = task.inference_module()(torch.as_tensor(long))
        assert (runner({"history": long})["items"] == expected.numpy()).all()
        runner.close()


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_their_record_and_fit_together(name):
    chosen = RECIPES[name]
    assert from_json(type(chosen), to_json(chosen)) == chosen
    assert chosen.told <= chosen.window
    assert chosen.target is None or chosen.target.metric == "ndcg@10/full"


def test_senseless_sizes_are_refused():
    for wrong in ({"width": 65}, {"length": 1}, {"num_layers": 0}, {"dropout": 1.0}):
        with pytest.raises(RecipeError):
            ModelConfig(**wrong)
    for wrong in ({"mask_share": 0}, {"stride": 0}, {"sampled_items": 0}, {"last_item_share": 2}):
        with pytest.raises(RecipeError):
            SequenceConfig(**wrong)
    assert dataclasses.replace(RECIPES["ml-1m-50"], sequence=SequenceConfig(stride=None)).stride is None
