"""The detection task: eight images are learnt by heart, and every answer lands in the pixels of its own image."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from challenges.detection.boxes import centres, corners
from challenges.detection.recipes import RECIPES
from challenges.detection.task import DetectionTask
from common.errors import RecipeError
from common.training.optimizers import parameter_groups
from tests.detection.builders import scenes_of

RECIPE = replace(
    RECIPES["small"],
    optimizer=replace(RECIPES["small"].optimizer, peak_lr=2e-3, schedule="constant", weight_decay=0.0),
)
STEPS = 45
COLOURS = torch.tensor([[2.0, -1, -1], [-1, 2, -1]])


def pictures(count=8, seed=0):
    """Noise with one or two filled rectangles: images (count, 3, 300, 300), boxes (count, 2, 4), labels (count, 2)."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, 300, 300, generator=generator) * 0.1
    sizes = torch.rand(count, 2, 2, generator=generator) * 0.25 + 0.15
    middles = torch.stack([torch.full((count,), 0.27), torch.full((count,), 0.73)], 1)
    places = torch.stack([middles, 0.3 + 0.4 * torch.rand(count, 2, generator=generator)], 2)
    boxes = corners(torch.cat([places, sizes], 2))
    labels = torch.tensor([[1, 2]]).expand(count, 2).clone()
    labels[1::2, 1] = 0  # every other picture has a single object
    for image, (own, names) in enumerate(zip(boxes, labels, strict=True)):
        for box, label in zip((own * 300).long().tolist(), names.tolist(), strict=True):
            if label:
                images[image, :, box[1] : box[3], box[0] : box[2]] = COLOURS[label - 1, :, None, None]
    return {"images": images, "boxes": boxes, "labels": labels, "index": torch.arange(count)}


def truth(batch, width=600, height=150):
    scale = torch.tensor([width, height, width, height])
    boxes = {
        image: [
            (label, *box)
            for label, box in zip(labels.tolist(), (own * scale).tolist(), strict=True)
            if label
        ]
        for image, (own, labels) in enumerate(zip(batch["boxes"], batch["labels"], strict=True))
    }  # fmt: skip
    return scenes_of("", [(width, height)] * len(batch["index"]), boxes, classes=("square", "plate"))


@pytest.mark.slow
def test_eight_pictures_are_learnt_by_heart():
    torch.manual_seed(0)
    batch = pictures()
    task = DetectionTask(RECIPE, 2, truth(batch)).train()
    (scheduled,) = task.optimizers(total_steps=STEPS, steps_per_epoch=1)
    prepared = task.prepare_batch(batch, 0)
    losses = []
    for step in range(STEPS):
        scheduled.set_lr(step)
        with torch.autocast("cpu", torch.bfloat16):
            loss = task.loss(prepared)["loss"]
        loss.backward()
        scheduled.optimizer.step()
        scheduled.optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    task.eval()
    with torch.no_grad():
        evaluation = task.evaluate([{"images": batch["images"], "index": batch["index"]}])
    assert evaluation.metrics["ap50"] > 0.95
    low, high = evaluation.intervals["ap50"]
    assert low <= evaluation.metrics["ap50"] <= high


def test_prepared_batches_have_one_answer_per_default_box():
    batch = pictures(2)
    task = DetectionTask(RECIPE, 2, truth(batch))
    prepared = task.prepare_batch(batch, 7)
    assert set(prepared) == {"images", "index", "target_offsets", "target_labels"}
    assert prepared["target_offsets"].shape == (2, 8732, 4)
    assert sorted(prepared["target_labels"][0].unique().tolist()) == [0, 1, 2]
    assert sorted(prepared["target_labels"][1].unique().tolist()) == [0, 1]


def test_the_exported_module_answers_as_the_task_does():
    torch.manual_seed(1)
    batch = pictures(3)
    task = DetectionTask(RECIPE, 2, truth(batch)).eval()
    with torch.no_grad():
        found, exported = task.detect(batch["images"]), task.inference_module()(batch["images"])
    for ours, theirs, spec in zip(found, exported, task.signature().outputs, strict=True):
        torch.testing.assert_close(ours, theirs)
        assert tuple(theirs.shape[1:]) == spec.shape
        assert str(theirs.dtype) == f"torch.{spec.dtype}"


def test_larger_images_have_default_boxes_of_their_own():
    task = DetectionTask(RECIPES["small-512"], 2, truth(pictures(1))).eval()
    with torch.no_grad():
        offsets, _ = task.model(torch.zeros(1, 3, 512, 512))
    assert offsets.shape[1] == len(task.anchors) == 24_564


@pytest.mark.parametrize("crop", [299, 320])
def test_sizes_without_default_boxes_are_refused(crop):
    with pytest.raises(RecipeError, match="128, 192, 300 or 512"):
        replace(RECIPE, preprocessing=replace(RECIPE.preprocessing, crop=crop, resize=crop))


def test_a_single_image_is_no_batch():
    with pytest.raises(RecipeError, match="two images"):
        replace(RECIPE, training=replace(RECIPE.training, batch_size=1))


def test_biases_and_norms_are_not_decayed():
    task = DetectionTask(RECIPE, 2, truth(pictures(1)))
    groups = parameter_groups(task.model, weight_decay=5e-4, decay_norm_and_bias=False)
    decayed = [parameter for group in groups if group["weight_decay"] for parameter in group["params"]]
    assert decayed
    assert all(parameter.ndim > 1 for parameter in decayed)


def test_detections_are_told_in_the_pixels_of_the_image(monkeypatch):
    batch = pictures(1)
    task = DetectionTask(RECIPE, 2, truth(batch, width=600, height=150)).eval()
    box = corners(torch.tensor([[[0.5, 0.5, 0.2, 0.4]]]))
    assert centres(box)[0, 0].tolist() == pytest.approx([0.5, 0.5, 0.2, 0.4])
    found = (box, torch.tensor([[0.9]]), torch.tensor([[1]]))
    monkeypatch.setattr(DetectionTask, "detect", lambda self, images: found)
    predictions = task.evaluate([{"images": batch["images"], "index": batch["index"]}]).predictions
    np.testing.assert_allclose(predictions["box"], [[240, 45, 360, 105]], rtol=1e-5)
