"""Fetching a data set by name: it resumes, verifies, pins and asks; a server on the loopback address answers."""

import dataclasses
import json

import pytest

from challenges.data_sets.entry import Part
from challenges.data_sets.getting import PINS, find, get, is_whole
from common.errors import DataError
from common.terminal.console import SafeConsole

CONSOLE = SafeConsole(quiet=True)


def test_a_mirror_answers_and_the_second_call_fetches_nothing(server, entry, tmp_path):
    found = get("numbers", tmp_path, CONSOLE, entry=entry)
    assert (found / "numbers.bin").stat().st_size == 200_000
    assert get("numbers", tmp_path, CONSOLE, entry=entry) == found
    assert server.asked == [0]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_one_is_continued(server, entry, tmp_path, ranges):
    server.stops_after, server.ranges = 50_000, ranges
    with pytest.raises(DataError, match="connection ended"):
        get("numbers", tmp_path, CONSOLE, entry=entry)
    assert not (tmp_path / "numbers").exists()
    server.stops_after = 10**9
    get("numbers", tmp_path, CONSOLE, entry=entry)
    assert server.asked == [0, 50_000 if ranges else 0]


def test_one_that_was_complete_is_only_unpacked(server, entry, tmp_path):
    (tmp_path / ".fetching" / "numbers").mkdir(parents=True)
    (tmp_path / ".fetching" / "numbers" / ".gone.tgz.unfinished").write_bytes(server.archive)
    get("numbers", tmp_path, CONSOLE, entry=entry)
    assert server.asked == [len(server.archive)]


@pytest.mark.parametrize(("end", "told"), [("gone.tgz", "404"), ("", "refused")])
def test_without_an_answer_one_is_told_how_to_do_without(server, entry, tmp_path, end, told):
    address = f"http://127.0.0.1:{server.server_port}/{end}" if end else "http://127.0.0.1:9/set.tgz"
    (part,) = entry.parts
    away = dataclasses.replace(entry, parts=(dataclasses.replace(part, urls=(address,)),))
    with pytest.raises(DataError, match=rf"cannot be downloaded: .*{told}") as raised:
        get("numbers", tmp_path, CONSOLE, entry=away)
    assert "DATA=" in raised.value.remedy


def test_what_is_there_already_stays(server, entry, tmp_path):
    (tmp_path / "numbers").mkdir()
    (tmp_path / "numbers" / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="something else"):
        get("numbers", tmp_path, CONSOLE, entry=entry)
    assert server.asked == []


def test_a_changed_one_is_refused_and_deleted(server, entry, tmp_path):
    server.archive = server.archive[:-9] + b"\0" * 9
    with pytest.raises(DataError, match="arrived with sha256:"):
        get("numbers", tmp_path, CONSOLE, entry=entry)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and "lock" not in path.name] == []


def test_what_was_begun_at_another_address_is_fetched_anew_where_the_two_do_not_fit(server, entry, tmp_path):
    (tmp_path / ".fetching" / "numbers").mkdir(parents=True)
    (tmp_path / ".fetching" / "numbers" / ".gone.tgz.unfinished").write_bytes(bytes(50_000))
    found = get("numbers", tmp_path, CONSOLE, entry=entry)
    assert (found / "numbers.bin").stat().st_size == 200_000
    assert server.asked == [50_000, 0]


@pytest.mark.parametrize(
    ("near", "asked", "told"),
    [
        ("same", ([0], []), ""),
        ("another", ([0], [0]), "gone.tgz of 127.0.0.1 arrived with sha256:"),
        ("away", ([], [0]), "near/gone.tgz cannot be downloaded: the server says 404"),
    ],
)
def test_on_aws_its_own_copy_is_asked_first_and_held_to_the_checksum(
    server, entry, tmp_path, monkeypatch, capsys, near, asked, told
):
    monkeypatch.setattr("challenges.data_sets.getting.on_amazon", lambda: True)
    server.near = {"same": server.archive, "another": server.archive + b"more", "away": None}[near]
    found = get("numbers", tmp_path, SafeConsole(), entry=entry)
    assert (found / "numbers.bin").stat().st_size == 200_000
    assert (server.asked_near, server.asked) == asked
    said = " ".join(capsys.readouterr().out.split())
    assert told in said
    assert ("Asking 127.0.0.1 next." in said) == bool(told)


