"""What install.py asks for, keeps and refuses; nothing is installed here."""

import pytest

from containers import install

PROJECT = {
    "dependencies": ["torch>=2.11", "NumPy>=2.0", "nvidia-dali-cuda130>=2.2; platform_system == 'Linux'", "rich>=14"],
    "optional-dependencies": {"serve": ["onnx>=1.20"], "quantize": ["lief"], "dev": ["pytest"]},
}


def test_what_the_image_brings_is_never_asked_for():
    assert install.requirements(PROJECT) == ["NumPy>=2.0", "rich>=14", "onnx>=1.20", "lief"]


def test_only_missing_packages_are_asked_for_and_old_ones_are_told(capsys):
    have = {"numpy": "1.26.4", "rich": "14.1"}
    assert install.missing(install.requirements(PROJECT), have) == ["onnx>=1.20", "lief"]
    assert capsys.readouterr().out == "KEPT NumPy 1.26.4 of the image; the kit asks for >=2.0\n"


def test_everything_but_build_tools_is_pinned():
    pins = install.pins({"torch": "2.13.0a0+9186a08b2c.nv26.07", "setuptools": "70"})
    assert pins == ["torch==2.13.0a0+9186a08b2c.nv26.07"]


LOCK = """# made by make lock
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:aa
numpy==2.5.0 ; python_full_version >= '3.12' \\
    --hash=sha256:bb \\
    --hash=sha256:cc
rich==14.0.0 \\
    --hash=sha256:dd
"""


def test_the_locked_versions_count_for_what_the_image_lacks(tmp_path):
    (tmp_path / "kit.txt").write_text(LOCK)
    packages = install.locked(tmp_path / "kit.txt")
    assert install.versions(packages, {"numpy": "1.26.4"}) == ["rich==14.0.0"]
    assert install.versions(packages, {"rich": "13"}) == [
        "numpy==2.4.6 ; python_full_version < '3.12'",
        "numpy==2.5.0 ; python_full_version >= '3.12'",
    ]
    assert "# made by make lock\n" + "".join(install.chosen(["numpy", "rich"], packages)) == LOCK


def test_a_package_without_a_hash_is_not_installed():
    with pytest.raises(SystemExit, match="No locked file has left-pad"):
        install.chosen(["rich", "left-pad"], {"rich": "rich==14.0.0"})


def test_the_kits_own_lock_is_read_whole():
    packages = install.locked(install.LOCKED / "kit.txt")
    assert set(map(install.name_of, install.requirements(PROJECT))) <= set(packages)
    assert all("--hash=sha256:" in text for text in packages.values())


def test_a_changed_package_of_the_image_is_an_error():
    before = {"torch": "2.13.0a0", "setuptools": "66", "challenge-kit": "0.1"}
    install.refuse_changes(before, {**before, "setuptools": "80", "challenge-kit": "0.2", "rich": "14"})
    with pytest.raises(SystemExit, match="torch"):
        install.refuse_changes(before, {**before, "torch": "2.13.0"})
    with pytest.raises(SystemExit, match="torch"):
        install.refuse_changes(before, {"setuptools": "66"})


@pytest.mark.parametrize("line", ["ruamel.yaml>=1", "Ruamel_YAML[x]==2 ; python_version > '3'", "ruamel-yaml"])
def test_names_are_normalised(line):
    assert install.name_of(line) == "ruamel-yaml"


def test_what_a_click_models_first_step_imports_is_locked():
    assert set(install.TRANSFORM) <= set(install.locked(install.LOCKED / "kit.txt"))
