"""Exercises done for real, on a little data: trained, evaluated, and judged by the command line."""

import gzip
import hashlib

import pytest

from challenges.__main__ import main
from challenges.data_sets.table import DATA_SETS
from challenges.recommendation.histories.demo import generate
from tests.common.vision.picture_files import dark_and_bright

TINY = [
    "--model.depth", "18", "--preprocessing.resize", "36", "--preprocessing.crop", "32", "--data.threads", "1",
    "--training.batch-size", "8", "--training.epochs", "1", "--device", "cpu",
]  # fmt: skip


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHALLENGE_KIT_CACHE", str(tmp_path / "cache"))


def trained(recipe, data, *flags):
    assert main(["train", recipe, "--data", str(data), "--run", "run", *flags]) == 0
    assert main(["evaluate", "run", "--device", "cpu"]) == 0


def verdict(name, capsys):
    capsys.readouterr()
    code = main(["exercise", "check", name, "run"])
    printed = capsys.readouterr()
    return code, printed.out or printed.err


@pytest.mark.slow
def test_a_classifier_with_half_the_rate_in_small_parts(tmp_path, capsys):
    photographs = dark_and_bright(tmp_path / "photographs")
    trained(
        "resnet50/demo", photographs, *TINY, "--optimizer.peak-lr", "0.0005", "--training.micro-batch", "2",
        "--training.batch-size", "16", "--training.gradient-checkpointing", "--training.precision", "bf16",
    )  # fmt: skip
    for name in ("halve-learning-rate", "accumulate", "checkpointing"):
        code, told = verdict(name, capsys)
        assert code == 0, told
        assert f"{name}: passed." in told
    for name, missing in (("two-processes", "by one process"), ("first-walk", "not exported")):
        code, told = verdict(name, capsys)
        assert code == 2
        assert missing in told


@pytest.mark.slow
def test_a_recommender_that_has_learnt_nothing_is_not_above_popularity(tmp_path, capsys):
    histories = generate(tmp_path / "histories")
    trained("ncf/demo", histories, "--training.epochs", "0.5", "--optimizer.peak-lr", "1e-9", "--device", "cpu")
    code, told = verdict("beat-popularity", capsys)
    assert code == 2
    assert "recommending what is popular reaches" in told


def census_as_published(shared_data):
    """adult.data, and adult.test, whose copy lacks the remark at its beginning and the points behind the labels."""
    data, test = (
        gzip.decompress((shared_data / "recsys" / "adult" / f"{name}.gz").read_bytes())
        for name in ("adult.data", "adult.test")
    )
    lines = [b"|1x3 Cross validator", *(line + b"." for line in test.splitlines()), b"", b""]
    return {"adult.data": data, "adult.test": b"\n".join(lines)}


@pytest.mark.dataset
def test_the_census_has_the_checksums_of_its_entry(shared_data):
    published = census_as_published(shared_data)
    for part in DATA_SETS["adult"].parts:
        assert part.checksum == f"sha256:{hashlib.sha256(published[part.file]).hexdigest()}"


@pytest.mark.slow
@pytest.mark.dataset
def test_the_census_as_published_reaches_what_the_record_says(shared_data, tmp_path, capsys):
    (tmp_path / "adult").mkdir()
    for name, content in census_as_published(shared_data).items():
        (tmp_path / "adult" / name).write_bytes(content)
    trained("wide_and_deep/adult", "adult", "--device", "cpu")
    code, told = verdict("finance", capsys)
    assert code == 0, told
    assert "agrees with the committed record" in told
