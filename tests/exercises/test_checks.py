"""Each check of an exercise, once met and once missed, on the files that a run is told by."""

import dataclasses

import pytest

from challenges.__main__ import main
from challenges.exercises import EXERCISES, Recorded, find
from challenges.exercises.checks import CHECKS, judge
from challenges.exercises.facts import NotYetError
from common.errors import CheckpointError, DamagedFileError
from common.files import write_csv, write_json, write_text
from common.run.recipe import Target
from common.run.result import Baseline, Interval
from tests.exercises.runs import write_run


def row(precision, failures=()):
    return {"engine": "onnxruntime", "precision": precision, "agreement": 1.0, "failures": list(failures)}


def parity(run, choice=None, rows=()):
    write_json(run.parity_file, {"rows": list(rows), "choice": choice})
    write_text(run.report_file, "<html></html>")


def measured(run, ours):
    figures = {"this run": {"recall@5": ours}, "colour histogram": {"recall@5": 0.6}}
    write_json(run.path / "similar" / "measured.json", {"pictures": 9, "figures": figures})


def test_part(run, metrics):
    evaluation = {
        "metrics": metrics, "intervals": {}, "interval_method": "", "step": 1, "precision": "fp32", "weights": "w",
        "test": {"own": True},
    }  # fmt: skip
    write_json(run.tests / "test" / "evaluation.json", evaluation)


test_part.__test__ = False


def boxes(run, rows):
    write_csv(run.path / "predictions" / "detections.csv", ("image", "score"), rows)


def world(run, precision="fp32", size=1):
    write_json(run.environment_file, {"precision": precision, "world_size": size})


RESNET, SSD, NCF, BERT = "resnet50/demo", "ssd300/demo", "ncf/demo", "bert4rec/demo"
CASES = {
    "exported": (
        (RESNET, {}, lambda run: parity(run, {"engine": "openvino", "precision": "bf16"})),
        (RESNET, {}, lambda run: parity(run)),
    ),
    "halved_rate": (
        (RESNET, {"fields": {"optimizer.peak_lr": 5e-4}}, None),
        (RESNET, {"fields": {"optimizer.peak_lr": 6e-4}}, None),
    ),
    "beat_target": (
        (RESNET, {"value": 0.86, "verdict": "reached"}, None),
        (RESNET, {"value": 0.845, "verdict": "reached"}, None),
    ),
    "reached": ((RESNET, {"verdict": "reached"}, None), (RESNET, {"verdict": "missed"}, None)),
    "above_baseline": (
        (RESNET, {"value": 0.5, "baselines": (Baseline("ridge", 0.4),)}, None),
        (RESNET, {"value": 0.5, "baselines": (Baseline("ridge", 0.5),)}, None),
    ),
    "above_popularity": (
        (NCF, {"value": 0.3, "baselines": (Baseline("EASE", 0.4), Baseline("popularity", 0.2))}, None),
        (NCF, {"value": 0.3, "baselines": (Baseline("popularity", 0.3),)}, None),
    ),
    "as_recorded": ((RESNET, {"value": 0.79}, None), (RESNET, {"value": 0.77}, None)),
    "tested": ((RESNET, {}, lambda run: test_part(run, {"top1": 0.7})), (RESNET, {}, None)),
    "accumulated": (
        (RESNET, {"fields": {"training.micro_batch": 4}}, None),
        (RESNET, {"fields": {"training.micro_batch": 2, "training.batch_size": 8}}, None),
    ),
    "checkpointed": ((RESNET, {"fields": {"training.gradient_checkpointing": True}}, None), (RESNET, {}, None)),
    "half_precision": ((RESNET, {}, lambda run: world(run, "bf16")), (RESNET, {}, None)),
    "shared_out": ((RESNET, {}, lambda run: world(run, size=2)), (RESNET, {}, None)),
    "mixed": ((RESNET, {"fields": {"cutmix_alpha": 1.0}}, None), (RESNET, {}, None)),
    "eight_bits": (
        (RESNET, {}, lambda run: parity(run, rows=[row("fp32"), row("int8")])),
        (RESNET, {}, lambda run: parity(run, rows=[row("fp32"), row("int8", ["the metric fell"])])),
    ),
    "by_group": (
        (RESNET, {"fields": {"data.split": "by-group", "data.group_pattern": "^([0-9]+)_"}}, None),
        (RESNET, {"fields": {"data.split": "by-group", "data.group_pattern": "^[0-9]+_"}}, None),
    ),
    "unmirrored": ((RESNET, {"fields": {"data.flip": 0.0}}, None), (RESNET, {}, None)),
    "searched": ((RESNET, {}, lambda run: measured(run, 0.7)), (RESNET, {}, lambda run: measured(run, 0.6))),
    "suppressed_otherwise": (
        (SSD, {"fields": {"nms.iou_threshold": 0.3}}, None),
        (SSD, {"fields": {"nms.iou_threshold": 0.7}}, None),
    ),
    "tiled": ((SSD, {"fields": {"data.tile": 400}}, None), (SSD, {}, None)),
    "found_small": (
        (SSD, {"metrics": {"ap": 0.5, "ap_small": 0.01}}, None),
        (SSD, {"metrics": {"ap": 0.5, "ap_small": 0.0}}, None),
    ),
    "counted": ((SSD, {}, lambda run: boxes(run, [("a.jpg", 0.9)])), (SSD, {}, lambda run: boxes(run, []))),
    "watched": (
        (SSD, {}, lambda run: write_text(run.path / "predictions" / "street.mp4", "")),
        (SSD, {}, lambda run: write_text(run.path / "predictions" / "street.jpg", "")),
    ),
    "longer_history": ((BERT, {"fields": {"model.length": 40}}, None), (BERT, {"fields": {"model.length": 39}}, None)),
    "rows_shared": (
        ("dlrm/own", {"fields": {"tables.shard": "row"}}, None),
        ("dlrm/own", {"fields": {"tables.shard": "none"}}, None),
    ),
}


