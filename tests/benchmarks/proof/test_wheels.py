"""The packages that are carried to a bare machine: the locked ones, whole once they are put together there."""

import subprocess
import sys
import tarfile
import zipfile

import pytest

from benchmarks.proof import wheels
from benchmarks.proof.wheels import cut, is_wanted, locked, main, needed


def test_all_that_a_package_needs_comes_with_it_and_is_locked():
    found = needed(["nvidia-dali-cuda130"])
    assert {"nvidia-nvimgcodec-cu13", "nvidia-nvjpeg", "six"} <= found  # the second of an extra's
    assert not found & {"numpy", "torch"}
    lines = locked(needed(wheels.ROOTS))
    assert lines.count("--hash=sha256:") >= lines.count("==") > 30
    with pytest.raises(KeyError, match="no-such-package"):
        locked({"no-such-package"})


@pytest.mark.parametrize(
    ("member", "wanted"),
    [
        ("nvidia/dali/libdali.so", True),
        ("nvidia/dali/backend_impl.cpython-312-x86_64-linux-gnu.so", True),
        ("nvidia/dali/backend_impl.cpython-313-x86_64-linux-gnu.so", False),
        ("nvidia/dali/backend_impl.cpython-312t-x86_64-linux-gnu.so", False),
        ("nvidia/dali/include/dali/c_api.h", False),
        ("matplotlib/tests/test_axes.py", False),
        ("rich/__init__.py", True),
        ("rich-14.dist-info/METADATA", True),
        ("rich/", False),
    ],
)
def test_what_other_pythons_use_is_left_behind(member, wanted):
    assert is_wanted(member, "3.12") == wanted


def test_pieces_make_one_archive_again(tmp_path, monkeypatch, capsys):
    """Put together and unpacked by the commands of the page, with nothing but Python."""
    content = bytes(range(256)) * 20
    for name in ("a", "b"):
        with zipfile.ZipFile(tmp_path / f"{name}.whl", "w") as wheel:
            wheel.writestr("nvidia/__init__.py", "same")
            wheel.writestr(f"{name}/kept.py", f"told = {name!r}")
            wheel.writestr(f"{name}/x.cpython-310-x86_64-linux-gnu.so", content)
    monkeypatch.setattr(wheels, "download", lambda *_: sorted(tmp_path.glob("*.whl")))
    monkeypatch.setattr(wheels, "PRESET", 0)
    folder = tmp_path / "carried"
    main([str(folder), "--python", "3.12"])
    (piece,) = sorted(folder.iterdir())
    assert f"MiB  {piece}  sha256 " in capsys.readouterr().out
    pieces = cut(piece, 100, tmp_path)
    assert {path.stat().st_size for path in pieces[:-1]} == {100}
    (tmp_path / "whole").write_bytes(b"".join(path.read_bytes() for path in pieces))
    subprocess.run([sys.executable, "-m", "tarfile", "-e", tmp_path / "whole", tmp_path / "site"], check=True)
    found = sorted(str(path.relative_to(tmp_path / "site")) for path in (tmp_path / "site").rglob("*.*"))
    assert found == ["a/kept.py", "b/kept.py", "nvidia/__init__.py"]
    with tarfile.open(tmp_path / "whole") as whole:
        assert whole.getnames().count("nvidia/__init__.py") == 1
    with pytest.raises(SystemExit):
        main([str(folder)])
