"""What lies in S3 comes by s5cmd or by the AWS CLI, to the same files at the same times."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from containers.fetch import downloaded, fetch

TOOL = """
import datetime, json, os, pathlib, shutil, sys
name, words = os.path.basename(sys.argv[0]), sys.argv[1:]
with open(os.environ["CALLED"], "a") as log:
    print(name, *words, file=log)
store = pathlib.Path(os.environ["STORE"])
place = lambda address: store / address.removeprefix("s3://").rstrip("*/")
if os.environ.get("BROKEN") == name:
    sys.exit("it is broken")
if "head-object" in words:
    sys.exit(0 if (store / words[3] / words[5]).is_file() else 254)
if "ls" in words:
    if "--log" in words:  # as s5cmd, whose listing is a message of level info
        sys.exit()
    for path in sorted(path for path in place(words[-1]).rglob("*") if path.is_file()):
        changed = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC).isoformat().replace("+00:00", "Z")
        print(json.dumps({"key": f"s3://{path.relative_to(store)}", "last_modified": changed}))
    print(json.dumps({"key": words[-1].rstrip("*") + "folder/", "last_modified": changed}))
elif "cp" in words:
    shutil.copy2(place(words[-2]), words[-1])
elif not place(words[-2]).is_dir():
    sys.exit("nothing there")
else:
    how = shutil.copy if name == "s5cmd" else shutil.copy2
    shutil.copytree(place(words[-2]), words[-1], dirs_exist_ok=True, copy_function=how)
"""
TIME = 1_700_000_000


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A bucket with a folder and a file, and the two tools as far as they are asked."""
    commands, store = tmp_path / "commands", tmp_path / "store"
    commands.mkdir()
    for name in ("aws", "s5cmd"):
        (commands / name).write_text(f"#!{sys.executable}\n{TOOL}")
        (commands / name).chmod(0o755)
    for name, text in {"photos/cats/1 é.jpg": "one", "photos/2.jpg": "two", "table.csv": "user,item"}.items():
        path = store / "bucket" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (TIME, TIME))
    return {"PATH": f"{commands}", "STORE": str(store), "CALLED": str(tmp_path / "called")}


def files(folder: Path) -> dict[str, tuple[str, float]]:
    return {
        str(path.relative_to(folder)): (path.read_text(), path.stat().st_mtime)
        for path in folder.rglob("*") if path.is_file()
    }  # fmt: skip


EXPECTED = {"cats/1 é.jpg": ("one", TIME), "2.jpg": ("two", TIME)}


@pytest.mark.parametrize("broken", ["", "s5cmd"])
def test_a_folder_is_the_same_by_either_tool(broken, environment, tmp_path, capfd):
    target = tmp_path / "data" / "photos"
    assert fetch("s3://bucket/photos/", target, {**environment, "BROKEN": broken})
    assert files(target) == EXPECTED
    calls = Path(environment["CALLED"]).read_text().splitlines()
    assert any(call.startswith("aws s3 sync") for call in calls) == bool(broken)
    assert ("the AWS CLI does" in capfd.readouterr().err) == bool(broken)


def test_one_object_is_a_file(environment, tmp_path):
    assert fetch("s3://bucket/table.csv", tmp_path / "table.csv", environment)
    assert (tmp_path / "table.csv").read_text() == "user,item"


def test_nothing_is_told_as_nothing(environment, tmp_path):
    assert not fetch("s3://bucket/videos", tmp_path / "videos", environment)


def test_a_name_with_a_pattern_in_it_is_left_to_the_cli(environment, tmp_path):
    (Path(environment["STORE"]) / "bucket" / "a*").mkdir()
    (Path(environment["STORE"]) / "bucket" / "a*" / "1.jpg").touch()
    fetch("s3://bucket/a*", tmp_path / "a", environment)
    assert "s5cmd" not in Path(environment["CALLED"]).read_text()


def test_nothing_is_downloaded_unless_it_may_be(environment, tmp_path, monkeypatch):
    os.unlink(Path(environment["PATH"]) / "s5cmd")
    monkeypatch.setattr("containers.fetch.downloaded", lambda _: pytest.fail("nobody allowed that"))
    assert fetch("s3://bucket/photos", tmp_path / "photos", environment)
    assert files(tmp_path / "photos") == EXPECTED


@pytest.fixture
def package(environment, tmp_path) -> Path:
    """A package of Debian's with s5cmd in it."""
    if shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is not installed")
    folder = tmp_path / "package"
    (folder / "DEBIAN").mkdir(parents=True)
    (folder / "DEBIAN" / "control").write_text(
        "Package: s5cmd\nVersion: 1\nArchitecture: all\nMaintainer: n <n@n>\nDescription: x\n"
    )
    (folder / "usr" / "bin").mkdir(parents=True)
    shutil.move(Path(environment["PATH"]) / "s5cmd", folder / "usr" / "bin")
    subprocess.run(["dpkg-deb", "--build", str(folder), str(tmp_path / "s5cmd.deb")], check=True, capture_output=True)
    return tmp_path / "s5cmd.deb"


def test_what_is_downloaded_is_the_release_and_no_other(environment, package, tmp_path, monkeypatch, capfd):
    mark = hashlib.sha256(package.read_bytes()).hexdigest()
    monkeypatch.setattr("containers.fetch.downloaded", lambda place: downloaded(place, package.as_uri(), mark))
    assert fetch("s3://bucket/photos", tmp_path / "photos", environment, download=True)
    assert "s5cmd --log error sync" in Path(environment["CALLED"]).read_text()
    with pytest.raises(ValueError, match=f"has the SHA-256 {mark}, not 00"):
        downloaded(tmp_path, package.as_uri(), "00")
    monkeypatch.setattr("containers.fetch.downloaded", lambda place: downloaded(place, package.as_uri(), "00"))
    assert fetch("s3://bucket/photos", tmp_path / "again", environment, download=True)
    assert files(tmp_path / "again") == EXPECTED
    assert "the AWS CLI does" in capfd.readouterr().err