def of_model(model):
    """An exercise on this model and on no data set, to be given the check in question."""
    record = Recorded(metric="top1", value=0.8, interval=(0.78, 0.82), seconds=1.0, hardware="none")
    plain = next(exercise for exercise in EXERCISES if exercise.model == model)
    command = f"kit challenge {model}"
    return dataclasses.replace(plain, name="one", command=command, records=(record,))


@pytest.mark.parametrize("is_met", [True, False], ids=["met", "missed"])
@pytest.mark.parametrize("name", CASES)
def test_a_check_has_both_verdicts(tmp_path, name, is_met):
    identifier, changes, prepare = CASES[name][0 if is_met else 1]
    run = write_run(tmp_path / "run", identifier, **changes)
    if prepare is not None:
        prepare(run)
    exercise = dataclasses.replace(of_model(identifier.partition("/")[0]), checks=(name,))
    if is_met:
        assert judge(exercise, run.path).startswith("one: passed. ")
        return
    with pytest.raises(NotYetError) as raised:
        judge(exercise, run.path)
    told = raised.value
    assert all(part and part[-1] for part in (told.given, told.allowed, told.remedy))


def test_every_check_is_tried_and_asked_for():
    assert set(CASES) == set(CHECKS)
    assert {name for exercise in EXERCISES for name in exercise.checks} == set(CHECKS)


def test_a_figure_below_another_is_better_where_lower_is_better(tmp_path):
    exercise = dataclasses.replace(of_model("resnet50"), checks=("beat_target",))
    target = Target(metric="top1", value=0.6, source="made up", protocol="made up", higher_is_better=False)
    write_run(tmp_path / "lower", RESNET, value=0.5, target=target, interval=Interval(0.45, 0.55, "made up"))
    assert judge(exercise, tmp_path / "lower")
    write_run(tmp_path / "near", RESNET, value=0.55, target=target, interval=Interval(0.5, 0.61, "made up"))
    with pytest.raises(NotYetError, match="worse end"):
        judge(exercise, tmp_path / "near")


def test_another_model_another_data_set_and_an_unfinished_run_are_told(tmp_path):
    run = write_run(tmp_path / "run", SSD)
    with pytest.raises(NotYetError, match="a run of ssd300"):
        judge(find("halve-learning-rate"), run.path)
    run = write_run(tmp_path / "photos", "resnet50/photos", data="/home/me/photos")
    with pytest.raises(NotYetError, match="trained on photos"):
        judge(find("travel"), run.path)
    run = write_run(tmp_path / "land", "resnet50/photos", data="/home/me/data/eurosat/2750", value=0.9)
    assert "passed" in judge(find("travel"), run.path)
    run.result_file.unlink()
    with pytest.raises(NotYetError, match="no result yet"):
        judge(find("travel"), run.path)
    with pytest.raises(CheckpointError, match="not a run directory"):
        judge(find("travel"), tmp_path)


def test_a_record_with_something_missing_is_damaged(tmp_path):
    run = write_run(tmp_path / "run", RESNET)
    write_json(run.parity_file, {})
    with pytest.raises(DamagedFileError, match="lacks rows or choice"):
        judge(find("eight-bits"), run.path)


def test_the_command_line_says_both_verdicts(tmp_path, capsys):
    run = write_run(tmp_path / "run", RESNET, fields={"optimizer.peak_lr": 5e-4})
    assert main(["exercise", "check", "halve-learning-rate", str(run.path)]) == 0
    assert "halve-learning-rate: passed." in capsys.readouterr().out
    assert main(["exercise", "check", "mix-pictures", str(run.path)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 3
