"""Archives are unpacked whole and inside, or refused."""

import io
import tarfile
import zipfile

import pytest

from common.errors import DataError
from common.storage.archives import unpack

FILES = {"set/a.txt": b"a" * 1000, "set/deep/er/b.txt": b"", "set/ü.txt": b"x"}


def zipped(path, files, kind=0):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = kind << 16, zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return path


def tarred(path, files, kind=tarfile.REGTYPE):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = (len(content) if kind == tarfile.REGTYPE else 0), kind, "/etc/passwd"
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_good_one_comes_out_whole(tmp_path, pack):
    assert unpack(pack(tmp_path / "archive", FILES), tmp_path / "out", 10_000) == 1001
    found = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes() for path in (tmp_path / "out").rglob("*.txt")
    }
    assert found == FILES


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize("name", ["../up.txt", "set/../../up.txt", "/tmp/kit-absolute.txt", "C:/x.txt", "a\\..\\b"])
def test_nothing_leaves_the_folder(tmp_path, pack, name):
    with pytest.raises(DataError, match="outside"):
        unpack(pack(tmp_path / "archive", {name: b"x"}), tmp_path / "deep" / "out", 100)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "archive"]


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_bomb_is_stopped_at_what_was_announced(tmp_path, pack):
    archive = pack(tmp_path / "archive", {"zeros": bytes(5_000_000)})
    assert archive.stat().st_size < 10_000
    with pytest.raises(DataError, match="more than the 1 MB"):
        unpack(archive, tmp_path / "out", 1_000_000)
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*")) <= 1_000_000


def test_links_and_devices_are_refused(tmp_path):
    for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)):
        with pytest.raises(DataError, match="link or a device"):
            unpack(tarred(tmp_path / f"tar{number}", {"x": b""}, kind), tmp_path / f"out{number}", 100)
    with pytest.raises(DataError, match="is a link"):
        unpack(zipped(tmp_path / "zip", {"x": b"/etc/passwd"}, 0o120777), tmp_path / "out", 100)


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_cut_and_changed_ones_are_refused(tmp_path, pack):
    whole = pack(tmp_path / "archive", {"a": b"some words" * 5000, "b": bytes(range(256)) * 50}).read_bytes()
    (tmp_path / "archive").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="not unpacked"):
        unpack(tmp_path / "archive", tmp_path / "out", 10**6)
    (tmp_path / "archive").write_bytes(b"neither")
    with pytest.raises(DataError, match="neither a zip nor a tar"):
        unpack(tmp_path / "archive", tmp_path / "other", 10**6)


def test_a_file_that_comes_twice_is_refused(tmp_path):
    with tarfile.open(tmp_path / "twice", "w") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("a"))
    with pytest.raises(DataError, match="not unpacked"):
        unpack(tmp_path / "twice", tmp_path / "out", 100)
