"""DATA=s3://… is a local copy that is as new as the bucket, and each trouble on the way has its sentence."""

import io
import os

import pytest
from botocore.exceptions import ClientError
from rich.console import Console

from challenges.__main__ import main
from common.errors import DataError
from common.storage import s3
from common.storage.cloud import Cloud, refusal
from tests.common.vision.picture_files import dark_and_bright


@pytest.fixture
def bucket(cloud):
    cloud.ask("s3", "create_bucket", Bucket="photos-1")
    put(cloud, "set/cats/1.jpg", b"one")
    put(cloud, "set/cats/2 é.jpg", b"two")
    put(cloud, "set/", b"")
    put(cloud, "settled/3.jpg", b"not below it")
    return cloud


def put(cloud, key, body):
    cloud.ask("s3", "put_object", Bucket="photos-1", Key=key, Body=body)


def fetch(address="s3://photos-1/set"):
    told = io.StringIO()
    return s3.local_copy(address, Console(file=told, width=300)), told.getvalue()


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_copy_has_what_lies_below_the_prefix_at_its_own_times(bucket):
    folder, told = fetch()
    assert "fetching 2 of 2 objects" in told
    assert folder.name == "set"
    assert content(folder) == {"cats/1.jpg": b"one", "cats/2 é.jpg": b"two"}
    changed = bucket.ask("s3", "head_object", Bucket="photos-1", Key="set/cats/1.jpg")["LastModified"].timestamp()
    assert (folder / "cats" / "1.jpg").stat().st_mtime == changed


def test_a_copy_is_brought_up_to_date_and_nothing_is_fetched_twice(bucket):
    folder, _ = fetch()
    assert fetch() == (folder, "")
    put(bucket, "set/cats/1.jpg", b"ONE")
    put(bucket, "set/dogs/4.jpg", b"four")
    bucket.ask("s3", "delete_object", Bucket="photos-1", Key="set/cats/2 é.jpg")
    _, told = fetch()
    assert "fetching 2 of 2 objects" in told
    assert "1 of them changed since they were last fetched" in told
    assert content(folder) == {"cats/1.jpg": b"ONE", "dogs/4.jpg": b"four"}


def test_one_object_is_a_file(bucket):
    path, _ = fetch("s3://photos-1/settled/3.jpg")
    assert path.read_bytes() == b"not below it"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("s3://photos-1/nothing", "There is nothing at s3://photos-1/nothing"),
        ("s3://no-such-bucket/set", "There is no bucket no-such-bucket"), ("s3://", "names no bucket"),
        ("s3://photos-1/../set", "leads elsewhere"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_told(address, expected, bucket, capsys):
    assert main(["check", address]) == 2
    told = capsys.readouterr().err
    assert expected in told
    assert len(told.strip().splitlines()) == 3


@pytest.mark.parametrize("key", ["set/../../outside.jpg", "set//a.jpg", "set/./a.jpg", "set/" + "x" * 256])
def test_an_object_that_would_lie_elsewhere_is_refused(key, bucket):
    put(bucket, key, b"x")
    with pytest.raises(DataError, match="cannot be a file"):
        fetch()
    assert not list(s3.cache_folder().rglob("*.jpg"))


def while_fetching(monkeypatch, action):
    fetch_all = s3._fetch_all
    monkeypatch.setattr(s3, "_fetch_all", lambda *given: (action(), fetch_all(*given)))


def test_an_object_that_vanishes_meanwhile_is_told(bucket, monkeypatch):
    while_fetching(monkeypatch, lambda: bucket.ask("s3", "delete_object", Bucket="photos-1", Key="set/cats/1.jpg"))
    with pytest.raises(DataError, match=r"cats/1\.jpg is missing: it was deleted while it was being fetched"):
        fetch()


def test_an_object_that_changes_meanwhile_is_told(bucket, monkeypatch):
    while_fetching(monkeypatch, lambda: put(bucket, "set/cats/1.jpg", b"another"))
    with pytest.raises(DataError, match=r"cats/1\.jpg was changed while it was being fetched"):
        fetch()
    assert not list(s3.cache_folder().rglob("*.part"))


def test_an_object_that_may_not_be_read_is_told(bucket, monkeypatch):
    ask = Cloud.ask

    def denied(self, service, operation, **request):
        if operation == "get_object":
            raise refusal(ClientError({"Error": {"Code": "AccessDenied"}}, "GetObject"), "s3", "GetObject")
        return ask(self, service, operation, **request)

    monkeypatch.setattr(Cloud, "ask", denied)
    with pytest.raises(DataError, match=r"s3://photos-1/set/cats/.*may not be read") as refused:
        fetch()
    assert "s3:GetObject" in refused.value.allowed


def test_too_little_room_is_told_before_anything_is_fetched(bucket, monkeypatch):
    usage = type("Usage", (), {"free": 5})
    monkeypatch.setattr(s3.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match=r"needs 0\.0 GB, and the disk"):
        fetch()
    assert not list(s3.cache_folder().rglob("*.jpg"))


@pytest.mark.slow
def test_a_training_on_a_bucket_is_found_again_and_goes_on(bucket, tmp_path, monkeypatch, capsys):
    photographs = dark_and_bright(tmp_path / "photographs")
    for path in photographs.rglob("*.jpg"):
        put(bucket, f"pictures/{path.relative_to(photographs)}", path.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    line = ["train", "resnet50/photos", "--data", "s3://photos-1/pictures", "--device", "cpu", "--model.depth", "18"]
    line += ["--preprocessing.resize", "36", "--preprocessing.crop", "32", "--training.batch-size", "8"]
    line += ["--training.epochs", "1"]
    assert main(line) == 0
    capsys.readouterr()
    (run,) = (tmp_path / "runs").iterdir()
    for path in run.rglob("training.json"):
        os.unlink(path)
    assert main(line) == 0
    assert main(line) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert list((tmp_path / "runs").iterdir()) == [run]
    put(bucket, "pictures/dark/new.jpg", next(photographs.rglob("*.jpg")).read_bytes())
    assert main(["check", "s3://photos-1/pictures"]) == 0
    assert "fetching 1 of 21 objects" in capsys.readouterr().out
