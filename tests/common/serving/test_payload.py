"""The server's folder: what is unpacked, what is checked, and what is refused."""

import json
import subprocess
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.errors import ServingError
from common.files import sha256
from common.serving import payload as payload_module
from common.serving.payload import install

MINOR = payload_module._minor()
ENTRIES = (
    "pytriton/tritonserver/bin/tritonserver",
    "pytriton/tritonserver/backends/python/libtriton_python.so",
    "pytriton/tritonserver/caches/local/libtritoncache_local.so",
    f"pytriton/tritonserver/python_backend_stubs/{MINOR}/triton_python_backend_stub",
    "pytriton/tritonserver/python_backend_stubs/3.8/triton_python_backend_stub",
    "pytriton/triton.py",
    "nvidia_pytriton.libs/libone.so",
    "nvidia_pytriton-0.7.0.dist-info/licenses/LICENSE",
)


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """A pip that "downloads" a small wheel of the same layout; gives the commands it was called with."""
    wheel = tmp_path / "wheel.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for entry in ENTRIES:
            archive.writestr(entry, entry)
    calls: list[list[str]] = []

    def run(command: list[str], **_: Any) -> Any:
        calls.append(command)
        Path(command[command.index("--dest") + 1], "server.whl").write_bytes(wheel.read_bytes())
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(payload_module, "WHEEL_SHA256", sha256(wheel))
    return calls


def test_install_unpacks_the_server_and_one_stub(pip: list[list[str]], tmp_path: Path) -> None:
    payload = install(tmp_path / "triton")
    files = {str(path.relative_to(payload.folder)) for path in payload.folder.rglob("*") if path.is_file()}
    assert files == {
        "bin/tritonserver",
        "backends/python/libtriton_python.so",
        "backends/python/triton_python_backend_stub",
        "caches/local/libtritoncache_local.so",
        "lib/libone.so",
        "licenses/LICENSE",
        "payload.json",
    }
    assert (payload.folder / "backends/python/triton_python_backend_stub").read_text().split("/")[-2] == MINOR
    assert payload.server.stat().st_mode & 0o111
    assert payload.is_installed()
    assert "never for production" in json.loads(payload.record.read_text())["warning"]
    assert install(payload.folder) == payload
    assert len(pip) == 1
    assert "nvidia-pytriton==0.7.0" in pip[0]
    assert "--no-deps" in pip[0]


def test_another_python_or_version_is_installed_anew(pip: list[list[str]], tmp_path: Path) -> None:
    payload = install(tmp_path / "triton")
    payload.record.write_text(json.dumps(json.loads(payload.record.read_text()) | {"python": "3.8"}))
    assert not payload.is_installed()
    assert install(payload.folder).is_installed()
    assert len(pip) == 2


def test_another_file_than_the_tried_one_is_refused(
    pip: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payload_module, "WHEEL_SHA256", "0" * 64)
    with pytest.raises(ServingError, match="not the file that was tried"):
        install(tmp_path / "triton")
    assert not (tmp_path / "triton").exists()


def test_a_failed_download_gives_pip_s_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = SimpleNamespace(returncode=1, stderr="WARNING: x\nERROR: no route to host\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(ServingError, match="ERROR: no route to host"):
        install(tmp_path / "triton")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("platform.machine", lambda: "aarch64", "Linux on x86_64"),
        ("platform.libc_ver", lambda: ("glibc", "2.31"), "glibc 2.35"),
        ("platform.libc_ver", lambda: ("", ""), "no glibc"),
        ("_minor", lambda: "3.14", "3.11, 3.12, 3.13"),
    ],
)
def test_machines_it_cannot_run_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: Any, words: str
) -> None:
    monkeypatch.setattr(f"common.serving.payload.{name}", value)
    with pytest.raises(ServingError, match=words):
        install(tmp_path / "triton")


@pytest.mark.parametrize("names", [["photo.jpg"], ["payload.json", "photo.jpg"], ["bin"]])
def test_a_folder_of_something_else_stays(pip: list[list[str]], tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_text("{}")
    with pytest.raises(ServingError, match="no unpacked Triton server"):
        install(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({*names, *(["wheel.whl"] if pip == [] else [])})
    assert pip == []
