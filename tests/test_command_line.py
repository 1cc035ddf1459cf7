"""`kit` as a user meets it: help at once, mistakes answered in three lines, the whole line on tiny photographs."""

import contextlib
import csv
import json
import os
import re
import subprocess
import sys
import time

import pytest
import torch

from challenges.__main__ import build_parser, main
from challenges.detection.demo import generate as generate_scenes
from challenges.recommendation.histories.demo import generate as generate_interactions
from challenges.registry import MODELS
from common.vision.resnet import ResNet
from tests.common.vision.picture_files import broken_files, dark_and_bright, sound_files

TINY = [
    "--model.depth", "18", "--preprocessing.resize", "36", "--preprocessing.crop", "32",
    "--training.batch-size", "8", "--training.epochs", "2", "--training.checkpoint-every", "2",
]  # fmt: skip
VERBS = build_parser()._subparsers._group_actions[0].choices


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHALLENGE_KIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def photographs(tmp_path):
    return dark_and_bright(tmp_path / "photographs")


def refused(capsys, *arguments):
    """The lines on standard error of a command that must fail."""
    try:
        code = main(arguments)
    except SystemExit as stopped:
        code = stopped.code
    lines = capsys.readouterr().err.strip().splitlines()
    assert code not in (0, None)
    assert 1 <= len(lines) <= 3, lines
    assert not any("Traceback" in line for line in lines)
    return "\n".join(lines)


def test_an_unknown_argument_is_answered_with_what_its_verb_takes(capsys):
    with pytest.raises(SystemExit):
        main(["check", "vae_cf", "--data", "histories.csv"])
    told = capsys.readouterr().err
    assert told.startswith("usage: kit check")
    assert "[--columns" in told
    assert "unknown arguments: --data" in told


def test_help_comes_without_heavy_imports():
    code = "import sys; sys.argv = ['kit', '--help']\n"
    code += "try:\n import challenges.__main__ as m; m.main()\nexcept SystemExit: pass\n"
    code += "print(sorted({'torch', 'numpy', 'nvidia.dali', 'matplotlib', 'PIL', 'rich'} & set(sys.modules)))"
    started = time.monotonic()
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip().endswith("[]")
    assert time.monotonic() - started < 10  # a guard against hangs; the figure itself is measured by the benchmark


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_with_an_example(verb, capsys):
    with contextlib.suppress(SystemExit):
        main([verb, "--help"])
    shown = capsys.readouterr().out
    assert f"kit {verb}" in shown
    assert "examples:" in shown


def test_the_walks_help_names_its_steps_and_each_is_a_verb():
    steps = VERBS["challenge"].description.split(": ")[1].split(", ")
    assert steps == ["check", "train", "evaluate", "export", "parity", "serve", "report"]
    assert {*steps} <= {*VERBS}


def test_help_on_a_recipe_lists_its_fields(capsys):
    main(["train", "resnet50/imagenet-90e", "--help"])
    shown = capsys.readouterr().out
    assert "--optimizer.peak-lr" in shown
    assert "2.048" in shown
    assert "--target" not in shown