def test_elsewhere_the_copy_on_aws_is_not_asked(server, entry, tmp_path, monkeypatch):
    monkeypatch.setattr("challenges.data_sets.getting.on_amazon", lambda: False)
    server.near = server.archive
    get("numbers", tmp_path, CONSOLE, entry=entry)
    assert (server.asked_near, server.asked) == ([], [0])


def test_what_nobody_vouches_for_is_pinned_at_the_first_download(server, entry, tmp_path):
    (part,) = entry.parts
    unknown = dataclasses.replace(entry, parts=(dataclasses.replace(part, checksum=None),))
    get("numbers", tmp_path, CONSOLE, entry=unknown)
    pinned = (tmp_path / PINS).read_text()
    assert part.checksum in pinned
    (tmp_path / "numbers").rename(tmp_path / "elsewhere")
    server.archive += b"more"
    with pytest.raises(DataError, match="It should have"):
        get("numbers", tmp_path, CONSOLE, entry=unknown)


@pytest.mark.parametrize("change", [{"must_accept": True}, {"megabytes": 5000}])
def test_large_ones_and_their_terms_are_agreed_to_first(server, entry, tmp_path, change):
    asked = dataclasses.replace(entry, **change)
    with pytest.raises(DataError, match="before you agree"):
        get("numbers", tmp_path, CONSOLE, entry=asked)
    assert server.asked == []
    get("numbers", tmp_path, CONSOLE, entry=asked, accepted=True)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(DataError, match="imagenette"):
        find("imagenet-of-things")


def test_several_parts_are_laid_side_by_side_and_then_arranged(server, entry, tmp_path):
    (part,) = entry.parts
    plain = dataclasses.replace(part, urls=part.urls[1:], into="files", packed=False)

    def arrange(folder, count):
        (folder / "set" / "numbers.bin").rename(folder / "arranged.bin")
        count(1, 1)

    several = dataclasses.replace(entry, parts=(part, plain), root="arranged.bin", arrange=arrange)
    found = get("numbers", tmp_path, CONSOLE, entry=several)
    assert found == tmp_path / "numbers" / "arranged.bin"
    assert (tmp_path / "numbers" / "files" / "set.tgz").read_bytes() == server.archive
    assert is_whole(tmp_path / "numbers", several)
    assert not is_whole(tmp_path / "numbers", entry)
    assert server.asked == [0, 0]


def test_what_was_fetched_before_parts_were_known_is_still_whole(server, entry, tmp_path):
    get("numbers", tmp_path, CONSOLE, entry=entry)
    marker = tmp_path / "numbers" / "data-set.json"
    record = json.loads(marker.read_text())
    marker.write_text(json.dumps({"name": "numbers", "checksum": record["checksums"][0]}))
    get("numbers", tmp_path, CONSOLE, entry=entry)
    assert server.asked == [0]


@pytest.mark.parametrize(("answer", "fetched"), [("y", True), ("", False), ("no", False)])
def test_at_a_terminal_one_is_asked(server, entry, tmp_path, monkeypatch, answer, fetched):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    asked = dataclasses.replace(entry, must_accept=True)
    if fetched:
        get("numbers", tmp_path, CONSOLE, entry=asked)
    else:
        with pytest.raises(DataError, match="before you agree"):
            get("numbers", tmp_path, CONSOLE, entry=asked)
    assert bool(server.asked) == fetched


def test_a_part_is_called_as_its_address_ends():
    address = "https://a.example/files/numbers_64.npz?download=1"
    assert Part(urls=(address,), checksum=None).file == "numbers_64.npz"