def test_list_shows_every_recipe_with_its_target(capsys):
    assert main(["list"]) == 0
    shown = "".join(capsys.readouterr().out.split())
    for model, entry in MODELS.items():
        assert all(f"{model}/{name}"[:12] in shown for name in entry.recipes())
    assert "0.7712" in shown


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "resnet50/foto"], "Did you mean resnet50/photos"),
        (["train", "resnet5/photos"], "Did you mean resnet50"),
        (["train", "resnet50/photos", "--optimizer.peek-lr", "1"], "--optimizer.peak-lr"),
        (["train", "resnet50/photos", "--data", "nowhere"], "nowhere is missing"),
        (["check", "nowhere"], "nowhere is missing"),
        (["evaluate", "nowhere"], "not a run directory"),
        (["predict", "nowhere", "x.jpg"], "not a run directory"),
    ],
)
def test_a_mistake_is_answered_in_three_lines(arguments, expected, capsys):
    assert expected in refused(capsys, *arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["load", "--rate", "0"],
        ["load", "--seconds", "-1"],
        ["load", "--seconds", "nan"],
        ["load", "--concurrency", "0"],
        ["client", "--timeout", "-1"],
        ["client", "--timeout", "1e99"],
        ["client", "--top-k", "0"],
        ["parity", "run", "--files", "0"],
        ["serve", "run", "--http-port", "65536"],
        ["serve", "run", "--http-port", "x"],
    ],
)
def test_a_number_out_of_its_range_is_bad_input(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert f"argument {arguments[-2]}: " in capsys.readouterr().err


def test_bad_data_folders_are_told_apart(tmp_path, photographs, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(capsys, "check", str(empty))
    (tmp_path / "a-file").write_text("x")
    assert "is a file" in refused(capsys, "check", str(tmp_path / "a-file"))
    for index in range(9):
        (photographs / "dark" / f"{index}.jpg").unlink()
    assert "dark" in refused(capsys, "check", str(photographs))
    (photographs / "dark" / "9.jpg").unlink()
    (photographs / "dark").rmdir()
    assert "one class" in refused(capsys, "check", str(photographs))


def result_of(shown):
    """The last RESULT line; what to try next may stand below it, and nothing else."""
    lines = shown.strip().splitlines()
    place = max(number for number, line in enumerate(lines) if line.startswith("RESULT "))
    assert all(line.startswith("next: ") for line in lines[place + 1 :])
    return lines[place]


@pytest.mark.slow
def test_the_whole_line_on_two_folders_of_photographs(photographs, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    line = ["challenge", "resnet50", "--data", str(photographs), "--run", "run", "--device", "cpu", *TINY]
    assert main(line) == 0
    shown = capsys.readouterr().out
    assert "recipe: resnet50/photos (--data was given)" in shown
    last = result_of(shown)
    assert last.startswith("RESULT resnet50/photos top1=")
    assert " target=none baseline=colour-k-NN:1.0000 verdict=not-comparable" in last  # told apart by brightness alone
    assert last.endswith(" report=run/report/index.html")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["interval"][0] <= result["value"] <= result["interval"][1]
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "dark" in page
    assert 'http-equiv="refresh"' not in page

    assert main(line) == 0  # nothing left to do
    assert "nothing to do" in capsys.readouterr().out

    refusal = refused(capsys, *line, "--training.seed", "9")
    assert "another recipe or with other overrides" in refusal

    assert main(["predict", "run", str(photographs / "dark"), "--device", "cpu"]) == 0
    assert "0.jpg" in capsys.readouterr().out
    assert len(list((tmp_path / "run" / "predictions").glob("*.jpg"))) == 10

    assert main(["evaluate", "run", "--precision", "bf16", "--device", "cpu"]) == 0
    assert main(["report", "run"]) == 0

    before = [(tmp_path / "run" / name).read_bytes() for name in ("evaluation.json", "result.json", "predictions.npz")]
    (photographs / "bright").rename(photographs / "Bright")
    capsys.readouterr()
    assert main(["evaluate", "run", "--data", str(photographs), "--device", "cpu"]) == 0
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.startswith("TEST resnet50/photos top1=")
    assert f" images=20 data={photographs} " in last
    after = [(tmp_path / "run" / name).read_bytes() for name in ("evaluation.json", "result.json", "predictions.npz")]
    assert after == before
    (photographs / "Bright").rename(photographs / "shining")
    assert "shining" in refused(capsys, "evaluate", "run", "--data", str(photographs))
    assert 'id="tests"' in (tmp_path / "run" / "report" / "index.html").read_text()


@pytest.mark.slow
def test_bad_files_are_named_and_the_rest_is_trained_on(photographs, tmp_path, capsys):
    broken = broken_files()
    for name, (content, _) in broken.items():
        (photographs / "dark" / f"broken-{name}").write_bytes(content)
    for name, (content, _) in sound_files().items():
        (photographs / "bright" / f"odd-{name}").write_bytes(content)
    arguments = ["train", "resnet50/photos", "--data", str(photographs), "--run", "run", "--device", "cpu", *TINY]
    assert main(arguments) == 0
    with (tmp_path / "run" / "data" / "quarantine.csv").open() as stream:
        quarantined = {row["path"].split("/")[-1]: row["code"] for row in csv.DictReader(stream)}
    assert quarantined == {f"broken-{name}": code for name, (_, code) in broken.items()}


@pytest.mark.slow
def test_the_learning_rate_finder_suggests_and_draws(photographs, tmp_path, capsys):
    assert main(["lr-find", "resnet50/photos", "--data", str(photographs), "--device", "cpu", *TINY]) == 0
    assert "--optimizer.peak-lr" in capsys.readouterr().out
    assert (tmp_path / "runs" / "lr-find-resnet50-photos.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_every_verb_its_flags_and_every_recipe(shell, capsys):
    assert main(["completion", shell]) == 0
    flags = {flag for verb in VERBS.values() for flag in verb._option_string_actions if flag.startswith("--")}
    recipes = {f"{model}/{name}" for model, entry in MODELS.items() for name in entry.recipes()}
    told = re.findall(r"[\w/-]+", capsys.readouterr().out)
    assert {*VERBS, *recipes, *(flags if shell != "tcsh" else ())} - {*told} == set()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_run_directory_is_told(photographs, tmp_path, capsys):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    refused(capsys, "train", "resnet50/photos", "--data", str(photographs), "--run", str(closed / "run"), *TINY)


def test_a_run_directory_below_a_file_is_told(photographs, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    arguments = ["train", "resnet50/photos", "--data", str(photographs), "--run", str(tmp_path / "file" / "run"), *TINY]
    assert "cannot be written" in refused(capsys, *arguments)


def test_weights_of_another_depth_are_told_before_training(photographs, tmp_path, capsys):
    weights = tmp_path / "resnet34.pth"
    torch.save(ResNet(depth=34, num_classes=2, zero_init_last_norm=True).state_dict(), weights)
    arguments = ["train", "resnet50/photos", "--data", str(photographs), "--weights", str(weights), *TINY]
    assert "ResNet-34" in refused(capsys, *arguments)


@pytest.fixture
def scenes(tmp_path):
    """A few generated scenes with boxes, as COCO JSON."""
    return generate_scenes(tmp_path / "scenes", images=(8, 4), workers=0)


@pytest.mark.slow
def test_the_whole_line_on_scenes_with_boxes(scenes, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    line = [
        "challenge", "ssd300", "--data", str(scenes), "--run", "run", "--device", "cpu",
        "--training.epochs", "30", "--training.evaluate-every", "30", "--training.ema-decay", "None",
    ]  # fmt: skip
    assert main(line) == 0
    shown = capsys.readouterr().out
    assert "recipe: ssd300/small (--data was given)" in shown
    assert result_of(shown).startswith("RESULT ssd300/small ap=")
    assert "doughnut" in (tmp_path / "run" / "report" / "index.html").read_text()

    images = sorted((scenes / "images" / "val").glob("*.jpg"))
    assert main(["predict", "run", str(images[0]), "--threshold", "0.01", "--device", "cpu"]) == 0
    assert (tmp_path / "run" / "predictions" / "detections.json").is_file()
    assert "--threshold SCORE" in refused(capsys, "predict", "run", "--history", "3")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "asked"),
    [("ncf", ["--user", "7"]), ("vae_cf", ["--history", "1", "5"]), ("bert4rec", ["--history", "1", "5"])],
)
def test_the_whole_line_on_interactions(model, asked, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    ratings = generate_interactions(tmp_path / "interactions") / "ratings.csv"
    line = ["challenge", model, "--data", str(ratings), "--run", "run", "--device", "cpu", "--training.epochs", "1"]
    assert main(line) == 0
    shown = capsys.readouterr().out
    assert result_of(shown).startswith(f"RESULT {model}/own ")
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "popularity" in page
    assert "Among all items the user has not seen" in page
    assert main(["predict", "run", *asked, "--device", "cpu"]) == 0
    assert "score" in capsys.readouterr().out
    refused(capsys, "predict", "run", "x.jpg")
